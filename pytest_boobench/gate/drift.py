"""Room 6: whether a server drifts: the slope of what it measures over hours, with its interval.

The time is cut into blocks, and a line is fitted to the midmeans of the blocks: a midmean, the mean of the middle half,
takes outliers out, and values of different blocks depend little on each other. How much they still do is measured by
the residuals' lag-1 autocorrelation, and widens the interval (effective sample size, Bayley and Hammersley 1946), with
the correction of its bias in short series (Marriott and Pope 1954). The interval is Student's, 99 %.
`tests.benchmarks.soak` has the false rates.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

MAX_DRIFT = 0.0025
"""The drift of a speed per hour, a ratio, that is worth telling."""
BLOCKS = 12
"""Of equal time. Fewer would know the noise too badly, more would depend on each other."""
STUDENT = 3.169
"""99 % of Student's distribution, two sides, for as many degrees of freedom as blocks less two."""
_MOST_CORRELATION = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """A slope and the interval that holds the true one with 99 % confidence, per hour."""

    slope: float
    low: float
    high: float
    halves: tuple[float, float]
    """The slopes of the first and of the second half. A level that wanders seldom goes the same way in both."""

    @property
    def falls(self) -> bool:
        """Whether it is proven that the values fall, in both halves of the time."""
        return self.high < 0 and max(self.halves) < 0

    @property
    def rises(self) -> bool:
        """Whether it is proven that they rise, in both halves."""
        return self.low > 0 and min(self.halves) > 0


def find_drift(hours: Sequence[float], values: Sequence[float | None]) -> Drift | None:
    """Return the slope of the values per hour; None where not each block of time has a value.

    ``hours`` ascend. Values that are None or not finite are left out. For a relative slope give logarithms.
    """
    points = [
        (hour, value) for hour, value in zip(hours, values, strict=True) if value is not None and math.isfinite(value)
    ]
    if len(points) < BLOCKS:
        return None
    first, span = points[0][0], points[-1][0] - points[0][0]
    blocks: list[list[tuple[float, float]]] = [[] for _ in range(BLOCKS)]
    for hour, value in points:
        blocks[min(BLOCKS - 1, int((hour - first) / span * BLOCKS)) if span else 0].append((hour, value))
    if not all(blocks):
        return None
    middles = [statistics.fmean(hour for hour, _ in block) for block in blocks]
    levels = [_find_midmean([value for _, value in block]) for block in blocks]
    return _fit(middles, levels)


def _find_midmean(values: Sequence[float]) -> float:
    cut = len(values) // 4
    return statistics.fmean(sorted(values)[cut : len(values) - cut])


def _fit(hours: Sequence[float], values: Sequence[float]) -> Drift:
    slope, level = statistics.linear_regression(hours, values)
    rests = [value - level - slope * hour for hour, value in zip(hours, values, strict=True)]
    centre = statistics.fmean(hours)
    variance = math.fsum(rest * rest for rest in rests) / (len(rests) - 2)
    error = math.sqrt(variance * _widen(rests) / math.fsum((hour - centre) ** 2 for hour in hours))
    middle = len(hours) // 2
    halves = (
        statistics.linear_regression(hours[:middle], values[:middle]).slope,
        statistics.linear_regression(hours[middle:], values[middle:]).slope,
    )
    return Drift(slope=slope, low=slope - STUDENT * error, high=slope + STUDENT * error, halves=halves)


def _widen(rests: Sequence[float]) -> float:
    """By how much dependence of neighbours raises the variance of the slope; at least 1."""
    whole = math.fsum(rest * rest for rest in rests)
    if whole == 0:
        return 1.0
    lag = math.fsum(one * other for one, other in pairwise(rests)) / whole
    # in residuals of a line the lag-1 correlation comes out too small by about (2 + 4 r) / n
    unbiased = lag + (2 + 4 * max(lag, 0.0)) / len(rests)
    correlation = min(max(unbiased, 0.0), _MOST_CORRELATION)
    return (1 + correlation) / (1 - correlation)
