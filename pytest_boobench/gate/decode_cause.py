"""Room 6: why decode became slower with speculation: its steps take longer, or each step makes fewer tokens.

Decode is steps per second times tokens per step, so the logarithm of its change is the sum of both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_boobench.aggregate import Aggregate
from pytest_boobench.gate.comparison import Z_PROVEN, median_error, median_variance
from pytest_boobench.gate.reference import Reference, consult, count_requests, scatter, usable
from pytest_boobench.metrics import METRICS
from pytest_boobench.record import Baseline
from pytest_boobench.units import number

CAUSE = 0.25
"""A factor that lost less than this share of decode's loss is no cause of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """One of the two factors, now and in the baseline."""

    now: float
    was: float
    deviation: float
    """Standard deviation of an unchanged factor's gain."""

    @property
    def gain(self) -> float:
        """Logarithm of now / was."""
        return math.log(self.now / self.was)

    @property
    def lost(self) -> bool:
        """Whether it is lower by more than noise."""
        return self.gain < -Z_PROVEN * self.deviation

    @property
    def won(self) -> bool:
        """Whether it is higher by more than noise."""
        return self.gain > Z_PROVEN * self.deviation


def explain_decode(aggregates: Mapping[str, Aggregate], baseline: Baseline, spread: Mapping[str, float]) -> str:
    """Return a clause with the cause of a slower decode and its numbers; empty if a side does not know its drafts."""
    length = _weigh("accepted_len", aggregates, baseline, spread)
    steps = _weigh("steps_per_s", aggregates, baseline, spread)
    if length is None or steps is None:
        return ""
    least = -CAUSE * max(0.0, -(length.gain + steps.gain))
    fell, slower = (factor.lost and factor.gain < least for factor in (length, steps))
    lengths = f"{number(length.now)} tokens a step, was {number(length.was)}"
    speeds = f"{number(steps.now)} a second, was {number(steps.was)}"
    if fell and slower:
        return f"acceptance fell: {lengths}; and steps became slower: {speeds}"
    if fell:
        words = _compare(steps, "as fast as before", "faster", "a little slower")
        return f"acceptance fell: {lengths}; steps are {words}: {speeds}"
    if slower:
        words = _compare(length, "the same", "higher", "a little lower")
        return f"steps became slower: {speeds}; acceptance is {words}: {lengths}"
    return f"neither acceptance ({lengths}) nor the speed of steps ({speeds}) differs by more than noise"


def _compare(factor: Factor, same: str, more: str, less: str) -> str:
    return more if factor.won else less if factor.lost else same


def _weigh(
    key: str, aggregates: Mapping[str, Aggregate], baseline: Baseline, spread: Mapping[str, float]
) -> Factor | None:
    """Return the factor; None if it is not known on both sides."""
    metric, now = METRICS[key], aggregates.get(key)
    was = consult(metric, baseline, spread.get(key, 0.0))
    if now is None or was is None or not usable(now.median):
        return None
    deviation = _estimate_deviation(was, now, count_requests(aggregates, key))
    return Factor(now=now.median, was=was.level, deviation=deviation)


def _estimate_deviation(was: Reference, now: Aggregate, requests: int) -> float:
    """Noise between sessions, for now and for the level, and the samples' errors on both sides."""
    between = was.run_noise**2 * (1 + median_variance(was.sessions))
    within = median_error(scatter(now), requests) ** 2 + median_error(was.scatter, was.requests) ** 2
    return math.sqrt(between + within)
