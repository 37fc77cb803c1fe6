"""Room 5: fields of another tool's file. What is missing or impossible is left out, and said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from pytest_boobench.untrusted import (
    Fault,
    clean,
    get_count,
    get_list,
    get_number,
    get_object,
    get_text,
    show,
    to_number,
)

T = TypeVar("T")
MOST = 1e15
"""No number of a result is larger: nanoseconds of eleven days."""
_SMALLEST = 1e-9
"""What is smaller counts as zero."""
LATEST_S = 4_102_444_800.0
"""The year 2100, seconds since 1970 UTC."""
_SHOWN = 20
"""Messages of one kind: a file with a wrong unit has one for each of its numbers."""


@dataclass(slots=True)
class Findings:
    """What is to be said of one file."""

    file: str
    """How messages call it."""
    left_out: list[str] = field(default_factory=list)
    """What should be there and is missing or impossible."""
    remarks: list[str] = field(default_factory=list)
    """What this kind of file does not give."""

    def leave_out(self, text: str, origin: str = "") -> None:
        """Note something that is not imported since it is missing or impossible; ``origin`` is file and line, where
        it is not just the file."""
        self.left_out.append(f"{origin or self.file}: {text}")

    def remark(self, text: str) -> None:
        """Note, once, what is not in such a file."""
        said = f"{self.file}: {text}"
        if said not in self.remarks:
            self.remarks.append(said)

    def render(self) -> list[str]:
        """A line for each, left out ones first; of many the first twenty."""
        return [*_shorten(self.left_out), *_shorten(self.remarks)]


def _shorten(lines: list[str]) -> list[str]:
    rest = len(lines) - _SHOWN
    return lines if rest <= 0 else [*lines[:_SHOWN], f"… and {rest} more of this kind"]


@dataclass(frozen=True, slots=True)
class Fields:
    """An object of the file. Each method gives back a field's value; None or empty where it is missing or wrong."""

    source: Mapping[str, Any]
    where: str
    """Its place in the file, as in ``benchmarks[0].ttfr``; blank for the file itself or a whole line."""
    findings: Findings
    origin: str = ""
    """File and line, as in ``runs.jsonl:3``; blank for the file alone."""

    def number(self, key: str, *, least: float | None = None) -> float | None:
        """A number above 0, or from ``least`` on, of a size that can be."""
        found = self._read(get_number, key)
        return None if found is None else self._check(found, self.place(key), least)

    def moment(self, key: str) -> float | None:
        """Seconds since 1970 UTC."""
        found = self.number(key)
        if found is None or found < LATEST_S:
            return found
        self.leave_out(f"{key} is {show(found)}, expected seconds since 1970")
        return None

    def date(self, key: str, example: str) -> float | None:
        """The same, of a text such as the example; taken for UTC where it has no zone."""
        text = self.text(key)
        if text is None:
            return None
        try:
            found = datetime.fromisoformat(text)
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError, OSError):
            self.leave_out(f"{key} is {text}, expected a time such as {example}")
            return None

    def count(self, key: str) -> int | None:
        """A whole number from 0."""
        return self._read(get_count, key)

    def text(self, key: str) -> str | None:
        """A text on one line, never empty."""
        found = self._read(get_text, key)
        return (clean(found) or None) if found else None

    def child(self, key: str) -> Fields:
        """The object under a key."""
        found = self._read(get_object, key) or {}
        return Fields(found, self.place(key), self.findings, self.origin)

    def children(self, key: str) -> list[Fields]:
        """The objects in a list."""
        items = self._read(get_list, key) or ()
        return list_objects(items, self.place(key), self.findings, self.origin)

    def numbers(self, key: str, *, least: float | None = None) -> list[float | None]:
        """The numbers in a list, above 0, or from ``least`` on; None in the place of each other item."""
        return [self._number_of(item, f"{self.place(key)}[{at}]", least) for at, item in enumerate(self.items(key))]

    def rows(self, key: str, *, least: float | None = None) -> list[list[float | None]]:
        """The same of a list of lists."""
        found = []
        for at, row in enumerate(self.items(key)):
            if not isinstance(row, list):
                self.leave_out(f"{key}[{at}] is {show(row)}, expected a list of numbers")
                row = []  # noqa: PLW2901
            found.append(
                [self._number_of(item, f"{self.place(key)}[{at}][{place}]", least) for place, item in enumerate(row)]
            )
        return found

    def items(self, key: str) -> list[Any]:
        """A list as it is."""
        return list(self._read(get_list, key) or ())

    def place(self, key: str) -> str:
        """A field's place in the file."""
        return f"{self.where}.{key}" if self.where else key

    def leave_out(self, text: str) -> None:
        """Note what is wrong with something here; ``text`` begins with the field."""
        self.findings.leave_out(self.place(text), self.origin)

    def _read(self, get: Callable[..., T], key: str, **how: Any) -> T | None:
        try:
            return get(self.source, key, self.where, **how)
        except Fault as fault:
            self.findings.leave_out(str(fault), self.origin)
            return None

    def _number_of(self, item: object, place: str, least: float | None) -> float | None:
        found = to_number(item)
        return self._check(item if found is None else found, place, least)

    def _check(self, found: object, place: str, least: float | None) -> float | None:
        if isinstance(found, float) and (_SMALLEST if least is None else least) <= found <= MOST:
            return found
        wanted = "a number above 0" if least is None else f"a number from {least:g}"
        below = f" to {MOST:g}" if isinstance(found, float) and found > MOST else ""
        self.findings.leave_out(f"{place} is {show(found)}, expected {wanted}{below}", self.origin)
        return None


def list_objects(items: Any, where: str, findings: Findings, origin: str = "") -> list[Fields]:
    """The objects in a list; other items are said."""
    found = []
    for at, item in enumerate(items):
        place = f"{where}[{at}]"
        if isinstance(item, Mapping):
            found.append(Fields(item, place, findings, origin))
        else:
            findings.leave_out(f"{place} is {show(item)}, expected an object", origin)
    return found
