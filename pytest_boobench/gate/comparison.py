"""Room 6: how much a metric may worsen, and one metric against the baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pytest_boobench.aggregate import Aggregate, OwnPrompts
from pytest_boobench.gate.reference import Reference, count_requests, fast_side, scatter_of, usable
from pytest_boobench.metrics import Kind, Length, Load, Metric, find_metric, gated_metrics
from pytest_boobench.record import CellRecord
from pytest_boobench.suite.cell import Disturbed, Policy
from pytest_boobench.suite.thresholds import Thresholds, keep_relative
from pytest_boobench.units import percent

MAX_DROP = 0.10
"""Allowed worsening if neither suite nor session sets one."""
IMPROVEMENT = 0.05
"""A smaller gain is not reported as an improvement."""
Z_BELIEVED = 3.29
"""One-sided 99.95 % of the normal distribution: of 20 sessions with 100 unchanged metrics, one has a false alarm."""
Z_PROVEN = 2.326
"""One-sided 99 %."""
SCATTER = math.log(1.15)
"""Samples that scatter more have no reliable median: the upper quartile is 15 % above the lower one."""
CLEAR = 0.5
"""Wider scatter is accepted up to this share of the change: the two sets of samples then hardly overlap."""
SCATTER_RATIO = 1.25
"""If the noise between sessions is measured, samples may scatter by this factor more than the baseline's."""
UNSTEADY = 0.4
"""Least assumed noise between sessions, as a share of the samples' scatter."""
FEWEST_REQUESTS = 4
"""Fewer have no meaningful quartiles."""
ROUNDING = 1e-9
"""90/100 must not fail because of its last binary digit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The session's rules for verdicts. ``max_drop`` overrides the suites; the suites override the others."""

    max_drop: float | None = None
    """Allowed worsening of every gated metric, whatever the suites say."""
    default_max_drop: float = MAX_DROP
    """Allowed worsening if a suite sets none."""
    disturbed: Disturbed = "inconclusive"
    """What to do with a cell that foreign requests disturbed: ``judge`` judges it anyway."""
    policy: Policy = "default"
    """``literal``: in doubt, the median alone decides. ``strict``: the item fails if a verdict is inconclusive; the
    verdicts are those of the default."""


def find_spoiled(record: CellRecord, rules: Rules) -> str | None:
    """Return why nothing of a cell can be judged: it was still warming up, or was disturbed; None if it can."""
    return record.still_warming or (record.disturbed if rules.disturbed != "judge" else None)


def limits(  # noqa: PLR0913  # what decides the default gate of a cell
    kind: Kind,
    gate: Thresholds | None,
    rules: Rules,
    *,
    lanes: int = 1,
    length: Length = "exact",
    turns: int = 1,
    load: Load = "lanes",
) -> dict[str, float]:
    """Return metric key -> allowed worsening as a ratio, for the metrics that are judged in a cell of this kind.

    Limits inside a measurement, floors, and distances from the baseline, whose limits are absolute, are left out. A
    time that the suite does not name may rise by as much as the allowed drop of a rate makes it rise.
    """
    if gate is None:
        allowed = rules.default_max_drop if rules.max_drop is None else rules.max_drop
        rise = 1 / (1 - allowed) - 1 if allowed < 1 else math.inf  # no limit, so that times are not judged
        keys = gated_metrics(kind, lanes, length, turns, load)
        found = {key: allowed if find_metric(key).better == "higher" else rise for key in keys}
        return {key: limit for key, limit in found.items() if math.isfinite(limit)}
    relative = keep_relative(gate)
    if rules.max_drop is not None:
        return dict.fromkeys(relative, rules.max_drop)
    return {key: rules.default_max_drop if allowed is None else allowed for key, allowed in relative.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One metric against the baseline. All values are logarithms. Gains are of ratios to the baseline, above zero if
    the measurement is better."""

    metric: Metric
    now: Aggregate
    was: Reference
    requests: int
    gain: float
    """Of the median."""
    fast_gain: float
    """Of the edge of the fastest tenth."""
    spread: float
    """How far the samples scatter."""
    limit: float
    """The smallest gain that is allowed."""
    run_noise: float
    """Standard deviation of an unchanged host's medians between sessions."""
    deviation: float
    """Standard deviation of an unchanged host's gain."""

    @property
    def slower(self) -> bool:
        """Whether the median is worse than allowed; a worsening equal to the limit is allowed."""
        return self.gain < self.limit - ROUNDING

    @property
    def fast_slower(self) -> bool:
        """Whether the fastest tenth is worse than allowed."""
        return self.fast_gain < self.limit - ROUNDING

    @property
    def noise(self) -> float:
        """How much worse an unchanged host may seem."""
        return Z_BELIEVED * self.deviation

    @property
    def most_scatter(self) -> float:
        """How far the samples may scatter.

        Over 15 % only if the change is clear, or if the baseline's samples scatter as much and still had a steady
        median, as with several lanes.
        """
        return max(SCATTER, CLEAR * abs(self.gain), 0.0 if self.was.assumed else SCATTER_RATIO * self.was.scatter)

    @property
    def clean(self) -> bool:
        """Whether the samples scatter little enough; if the noise is assumed, also the baseline's."""
        widest = max(self.spread, self.was.scatter) if self.was.assumed else self.spread
        return widest < self.most_scatter

    @property
    def improved(self) -> bool:
        """Whether median and fastest tenth are both more than 5 % better, and the median by more than the noise."""
        better = min(self.gain, self.fast_gain) > least_improvement(self.metric)
        return better and self.clean and self.gain > self.noise

    @property
    def proven(self) -> bool:
        """Whether a worsening by the allowed amount can be ruled out; never with assumed noise."""
        return not self.was.assumed and self.clean and self.gain - Z_PROVEN * self.deviation > self.limit

    @property
    def change(self) -> float:
        """now / baseline - 1."""
        return self.now.median / self.was.level - 1

    @property
    def fast_change(self) -> float:
        """The same for the fastest tenth."""
        return to_change(self.fast_gain, self.metric)


def compare(
    metric: Metric,
    aggregates: Mapping[str, Aggregate],
    was: Reference,
    allowed: float,
    own: OwnPrompts | None = None,
) -> Comparison:
    """Compare a metric that has a usable median now, or a rate or share of zero, with a baseline's.

    The fastest tenth gains as much as the median if the baseline has no usable one, and infinitely if it takes no
    time now. ``own`` is how much it differs for the same own prompt: prompts of different lengths are no noise, and
    their median is that of few of them, so that each pass counts as one request.
    """
    now, requests = aggregates[metric.key], count_requests(aggregates, metric.key)
    median = now.median
    if not usable(median):  # no request was good: as if half a request had been
        median = was.level * 0.5 / requests / (was.share or 1.0)
    gain = fast_gain = find_gain(metric, median, was.level)
    if was.fast is not None:
        fast_gain = find_gain(metric, fast_side(metric, now), was.fast)
    spread, independent = scatter_of(metric, now), requests
    if own is not None and not metric.binomial:
        spread, independent = own.scatter, max(1, requests // own.lines)
        was = replace(was, scatter=own.scatter, requests=max(1, was.requests // own.lines))
    share = aggregates["slo_share"].mean if metric.binomial and "slo_share" in aggregates else None
    return Comparison(
        metric=metric,
        now=now,
        was=was,
        requests=requests,
        gain=gain,
        fast_gain=fast_gain,
        spread=spread,
        limit=find_limit(metric, allowed),
        run_noise=find_run_noise(was, spread),
        deviation=estimate_deviation(was, spread, independent, share),
    )


def find_gain(metric: Metric, now: float, was: float) -> float:
    """Return the logarithm of the ratio, above zero if ``now`` is better; infinite if ``now`` is zero."""
    if not usable(now):
        return math.inf if metric.better == "lower" else -math.inf
    ratio = math.log(now / was)
    return ratio if metric.better == "higher" else -ratio


def find_limit(metric: Metric, allowed: float) -> float:
    """Return the smallest gain that is allowed: ln 0.9 for a drop of 10 %, -ln 1.1 for a rise of 10 %."""
    if metric.better == "lower":
        return -math.log1p(allowed)
    return math.log1p(-allowed) if allowed < 1 else -math.inf


def least_improvement(metric: Metric) -> float:
    """Return the gain that an improvement must exceed."""
    return (math.log1p(IMPROVEMENT) if metric.better == "higher" else -math.log1p(-IMPROVEMENT)) + ROUNDING


def find_run_noise(was: Reference, scatter_now: float) -> float:
    """Standard deviation of an unchanged host's medians between sessions; an assumed one grows with the scatter."""
    return max(was.run_noise, UNSTEADY * scatter_now) if was.assumed else was.run_noise


def estimate_deviation(was: Reference, scatter_now: float, requests: int, share: float | None = None) -> float:
    """Standard deviation of the logarithm of now / level on an unchanged host.

    The noise between sessions counts twice: for now and for the level, a median over the sessions. Measured noise
    already contains the samples' noise; we add that again for now, because a cell is judged after each of up to four
    blocks, and each time is another chance to be wrong. Of a metric that counts good requests, ``share`` of them is
    good now; its values of whole blocks say little, and its binomial noise is added.
    """
    between = find_run_noise(was, scatter_now) ** 2 * (1 + median_variance(was.sessions))
    within = median_error(scatter_now, requests) ** 2
    if was.assumed:
        within += median_error(was.scatter, was.requests) ** 2
    if share is not None:
        within += share_error(share, requests) ** 2
        within += share_error(was.share, was.requests) ** 2 if was.assumed and was.share is not None else 0.0
    return math.sqrt(between + within)


def median_variance(count: int) -> float:
    """Variance of the median of ``count`` normal values of variance 1: exact for one and for many (Kenney and Keeping
    1962), within 3 % for 3, 5, 7…, too large for even counts."""
    return math.pi / (2 * count + math.pi - 2)


def median_error(scatter_of_logs: float, count: int) -> float:
    """Standard error of a median from its IQR (McGill, Tukey and Larsen 1978: 1.25 IQR / 1.35 sqrt(n))."""
    return 0.929 * scatter_of_logs / math.sqrt(count)


def share_error(share: float, count: int) -> float:
    """Standard error of the logarithm of a share of so many requests, with two good and two bad ones added, so that
    none is certain (Agresti and Coull 1998)."""
    likely = (share * count + 2) / (count + 4)
    return math.sqrt((1 - likely) / (likely * count)) if count else math.inf


def to_change(gain: float, metric: Metric) -> float:
    """A gain as a ratio of change of the metric's value: -0.105 is -10 % of a rate, and +11 % of a time."""
    return math.expm1(min(gain if metric.better == "higher" else -gain, 700.0))  # exp(710) overflows


def describe_distance(change: float | None) -> str:
    """``17.3 % below`` or ``4.8 % above``."""
    return f"{percent(change)} {'below' if (change or 0) < 0 else 'above'}"
