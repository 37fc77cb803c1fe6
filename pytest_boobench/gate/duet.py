"""Room 6: a duet: two live hosts in turns. What slows both is in both halves of every pair, so that it cancels out."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pytest_boobench.aggregate import counted
from pytest_boobench.gate.comparison import ROUNDING, find_limit, least_improvement, to_change
from pytest_boobench.gate.reference import usable
from pytest_boobench.metrics import METRICS, Metric, Sample
from pytest_boobench.record import CellRecord, Outcome, Verdict
from pytest_boobench.units import count, percent

PAIRS = 20
"""Fewer pairs make no regression."""
P_BELIEVED = 0.001
"""Greatest chance of so many slower pairs, were the hosts alike."""
P_PROVEN = 0.05
"""Chance that the bound, which excludes the limit in a proven pass, lies on the wrong side of the truth."""

_Round = tuple[int, int, int]


def judge_duet(record: CellRecord, allowed: Mapping[str, float]) -> tuple[Verdict, ...]:
    """One verdict for each metric in ``allowed``: the record's host against the one of the ``reference`` samples.

    A pair is a round, one request down each lane of either host, with the medians of its requests: requests that run
    at the same time are no looks of their own.
    """
    return tuple(_judge(record, METRICS[key], limit) for key, limit in allowed.items())


def find_duet_doubts(record: CellRecord, allowed: Mapping[str, float]) -> tuple[str, ...]:
    """The metrics for which more pairs could change the verdict, or prove a pass."""
    if record.spoiled:
        return ()
    verdicts = judge_duet(record, allowed)
    return tuple(
        verdict.metric
        for verdict in verdicts
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
        """Median of the gains."""
        return statistics.median(self.gains)

    @property
    def slower(self) -> int:
        """Pairs in which ours was worse."""
        return sum(gain < 0 for gain in self.gains)

    @property
    def faster(self) -> int:
        """Pairs in which ours was better."""
        return sum(gain > 0 for gain in self.gains)

    @property
    def bound(self) -> float:
        """What the true gain exceeds with 95 %: an order statistic (Conover 1999, chapter 3.2)."""
        n = len(self.gains)
        below = sum(1 for rank in range(1, n + 1) if chance_of(n - rank + 1, n) <= P_PROVEN)
        return self.gains[below - 1] if below else -math.inf


def chance_of(successes: int, of: int) -> float:
    """Of so many or more successes, each as likely as not: the sign test (Arbuthnott 1710; Conover 1999, 3.4)."""
    return sum(math.comb(of, number) for number in range(successes, of + 1)) * 0.5**of


def pair_up(samples: Iterable[Sample], metric: Metric, lanes: int) -> Pairs | None:
    """The rounds in which both hosts gave this metric; None where there are none."""
    everything = list(samples)
    ours = _medians(counted(everything), metric, lanes)
    reference = [sample for sample in everything if sample.reference and sample.phase == "measure" and sample.ok]
    theirs = _medians(reference, metric, lanes)
    both = [(ours[key], theirs[key]) for key in ours if key in theirs]
    if not both:
        return None
    sign = 1.0 if metric.better == "higher" else -1.0
    return Pairs(
        gains=tuple(sorted(sign * math.log(now / other) for now, other in both)),
        now=statistics.median(now for now, _ in both),
        other=statistics.median(other for _, other in both),
    )


def _medians(samples: Iterable[Sample], metric: Metric, lanes: int) -> dict[_Round, float]:
    values: dict[_Round, list[float]] = defaultdict(list)
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
    """Worse than allowed and in too many pairs for chance: regression. The bound on chance holds for any noise whose
    halves are alike, however wide."""
    decided = pairs.slower + pairs.faster  # pairs that are equal to the last digit speak for neither
    enough = len(pairs.gains) >= PAIRS
    if pairs.gain < find_limit(metric, allowed) - ROUNDING:
        return "regression" if enough and chance_of(pairs.slower, decided) < P_BELIEVED else "inconclusive"
    if enough and pairs.gain > least_improvement(metric) and chance_of(pairs.faster, decided) < P_BELIEVED:
        return "improvement"
    return "pass"


def _explain(pairs: Pairs, metric: Metric, name: str) -> str:
    change = to_change(pairs.gain, metric)
    finding = f"{percent(change)} {'below' if change < 0 else 'above'} {name}"
    if len(pairs.gains) < PAIRS:
        return f"{finding}, but {count(len(pairs.gains), 'pair')} are too few to judge: {PAIRS} at least"
    return f"{finding}, but only {pairs.slower} of {len(pairs.gains)} pairs are slower: chance may do that"
