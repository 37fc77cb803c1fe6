"""Room 6: where the course of a cell changed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from pytest_boobench.gate.change_points import NEWEST, Change, find_changes

HISTORIES = 100


def make_course(
    chance: random.Random, count: int, noise: float, shape: Callable[[int], float] = lambda _: 1.0
) -> list[float]:
    return [41.0 * math.exp(chance.gauss(0, noise)) * shape(at) for at in range(count)]


def find_many(count: int, noise: float, shape: Callable[[int], float]) -> list[tuple[Change, ...]]:
    chance = random.Random(7)
    return [find_changes(make_course(chance, count, noise, shape)) for _ in range(HISTORIES)]


@pytest.mark.parametrize("values", [[], [41.0], [41.0, 30.0] * 2, [41.0] * 40, [0.0, math.nan, math.inf] * 9])
def test_what_has_no_course_has_no_change(values: list[float]) -> None:
    assert find_changes(values) == ()


def test_a_step_is_told_with_its_place_and_both_levels() -> None:
    (step,) = find_changes([50.0] * 8 + [40.0] * 5)
    assert (step.index, step.last, step.gradual) == (8, 8, False)
    assert (step.before, step.after, step.ratio) == pytest.approx((50.0, 40.0, -0.2))


def test_a_slide_is_told_from_its_first_point_to_its_last() -> None:
    (slide,) = find_changes([50 * 0.97**week for week in range(10)])
    assert (slide.index, slide.last, slide.gradual) == (0, 9, True)
    assert (slide.before, slide.after) == pytest.approx((50, 50 * 0.97**9), rel=0.001)


def test_a_slide_that_ends_in_a_step_is_two_changes() -> None:
    course = [50.0 * 0.97**at for at in range(12)] + [60.0] * 8
    assert [(change.index, change.gradual) for change in find_changes(course)] == [(0, True), (12, False)]


def test_a_dip_is_two_changes() -> None:
    course = [50.0] * 8 + [40.0] * 6 + [50.0] * 8
    assert [(change.index, round(change.ratio, 2)) for change in find_changes(course)] == [(8, -0.2), (14, 0.25)]


def test_odd_runs_are_no_course() -> None:
    course = [50.0 + at % 3 / 2 for at in range(24)]
    course[3] = course[9] = course[10] = course[-1] = 20.0
    assert find_changes(course) == ()


def test_points_without_a_number_keep_their_places() -> None:
    course = [math.nan, *[50.0] * 8, 0.0, *[40.0] * 5]
    assert [change.index for change in find_changes(course)] == [10]


def test_a_change_too_small_is_not_told_and_two_of_them_are() -> None:
    small = [50.0] * 20 + [48.8] * 20
    assert find_changes(small) == ()
    assert [change.index for change in find_changes(small, worth=0.02)] == [20]
    (both,) = find_changes([*small, *[47.5] * 6])
    assert (both.index, both.before, both.after) == (40, pytest.approx(50.0), pytest.approx(47.5))


def test_only_the_newest_points_are_looked_at() -> None:
    assert [change.index for change in find_changes([50.0] * 30 + [40.0] * (NEWEST - 9))] == [30]
    assert find_changes([50.0] * 30 + [40.0] * NEWEST) == ()


@pytest.mark.parametrize("noise", [0.01, 0.02, 0.04])
def test_noise_is_not_a_change(noise: float) -> None:
    assert sum(map(len, find_many(30, noise, lambda _: 1.0))) <= 3


@pytest.mark.parametrize(("noise", "found"), [(0.01, 95), (0.02, 95), (0.04, 80)])
def test_the_slow_slide_is_found_in_noise(noise: float, found: int) -> None:
    """10 points level, then 3 % a week over eight weeks: each is within the gate's 10 % of the one before."""
    slid = find_many(18, noise, lambda at: 0.97 ** max(0, at - 9))
    assert sum(any(change.ratio < 0 for change in changes) for changes in slid) >= found


@pytest.mark.parametrize(("noise", "found"), [(0.01, 90), (0.02, 90), (0.04, 55)])
def test_a_step_is_found_in_noise_where_it_is(noise: float, found: int) -> None:
    stepped = find_many(30, noise, lambda at: 0.9 if at >= 20 else 1.0)
    placed = [changes for changes in stepped if len(changes) == 1 and abs(changes[0].index - 20) <= 1]
    assert len(placed) >= found
