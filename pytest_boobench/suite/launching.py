"""Room 1: ``launch:`` of a suite: values for the placeholders in the commands that start its hosts; lists are axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_boobench.documents.validation import Expected, Located, parsed
from pytest_boobench.documents.yaml_tree import Node, Problems, suggest
from pytest_boobench.suite.names import shorten

BUILD = "build"
"""The placeholder that selects one of several commands."""
WORD_JSON = {"type": ["string", "number"]}
"""JSON Schema of what `read_word` reads."""
_OURS = ("port", "model", "model_file")


@dataclass(frozen=True, slots=True, kw_only=True)
class StartNeeds:
    """What a host that we start needs from a suite."""

    place: str
    """Where its command is, as in ``boobench.hosts.yaml:5``."""
    builds: tuple[str, ...] = ()
    """Names of its commands; empty if there is only one."""
    takes: Mapping[str, frozenset[str]]
    """Build -> placeholders that ``launch`` must fill."""
    models: tuple[str, ...] | None = None
    """The models that it has files for; None: any model."""


def launch_values() -> Expected:
    """Placeholder -> a text, or for an axis a tuple of texts; all as written."""
    either = {"anyOf": [WORD_JSON, {"type": "array", "items": WORD_JSON, "minItems": 1, "uniqueItems": True}]}
    return parsed("a mapping such as kv: [f16, q8_0]", _read_launch, {"type": "object", "additionalProperties": either})


def _read_launch(given: Any, problems: Problems) -> dict[str, str | tuple[str, ...]]:
    if not isinstance(given, Located):
        raise ValueError
    found: dict[str, str | tuple[str, ...]] = {}
    for name in given:
        node = given.node.child(name)
        if not name.isidentifier() or name in _OURS:
            reason = "the plugin fills it" if name in _OURS else "expected a name of letters, digits and _"
            problems.add(node, f"{reason}; leave it out" if name in _OURS else reason)
            continue
        texts = tuple(read_word(item, problems) for item in node.listed)
        for place, text in enumerate(texts):
            if text in texts[:place]:
                problems.add(node.listed[place], f"{text} stands twice; keep one of them")
        if not texts:
            problems.add(node, "expected at least one item, got an empty list")
        found[name] = tuple(dict.fromkeys(texts)) if isinstance(node.value, tuple) else texts[0]
    return found


def read_word(node: Node, problems: Problems) -> str:
    """A text or a number as it is written; notes anything else."""
    if not isinstance(node.value, str | int | float) or isinstance(node.value, bool):
        problems.add(node, f"expected a text or a number, got {node.describe()}; write it in quotes")
    return node.text


def show_values(values: tuple[str, ...]) -> Mapping[str, str]:
    """Return value -> its text in a node id: the last part of a path."""
    return shorten(values)


def check_launch(
    launch: Mapping[str, str | tuple[str, ...]],
    node: Node,
    models: Node,
    needs: Mapping[str, StartNeeds | None],
    problems: Problems,
) -> None:
    """Note values that no command uses, and placeholders without a value.
    ``needs`` is host -> what it needs from the suite; None for a host that we do not start."""
    if launch and (strange := [host for host, need in needs.items() if need is None]):
        problems.add(
            node, f"the host {strange[0]!r} is not started by the plugin; leave launch out, or give that host a start"
        )
        return
    used: set[str] = set()
    for host, need in needs.items():
        if need is not None:
            used |= _check_host(launch, node, host, need, problems)
            _check_models(models, host, need, problems)
    for name in launch.keys() - used:
        child = node.child(name)
        if any(need is not None for need in needs.values()):
            problems.add(child, f"no command uses {{{name}}}; {suggest(name, used)}" if used else "no command uses it")


def _check_host(
    launch: Mapping[str, str | tuple[str, ...]], node: Node, host: str, need: StartNeeds, problems: Problems
) -> set[str]:
    """Note what this host lacks; return the names that it uses."""
    asked = launch.get(BUILD, ())
    wanted = (asked,) if isinstance(asked, str) else asked
    if need.builds:
        for text, place in zip(wanted, node.child(BUILD).listed, strict=False):
            if text not in need.builds:
                problems.add(place, f"{host} has no build {text!r} ({need.place}); {suggest(text, need.builds)}")
        if not wanted:
            names = ", ".join(need.builds)
            problems.add(node.child(BUILD), f"{host} has several builds ({need.place}); write build: [{names}]")
    builds = [build for build in wanted if build in need.takes] if need.builds else list(need.takes)
    takes = set().union(*(need.takes[build] for build in builds))
    for name in sorted(takes - launch.keys()):
        problems.add(
            node.child(name), f"{host} needs a value of {{{name}}} ({need.place}); write {name}: and the value"
        )
    return takes | ({BUILD} if need.builds else set())


def _check_models(models: Node, host: str, need: StartNeeds, problems: Problems) -> None:
    if need.models is None:
        return
    for model in models.listed:
        if isinstance(model.value, str) and model.value not in need.models:
            problems.add(model, f"{host} has no file of it ({need.place}); {suggest(model.value, need.models)}")
