"""Room 0: number + unit -> text, and back. Measured numbers are formatted only here."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

BLANK = "–"
"""The text for a missing number."""

_SMALL = 0.01
_NARROW = 0.01
"""An interval that is at most this wide is shown with two digits."""
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h)?\s*\Z")
_PERCENT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*\Z")


def number(value: float | int | None) -> str:
    """Three significant digits and no exponent: 0.034, 9.87, 41.2, 1234; below 0.01 five decimals at most: 0.00042.

    An int is a count and stays unchanged.
    """
    if isinstance(value, int):
        return str(value)
    if value is None or not math.isfinite(value):
        return BLANK
    size = abs(value)
    if 0 < size < _SMALL:
        return f"{value:.5f}".rstrip("0").ljust(4, "0")
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 or size == 0 else 3
    return f"{value:.{digits}f}"


def quantity(value: float | None, unit: str) -> str:
    """A number with its unit, as in ``41.2 tok/s``; a missing number has no unit."""
    text = number(value)
    return text if text == BLANK or not unit else f"{text} {unit}"


def percent(ratio: float | None) -> str:
    """A ratio in per cent with one digit, without sign: 0.173 -> ``17.3 %``."""
    if ratio is None or not math.isfinite(ratio):
        return BLANK
    text = f"{abs(ratio) * 100:.1f}"
    return f"{text.removesuffix('.0')} %"


def change(ratio: float | None, low: float | None = None, high: float | None = None) -> str:
    """A ratio of change with its sign: -0.173 -> ``−17.3 %``; with its interval ``−17.3 % [−18.1, −16.6]``.

    Two digits if the interval is narrower than plus and minus half a per cent.
    """
    if ratio is None or not math.isfinite(ratio):
        return BLANK
    if low is None or high is None:
        return f"{_signed(ratio, 1)} %"
    digits = 1 if high - low >= _NARROW else 2
    return f"{_signed(ratio, digits)} % [{_signed(low, digits)}, {_signed(high, digits)}]"


def _signed(ratio: float, digits: int) -> str:
    """In per cent with its sign, without ``%``."""
    return f"{'−' if ratio < 0 else '+'}{abs(ratio) * 100:.{digits}f}"


def count(number: int, noun: str) -> str:
    """A number of things: ``1 cell``, ``2 cells``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def size(size_bytes: int) -> str:
    """Bytes in the largest decimal unit that fits: ``512 B``, ``1.40 MB``."""
    value: float = size_bytes
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return quantity(value, unit)
        value /= 1000
    return quantity(value, "GB")


def span(seconds: float) -> str:
    """A configured time: ``90 s``, ``5 minutes``, ``2 hours``."""
    for unit_s, noun in ((3600, "hour"), (60, "minute")):
        if seconds >= unit_s and seconds % unit_s == 0:
            return count(int(seconds // unit_s), noun)
    return f"{seconds:g} s"


def moment(at: float) -> str:
    """Seconds since 1970 as ``2026-11-24 09:12``, UTC."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}"


def parse_percent(text: str, *, bare: bool = False) -> float:
    """``"10%"`` -> 0.1; ``bare`` accepts ``"10"`` too. Raises ValueError that says what would be right."""
    match = _PERCENT.match(f"{text}%" if bare and not text.rstrip().endswith("%") else text)
    if not match:
        raise ValueError(f"expected a percentage such as 10%, got {text!r}")
    return float(match[1]) / 100


def parse_duration(text: str) -> float:
    """``"90"``, ``"90s"``, ``"1.5m"``, ``"250ms"`` -> seconds. Raises ValueError that says what would be right."""
    match = _DURATION.match(text)
    if not match:
        raise ValueError(f"expected a time such as 30s, 5m or 250ms, got {text!r}")
    return float(match[1]) * _SECONDS[match[2] or "s"]
