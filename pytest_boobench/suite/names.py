"""Room 1: names that a node id can carry."""

from __future__ import annotations

import re

from pytest_boobench.documents.node import Node
from pytest_boobench.documents.scalars import Single, text

_BREAKS_NODE_ID = re.compile(r"::|[\[\]]")
"""pytest takes a node id apart at the first ``[`` and at every ``::``."""
_MEANT_FOR_PYTEST = re.compile(
    r"__\w+__|pytestmark|pytest_plugins|(setup|teardown)(_(module|class|method|function))?|(setUp|tearDown)(Module|Class)?"
)
"""Attributes of test modules and classes that pytest gives a meaning; names become such attributes."""

_LONGEST = 200
"""Names stand in every line of a report, and in the environment variable PYTEST_CURRENT_TEST."""


def node_name() -> Single[str]:
    """A name of a suite, host or model. Slashes, dots, spaces inside and single colons are fine."""
    plain = text()

    def accept(node: Node) -> str:
        name = plain.accept(node)
        if len(name) > _LONGEST:
            raise ValueError(f"a name of {len(name):,} characters; {_LONGEST} are the limit")
        refusal = _refuse(name)
        if refusal:
            raise ValueError(refusal)
        return name

    return Single("a name", accept, plain.json)


def _refuse(name: str) -> str | None:  # one line for each way to be wrong
    unprintable = next((char for char in name if not char.isprintable()), None)
    if unprintable:
        return f"the name holds the character U+{ord(unprintable):04X}, which a node id cannot carry"
    if name != name.strip():
        return f"the name {name!r} begins or ends with a space, which a node id cannot carry"
    breaking = _BREAKS_NODE_ID.search(name)
    if breaking:
        return f"the name {name!r} holds {breaking[0]!r}, which a node id cannot carry"
    if name.startswith(":") or name.endswith(":"):
        return f"the name {name!r} begins or ends with ':', which a node id cannot carry beside its '::'"
    if _MEANT_FOR_PYTEST.fullmatch(name):
        return f"the name {name!r} has a meaning of its own in pytest; choose another"
    return None
