"""Room 6: a duet: two live hosts in turns. What slows both hosts is in both halves of every pair and cancels out."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pytest_boobench.aggregate import counted
from pytest_boobench.gate.comparison import (
    ROUNDING,
    describe_distance,
    find_gain,
    find_limit,
    least_improvement,
    to_change,
)
from pytest_boobench.gate.reference import usable
from pytest_boobench.metrics import METRICS, Metric, Sample
from pytest_boobench.record import CellRecord, Outcome, Verdict
from pytest_boobench.units import count

PAIRS = 20
"""Fewest pairs that can show a regression."""
P_BELIEVED = 0.001
"""Greatest chance of so many slower pairs on equal hosts."""
P_PROVEN = 0.05
"""Chance that the bound of a proven pass lies on the wrong side of the true gain."""


def judge_duet(record: CellRecord, allowed: Mapping[str, float]) -> tuple[Verdict, ...]:
    """One verdict for each metric in ``allowed``: the record's host against the one of the ``reference`` samples.

    A pair is a round, one request down each lane of each host, with the medians of its requests: requests that run at
    the same time are not independent.
    """
    return tuple(_judge(record, METRICS[key], limit) for key, limit in allowed.items())


def find_duet_doubts(record: CellRecord, allowed: Mapping[str, float]) -> tuple[str, ...]:
    """The metrics for which more pairs could change the verdict, or prove a pass."""
    if record.spoiled:
        return ()
    return tuple(
        verdict.metric
        for verdict in judge_duet(record, allowed)
        if verdict.change is not None
        and (verdict.outcome == "inconclusive" or (verdict.outcome == "pass" and not verdict.proven))
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """The pairs of one metric. Gains are logarithms of ratios to the other host, above zero where ours is better."""

    gains: tuple[float, ...]
    """Ascending; at least one."""
    now: float
    other: float
    """Medians of both halves, in the metric's unit."""

    @property
    def gain(self) -> float:
        return statistics.median(self.gains)

    @property
    def slower(self) -> int:
        return sum(gain < 0 for gain in self.gains)

    @property
    def faster(self) -> int:
        return sum(gain > 0 for gain in self.gains)

    @property
    def bound(self) -> float:
        """Lower bound of the true gain, with 95 % confidence: an order statistic (Conover 1999, chapter 3.2)."""
        n = len(self.gains)
        below = sum(chance_of(successes, n) <= P_PROVEN for successes in range(1, n + 1))
        return self.gains[below - 1] if below else -math.inf


def chance_of(successes: int, of: int) -> float:
    """The chance of so many or more successes, each as likely as not: the sign test (Conover 1999, chapter 3.4)."""
    return sum(math.comb(of, number) for number in range(successes, of + 1)) * 0.5**of


def pair_up(samples: Sequence[Sample], metric: Metric, lanes: int) -> Pairs | None:
    """The rounds in which both hosts gave this metric; None where there are none."""
    ours = _medians(counted(samples), metric, lanes)
    reference = [sample for sample in samples if sample.reference and sample.phase == "measure" and sample.ok]
    theirs = _medians(reference, metric, lanes)
    both = [(ours[key], theirs[key]) for key in ours if key in theirs]
    if not both:
        return None
    return Pairs(
        gains=tuple(sorted(find_gain(metric, now, other) for now, other in both)),
        now=statistics.median(now for now, _ in both),
        other=statistics.median(other for _, other in both),
    )


def _medians(samples: Iterable[Sample], metric: Metric, lanes: int) -> dict[tuple[int, int, int], float]:
    """(block, attempt, number) of a round -> the median of its requests."""
    values: dict[tuple[int, int, int], list[float]] = defaultdict(list)
    for sample in samples:
        values[sample.block, sample.attempt, sample.index // lanes].extend(metric.values(sample))
    medians = {key: statistics.median(found) for key, found in values.items() if found}
    return {key: median for key, median in medians.items() if usable(median)}


def _judge(record: CellRecord, metric: Metric, allowed: float) -> Verdict:
    lanes = int(record.identity.get("concurrency") or 1)
    pairs = pair_up(record.samples, metric, lanes)
    name = f"duet with {record.reference_host}"
    obstacle = record.spoiled or record.blanks.get(metric.key)
    if pairs is None or obstacle:
        reason = obstacle or "no pair of requests gives this metric"
        return Verdict(metric=metric.key, outcome="inconclusive", allowed=allowed, baseline_name=name, reason=reason)
    outcome, limit = _decide(pairs, metric, allowed), find_limit(metric, allowed)
    return Verdict(
        metric=metric.key,
        outcome=outcome,
        now=pairs.now,
        baseline=pairs.other,
        change=to_change(pairs.gain, metric),
        allowed=allowed,
        baseline_name=name,
        reason=_explain(pairs, metric, name) if outcome == "inconclusive" else "",
        samples=len(pairs.gains),
        blocks=record.blocks,
        proven=outcome == "pass" and pairs.bound > limit + ROUNDING,
        note=f"{pairs.slower} of {count(len(pairs.gains), 'pair')} slower" if outcome != "inconclusive" else "",
    )


def _decide(pairs: Pairs, metric: Metric, allowed: float) -> Outcome:
    """A regression is worse than allowed, and in more pairs than chance gives: with noise of any width that is alike in
    both halves."""
    decided = pairs.slower + pairs.faster  # equal pairs count for neither host
    enough = len(pairs.gains) >= PAIRS
    if pairs.gain < find_limit(metric, allowed) - ROUNDING:
        return "regression" if enough and chance_of(pairs.slower, decided) < P_BELIEVED else "inconclusive"
    if enough and pairs.gain > least_improvement(metric) and chance_of(pairs.faster, decided) < P_BELIEVED:
        return "improvement"
    return "pass"


def _explain(pairs: Pairs, metric: Metric, name: str) -> str:
    finding = f"{describe_distance(to_change(pairs.gain, metric))} {name}"
    if len(pairs.gains) < PAIRS:
        return f"{finding}, but {count(len(pairs.gains), 'pair')} are too few to judge: {PAIRS} at least"
    return f"{finding}, but only {pairs.slower} of {len(pairs.gains)} pairs are slower: chance may do that"
