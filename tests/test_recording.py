"""Which requests of a recording are one conversation, by the numbers alone."""

from __future__ import annotations

import pytest

from pytest_boobench.recording import Spoken, Turns, read_line

Request = tuple[int, int, int | None, int, int]
"""Prompt, output and cached tokens; beginning and end, seconds."""


def place(*requests: Request) -> list[tuple[int, int]]:
    turns = Turns()
    placed = [
        turns.place(
            Spoken(
                prompt_tokens=prompt,
                output_tokens=output,
                cached_tokens=cached,
                began_ms=began * 1000,
                ended_ms=ended * 1000,
            )
        )
        for prompt, output, cached, began, ended in requests
    ]
    return [(each.conversation, each.turn) for each in placed]


FIRST: Request = (100, 50, 0, 0, 2)


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        pytest.param([FIRST, (180, 50, 149, 5, 7), (260, 9, 229, 9, 11)], [(1, 1), (1, 2), (1, 3)], id="three turns"),
        pytest.param([FIRST, (180, 50, 0, 5, 7)], [(1, 1), (2, 1)], id="nothing cached"),
        pytest.param([FIRST, (180, 50, None, 5, 7)], [(1, 1), (0, 0)], id="not told what was cached"),
        pytest.param([FIRST, (180, 50, 144, 5, 7)], [(1, 1), (1, 2)], id="a cache of blocks of 16"),
        pytest.param(
            [FIRST, (180, 50, 98, 5, 7)], [(1, 1), (1, 2)], id="the answer was rewritten: the prompt is cached"
        ),
        pytest.param([FIRST, (180, 50, 60, 5, 7)], [(1, 1), (2, 1)], id="a common beginning only"),
        pytest.param([FIRST, (400, 50, 300, 5, 7)], [(1, 1), (2, 1)], id="more cached than was said"),
        pytest.param([FIRST, (180, 50, 149, 0, 7)], [(1, 1), (2, 1)], id="it began before the other had ended"),
        pytest.param([FIRST, (180, 50, 149, 1, 7)], [(1, 1), (1, 2)], id="it seems so, by whole seconds"),
        pytest.param([FIRST, (90, 50, 89, 5, 7)], [(1, 1), (2, 1)], id="a shorter prompt continues nothing"),
        pytest.param([FIRST, (100, 50, 99, 5, 7)], [(1, 1), (1, 2)], id="the same again: another answer was wanted"),
        pytest.param(
            [FIRST, (200, 90, 0, 0, 2), (320, 5, 289, 5, 6), (180, 5, 149, 7, 8)],
            [(1, 1), (2, 1), (2, 2), (1, 2)],
            id="two conversations in turns",
        ),
        pytest.param(
            [FIRST, (120, 20, 0, 0, 2), (200, 5, 140, 5, 6)],
            [(1, 1), (2, 1), (2, 2)],
            id="of two that fit, the nearer one",
        ),
        pytest.param([FIRST, FIRST, (180, 5, 149, 5, 6)], [(1, 1), (2, 1), (2, 2)], id="of two alike, the later one"),
    ],
)
def test_turns(requests: list[Request], expected: list[tuple[int, int]]) -> None:
    assert place(*requests) == expected


def test_a_turn_never_begins_before_the_end_of_the_last_one() -> None:
    turns = Turns()
    turns.place(Spoken(prompt_tokens=100, output_tokens=50, cached_tokens=0, began_ms=0, ended_ms=2000))
    late = Spoken(prompt_tokens=180, output_tokens=50, cached_tokens=149, began_ms=1100, ended_ms=4000)
    assert turns.place(late).began_ms == 2000


def test_a_line_is_read_as_it_was_written() -> None:
    turns = Turns()
    one = turns.place(Spoken(prompt_tokens=9, output_tokens=3, cached_tokens=0, began_ms=5123, ended_ms=5123))
    two = turns.place(Spoken(prompt_tokens=20, output_tokens=3, cached_tokens=12, began_ms=9000, ended_ms=9000))
    assert one.to_line(5000) == {
        "prompt_tokens": 9,
        "output_tokens": 3,
        "at_s": 0.123,
        "conversation": "c1",
        "turn": 1,
    }
    assert two.to_line(5000)["cached_tokens"] == 12
    assert read_line(two.to_line(5000), 5000) == two


def test_what_was_read_goes_on() -> None:
    turns = Turns()
    turns.remember(read_line({"prompt_tokens": 9, "output_tokens": 3, "at_s": 0, "conversation": "c7", "turn": 2}, 0))
    later = Spoken(prompt_tokens=20, output_tokens=3, cached_tokens=12, began_ms=9000, ended_ms=9000)
    placed = turns.place(later)
    assert (placed.conversation, placed.turn) == (7, 3)
