"""Room 6: limits inside one measurement: a metric of one turn as a multiple of the same metric of another turn.

Each conversation gives one ratio, so what slows a host for a while is in both of its parts. The median of these ratios
is compared with the limit, without a baseline.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_boobench.aggregate import measured, median_of
from pytest_boobench.conversations import find_broken_turn, list_conversations
from pytest_boobench.gate.gains import chance_of
from pytest_boobench.gate.reference import usable
from pytest_boobench.metrics import Metric, find_metric, name_of_turn
from pytest_boobench.record import CellRecord, Outcome, Verdict
from pytest_boobench.suite.cell import Policy
from pytest_boobench.suite.thresholds import Thresholds, TurnRatio
from pytest_boobench.units import count, number, quantity

P_BELIEVED = 0.0025
"""Greatest chance that so many ratios are beyond a limit that the true median just keeps: 1 % over four blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratios:
    """The ratios of one metric between two turns, over the conversations that have both."""

    metric: Metric
    other: int
    """The turn that is compared with."""
    limit: float
    values: tuple[float, ...]
    """At least one, ascending."""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def beyond(self) -> bool:
        """Whether the median is worse than the limit; equal is allowed."""
        return self.median > self.limit if self.metric.better == "lower" else self.median < self.limit

    @property
    def believed(self) -> bool:
        """Whether more of the ratios are beyond the limit than chance explains."""
        return chance_of(self._count_beyond(), len(self.values)) <= P_BELIEVED

    @property
    def proven(self) -> bool:
        """Whether more of them keep the limit than chance explains."""
        return chance_of(len(self.values) - self._count_beyond(), len(self.values)) <= P_BELIEVED

    def _count_beyond(self) -> int:
        worse = [value > self.limit if self.metric.better == "lower" else value < self.limit for value in self.values]
        return sum(worse)


def list_ratios(gate: Thresholds | None) -> Mapping[str, TurnRatio]:
    """Return metric key -> limit, for the limits inside a measurement."""
    return {key: limit for key, limit in (gate or {}).items() if isinstance(limit, TurnRatio)}


def judge_ratios(record: CellRecord, gate: Thresholds | None, spoiled: str | None, policy: Policy) -> list[Verdict]:
    """Return a verdict for each limit inside the measurement. ``spoiled`` is why nothing can be judged, if so."""
    found = []
    for key, limit in list_ratios(gate).items():
        ratios = _take_ratios(record, key, limit)
        if spoiled or ratios is None:
            metric = find_metric(key)
            blank = record.blanks.get(metric.base) or "no conversation has both turns"
            now = median_of(record.aggregates, key)
            found.append(Verdict(metric=key, outcome="inconclusive", now=now, reason=spoiled or blank))
        else:
            found.append(_judge(record, ratios, policy))
    return found


def find_ratio_doubts(record: CellRecord, gate: Thresholds | None, spoiled: str | None, policy: Policy) -> list[str]:
    """Return the metrics whose limit inside the measurement another block could decide; empty if one is broken."""
    verdicts = judge_ratios(record, gate, spoiled, policy)
    if spoiled or any(verdict.outcome == "regression" for verdict in verdicts):
        return []
    return [verdict.metric for verdict in verdicts if verdict.outcome == "inconclusive" and verdict.samples]


def _take_ratios(record: CellRecord, key: str, limit: TurnRatio) -> Ratios | None:
    metric = find_metric(key)
    if metric.base in record.blanks:
        return None
    other = find_metric(name_of_turn(metric.base, limit.turn))
    values = []
    for conversation in list_conversations(measured(record.samples)):
        good = [sample for sample in conversation if sample.ok]
        now = [value for sample in good for value in metric.values(sample)]
        then = [value for sample in good for value in other.values(sample)]
        if now and then and usable(then[0]):
            values.append(now[0] / then[0])
    if not values:
        return None
    return Ratios(metric=metric, other=limit.turn, limit=limit.factor, values=tuple(sorted(values)))


def _judge(record: CellRecord, ratios: Ratios, policy: Policy) -> Verdict:
    outcome: Outcome = "pass"
    if ratios.beyond:
        outcome = "regression" if ratios.believed or policy == "literal" else "inconclusive"
    return Verdict(
        metric=ratios.metric.key,
        outcome=outcome,
        now=median_of(record.aggregates, ratios.metric.key),
        reason=_explain(record, ratios, outcome),
        samples=len(ratios.values),
        blocks=record.blocks,
        proven=outcome == "pass" and ratios.proven,
        note=_note_break(record, ratios) if outcome != "pass" else "",
    )


def _explain(record: CellRecord, ratios: Ratios, outcome: Outcome) -> str:
    """``2.1 × that of turn 2 (149 ms), at most 1.3 × allowed; 10 conversations``."""
    other = median_of(record.aggregates, name_of_turn(ratios.metric.base, ratios.other))
    side = "at most" if ratios.metric.better == "lower" else "at least"
    found = f"{number(ratios.median)} × that of turn {ratios.other} ({quantity(other, ratios.metric.unit)})"
    several = count(len(ratios.values), "conversation")
    said = f"{found}, {side} {number(ratios.limit)} × allowed; {several}"
    if outcome == "inconclusive":
        low, high = number(ratios.values[0]), number(ratios.values[-1])
        return f"{said} from {low} to {high} ×, too few or too scattered to tell; more samples"
    return said


def _note_break(record: CellRecord, ratios: Ratios) -> str:
    """Where the prefix cache breaks, if that is at the turn or before it."""
    turn = find_broken_turn(measured(record.samples), record.model.cache_block if record.model else None)
    return record.cache_break or "" if turn is not None and turn <= ratios.metric.turn else ""
