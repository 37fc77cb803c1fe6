"""The search of `boobench bisect`: pure, with scripted comparisons."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_boobench.gate.bisection import Estimate, Range, Told, Walk

LOSS = math.log(0.85)


def look(gain: float, half: float = 0.01) -> Estimate:
    return Estimate(gain, gain - half, gain + half)


GOOD, BAD, BETWEEN = look(0.0), look(LOSS), look(LOSS / 2)


@pytest.mark.parametrize(
    ("estimate", "told"),
    [
        (GOOD, "good"),
        (BAD, "bad"),
        (BETWEEN, "untold"),
        (look(0.0, half=0.08), "good"),
        (look(0.0, half=0.09), "untold"),
        (look(LOSS, half=0.09), "untold"),
        (look(0.5), "good"),
    ],
)
def test_a_comparison_is_told_by_its_interval(estimate: Estimate, told: Told) -> None:
    assert estimate.tell(LOSS / 2) == told


WALKS: list[tuple[int, Mapping[int, Estimate | None], int | None, Range]] = [
    (16, {}, 15, Range(0, 15)),
    (16, {15: BAD}, 7, Range(0, 15)),
    (16, {15: BAD, 7: GOOD}, 11, Range(7, 15)),
    (16, {15: BAD, 7: GOOD, 11: BAD}, 9, Range(7, 11)),
    (16, {15: BAD, 7: BAD, 3: GOOD, 5: BAD, 4: GOOD}, None, Range(4, 5)),
    (16, {15: BAD, 7: None}, 8, Range(0, 15)),  # it does not start: its neighbour
    (16, {15: BAD, 7: BETWEEN, 8: BAD}, 4, Range(0, 8)),
    (4, {3: BAD, 1: None, 2: None}, None, Range(0, 3)),
    (4, {3: BAD, 1: GOOD, 2: None}, None, Range(1, 3)),
    (2, {1: BAD}, None, Range(0, 1)),
    (2, {}, 1, Range(0, 1)),
    (3, {2: BAD}, 1, Range(0, 2)),
    (16, {15: None}, 7, Range(0, 15)),
]


@pytest.mark.parametrize(("candidates", "looks", "chosen", "found"), WALKS)
def test_where_a_walk_goes(
    candidates: int, looks: Mapping[int, Estimate | None], chosen: int | None, found: Range
) -> None:
    walk = Walk(candidates, looks)
    assert walk.choose() == chosen
    assert walk.found == found


@pytest.mark.parametrize(
    ("looks", "certain"),
    [
        ({3: BAD, 1: GOOD, 2: GOOD}, True),
        ({3: BAD, 1: GOOD, 2: BAD}, True),
        ({3: BAD, 1: GOOD, 2: None}, False),
        ({3: look(LOSS, half=0.1), 1: GOOD, 2: GOOD}, False),  # whether the last one is bad is not proven either
        ({}, False),
    ],
)
def test_an_answer_is_certain_between_two_that_are_told(looks: Mapping[int, Estimate | None], certain: bool) -> None:
    assert Walk(4, looks).certain == certain


@given(st.integers(2, 200), st.data())
def test_any_first_slow_one_is_found_in_so_many_comparisons(candidates: int, data: st.DataObject) -> None:
    slow = data.draw(st.integers(1, candidates - 1))
    looks: dict[int, Estimate | None] = {}
    while (place := Walk(candidates, looks).choose()) is not None:
        looks[place] = BAD if place >= slow else GOOD
    assert Walk(candidates, looks).found == Range(slow - 1, slow)
    assert len(looks) <= math.log2(candidates) + 2


@given(st.integers(2, 40), st.data())
def test_what_cannot_be_told_never_makes_an_answer_wrong(candidates: int, data: st.DataObject) -> None:
    slow = data.draw(st.integers(1, candidates - 1))
    untold = data.draw(st.sets(st.integers(1, max(1, candidates - 2))))
    looks: dict[int, Estimate | None] = {}
    while (place := Walk(candidates, looks).choose()) is not None:
        blank = None if place % 2 else BETWEEN
        looks[place] = blank if place in untold and place != candidates - 1 else BAD if place >= slow else GOOD
    found = Walk(candidates, looks).found
    assert found.good < slow <= found.bad
    assert sum(one is not None for one in looks.values()) <= math.log2(candidates) + 2
