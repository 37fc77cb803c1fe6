"""Room 0: a YAML text as a tree of Nodes that know their lines and paths, and the problems found in it.

Scalars follow the core schema of YAML 1.2. PyYAML follows YAML 1.1, where ``no`` is false, ``12:30`` is 750, ``017`` is
15 and ``1e3`` is text. Model names and numbers should mean what they look like: here only true and false are booleans,
and nothing becomes a date. Aliases and merge keys are resolved, within limits on depth and number of values.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import yaml

from pytest_boobench.errors import DocumentError, Problem
from pytest_boobench.untrusted import learn_likely_keys, learn_url

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # pragma: no cover  (a PyYAML built without libyaml)
    from yaml import SafeLoader  # type: ignore[assignment]

Scalar = str | int | float | bool | None
_SHOWN = 40
"""How many characters of a wrong text a message shows."""


@dataclass(frozen=True, slots=True)
class Node:
    """One value: a scalar, a list as a tuple of Nodes, or a mapping of texts to Nodes."""

    value: Scalar | tuple[Node, ...] | Mapping[str, Node]
    line: int
    """The line of its key, or of a list's item; from 1."""
    path: str
    """As in ``grid.concurrency[1]``; empty for the file itself."""
    text: str = ""
    """A scalar as it was written, without quotes."""
    missing: bool = False
    """Whether this is a placeholder for a missing key."""

    @property
    def listed(self) -> tuple[Node, ...]:
        """The items of a list; for any other value, that value as the only item."""
        return self.value if isinstance(self.value, tuple) else (self,)

    def child(self, key: str) -> Node:
        """Return the value under a key; for a missing key a placeholder on this node's line, for messages."""
        found = self.value.get(key) if isinstance(self.value, Mapping) else None
        return found or Node(None, self.line, join_path(self.path, key), missing=True)

    def find(self, steps: Iterable[int | str]) -> Node:
        """Return the value at these keys and indexes, which are pydantic's ``loc``.

        ``[key]`` means the preceding key itself. An index into a value that is no list finds that value: a file may
        omit the list around a single item.
        """
        found, name = self, ""
        for step in steps:
            if step == "[key]" and found.child(step).missing:
                found = Node(name, found.line, found.path, name)
            elif isinstance(step, str):
                found, name = found.child(step), step
            elif isinstance(found.value, tuple):
                found = found.value[step]
        return found

    def to_plain(self) -> Any:
        """Return the value as dicts, lists and scalars."""
        if isinstance(self.value, tuple):
            return [item.to_plain() for item in self.value]
        if isinstance(self.value, Mapping):
            return {key: child.to_plain() for key, child in self.value.items()}
        return self.value

    def describe(self) -> str:
        """Describe the value, for "got …" in a message.

        A URL's password, and what looks like a key, is hidden from then on.
        """
        learn_url(self.text)
        learn_likely_keys(self.text)
        if self.value is None:
            return "nothing"
        if isinstance(self.value, tuple):
            return "a list" if self.value else "an empty list"
        if isinstance(self.value, Mapping):
            return "a mapping" if self.value else "an empty mapping"
        text = self.text if len(self.text) <= _SHOWN else f"{self.text[:_SHOWN]}…"
        return repr(text) if isinstance(self.value, str) else text


def join_path(path: str, key: str) -> str:
    """Return the path of a key in the mapping at ``path``; always one line."""
    shown = key if key and key.isprintable() else repr(key)
    return f"{path}.{shown}" if path else shown


class Problems:
    """The problems of one file, at most one per field: further ones mostly follow from the first."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._by_field: dict[str, Problem] = {}

    def add(self, node: Node, text: str) -> None:
        """Note what is wrong with a value, and what would be right."""
        learn_likely_keys(f"{node.path} {text}")
        self._by_field.setdefault(node.path, Problem(self._file, node.line, node.path, text))

    def adopt(self, error: DocumentError) -> None:
        """Note the problems of another file, which this one names."""
        for problem in error.problems:
            self._by_field[f"{problem.file}:{problem.line}:{problem.field}"] = problem

    def has(self, node: Node) -> bool:
        """Whether this value or something inside it has a problem."""
        inside = (f"{node.path}.", f"{node.path}[")
        return any(path == node.path or path.startswith(inside) for path in self._by_field)

    def raise_any(self) -> None:
        """Raise DocumentError with all noted problems; do nothing if there are none."""
        if self._by_field:
            raise DocumentError(tuple(self._by_field.values()))

    def stop(self, line: int, text: str) -> NoReturn:
        """Raise DocumentError for a file that cannot be read any further."""
        learn_likely_keys(text)
        raise DocumentError((*self._by_field.values(), Problem(self._file, line, "", text)))


def suggest(word: str, known: Iterable[str]) -> str:
    """Suggest the most similar known word, or all of them if none is similar."""
    choices = list(known)
    near = difflib.get_close_matches(word, choices, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(choices)}"


_PREFIX = "tag:yaml.org,2002:"
_CORE = (
    ("null", re.compile(r"(~|null|Null|NULL|)\Z"), ["~", "n", "N", ""]),
    ("bool", re.compile(r"(true|True|TRUE|false|False|FALSE)\Z"), list("tTfF")),
    ("int", re.compile(r"([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z"), list("-+0123456789")),
    (
        "float",
        re.compile(r"([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))\Z"),
        list("-+.0123456789"),
    ),
    ("merge", re.compile(r"<<\Z"), ["<"]),
)
_PATTERNS = {name: pattern for name, pattern, _ in _CORE}
_LONGEST_NUMBER = 100

MERGE_TAG = f"{_PREFIX}merge"


class CoreLoader(SafeLoader):
    """PyYAML's parser with the scalars of the core schema. It only parses and never constructs objects."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  (a registry of PyYAML's that add_implicit_resolver fills)


for _name, _pattern, _first in _CORE:
    CoreLoader.add_implicit_resolver(f"{_PREFIX}{_name}", _pattern, _first)


def looks_like_number(text: str) -> bool:
    """Whether the text, without quotes, would be a number."""
    return any(_PATTERNS[name].match(text) for name in ("int", "float"))


def short_tag(tag: str) -> str:
    """Return a tag as people write it: ``!!python/name``, ``!mine``."""
    return f"!!{tag.removeprefix(_PREFIX)}" if tag.startswith(_PREFIX) else tag


def read_scalar(node: yaml.ScalarNode) -> Scalar:
    """Return the scalar's value. Raises ValueError, with the reason, for a tag or digits that cannot be used."""
    name = node.tag.removeprefix(_PREFIX)
    if name in ("str", "merge"):
        return str(node.value)
    pattern = _PATTERNS.get(name)
    if pattern is None:
        raise ValueError(f"the tag {short_tag(node.tag)} is not allowed here; write a plain value")
    if not pattern.match(node.value):
        raise ValueError(f"{node.value!r} is not what its tag {short_tag(node.tag)} says")
    if name == "null":
        return None
    if name == "bool":
        return bool(node.value.lower() == "true")
    return _read_number(node.value, whole=name == "int")


def _read_number(text: str, *, whole: bool) -> int | float:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError(f"a number of {len(text)} characters; {_LONGEST_NUMBER} are the limit")
    if not whole:
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    digits = text.lstrip("-+")
    if digits[:2] in ("0x", "0o"):
        return int(text, 0)
    if digits.startswith("0") and digits.strip("0"):
        raise ValueError(f"{text} begins with 0, which some readers of YAML take for octal; write {int(text)}")
    return int(text)


MAX_DEPTH = 64
TOO_DEEP = f"lists and mappings more than {MAX_DEPTH} deep"
"""Nesting of lists and mappings."""
MAX_VALUES = 100_000
"""Values in one file after its aliases are resolved."""

_COLLECTION_TAGS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
_Pair = tuple[yaml.ScalarNode, yaml.Node]


def line_of(raw: yaml.Node) -> int:
    """Return PyYAML's line of a node, from 1."""
    return int(raw.start_mark.line) + 1


class Tree:
    """Builds the Nodes of one file, and adds what is wrong to its problems."""

    def __init__(self, problems: Problems, max_values: int = MAX_VALUES) -> None:
        self._problems = problems
        self._max_values = max_values
        self._values = 0

    def grow(self, raw: yaml.Node, path: str, line: int, depth: int = 0) -> Node:
        """Build the Node of the value at ``path`` on ``line``."""
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

    def _own_pairs(self, raw: yaml.MappingNode, path: str) -> Iterator[_Pair]:
        for key, value in raw.value:
            if not isinstance(key, yaml.ScalarNode):
                self._refuse(path, line_of(key), "a key is a list or a mapping; put text with { or [ in quotes")
            elif key.tag != MERGE_TAG:
                yield key, value

    def _merged_pairs(self, raw: yaml.MappingNode, path: str, depth: int) -> Iterator[_Pair]:
        """The pairs from the mapping's merge keys, those with the highest precedence first."""
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
