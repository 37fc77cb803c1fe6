"""How a cell comes along, as the measuring side tells it: on test reports of a kind of their own."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pytest

from pytest_boobench.metrics import Phase
from pytest_boobench.record import JobType
from pytest_boobench.suite.cell import Cell

SCHEMA = 1
"""Goes up when a field changes its meaning or goes away, not when one is added."""
EVERY_S = 0.5
State = Literal["waiting", "loading", "warming up", "measuring", "in doubt", "finished", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One cell at one moment: plain data, the same for hooks and for ``--boobench-progress``."""

    schema: int = SCHEMA
    at: float
    """Seconds since 1970 UTC."""
    run: str
    """The pytest session, as in ``bench_runs.session``."""
    job_type: JobType = "bench"
    worker: str
    """``main``, or xdist's name for the process that measures."""
    suite: str
    host: str
    model: str
    cell: str
    """As in the node id's brackets."""
    node_id: str
    state: State
    phase: Phase | None = None
    done: int = 0
    """Requests of the phase that have ended."""
    total: int = 0
    """Requests of the phase."""
    tok_s: float | None = None
    """All lanes together since the phase began, as if each request had brought the tokens that the cell asks for."""
    left_s: float | None = None
    """Estimate for the rest of the cell, from the phase's requests so far."""
    note: str | None = None
    """What it waits for, as in ``rack-1: loading the model, 12 s so far``."""


class Teller:
    """Tells of one cell. Times nothing that is measured, and says little: `observe` speaks twice a second at most."""

    def __init__(
        self, item: pytest.Item, cell: Cell, *, run: str, worker: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._item = item
        self._cell = cell
        self._run = run
        self._worker = worker
        self._clock = clock
        self._phase_began_s = 0.0
        self._told_s = 0.0

    def tell(self, state: State, note: str | None = None) -> None:
        """Say that the cell is in a state in which nothing can be counted."""
        self._send(state, note=note)

    def observe(self, phase: Phase, done: int, total: int) -> None:
        """Say how a phase comes along: a `measure.Observe`. Always at its begin and end, sometimes between."""
        now_s = self._clock()
        if done == 0:
            self._phase_began_s = now_s
        elif done < total and now_s - self._told_s < EVERY_S:
            return
        self._told_s = now_s
        took_s = now_s - self._phase_began_s
        to_come = total - done + (self._cell.plan.samples if phase == "warmup" else 0)
        self._send(
            "warming up" if phase == "warmup" else "measuring",
            phase=phase,
            done=done,
            total=total,
            tok_s=done * self._tokens / took_s if done and took_s else None,
            left_s=to_come * took_s / done if done else None,
        )

    @property
    def _tokens(self) -> int:
        """What a request is asked for; an embedding's are those of its prompt."""
        return self._cell.output_tokens or self._cell.prompt_tokens

    def _send(self, state: State, **facts: Any) -> None:
        cell = self._cell
        progress = Progress(
            at=time.time(),
            run=self._run,
            worker=self._worker,
            suite=cell.suite,
            host=cell.host,
            model=cell.model,
            cell=cell.id,
            node_id=self._item.nodeid,
            state=state,
            **facts,
        )
        self._item.ihook.pytest_runtest_logreport(report=_report(self._item, progress))


def put_off(report: pytest.TestReport, why: str) -> None:
    """Take the outcome out of a report: its item runs again, and only then has one."""
    report.when = "progress"  # type: ignore[assignment]
    report.outcome = "passed"
    report.longrepr = None
    report.boobench_put_off = why  # type: ignore[attr-defined]


def is_progress(report: pytest.TestReport) -> bool:
    """Whether a report tells of no outcome: one of ours."""
    return hasattr(report, "boobench_progress") or hasattr(report, "boobench_put_off")


def _report(item: pytest.Item, progress: Progress) -> pytest.TestReport:
    """The way that pytest's own subtests take: xdist sends any test report to its controller at once."""
    return pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords={},
        outcome="passed",
        longrepr=None,
        when="progress",  # type: ignore[arg-type]
        duration=0.0,
        boobench_progress=asdict(progress),
    )
