"""Room 0: numbers as text and back."""

import math

import pytest

from pytest_boobench import units


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "–"),
        (0.0, "0.00"),
        (4, "4"),
        (0.0341, "0.034"),
        (0.00423, "0.00423"),
        (0.004, "0.004"),
        (-0.00042, "-0.00042"),
        (0.0000021, "0.00"),
        (9.876, "9.88"),
        (41.23, "41.2"),
        (1234.4, "1234"),
        (-41.23, "-41.2"),
    ],
)
def test_number(value: float | None, text: str) -> None:
    assert units.number(value) == text


def test_quantity_has_a_unit_only_where_there_is_a_number() -> None:
    assert units.quantity(41.23, "tok/s") == "41.2 tok/s"
    assert units.quantity(None, "tok/s") == "–"
    assert units.quantity(3.0, "") == "3.00"


@pytest.mark.parametrize(
    ("ratio", "percent", "change"),
    [
        (-0.173, "17.3 %", "−17.3 %"),
        (0.1, "10 %", "+10.0 %"),
        (0.0, "0 %", "+0.0 %"),
        (None, "–", "–"),
        (math.inf, "–", "–"),
    ],
)
def test_ratios(ratio: float | None, percent: str, change: str) -> None:
    assert units.percent(ratio) == percent
    assert units.change(ratio) == change


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (-0.04, -0.022, "−3.1 % [−4.0, −2.2]"),
        (-0.0352, -0.0265, "−3.10 % [−3.52, −2.65]"),
        (-0.04, 0.01, "−3.1 % [−4.0, +1.0]"),
        (None, -0.022, "−3.1 %"),
    ],
)
def test_a_change_with_its_interval(low: float | None, high: float | None, text: str) -> None:
    assert units.change(-0.031, low, high) == text


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("250ms", 0.25), (" 2 h ", 7200)])
def test_parse_duration(text: str, seconds: float) -> None:
    assert units.parse_duration(text) == seconds


def test_parse_duration_says_what_would_be_right() -> None:
    with pytest.raises(ValueError, match=r"^expected a time such as 30s, 5m or 250ms, got 'soon'$"):
        units.parse_duration("soon")


def test_parse_percent() -> None:
    assert units.parse_percent("10%") == 0.1
    assert units.parse_percent(" 2.5 % ") == 0.025
    with pytest.raises(ValueError, match=r"^expected a percentage such as 10%, got '10'$"):
        units.parse_percent("10")


def test_count() -> None:
    assert [units.count(number, "cell") for number in (0, 1, 2)] == ["0 cells", "1 cell", "2 cells"]


def test_size() -> None:
    sizes = [0, 999, 1000, 1_400_000, 123_456_789, 5_000_000_000_000]
    assert [units.size(bytes_) for bytes_ in sizes] == ["0 B", "999 B", "1.00 kB", "1.40 MB", "123 MB", "5000 GB"]
