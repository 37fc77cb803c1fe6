"""Room 7: plain text in the columns of a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_boobench.reports.text import cut_left, cut_names, cut_right, measure_width, render_table, wrap


@pytest.mark.parametrize(
    ("text", "width"),
    [("", 0), ("qwen", 4), ("日本語", 6), ("ｱ", 1), ("é", 1), ("e\u0301", 1), ("🦙", 2), ("a\u200bb", 2), ("…", 1)],
)
def test_width(text: str, width: int) -> None:
    assert measure_width(text) == width


def test_cut() -> None:
    assert cut_left("qwen3-chat[pp256-tg72-c4]", 20) == "…chat[pp256-tg72-c4]"
    assert cut_left("short", 5) == cut_right("short", 5) == "short"
    assert cut_right("chat-throughput", 8) == "chat-th…"
    assert (cut_left("日本語", 4), cut_right("日本語", 4)) == ("…語", "日…"), "half a character is none"


@given(st.text(), st.integers(1, 30))
def test_nothing_is_wider_than_asked(text: str, width: int) -> None:
    for cut in (cut_left(text, width), cut_right(text, width), *cut_names([text, f"{text}x"], width)):
        assert measure_width(cut) <= width
    if measure_width(text) <= width:
        assert cut_left(text, width) == cut_right(text, width) == text


def test_a_table_is_aligned_by_columns_of_the_terminal() -> None:
    assert list(render_table(("name", "n"), [("日本", "1"), ("abcdef", "10")])) == [
        "name     n",
        "日本     1",
        "abcdef  10",
    ]


def test_wrap() -> None:
    assert list(wrap("  a  short line", 40)) == ["  a  short line"], "as it is"
    assert list(wrap("one two three four", 9)) == ["one two", "  three", "  four"]
    assert list(wrap("  rack-1: scatter by 9.8 % here", 24)) == ["  rack-1: scatter by", "    9.8 % here"]
    path = "store: /a/very/long/path/that/nobody/breaks/store.db"
    assert list(wrap(path, 20)) == ["store:", "  /a/very/long/path/that/nobody/breaks/store.db"]
    assert list(wrap("日本 日本 日本", 9)) == ["日本 日本", "  日本"]


@given(st.lists(st.text("ab語%", min_size=1, max_size=6), min_size=1), st.integers(20, 60))
def test_wrapping_loses_nothing(words: list[str], width: int) -> None:
    lines = list(wrap(" ".join(words), width))
    assert " ".join(line.strip() for line in lines) == " ".join(words)
    assert all(measure_width(line) <= width or " %" in line for line in lines)
