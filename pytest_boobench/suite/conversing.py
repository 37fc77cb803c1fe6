"""Room 1: checks of a suite's conversations: what does not go with turns, and gates on turns that no cell has."""

from __future__ import annotations

from pytest_boobench.documents.yaml_tree import Problems
from pytest_boobench.suite.spec import MarkedPlan, OverrideFields, SuiteFields
from pytest_boobench.suite.thresholds import LAST, TurnRatio, list_turns


def check_turns(written: SuiteFields, problems: Problems) -> None:
    """Note what is wrong about ``turns`` and the fields that belong to it."""
    most = max(_list_turns(written))
    place = written.node.child("turns")
    place = written.node.child("grid").child("turns") if place.missing else place
    if most > 1:
        for field, text in _find_conflicts(written).items():
            problems.add(place, f"does not go with {field}: {text}")
    for name in ("turn_tokens", "think_time"):
        node = written.node.child(name)
        if most == 1 and not node.missing and not problems.has(place):
            problems.add(node, "there are no later turns; add turns, or leave it out")
    for fields in (written, *written.overrides):
        _check_samples(fields, written, problems)
        _check_gate_of_turns(fields, written, problems)


def _find_conflicts(written: SuiteFields) -> dict[str, str]:
    """Field -> why it does not go with turns, for those that the suite sets."""
    axes = written.list_axes()
    found = {}
    if written.kind != "chat":
        found[f"kind {written.kind}"] = "only a chat has turns; say kind: chat, or leave turns out"
    if written.cache != "cold":
        found[f"cache: {written.cache}"] = "turn 1 is always cold, and later turns use the cache; leave cache out"
    if max(axes.get("depth_tokens", (0,))) > 0:
        found["depth_tokens"] = "a conversation makes its own context; keep one of them"
    if max(axes.get("rate", (0,))) > 0:
        found["rate"] = "a turn starts when the one before has ended; keep one of them"
    return found


def _list_turns(written: SuiteFields, fields: MarkedPlan | None = None) -> tuple[int, ...]:
    """The numbers of turns of the suite's cells, or of those that an override selects."""
    turns: tuple[int, ...] = written.list_axes().get("turns", (1,))
    if isinstance(fields, OverrideFields):
        wanted = fields.where.get("turns", turns)
        return tuple(number for number in turns if number in wanted) or turns
    return turns


def _check_samples(fields: MarkedPlan, written: SuiteFields, problems: Problems) -> None:
    """Note samples that are fewer than one conversation has requests."""
    most = max(_list_turns(written, fields))
    node = fields.node.child("samples")
    if most > 1 and "samples" in fields.given and fields.samples < most and not problems.has(node):
        problems.add(node, f"expected at least the {most} requests of one conversation, got {fields.samples}")


def _check_gate_of_turns(fields: MarkedPlan, written: SuiteFields, problems: Problems) -> None:
    """Note gates on turns that not all of the cells have, and turns that are compared with themselves."""
    least = min(_list_turns(written, fields))
    for key, threshold in (fields.gate or {}).items():
        node = fields.node.child("gate").child(key)
        named = list_turns(key, threshold)
        if not named or problems.has(node):
            continue
        if least == 1:
            problems.add(node, "there is no conversation; set turns, or pick the cells with turns in overrides")
        elif max(named) > least:
            problems.add(node, f"the shortest conversation has {least} turns; expected a turn up to {least}")
        elif isinstance(threshold, TurnRatio) and len({least if turn == LAST else turn for turn in named}) == 1:
            problems.add(node, "compares a turn with itself; name two turns")
