"""The slope of a course: found where there is one, and not where there is only noise."""

from __future__ import annotations

import math
import random

import pytest

from pytest_boobench.gate.drift import BLOCKS, find_drift
from tests.benchmarks.soak import NOISES, count_found

HOURS = [number / 10 for number in range(60)]


def test_a_line_is_its_own_slope() -> None:
    drift = find_drift(HOURS, [3 - 0.02 * hour for hour in HOURS])
    assert drift is not None
    assert drift.slope == pytest.approx(-0.02)
    assert drift.low <= -0.02 <= drift.high
    assert (drift.falls, drift.rises) == (True, False)


def test_a_level_has_no_slope() -> None:
    drift = find_drift(HOURS, [3.0] * len(HOURS))
    assert drift is not None
    assert (drift.slope, drift.low, drift.high) == (0.0, 0.0, 0.0)
    assert not drift.falls
    assert not drift.rises


def test_outliers_and_gaps_change_little() -> None:
    chance = random.Random(1)
    values: list[float | None] = [3 - 0.02 * hour + chance.gauss(0, 0.005) for hour in HOURS]
    values[7], values[30], values[31] = 9.0, None, math.nan
    drift = find_drift(HOURS, values)
    assert drift is not None
    assert drift.slope == pytest.approx(-0.02, abs=0.003)
    assert drift.falls


def test_a_step_is_no_drift() -> None:
    """The two halves are level, or do not go the same way."""
    drift = find_drift(HOURS, [3.0 if hour < 3 else 2.9 for hour in HOURS])
    assert drift is not None
    assert drift.slope < -0.02
    assert not drift.falls


@pytest.mark.parametrize("hours", [[], [1.0], [1.0] * 40, HOURS[: BLOCKS - 1], [*HOURS[:20], 50.0]])
def test_no_slope_where_a_block_of_time_has_no_value(hours: list[float]) -> None:
    assert find_drift(hours, [3.0] * len(hours)) is None


@pytest.mark.parametrize("name", ["white 0.5 %", "wanders 1 %, 5 minutes", "recorded calm-4, tiny"])
def test_the_bars_of_the_benchmark_hold(name: str) -> None:
    """100 courses with fixed seeds; the whole tables are in the benchmark."""
    assert count_found(NOISES[name], 0.0, 100)[1] <= 0.02
    assert count_found(NOISES[name], -0.005, 100)[0] >= 0.7
