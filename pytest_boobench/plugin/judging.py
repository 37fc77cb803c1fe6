"""Verdicts on cells, and the second pass: a cell in doubt runs again once all others of its host are through.

So all doubtful cells of a host share the wait between two blocks. It is the same item each time, set up and torn down
by pytest itself; only its last run has an outcome.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Self

import pytest

from pytest_boobench.gate import (
    JudgedCell,
    SuiteNoise,
    explain_red,
    find_cause,
    find_cell_doubts,
    judge_cell,
)
from pytest_boobench.plugin.ordering import cell_of
from pytest_boobench.plugin.settings import Settings
from pytest_boobench.record import Baseline, CellRecord, Verdict
from pytest_boobench.reports.sentences import failure_text
from pytest_boobench.suite.cell import Cell


@dataclass(frozen=True, slots=True)
class Doubt:
    """A cell that one more block is to settle."""

    record: CellRecord
    why: str
    ended_s: float
    """When its last block ended, monotonic clock."""


class Judging:
    """Judges cells by the session's rules and baselines; the baselines are asked for at the first cell."""

    def __init__(
        self, config: pytest.Config, settings: Settings, baselines: Callable[[], Mapping[str, Baseline]]
    ) -> None:
        self._config = config
        self._settings = settings
        self._baselines = cache(baselines)
        self._noise = cache(lambda: SuiteNoise(self._baselines().values()))
        self._judged: dict[str, dict[str, JudgedCell]] = defaultdict(dict)
        """Host -> cell key -> how each cell stands by all that was measured of it so far."""
        self._began_s = time.monotonic()
        self.doubts: dict[str, Doubt] = {}
        """Node id -> why the item has no outcome yet and is to run again."""
        self._regressed: dict[str, Doubt] = {}
        """Node id -> what a failed item found, should a plugin run it again."""

    @property
    def end_s(self) -> float:
        """When ``--boobench-max-time`` is over, monotonic clock; infinite without it."""
        most_s = self._settings.max_time_s
        return math.inf if most_s is None else self._began_s + most_s

    def _find_spread(self, cell: Cell, record: CellRecord) -> Mapping[str, float]:
        return self._noise().find(cell.suite, record.reference_rates)

    def find_doubt(self, cell: Cell, record: CellRecord) -> Doubt | None:
        """The doubt that another block may settle; None also where ``--boobench-max-time`` leaves no time for it."""
        now_s = time.monotonic()
        if now_s + self._settings.block_gap_s >= self.end_s:
            return None
        baseline, spread = self._find_baseline(cell, record), self._find_spread(cell, record)
        self._judge_alone(cell, record, baseline)
        metrics = find_cell_doubts(cell, record, baseline, self._settings.rules, spread)
        return Doubt(record, f"{', '.join(metrics)} in doubt", now_s) if metrics else None

    def judge(self, cell: Cell, record: CellRecord) -> tuple[tuple[Verdict, ...], str]:
        """The verdicts by all samples there are, and why the item fails; empty where it does not."""
        rules = self._settings.rules
        baseline = self._find_baseline(cell, record)
        verdicts = self._judge_alone(cell, record, baseline)
        cause = find_cause(self._judged[cell.host].values())
        verdicts = explain_red(verdicts, record.node_id, cause, cell.plan.policy or rules.policy)
        changed = self._config.hook.pytest_boobench_judge(
            config=self._config, cell=cell, record=record, baseline=baseline, verdicts=verdicts
        )
        verdicts = verdicts if changed is None else tuple(changed)
        failure = failure_text(
            record,
            verdicts,
            baseline,
            max_failed=cell.plan.max_failed,
            fail_disturbed=(cell.plan.disturbed or rules.disturbed) == "fail",
            strict=(cell.plan.policy or rules.policy) == "strict",
        )
        return verdicts, failure

    def _judge_alone(self, cell: Cell, record: CellRecord, baseline: Baseline | None) -> tuple[Verdict, ...]:
        """The verdicts without regard to other cells; keeps them as evidence for these."""
        verdicts = judge_cell(cell, record, baseline, self._settings.rules, self._find_spread(cell, record))
        self._judged[cell.host][cell.key] = JudgedCell(record, verdicts, baseline)
        return verdicts

    def _find_baseline(self, cell: Cell, record: CellRecord) -> Baseline | None:
        stored = self._baselines().get(record.cell_key) or self._find_of_other_prompts(cell, record)
        answer: Baseline | None = self._config.hook.pytest_boobench_select_baseline(
            config=self._config, cell=cell, record=record, baseline=stored
        )
        return stored if answer is None else answer

    def _find_of_other_prompts(self, cell: Cell, record: CellRecord) -> Baseline | None:
        """The baseline of this cell from before its own prompts changed: it cannot be compared, and says why."""
        if not cell.prompts:
            return None
        others = (found for found in self._baselines().values() if found.node_id == record.node_id)
        return next((found for found in others if found.prompts not in ("", cell.prompts)), None)

    def expect_rerun(self, item: pytest.Item, record: CellRecord, verdicts: tuple[Verdict, ...]) -> None:
        """Note that a regression has one more block should a plugin run the item again.

        Measuring until it passes would prove nothing. Requests that failed are measured afresh.
        """
        worse = ", ".join(verdict.metric for verdict in verdicts if verdict.outcome == "regression")
        if worse and not record.failed and record.reference_host is None:
            self._regressed[item.nodeid] = Doubt(record, f"{worse} regressed, run again", time.monotonic())

    def resume(self, item: pytest.Item) -> Doubt | None:
        """Why the item runs again, after the wait since its last block; None where it does not."""
        regressed = self._regressed.pop(item.nodeid, None)
        doubt = self.doubts.pop(item.nodeid, regressed)
        if doubt is not None:
            self.wait(doubt)
        return doubt

    def wait(self, doubt: Doubt) -> None:
        """Let enough time pass since the last block: blocks close in time resemble each other."""
        time.sleep(max(0.0, doubt.ended_s + self._settings.block_gap_s - time.monotonic()))


class KeepFixtures(pytest.Item):
    """Stands in for an unknown next item: keeps the fixtures of an item's class and above alive; it never runs."""

    @classmethod
    def of(cls, item: pytest.Item) -> Self:
        """A neighbour of the item, with its name."""
        made: Self = cls.from_parent(item.parent or item.session, name=item.name)
        return made

    def runtest(self) -> None: ...


class SecondPass:
    """Without pytest-xdist: the last cell of each machine is followed by the doubtful ones, until none is left."""

    def __init__(self, doubts: Mapping[str, Doubt], machine_of: Callable[[str], str]) -> None:
        self._doubts = doubts
        self._machine_of = machine_of
        self._last: dict[str, pytest.Item] = {}
        """Machine -> the last of its cells."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Only now it is known which items run, and in which order."""
        if session.config.option.collectonly:
            return
        for item in session.items:
            if (cell := cell_of(item)) is not None:
                self._last[self._machine_of(cell.host)] = item

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Run the last cell of a machine and the doubtful ones; leave all other items to pytest."""
        cell = cell_of(item)
        if cell is None or self._last.get(self._machine_of(cell.host)) is not item:
            return None
        session = item.session
        queue = deque(other for other in session.items if other.nodeid in self._doubts)
        while True:
            _run(self, item, queue[0] if queue else KeepFixtures.of(item))
            if item.nodeid in self._doubts:
                queue.append(item)
            if not queue or session.shouldstop or session.shouldfail:
                break
            item = queue.popleft()
        _close(item, nextitem)
        return True


class ScheduledPass:
    """In a worker of pytest-xdist, where the controller sends doubtful cells again.

    It sends the last cell of a host twice in a row: should the first run leave no doubt, the second one only ends the
    fixtures that the first kept alive.
    """

    def __init__(self, doubts: Mapping[str, Doubt]) -> None:
        self._doubts = doubts
        self._kept_open: pytest.Item | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Run an item that may come again at once, or end it; leave all others to pytest."""
        if cell_of(item) is None:
            return None
        if item is self._kept_open and item.nodeid not in self._doubts:
            self._kept_open = None
            _close(item, nextitem)
            return True
        self._kept_open = item if nextitem is item else None
        if self._kept_open is None:
            return None
        _run(self, item, KeepFixtures.of(item))
        return True


def _run(second_pass: SecondPass | ScheduledPass, item: pytest.Item, nextitem: pytest.Item) -> None:
    """Run an item as pytest does without the second pass."""
    run = item.config.pluginmanager.subset_hook_caller("pytest_runtest_protocol", [second_pass])
    run(item=item, nextitem=nextitem)


def _close(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End the fixtures that were kept alive for another run of the item and that the next one doesn't share."""
    keep = KeepFixtures.of(item)
    hook = keep.ihook
    ends_session = (pytest.exit.Exception, KeyboardInterrupt)
    # Not reported; but plugins prepare with an item's first report what they look up at its last.
    begun = pytest.CallInfo.from_call(lambda: hook.pytest_runtest_setup(item=keep), when="setup", reraise=ends_session)
    hook.pytest_runtest_makereport(item=keep, call=begun)
    ended = pytest.CallInfo.from_call(
        lambda: hook.pytest_runtest_teardown(item=keep, nextitem=nextitem), when="teardown", reraise=ends_session
    )
    report = hook.pytest_runtest_makereport(item=keep, call=ended)
    if report.failed:
        hook.pytest_runtest_logreport(report=report)
