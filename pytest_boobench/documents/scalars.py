"""Room 0: the shapes of single values: what is accepted, how it is called in a message, and its JSON Schema."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from pytest_boobench.documents.core import looks_like_number
from pytest_boobench.documents.node import Node
from pytest_boobench.documents.problems import Problems
from pytest_boobench.units import parse_duration, parse_percent

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Shape(Protocol[T_co]):
    """What one place of a file may hold."""

    @property
    def wanted(self) -> str:
        """What is right here, as it stands after ``expected``."""
        ...

    def read(self, node: Node, problems: Problems) -> T_co | None:
        """The value, or None after noting what is wrong with it."""
        ...

    def schema(self) -> dict[str, Any]:
        """JSON Schema of the place."""
        ...


@dataclass(frozen=True, slots=True)
class Single(Generic[T]):
    """A single value. ``accept`` raises ValueError, with words of its own where "expected, got" would not do."""

    wanted: str
    accept: Callable[[Node], T]
    json: Mapping[str, Any]

    def read(self, node: Node, problems: Problems) -> T | None:
        """The accepted value, or None after noting why not."""
        try:
            return self.accept(node)
        except ValueError as error:
            problems.add(node, str(error) or f"expected {self.wanted}, got {_got(node)}")
            return None

    def schema(self) -> dict[str, Any]:
        """JSON Schema of the value."""
        return dict(self.json)


def _got(node: Node) -> str:
    """What stands there; a number in quotes, or text that lacks them, with the remedy."""
    if isinstance(node.value, str) and looks_like_number(node.value):
        return f"{node.describe()} as text; write {node.text} without quotes"
    return node.describe()


def whole(least: int, most: int | None = None) -> Single[int]:
    """A whole number between two bounds, both allowed."""

    def accept(node: Node) -> int:
        value = node.value
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError
        if most is not None and value > most:
            raise ValueError
        return value

    upper = {} if most is None else {"maximum": most}
    return Single(f"a whole number {_span(least, most)}", accept, {"type": "integer", "minimum": least} | upper)


def number(least: float, most: float | None = None) -> Single[int | float]:
    """A finite number between two bounds, both allowed; it keeps the type it was written in."""

    def accept(node: Node) -> int | float:
        value = node.value
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError
        if value < least or (most is not None and value > most):
            raise ValueError
        return value

    upper = {} if most is None else {"maximum": most}
    return Single(f"a number {_span(least, most)}", accept, {"type": "number", "minimum": least} | upper)


def _span(least: float, most: float | None) -> str:
    return f"from {least}" if most is None else f"from {least} to {most}"


def text() -> Single[str]:
    """Any text that is not empty."""

    def accept(node: Node) -> str:
        if isinstance(node.value, str) and node.value:
            return node.value
        if isinstance(node.value, bool | int | float):
            raise ValueError(f'expected text, got {node.text}; write "{node.text}" in quotes')
        raise ValueError

    return Single("text", accept, {"type": "string", "minLength": 1})


def choice(*options: str) -> Single[str]:
    """One of a few words."""

    def accept(node: Node) -> str:
        if isinstance(node.value, str) and node.value in options:
            return node.value
        raise ValueError

    return Single(f"{', '.join(options[:-1])} or {options[-1]}", accept, {"enum": list(options)})


def flag() -> Single[bool]:
    """True or false; ``yes`` and ``on`` are text."""

    def accept(node: Node) -> bool:
        if isinstance(node.value, bool):
            return node.value
        raise ValueError

    return Single("true or false", accept, {"type": "boolean"})


def percentage(below: float = math.inf) -> Single[float]:
    """``10%`` or the number 10 -> the ratio 0.1. A number between 0 and 1 is refused: it may be meant either way."""

    def accept(node: Node) -> float:
        if isinstance(node.value, str):
            ratio = parse_percent(node.value)
        else:
            points = _plain_number(node)
            if 0 < points < 1:
                raise ValueError(f"{node.text} may mean {node.text}% or {points * 100:g}%; write it with its % sign")
            ratio = points / 100
        if not 0 <= ratio < below:
            raise ValueError
        return ratio

    upper = {} if below == math.inf else {"exclusiveMaximum": below * 100}
    bare = {"type": "number", "minimum": 0, "not": {"exclusiveMinimum": 0, "exclusiveMaximum": 1}} | upper
    json = {"anyOf": [bare, {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*%\s*$"}]}
    return Single("a percentage such as 10%" + (f", below {below:.0%}" if upper else ""), accept, json)


def duration() -> Single[float]:
    """``30s``, ``5m``, ``250ms`` or a number of seconds -> seconds, more than none."""

    def accept(node: Node) -> float:
        seconds = parse_duration(node.value) if isinstance(node.value, str) else _plain_number(node)
        if not 0 < seconds < math.inf:
            raise ValueError
        return seconds

    bare = {"type": "number", "exclusiveMinimum": 0}
    json = {"anyOf": [bare, {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*(ms|s|m|h)?\s*$"}]}
    return Single("a time such as 30s, 5m or 250ms", accept, json)


def _plain_number(node: Node) -> float:
    if isinstance(node.value, bool) or not isinstance(node.value, int | float):
        raise ValueError
    return float(node.value)
