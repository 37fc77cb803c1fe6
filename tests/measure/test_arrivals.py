"""How the events of a stream arrive: tokens in each, bursts, gaps."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_boobench.arrivals import come_in_bursts, find_bursts, find_token_gaps, spread_tokens

STEADY = tuple(50.0 + 5 * number for number in range(64))
JITTERED = tuple(at + (number * 37 % 11 - 5) / 3 for number, at in enumerate(STEADY))


@pytest.mark.parametrize(
    ("tokens", "sizes", "right"),
    [
        (32, [4] * 8, (4,) * 8),
        (3, [5, 1, 9], (1, 1, 1)),
        (10, [3, 1, 1], (6, 2, 2)),
        (4, [2, 8, 2], (1, 2, 1)),
        (2, [5, 1, 9], (1, 1, 1)),
        (7, [0, 0, 0], (3, 2, 2)),
        (5, [], ()),
    ],
    ids=["four in each", "one in each", "by text", "one held back", "more events than tokens", "no text", "no event"],
)
def test_tokens_are_spread_by_text(tokens: int, sizes: list[int], right: tuple[int, ...]) -> None:
    assert spread_tokens(tokens, sizes) == right


@given(st.integers(0, 5000), st.lists(st.integers(0, 40), min_size=1, max_size=60))
def test_all_tokens_are_spread_and_each_event_has_one(tokens: int, sizes: list[int]) -> None:
    spread = spread_tokens(tokens, sizes)
    assert min(spread) >= 1
    assert sum(spread) == max(tokens, len(sizes))


def bursts_of(size: int, count: int, gap_ms: float, spread_ms: float = 0.01) -> tuple[float, ...]:
    return tuple(50.0 + burst * gap_ms + number * spread_ms for burst in range(count) for number in range(size))


@pytest.mark.parametrize(
    ("chunk_ms", "bursts", "bursty"),
    [
        (STEADY, 64, False),
        (JITTERED, 64, False),
        (bursts_of(16, 4, 160), 4, True),
        (bursts_of(64, 1, 0, 0.0), 1, True),
        (bursts_of(3, 40, 25), 40, True),
        (bursts_of(3, 2, 25), 2, False),
        ((50.0,), 1, False),
        ((*(50.0 + 2 * n for n in range(32)), *(3050.0 + 2 * n for n in range(32))), 64, False),
    ],
    ids=["steady", "jitter", "gateway", "at once", "speculation", "too few", "one", "one long pause"],
)
def test_bursts(chunk_ms: tuple[float, ...], bursts: int, bursty: bool) -> None:
    found = find_bursts(chunk_ms)
    assert len(found) == bursts
    assert come_in_bursts(found) is bursty
    assert sum(burst.events for burst in found) == len(chunk_ms)


def test_gaps_are_those_of_tokens() -> None:
    assert find_token_gaps((10.0, 30.0, 40.0)) == (20.0, 10.0)
    assert find_token_gaps((50.0, 70.0, 90.0), (4, 4, 2)) == (5.0,) * 4 + (10.0,) * 2
    assert find_token_gaps((50.0,)) == ()
    assert find_token_gaps(()) == ()


def test_gaps_of_bursts_are_shared_by_their_tokens() -> None:
    gaps = find_token_gaps(bursts_of(4, 10, 20))
    assert gaps == pytest.approx([5.0] * 36)


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=80), st.data())
def test_gaps_add_up_to_the_span(times: list[float], data: st.DataObject) -> None:
    chunk_ms = tuple(sorted(times))
    tokens = tuple(data.draw(st.lists(st.integers(1, 9), min_size=len(times), max_size=len(times))))
    if come_in_bursts(find_bursts(chunk_ms, tokens)):
        return
    gaps = find_token_gaps(chunk_ms, tokens)
    assert len(gaps) == sum(tokens[1:])
    assert sum(gaps) == pytest.approx(sum(later - earlier for earlier, later in pairwise(chunk_ms)), abs=1e-3)
