"""Room 0: what a YAML scalar means. The core schema of YAML 1.2, on PyYAML.

PyYAML follows YAML 1.1, where ``no`` is false, ``12:30`` is 750, ``017`` is 15 and ``1e3`` is text. Model names and
numbers should mean what they look like: here only true and false are booleans, and nothing becomes a date.
"""

from __future__ import annotations

import re

import yaml

from pytest_boobench.documents.node import Scalar

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # pragma: no cover  (a PyYAML built without libyaml)
    from yaml import SafeLoader  # type: ignore[assignment]

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
    """PyYAML's parser with the scalars of the core schema; it is used for parsing only and constructs nothing."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  (a registry of PyYAML's that add_implicit_resolver fills)


for _name, _pattern, _first in _CORE:
    CoreLoader.add_implicit_resolver(f"{_PREFIX}{_name}", _pattern, _first)


def looks_like_number(text: str) -> bool:
    """Whether the text would be a number if it stood there without quotes."""
    return any(_PATTERNS[name].match(text) for name in ("int", "float"))


def short_tag(tag: str) -> str:
    """A tag as people write it: ``!!python/name``, ``!mine``."""
    return f"!!{tag.removeprefix(_PREFIX)}" if tag.startswith(_PREFIX) else tag


def read_scalar(node: yaml.ScalarNode) -> Scalar:
    """The scalar's value; raises ValueError with what is wrong where its tag or its digits cannot be used."""
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
