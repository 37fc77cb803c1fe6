"""Room 5: fields of another tool's file. What is missing or impossible is left out, and said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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

    def leave_out(self, text: str, line: int | None = None) -> None:
        """Note something that is not imported since it is missing or impossible."""
        self.left_out.append(f"{self.file}:{line}: {text}" if line is not None else f"{self.file}: {text}")

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
    line: int | None = None
    """Where a file of lines has it."""

    def number(self, key: str, *, above: float | None = 0.0) -> float | None:
        """A finite number, by default above 0."""
        return self._read(get_number, key, above=above)

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
        return Fields(found, self.place(key), self.findings, self.line)

    def children(self, key: str) -> list[Fields]:
        """The objects in a list."""
        items = self._read(get_list, key) or ()
        return list_objects(items, self.place(key), self.findings, self.line)

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
        self.findings.leave_out(self.place(text) if not text.startswith("[") else f"{self.where}{text}", self.line)

    def _read(self, get: Callable[..., T], key: str, **how: Any) -> T | None:
        try:
            return get(self.source, key, self.where, **how)
        except Fault as fault:
            self.findings.leave_out(str(fault), self.line)
            return None

    def _number_of(self, item: object, place: str, least: float | None) -> float | None:
        found = to_number(item)
        if found is not None and (found > 0 if least is None else found >= least):
            return found
        wanted = "a number above 0" if least is None else f"a number from {least:g}"
        self.findings.leave_out(f"{place} is {show(item)}, expected {wanted}", self.line)
        return None


def list_objects(items: Any, where: str, findings: Findings, line: int | None = None) -> list[Fields]:
    """The objects in a list; other items are said."""
    found = []
    for at, item in enumerate(items):
        place = f"{where}[{at}]"
        if isinstance(item, Mapping):
            found.append(Fields(item, place, findings, line))
        else:
            findings.leave_out(f"{place} is {show(item)}, expected an object", line)
    return found
