"""What a cell is judged by in this session, and what its verdicts mean for its item."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import pytest

from pytest_boobench.gate import Rules, find_cell_doubts, judge_cell, measure_spread
from pytest_boobench.record import Baseline, CellRecord, Verdict
from pytest_boobench.reports.sentences import failure_text, sentence
from pytest_boobench.suite.cell import Cell


@dataclass(frozen=True, slots=True)
class Doubt:
    """A cell that one more block is to settle."""

    record: CellRecord
    why: str
    ended_s: float
    """When its last block ended, monotonic clock."""


class Judging:
    """The rules and the baselines of a session; the baselines are asked for at the first cell."""

    def __init__(self, config: pytest.Config, rules: Rules, baselines: Callable[[], Mapping[str, Baseline]]) -> None:
        self._config = config
        self._rules = rules
        self._baselines = cache(baselines)
        self._spread = cache(lambda: measure_spread(self._baselines().values()))

    def find_doubts(self, cell: Cell, record: CellRecord) -> tuple[str, ...]:
        """The metrics whose verdict another block could change."""
        return find_cell_doubts(cell, record, self._baseline(cell, record), self._rules, self._spread_of(cell))

    def judge(self, cell: Cell, record: CellRecord) -> tuple[Verdict, ...]:
        """The verdicts, by all samples there are."""
        baseline = self._baseline(cell, record)
        verdicts = judge_cell(cell, record, baseline, self._rules, self._spread_of(cell))
        answer: Sequence[Verdict] | None = self._config.hook.pytest_boobench_judge(
            config=self._config, cell=cell, record=record, baseline=baseline, verdicts=verdicts
        )
        return verdicts if answer is None else tuple(answer)

    def failure_text(self, cell: Cell, record: CellRecord, verdicts: Sequence[Verdict]) -> str:
        """Why the item fails, empty where it does not."""
        return failure_text(
            record,
            verdicts,
            self._baseline(cell, record),
            max_failed=cell.plan.max_failed,
            fail_disturbed=(cell.plan.disturbed or self._rules.disturbed) == "fail",
            strict=(cell.plan.policy or self._rules.policy) == "strict",
        )

    @staticmethod
    def skip_text(verdicts: Sequence[Verdict]) -> str:
        """Why the item is skipped, empty where it is not: what could not be decided must not be green."""
        return "; ".join(sentence(verdict) for verdict in verdicts if verdict.outcome == "inconclusive")

    def _baseline(self, cell: Cell, record: CellRecord) -> Baseline | None:
        stored = self._baselines().get(record.cell_key)
        answer: Baseline | None = self._config.hook.pytest_boobench_select_baseline(
            config=self._config, cell=cell, record=record, baseline=stored
        )
        return stored if answer is None else answer

    def _spread_of(self, cell: Cell) -> Mapping[str, float]:
        return self._spread().get(cell.suite, {})
