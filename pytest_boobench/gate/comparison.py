"""Room 6: one metric now, set against what the baseline says of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_boobench.aggregate import Aggregate
from pytest_boobench.gate.reference import Reference, count_requests, fast_side, scatter, usable
from pytest_boobench.metrics import METRICS, Kind, Length, Metric, gated_metrics
from pytest_boobench.suite.cell import Disturbed, Policy

MAX_DROP = 0.10
"""Allowed worsening where neither suite nor session says otherwise: the owner's rule."""
IMPROVEMENT = 0.05
"""Above this a better number is worth a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a session says of judging; a suite may say otherwise, but for ``max_drop`` and ``policy``."""

    max_drop: float | None = None
    """Allowed worsening of every gated metric, whatever the suites say."""
    default_max_drop: float = MAX_DROP
    """Allowed worsening where a suite does not say."""
    disturbed: Disturbed = "inconclusive"
    """What becomes of a cell that others disturbed, where its suite does not say."""
    policy: Policy = "default"


def limits(
    kind: Kind,
    gate: Mapping[str, float | None] | None,
    rules: Rules,
    *,
    lanes: int = 1,
    length: Length = "exact",
) -> dict[str, float]:
    """Metric key -> allowed worsening as a ratio, for the metrics that are judged in a cell of this kind.

    A time that is judged though the suite does not say so may rise by what a drop of the rate comes to.
    """
    if gate is None:
        allowed = rules.default_max_drop if rules.max_drop is None else rules.max_drop
        found: dict[str, float] = {}
        for key in gated_metrics(kind, lanes, length):
            if METRICS[key].better == "higher":
                found[key] = allowed
            elif allowed < 1:
                found[key] = 1 / (1 - allowed) - 1
        return found
    if rules.max_drop is not None:
        return dict.fromkeys(gate, rules.max_drop)
    return {key: rules.default_max_drop if allowed is None else allowed for key, allowed in gate.items()}


Z_BELIEVED = 3.29
"""One-sided 99.95 % of the normal distribution: of 100 unchanged numbers in a session, one in 20 sessions has a red."""
Z_PROVEN = 2.326
"""One-sided 99 %."""
SCATTER = math.log(1.15)
"""Samples that scatter more have no median to be believed: the upper quartile is 15 % above the lower one."""
CLEAR = 0.5
"""But where what was lost is so much larger that this share of it is more than the scatter: there the two hardly
overlap."""
SCATTER_RATIO = 1.25
"""Where the noise between looks is measured, samples may scatter by so much more than the baseline's own."""
UNSTEADY = 0.4
"""Where it is assumed: how much of the scatter of the samples it is at least. A host whose requests differ more is no
steadier between sessions."""
FEWEST_REQUESTS = 4
"""Fewer have no quartiles to speak of."""
ROUNDING = 1e-9
"""90/100 must not fail for its last binary digit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Gains are logarithms of ratios to the baseline, above zero where now is better; limit and noise are too."""

    metric: Metric
    now: Aggregate
    was: Reference
    requests: int
    gain: float
    fast_gain: float
    limit: float
    """The gain that is just allowed."""
    run_noise: float
    """Standard deviation of an unchanged host's medians between looks."""
    deviation: float
    """Standard deviation of an unchanged host's gain."""

    @property
    def slower(self) -> bool:
        """Whether the median is worse than allowed: exactly as much as is allowed is not."""
        return self.gain < self.limit - ROUNDING

    @property
    def fast_slower(self) -> bool:
        """Whether the fastest tenth is worse than allowed."""
        return self.fast_gain < self.limit - ROUNDING

    @property
    def noise(self) -> float:
        """How much worse an unchanged host may come out."""
        return Z_BELIEVED * self.deviation

    @property
    def most_scatter(self) -> float:
        """How far the samples may lie apart: beyond 15 % only where the baseline's do so too and have shown a steady
        median all the same, as those of several lanes do, or where the change is clear."""
        return max(SCATTER, CLEAR * abs(self.gain), 0.0 if self.was.assumed else SCATTER_RATIO * self.was.scatter)

    @property
    def clean(self) -> bool:
        """Whether samples lie close enough together to be believed: now, and where the noise is assumed then too."""
        widest = max(scatter(self.now), self.was.scatter) if self.was.assumed else scatter(self.now)
        return widest < self.most_scatter

    @property
    def improved(self) -> bool:
        """Whether it is better by more than 5 %, by both keys, and beyond the noise."""
        better = min(self.gain, self.fast_gain) > least_improvement(self.metric)
        return better and self.clean and self.gain > self.noise

    @property
    def proven(self) -> bool:
        """Whether a change as large as is allowed can be ruled out: never where the noise is assumed."""
        return not self.was.assumed and self.clean and self.gain - Z_PROVEN * self.deviation > self.limit

    @property
    def change(self) -> float:
        """now / baseline - 1."""
        return self.now.median / self.was.level - 1

    @property
    def fast_change(self) -> float:
        """As ``change``, of the fastest tenth."""
        return to_change(self.fast_gain, self.metric)


def compare(metric: Metric, aggregates: Mapping[str, Aggregate], was: Reference, allowed: float) -> Comparison:
    """A metric that has a usable median now, against a baseline's."""
    now = aggregates[metric.key]
    sign = 1.0 if metric.better == "higher" else -1.0
    gain = sign * math.log(now.median / was.level)
    requests, scatter_now = count_requests(aggregates, metric.key), scatter(now)
    run_noise = find_run_noise(was, scatter_now)
    return Comparison(
        metric=metric,
        now=now,
        was=was,
        requests=requests,
        gain=gain,
        fast_gain=_fast_gain(metric, now, was, gain),
        limit=find_limit(metric, allowed),
        run_noise=run_noise,
        deviation=estimate_deviation(was, run_noise, scatter_now, requests),
    )


def _fast_gain(metric: Metric, now: Aggregate, was: Reference, gain: float) -> float:
    """Of the fastest tenth; the median's where the baseline has none, endless where it needs no time at all now."""
    fast = fast_side(metric, now)
    if was.fast is None:
        return gain
    if not usable(fast):
        return math.inf
    return math.log(fast / was.fast) * (1.0 if metric.better == "higher" else -1.0)


def find_limit(metric: Metric, allowed: float) -> float:
    """The gain that is just allowed: a drop of 10 % is ln 0.9, a rise of 10 % is -ln 1.1; a drop of 100 % has none."""
    if metric.better == "lower":
        return -math.log1p(allowed)
    return math.log1p(-allowed) if allowed < 1 else -math.inf


def least_improvement(metric: Metric) -> float:
    """The gain from which on a better number is an improvement."""
    return (math.log1p(IMPROVEMENT) if metric.better == "higher" else -math.log1p(-IMPROVEMENT)) + ROUNDING


def find_run_noise(was: Reference, scatter_now: float) -> float:
    """Standard deviation of an unchanged host's medians between looks; an assumed one grows with the scatter."""
    return max(was.run_noise, UNSTEADY * scatter_now) if was.assumed else was.run_noise


def estimate_deviation(was: Reference, run_noise: float, scatter_now: float, requests: int) -> float:
    """Standard deviation of the logarithm of now / level on an unchanged host.

    The noise between looks counts once for now and once for the level, a median over K looks. The samples' own is added
    for now, and to an assumed noise for the baseline too: a measured one has it already. Strictly it has now's as well,
    but a cell is looked at after each of up to four blocks, and each look is another chance to be wrong.
    """
    between = run_noise**2 * (1 + median_variance(was.looks))
    within = median_error(scatter_now, requests) ** 2
    if was.assumed:
        within += median_error(was.scatter, was.requests) ** 2
    return math.sqrt(between + within)


def median_variance(count: int) -> float:
    """Variance of the median of so many normal values of variance 1: pi / (2 n + pi - 2).

    Exact for one and for many (Kenney and Keeping 1962), within 3 % for 3, 5, 7…, too large for even counts.
    """
    return math.pi / (2 * count + math.pi - 2)


def median_error(scatter_of_logs: float, count: int) -> float:
    """Standard error of a median from the interquartile range, 0.929 IQR / sqrt(n) (McGill, Tukey and Larsen 1978:
    1.25 IQR / 1.35 sqrt(n))."""
    return 0.929 * scatter_of_logs / math.sqrt(count)


def to_change(gain: float, metric: Metric) -> float:
    """A gain as a ratio of change of the metric's value: -0.105 is -10 % of a rate, and +11 % of a time."""
    return math.expm1(min(gain if metric.better == "higher" else -gain, _MOST))


_MOST = 700.0
"""The exponential of more is no float."""
