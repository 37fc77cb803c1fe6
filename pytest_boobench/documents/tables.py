"""Room 0: the shapes that hold other shapes: lists, mappings, and dataclasses whose fields say what a file may name."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from pytest_boobench.documents.node import Node
from pytest_boobench.documents.problems import Problems, suggest
from pytest_boobench.documents.scalars import Shape, Single

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class OneOrMore(Generic[T]):
    """A list without repetitions, at least one item long, or its only item without the list."""

    item: Shape[T]

    @property
    def wanted(self) -> str:
        """What is right here."""
        return f"{self.item.wanted}, or a list of such"

    def read(self, node: Node, problems: Problems) -> tuple[T, ...] | None:
        """The items that are right."""
        if not node.listed:
            problems.add(node, "expected at least one item, got an empty list")
        items: list[T] = []
        for child in node.listed:
            value = self.item.read(child, problems)
            if value is not None and value in items:
                problems.add(child, f"{child.text or 'the same'} stands twice; keep one of them")
            elif value is not None:
                items.append(value)
        return tuple(items) or None

    def schema(self) -> dict[str, Any]:
        """JSON Schema of either form."""
        item = self.item.schema()
        return {"anyOf": [item, {"type": "array", "items": item, "minItems": 1, "uniqueItems": True}]}


@dataclasses.dataclass(frozen=True, slots=True)
class Keyed:
    """A mapping in which each known key has a shape of its own, and no key is needed."""

    shapes: Mapping[str, Shape[Any]]
    wanted: str = "a mapping"

    def read(self, node: Node, problems: Problems) -> dict[str, Any] | None:
        """The values that are right, in the file's order."""
        if not isinstance(node.value, Mapping):
            problems.add(node, f"expected {self.wanted}, got {node.describe()}")
            return None
        found = {}
        for key, child in node.value.items():
            shape = self.shapes.get(key)
            if shape is None:
                problems.add(child, f"unknown key; {suggest(key, self.shapes)}")
            elif (value := shape.read(child, problems)) is not None:
                found[key] = value
        return found

    def schema(self) -> dict[str, Any]:
        """JSON Schema of the mapping, closed."""
        properties = {key: shape.schema() for key, shape in self.shapes.items()}
        return {"type": "object", "properties": properties, "additionalProperties": False}


@dataclasses.dataclass(frozen=True, slots=True)
class Named(Generic[T]):
    """A mapping of names that the user chooses, all of one shape."""

    name: Single[str]
    item: Shape[T]
    wanted: str

    def read(self, node: Node, problems: Problems) -> dict[str, T] | None:
        """The values that are right under names that are right, in the file's order."""
        if not isinstance(node.value, Mapping):
            problems.add(node, f"expected {self.wanted}, got {node.describe()}")
            return None
        found = {}
        for key, child in node.value.items():
            name = self.name.read(node.key_as_text(key), problems)
            value = self.item.read(child, problems)
            if name is not None and value is not None:
                found[name] = value
        return found

    def schema(self) -> dict[str, Any]:
        """JSON Schema of the mapping; it cannot say all that a name may not be."""
        return {"type": "object", "additionalProperties": self.item.schema()}


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """What the annotation of a row's field says of the key it is read from.

    The field's default stands in where the key is missing or wrong, for a required one too: later checks can go on.
    """

    shape: Shape[Any]
    about: str
    required: bool = False
    default: Any = None
    """What the schema tells of the default."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What a Table is read into: a dataclass whose fields are annotated with entries, and where it was read."""

    node: Node = dataclasses.field(default=Node(None, 1, ""), compare=False, repr=False)


R = TypeVar("R", bound=Row)
_ENTRIES: dict[type[Row], Mapping[str, Entry]] = {}
"""What `Table.entries` found: a file may have thousands of rows of one kind."""


@dataclasses.dataclass(frozen=True, slots=True)
class Table(Generic[R]):
    """A mapping with known keys, some of which must be there."""

    row: type[R]

    @property
    def entries(self) -> Mapping[str, Entry]:
        """Key -> entry, in the order of the row's fields."""
        if self.row not in _ENTRIES:
            hints = typing.get_type_hints(self.row, include_extras=True)
            _ENTRIES[self.row] = {key: hint.__metadata__[0] for key, hint in hints.items() if key != "node"}
        return _ENTRIES[self.row]

    @property
    def required(self) -> list[str]:
        """The keys that must be there."""
        return [key for key, entry in self.entries.items() if entry.required]

    @property
    def wanted(self) -> str:
        """What is right here."""
        return f"a mapping with {', '.join(self.required or self.entries)}"

    def read(self, node: Node, problems: Problems) -> R | None:
        """The row with what is right; missing and wrong values have their defaults."""
        entries = self.entries
        found = Keyed({key: entry.shape for key, entry in entries.items()}, self.wanted).read(node, problems)
        if found is None or not isinstance(node.value, Mapping):
            return None
        for key in self.required:
            if key not in node.value:
                problems.add(node.child(key), f"is missing; expected {entries[key].shape.wanted}")
        return self.row(node=node, **found)

    def schema(self) -> dict[str, Any]:
        """JSON Schema with the entries' words, closed."""
        properties = {key: _describe(entry) for key, entry in self.entries.items()}
        required = {"required": self.required} if self.required else {}
        return {"type": "object", "properties": properties, "additionalProperties": False} | required


def _describe(entry: Entry) -> dict[str, Any]:
    default = {} if entry.default is None else {"default": entry.default}
    return {**entry.shape.schema(), "description": entry.about, **default}
