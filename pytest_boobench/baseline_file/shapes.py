"""Room 5: the shapes of a baseline file's values that no other file of ours has."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Generic, TypeVar

from pytest_boobench.aggregate import Aggregate
from pytest_boobench.documents.node import Node
from pytest_boobench.documents.problems import Problems
from pytest_boobench.documents.scalars import Shape, Single, whole
from pytest_boobench.documents.tables import Keyed

T = TypeVar("T")
Numbers = tuple[float | None, ...]
"""One for each request, in their order; blank where it does not have the metric."""


def moment() -> Single[float]:
    """A time with its zone -> seconds since 1970 UTC."""

    def accept(node: Node) -> float:
        try:
            at = datetime.fromisoformat(node.text)
        except ValueError:
            raise ValueError from None
        if at.tzinfo is None:
            raise ValueError
        return at.timestamp()

    return Single("a time such as 2026-11-24T09:30:00Z", accept, {"type": "string", "format": "date-time"})


@dataclass(frozen=True, slots=True)
class Several(Generic[T]):
    """A list, possibly with the same item twice."""

    item: Shape[T]

    @property
    def wanted(self) -> str:
        """What is right here."""
        return f"a list, each of it {self.item.wanted}"

    def read(self, node: Node, problems: Problems) -> tuple[T, ...] | None:
        """The items that are right."""
        if not isinstance(node.value, tuple):
            problems.add(node, f"expected {self.wanted}, got {node.describe()}")
            return None
        found = (self.item.read(child, problems) for child in node.value)
        return tuple(item for item in found if item is not None)

    def schema(self) -> dict[str, Any]:
        """JSON Schema of the list."""
        return {"type": "array", "items": self.item.schema()}


@dataclass(frozen=True, slots=True)
class Body:
    """Fields of a request, of any kind: the cell's identity is made of them as they are written."""

    wanted: str = "a mapping of a request's fields"

    def read(self, node: Node, problems: Problems) -> Mapping[str, Any] | None:
        """The mapping as plain data."""
        if not isinstance(node.value, Mapping):
            problems.add(node, f"expected {self.wanted}, got {node.describe()}")
            return None
        plain: Mapping[str, Any] = node.to_plain()
        return plain

    def schema(self) -> dict[str, Any]:
        """JSON Schema of the mapping, open."""
        return {"type": "object"}


def finite() -> Single[float]:
    """Any number but NaN and infinities."""

    def accept(node: Node) -> float:
        value = node.value
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError
        return float(value)

    return Single("a number", accept, {"type": "number"})


_NUMBER = finite()
_SUMMARY = Keyed({field.name: whole(1) if field.name == "n" else _NUMBER for field in fields(Aggregate)})
_NEEDED = frozenset(_SUMMARY.shapes) - {"stdev"}


@dataclass(frozen=True, slots=True)
class SummaryShape:
    """An Aggregate."""

    wanted: str = "a summary of its numbers"

    def read(self, node: Node, problems: Problems) -> Aggregate | None:
        """The Aggregate, or None after noting what is wrong with it."""
        if not isinstance(node.value, Mapping):
            problems.add(node, f"expected {self.wanted}, got {node.describe()}")
            return None
        found = _SUMMARY.read(node, problems) or {}
        if missing := _NEEDED - node.value.keys():
            problems.add(node, f"lacks {', '.join(sorted(missing))}")
        return Aggregate(**{"stdev": None, **found}) if found.keys() >= _NEEDED else None

    def schema(self) -> dict[str, Any]:
        """JSON Schema of the mapping."""
        return {**_SUMMARY.schema(), "required": sorted(_NEEDED)}


@dataclass(frozen=True, slots=True)
class MetricShape:
    """A number for each request; or a summary, where the samples are gone."""

    wanted: str = "a list of numbers, or a summary of them"

    def read(self, node: Node, problems: Problems) -> Numbers | Aggregate | None:
        """Either of them, or None after noting why not."""
        if not isinstance(node.value, tuple):
            return SummaryShape(self.wanted).read(node, problems)
        return tuple(None if item.value is None else _NUMBER.read(item, problems) for item in node.value)

    def schema(self) -> dict[str, Any]:
        """JSON Schema of either form."""
        numbers = {"type": "array", "items": {"type": ["number", "null"]}}
        return {"anyOf": [numbers, SummaryShape().schema()]}
