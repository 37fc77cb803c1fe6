"""Room 6: a duet: two live hosts in turns. What slows both hosts is in both halves of every pair and cancels out."""

from __future__ import annotations

import math
from collections.abc import Mapping

from pytest_boobench.gate.comparison import (
    ROUNDING,
    describe_distance,
    find_limit,
    least_improvement,
    to_change,
)
from pytest_boobench.gate.gains import Pairs, chance_of, pair_up
from pytest_boobench.metrics import Metric, find_metric
from pytest_boobench.record import CellRecord, Outcome, Verdict
from pytest_boobench.units import count

P_BELIEVED = 0.001
"""Greatest chance of this many slower pairs on equal hosts."""


def judge_duet(record: CellRecord, allowed: Mapping[str, float]) -> tuple[Verdict, ...]:
    """Return a verdict for each metric in ``allowed``: the record's host against that of the ``reference`` samples.

    Every verdict with a change also has its interval, if there are enough pairs. Numbers of a start
    or a block are not judged: no pair has them. Two windows of a rate have the share of good requests.
    """
    judged = ((find_metric(key), limit) for key, limit in allowed.items())
    return tuple(_judge(record, metric, limit) for metric, limit in judged if _is_of_pairs(record, metric))


def _is_of_pairs(record: CellRecord, metric: Metric) -> bool:
    if metric.binomial:
        return bool(record.identity.get("rate") and record.identity.get("slo"))
    return not (metric.of_start or metric.of_block)


def find_duet_doubts(record: CellRecord, allowed: Mapping[str, float]) -> tuple[str, ...]:
    """Return the metrics for which more pairs could change the verdict, or prove a pass."""
    if record.spoiled:
        return ()
    return tuple(
        verdict.metric
        for verdict in judge_duet(record, allowed)
        if verdict.change is not None
        and (verdict.outcome == "inconclusive" or (verdict.outcome == "pass" and not verdict.proven))
    )


def is_wider(record: CellRecord, allowed: Mapping[str, float], until: float) -> bool:
    """Whether the interval of any metric in ``allowed`` is still wider than the change plus and minus ``until``.

    Ignores metrics without pairs and those that cannot be judged: more pairs would not help.
    """
    judged = [verdict for verdict in judge_duet(record, allowed) if verdict.change is not None]
    return any(find_half_width(verdict) > until for verdict in judged)


def find_half_width(verdict: Verdict) -> float:
    """Half the width of the interval of the change, as a ratio; infinite if there is none."""
    low, high = verdict.change_low, verdict.change_high
    return (high - low) / 2 if low is not None and high is not None else math.inf


def find_cause_in_cache(record: CellRecord, metric: Metric) -> str | None:
    """Where the prefix cache breaks, if the metric depends on it; None if it holds."""
    return record.cache_break if metric.turn > 1 and metric.base in ("ttft_ms", "e2e_ms", "cached_share") else None


def _note(record: CellRecord, metric: Metric, pairs: Pairs, outcome: Outcome) -> str:
    if outcome == "inconclusive":
        return ""
    slower = f"{pairs.slower} of {count(len(pairs.gains), 'pair')}{pairs.of} slower"
    cause = find_cause_in_cache(record, metric) if outcome == "regression" else None
    return "; ".join(filter(None, (slower, cause)))


def _judge(record: CellRecord, metric: Metric, allowed: float) -> Verdict:
    pairs, name = pair_up(record, metric), f"duet with {record.reference_host}"
    obstacle = record.spoiled or record.blanks.get(metric.base)
    if pairs is None or obstacle:
        reason = obstacle or f"no pair of {record.pairing or 'requests'} gives this metric"
        return Verdict(metric=metric.key, outcome="inconclusive", allowed=allowed, baseline_name=name, reason=reason)
    outcome, limit = decide(pairs, metric, allowed), find_limit(metric, allowed)
    ends = sorted(to_change(end, metric) for end in pairs.interval or ())
    return Verdict(
        metric=metric.key,
        outcome=outcome,
        now=pairs.now,
        baseline=pairs.other,
        change=to_change(pairs.gain, metric),
        change_low=ends[0] if ends else None,
        change_high=ends[-1] if ends else None,
        allowed=allowed,
        baseline_name=name,
        reason=_explain(pairs, metric, name) if outcome == "inconclusive" else "",
        samples=len(pairs.gains),
        blocks=record.blocks,
        proven=outcome == "pass" and pairs.bound > limit + ROUNDING,
        note=_note(record, metric, pairs, outcome),
    )


def decide(pairs: Pairs, metric: Metric, allowed: float) -> Outcome:
    """Decide by the pairs. A regression is worse than allowed, and in more pairs than chance gives.
    This holds for noise of any width, if both halves of a pair have the same noise."""
    decided = pairs.slower + pairs.faster  # equal pairs count for neither host
    enough = len(pairs.gains) >= pairs.fewest
    if pairs.gain < find_limit(metric, allowed) - ROUNDING:
        return "regression" if enough and chance_of(pairs.slower, decided) < P_BELIEVED else "inconclusive"
    if enough and pairs.gain > least_improvement(metric) and chance_of(pairs.faster, decided) < P_BELIEVED:
        return "improvement"
    return "pass"


def _explain(pairs: Pairs, metric: Metric, name: str) -> str:
    finding = f"{describe_distance(to_change(pairs.gain, metric))} {name}"
    if len(pairs.gains) < pairs.fewest:
        return (
            f"{finding}, but {count(len(pairs.gains), 'pair')}{pairs.of} are too few to judge: {pairs.fewest} at least"
        )
    return f"{finding}, but only {pairs.slower} of {len(pairs.gains)} pairs{pairs.of} are slower: chance may do that"
