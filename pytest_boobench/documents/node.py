"""Room 0: one value of a YAML file that knows its line and its path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Scalar = str | int | float | bool | None
_SHOWN = 40
"""How many characters of a wrong text a message repeats."""


@dataclass(frozen=True, slots=True)
class Node:
    """One value: a scalar, a list as a tuple of Nodes, or a mapping of texts to Nodes."""

    value: Scalar | tuple[Node, ...] | Mapping[str, Node]
    line: int
    """Where its key stands, or a list's item itself; from 1."""
    path: str
    """As in ``grid.concurrency[1]``; empty for the file itself."""
    text: str = ""
    """A scalar as it was written, without quotes."""

    @property
    def listed(self) -> tuple[Node, ...]:
        """The items of a list; any other value as the only item."""
        return self.value if isinstance(self.value, tuple) else (self,)

    def child(self, key: str) -> Node:
        """The value under a key; where the key is missing, a blank on this node's line to hang a problem on."""
        found = self.value.get(key) if isinstance(self.value, Mapping) else None
        return found or Node(None, self.line, join_path(self.path, key))

    def key_as_text(self, key: str) -> Node:
        """A key of this mapping as a value, so that shapes can check it."""
        child = self.child(key)
        return Node(key, child.line, child.path, key)

    def to_plain(self) -> Any:
        """The value as dicts, lists and scalars."""
        if isinstance(self.value, tuple):
            return [item.to_plain() for item in self.value]
        if isinstance(self.value, Mapping):
            return {key: child.to_plain() for key, child in self.value.items()}
        return self.value

    def describe(self) -> str:
        """What a message says it got instead."""
        if self.value is None:
            return "nothing"
        if isinstance(self.value, tuple):
            return "a list" if self.value else "an empty list"
        if isinstance(self.value, Mapping):
            return "a mapping" if self.value else "an empty mapping"
        text = self.text if len(self.text) <= _SHOWN else f"{self.text[:_SHOWN]}…"
        return repr(text) if isinstance(self.value, str) else text


def join_path(path: str, key: str) -> str:
    """The path of a key inside the mapping at ``path``, on one line whatever the key."""
    shown = key if key and key.isprintable() else repr(key)
    return f"{path}.{shown}" if path else shown
