"""The progress of a cell, which travels on test reports without an outcome; and what is read from other reports."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pytest

from pytest_boobench.metrics import Phase, Sample
from pytest_boobench.plain import take
from pytest_boobench.record import JobType
from pytest_boobench.suite.cell import Cell
from pytest_boobench.untrusted import hide_secrets

_EVERY_S = 0.5
_OF_REQUEST = ("phase", "lane", "started_at", "ttft_ms", "ttfo_ms", "e2e_ms")
State = Literal["waiting", "loading", "warming up", "measuring", "in doubt", "finished", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One cell at one moment: plain data, the same for hooks and for ``--boobench-progress``."""

    schema: int = 1
    """Goes up when a field changes its meaning or goes away, not when one is added."""
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
    requests: tuple[Mapping[str, Any], ...] = ()
    """The requests of a phase that is over: phase, lane, started_at, ttft_ms, ttfo_ms and e2e_ms of each."""
    outcome: str | None = None
    """At the end: the most urgent verdict, or ``error`` for a cell that could not be measured."""
    sentence: str | None = None
    """At the end of a cell that failed or was skipped: why."""


class Teller:
    """Reports the progress of one cell; `observe` does so twice a second at most, since it runs between requests."""

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
        self._newest: dict[str, Any] = {}
        """What was last told of a phase."""

    def observe(self, phase: Phase, done: int, total: int) -> None:
        """Report the requests of a phase: a `measure.Observe`. Always at its begin and end, sometimes between."""
        now_s = self._clock()
        if done == 0:
            self._phase_began_s = now_s
        elif done < total and now_s - self._told_s < _EVERY_S:
            return
        self._told_s = now_s
        took_s = now_s - self._phase_began_s
        tokens = self._cell.output_tokens or self._cell.prompt_tokens  # an embedding's are those of its prompt
        tokens = 0 if self._cell.own else tokens  # each of the own prompts has its lengths
        to_come = total - done + (self._cell.plan.samples if phase == "warmup" else 0)
        self._newest = {
            "state": "warming up" if phase == "warmup" else "measuring",
            "phase": phase,
            "done": done,
            "total": total,
            "tok_s": done * tokens / took_s if done and tokens and took_s else None,
            "left_s": to_come * took_s / done if done else None,
        }
        self.tell(**self._newest)

    def observe_samples(self, samples: Sequence[Sample]) -> None:
        """Report when the requests of a phase were sent and answered: once it is over, and none is in flight."""
        if self._newest:
            self.tell(**self._newest, requests=tuple(take(_OF_REQUEST, sample) for sample in samples))

    def tell(self, state: State, **facts: Any) -> None:
        """Report a state, with what `Progress` can say of it, on a test report of its own.

        That is what pytest's subtests do: xdist sends any test report to its controller at once.
        """
        cell, item = self._cell, self._item
        progress = Progress(
            at=time.time(),
            run=self._run,
            worker=self._worker,
            suite=cell.suite,
            host=cell.host,
            model=cell.model,
            cell=cell.id,
            node_id=item.nodeid,
            state=state,
            **facts,
        )
        report = pytest.TestReport(
            nodeid=item.nodeid,
            location=item.location,
            keywords={},
            outcome="passed",
            longrepr=None,
            when="progress",  # type: ignore[arg-type]
            duration=0.0,
            boobench_progress=asdict(progress),
        )
        item.ihook.pytest_runtest_logreport(report=report)


def put_off(report: pytest.TestReport, why: str) -> None:
    """Take the outcome out of a report: its item runs again, and only then has one."""
    report.when = "progress"  # type: ignore[assignment]
    report.outcome = "passed"
    report.longrepr = None
    report.boobench_put_off = why  # type: ignore[attr-defined]


def is_progress(report: pytest.TestReport) -> bool:
    """Whether a report is one of ours, without an outcome."""
    return hasattr(report, "boobench_progress") or hasattr(report, "boobench_put_off")


def is_rerun(report: pytest.TestReport) -> bool:
    """Whether a report is of an attempt that failed and is no outcome: pytest-rerunfailures runs the item again."""
    outcome: str = report.outcome
    return outcome == "rerun"


def explain(report: pytest.TestReport) -> str:
    """Why an item failed or was skipped, without a traceback."""
    told = report.longrepr
    if isinstance(told, tuple):
        return str(told[2]).removeprefix("Skipped: ")
    crash = getattr(told, "reprcrash", None)
    # Not longreprtext: with pytest-xdist it begins with the worker.
    return str(crash.message if crash else told).removeprefix("Failed: ")


def hide_in_report(report: pytest.TestReport) -> None:
    """Hide secrets in the text and the log of a report: terminal, JUnit and pages show them from there."""
    if isinstance(report.longrepr, tuple):
        path, line, why = report.longrepr
        report.longrepr = path, line, hide_secrets(why)
    elif report.longrepr is not None and (told := str(report.longrepr)) != (hidden := hide_secrets(told)):
        report.longrepr = hidden
    report.sections = [(title, hide_secrets(text)) for title, text in report.sections]
