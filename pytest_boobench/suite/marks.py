"""Room 1: pytest marks as a suite writes them: ``slow``, ``skip: reason``, ``xfail: {reason: …, strict: true}``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_boobench.documents.node import Node
from pytest_boobench.documents.problems import Problems
from pytest_boobench.documents.scalars import flag, text
from pytest_boobench.documents.tables import Keyed
from pytest_boobench.suite.cell import Mark


@dataclass(frozen=True, slots=True)
class Condition:
    """True, false, or a Python expression as text, which pytest evaluates."""

    wanted: str = "true, false or a Python expression"

    def read(self, node: Node, problems: Problems) -> bool | str | None:
        """The condition as pytest takes it."""
        return node.value if isinstance(node.value, bool) else text().read(node, problems)

    def schema(self) -> dict[str, Any]:
        """JSON Schema of the condition."""
        return {"type": ["boolean", "string"]}


_PYTESTS_OWN = {
    "skip": Keyed({"reason": text()}, "a reason"),
    "skipif": Keyed({"condition": Condition(), "reason": text()}, "a mapping with condition, reason"),
    "xfail": Keyed(
        {"reason": text(), "strict": flag(), "run": flag(), "condition": Condition()},
        "a reason, or a mapping with reason, strict, run, condition",
    ),
}
_BARE_TEXT_IS_REASON = ("skip", "xfail")
"""For xfail pytest would take a first bare text for a condition."""
_ELSEWHERE = {
    "usefixtures": "write the fixtures under usefixtures, beside marks",
    "parametrize": "lists under grid and sampling make the parameters",
    "boobench": "every cell has this mark already",
    "xdist_group": "the cells of a server run in one worker as it is",
}


@dataclass(frozen=True, slots=True)
class MarkShape:
    """One mark: its name, or a mapping of its name to its arguments."""

    wanted: str = "the name of a mark, or name: arguments"

    def read(self, node: Node, problems: Problems) -> Mark | None:
        """The mark, or None after noting what is wrong with it."""
        if not isinstance(node.value, Mapping):
            return Mark(node.text) if self._is_name(node, node.value, problems) else None
        if len(node.value) != 1:
            problems.add(node, f"expected one mark, got {len(node.value)}; begin each with a dash")
            return None
        (name, arguments), *_ = node.value.items()
        if not self._is_name(node, name, problems):
            return None
        own = _PYTESTS_OWN.get(name)
        if own is None:
            return _mark(name, arguments.to_plain())
        if name in _BARE_TEXT_IS_REASON and isinstance(arguments.value, str):
            return Mark(name, kwargs={"reason": arguments.value})
        return Mark(name, kwargs=own.read(arguments, problems))

    def _is_name(self, node: Node, name: object, problems: Problems) -> bool:
        if not isinstance(name, str) or not name.isidentifier() or name.startswith("_"):
            problems.add(node, f"expected {self.wanted}, got {node.describe()}")
        elif name in _ELSEWHERE:
            problems.add(node, f"not a mark for a suite: {_ELSEWHERE[name]}")
        elif name == "skipif" and not isinstance(node.value, Mapping):
            problems.add(node, "expected skipif: {condition: …, reason: …}, got no condition")
        else:
            return True
        return False

    def schema(self) -> dict[str, Any]:
        """JSON Schema of both forms."""
        own = {name: shape.schema() for name, shape in _PYTESTS_OWN.items()}
        for name in _BARE_TEXT_IS_REASON:
            own[name] = {"anyOf": [{"type": "string"}, own[name]]}
        with_arguments = {"type": "object", "minProperties": 1, "maxProperties": 1, "properties": own}
        return {"anyOf": [{"type": "string"}, with_arguments]}


def _mark(name: str, arguments: Any) -> Mark:
    if isinstance(arguments, dict):
        return Mark(name, kwargs=arguments)
    if arguments is None:
        return Mark(name)
    return Mark(name, args=tuple(arguments) if isinstance(arguments, list) else (arguments,))
