"""Room 0: PyYAML's nodes -> Nodes. Aliases and merge keys are followed, and all that grows without end is stopped."""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from pytest_boobench.documents.core import MERGE_TAG, read_scalar, short_tag
from pytest_boobench.documents.node import Node, join_path
from pytest_boobench.documents.problems import Problems

MAX_DEPTH = 64
TOO_DEEP = f"lists and mappings more than {MAX_DEPTH} deep"
"""Lists and mappings inside each other."""
MAX_VALUES = 100_000
"""Values in one file once its aliases are followed."""

_COLLECTION_TAGS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
Pair = tuple[yaml.ScalarNode, yaml.Node]


def line_of(raw: yaml.Node) -> int:
    """Where PyYAML saw a node, counted from 1."""
    return int(raw.start_mark.line) + 1


class Tree:
    """Grows the Nodes of one file; what is wrong on the way goes to its problems."""

    def __init__(self, problems: Problems, max_values: int = MAX_VALUES) -> None:
        self._problems = problems
        self._max_values = max_values
        self._values = 0

    def grow(self, raw: yaml.Node, path: str, line: int, depth: int = 0) -> Node:
        """A Node for a value that is known as ``path`` and stands on ``line``."""
        self._count(line, depth)
        if isinstance(raw, yaml.ScalarNode):
            return self._grow_scalar(raw, path, line)
        if raw.tag not in _COLLECTION_TAGS:
            self._refuse(path, line, f"the tag {short_tag(raw.tag)} is not allowed here; write a plain value")
        if isinstance(raw, yaml.MappingNode):
            return Node(self._grow_mapping(raw, path, depth), line, path)
        items = (self.grow(item, f"{path}[{i}]", line_of(item), depth + 1) for i, item in enumerate(raw.value))
        return Node(tuple(items), line, path)

    def _grow_scalar(self, raw: yaml.ScalarNode, path: str, line: int) -> Node:
        try:
            return Node(read_scalar(raw), line, path, raw.value)
        except ValueError as error:
            self._refuse(path, line, str(error))
            return Node(None, line, path, raw.value)

    def _grow_mapping(self, raw: yaml.MappingNode, path: str, depth: int) -> dict[str, Node]:
        grown: dict[str, Node] = {}
        for key, value in self._own_pairs(raw, path):
            if key.value in grown:
                first = grown[key.value]
                self._refuse(first.path, line_of(key), f"stands twice, first on line {first.line}; keep one of them")
            else:
                grown[key.value] = self.grow(value, join_path(path, key.value), line_of(key), depth + 1)
        for key, value in self._merged_pairs(raw, path, depth):
            if key.value not in grown:
                grown[key.value] = self.grow(value, join_path(path, key.value), line_of(key), depth + 1)
        return grown

    def _own_pairs(self, raw: yaml.MappingNode, path: str) -> Iterator[Pair]:
        for key, value in raw.value:
            if not isinstance(key, yaml.ScalarNode):
                self._refuse(path, line_of(key), "a key is a list or a mapping; put text with { or [ in quotes")
            elif key.tag != MERGE_TAG:
                yield key, value

    def _merged_pairs(self, raw: yaml.MappingNode, path: str, depth: int) -> Iterator[Pair]:
        """What the mapping's merge keys bring in, the strongest first."""
        for key, value in raw.value:
            if key.tag != MERGE_TAG:
                continue
            for source in value.value if isinstance(value, yaml.SequenceNode) else (value,):
                self._count(line_of(key), depth)
                if isinstance(source, yaml.MappingNode):
                    yield from self._own_pairs(source, path)
                    yield from self._merged_pairs(source, path, depth + 1)
                else:
                    self._refuse(
                        join_path(path, "<<"), line_of(key), "expected a mapping or a list of them to merge in"
                    )

    def _count(self, line: int, depth: int) -> None:
        self._values += 1
        if self._values > self._max_values:
            self._problems.stop(line, f"more than {self._max_values:,} values once aliases are followed")
        if depth > MAX_DEPTH:
            self._problems.stop(line, TOO_DEEP)

    def _refuse(self, path: str, line: int, text: str) -> None:
        self._problems.add(Node(None, line, path), text)
