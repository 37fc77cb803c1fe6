"""Room 1: the gate of a suite: which metrics are judged, how much worse each may become, and the least of a share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pytest_boobench.documents.validation import (
    Expected,
    Located,
    number,
    parsed,
    percentage,
    read_value,
    write_value_schema,
)
from pytest_boobench.documents.yaml_tree import Node, Problems, suggest
from pytest_boobench.metrics import METRICS, OF_TURNS, Kind, Load, Metric, gated_metrics, name_of_turn

LAST = -1
"""Stands for the last turn of a conversation, until its number is known."""


@dataclass(frozen=True, slots=True)
class TurnRatio:
    """A limit inside one measurement: a metric of one turn, as a multiple of the same metric of another turn."""

    factor: float
    """Most if lower is better, least if higher is better."""
    turn: int
    """The other turn, from 1, or `LAST`."""

    def resolve(self, turns: int) -> TurnRatio:
        """The same in conversations of so many turns."""
        return replace(self, turn=turns) if self.turn == LAST else self


@dataclass(frozen=True, slots=True)
class Floor:
    """The least that a share must be, whatever the baseline was."""

    at_least: float
    """Above 0, at most 1."""


Threshold = float | TurnRatio | Floor | None
"""Allowed worsening as a ratio, the limit of a distance from the baseline in the metric's unit, a limit inside the
measurement, or a floor; None: the session's default."""
Thresholds = Mapping[str, Threshold]
"""Metric key -> its threshold. The turn in a key may be ``last``, until `resolve_turns`."""
_LIMITS = {"higher": ("max_drop", percentage(below=1)), "lower": ("max_rise", percentage())}
"""Which direction is better -> key and type of a limit. Nothing can drop by 100 % or more."""
_DISTANCE = ("at_most", number(0))
"""The same for a distance from the baseline."""
_RATIOS = {"higher": ("at_least", (">=", "≥"), "0.8"), "lower": ("at_most", ("<=", "≤"), "1.3")}
"""Which direction is better -> key of a limit inside the measurement, its signs, and an example of its factor."""
_FLOOR, _SHARE = "at_least", percentage()
FLOORED = "slo_share"
"""The metric that may have a floor."""
_WORDS = {word for words in (*_LIMITS.values(), *_RATIOS.values()) for word in words[:1]}
_TURN = r"turn\[(first|last|[1-9]\d{0,5})\]"
_KEY = re.compile(rf"(\w+)\.{_TURN}")
_RATIO = re.compile(rf"\s*([<>]=|[≤≥])?\s*(\d+(?:\.\d+)?)\s*[x×*]\s*{_TURN}\s*")


def default_thresholds(kind: Kind, lanes: int, turns: int = 1, load: Load = "lanes") -> Thresholds:
    """Return the thresholds of a suite without a gate."""
    return dict.fromkeys(gated_metrics(kind, lanes, turns=turns, load=load))


def keep_relative(thresholds: Thresholds) -> dict[str, float | None]:
    """Return metric key -> allowed worsening, without the metrics that have another kind of limit."""
    return {
        key: limit
        for key, limit in thresholds.items()
        if not isinstance(limit, Floor | TurnRatio) and not METRICS[key.partition(".")[0]].of_baseline
    }


def keep_floors(thresholds: Thresholds | None) -> dict[str, float]:
    """Return metric key -> the least that it must be."""
    return {key: limit.at_least for key, limit in (thresholds or {}).items() if isinstance(limit, Floor)}


def list_turns(key: str, threshold: Threshold) -> list[int]:
    """Return the turns that a key and its threshold name; empty for a metric of all requests."""
    match = _KEY.fullmatch(key)
    own = [] if match is None else [_read_turn(match[2])]
    return [*own, threshold.turn] if isinstance(threshold, TurnRatio) else own


def resolve_turns(gate: Thresholds, turns: int) -> Thresholds:
    """Return the thresholds with numbers for all turns, in conversations of so many turns."""
    found: dict[str, Threshold] = {}
    for key, threshold in gate.items():
        match = _KEY.fullmatch(key)
        number = 0 if match is None else _read_turn(match[2])
        at = name_of_turn(key.partition(".")[0], turns if number == LAST else number) if number else key
        found[at] = threshold.resolve(turns) if isinstance(threshold, TurnRatio) else threshold
    return found


def gate_limits() -> Expected:
    """Metric -> ``{max_drop: 10%}`` if higher is better, ``{max_rise: 10%}`` if lower is better, or just ``10%``.

    ``{}`` for a metric means the session's default. A metric of a turn, as ``ttft_ms.turn[last]``, may have a limit
    inside the measurement instead: ``{at_most: 1.3 x turn[2]}``, or just ``<= 1.3 x turn[2]``. The share within the SLO
    may have ``{at_least: 99%}``.
    """
    return parsed("a mapping such as decode_tok_s: {max_drop: 10%}", _read_gate, _write_schema)


def _read_turn(word: str) -> int:
    return {"first": 1, "last": LAST}.get(word) or int(word)


def _read_gate(given: Any, problems: Problems) -> Thresholds:
    if not isinstance(given, Located):
        raise ValueError
    found: dict[str, Threshold] = {}
    for key in given:
        base, dot, _ = key.partition(".")
        node = given.node.child(key)
        if base not in METRICS:
            problems.add(node, f"unknown metric; {suggest(key, METRICS)}")
        elif dot and base not in OF_TURNS:
            problems.add(node, f"{METRICS[base].title} has no number of a turn; known are {', '.join(OF_TURNS)}")
        elif dot and not _KEY.fullmatch(key):
            problems.add(node, f"expected a turn such as {base}.turn[2], {base}.turn[first] or {base}.turn[last]")
        else:
            found[key] = _read_threshold(METRICS[base], node, problems, of_turn=bool(dot))
    return found


def _find_limit(metric: Metric) -> tuple[str, Expected]:
    return _DISTANCE if metric.of_baseline else _LIMITS[metric.better]


def _read_threshold(metric: Metric, node: Node, problems: Problems, *, of_turn: bool) -> Threshold:
    word, limit = _find_limit(metric)
    inside = _RATIOS[metric.better][0]
    if node.value is None:
        return None
    if isinstance(node.value, Mapping):
        if metric.key == FLOORED and _FLOOR in node.value:
            return _read_floor(node, node.value, problems)
        known = [word, inside] if of_turn else [word]
        for key in node.value.keys() - set(known):
            text = f"unknown key; {suggest(key, known)}"
            if metric.of_baseline and key in _WORDS:
                text = f"{metric.title} is a distance; write {word}"
            elif key == inside:
                text = f"compares two turns; write it below {metric.key}.turn[last]"
            elif key in _WORDS:
                text = f"{metric.title} is better when {metric.better}; write {' or '.join(known)}"
            problems.add(node.child(key), text)
        if word != inside and word in node.value and inside in node.value:
            problems.add(node.child(inside), f"stands beside {word}; a metric has one limit, so keep one of them")
        if of_turn and inside in node.value:
            return _read_ratio(metric, node.child(inside), problems)
        node = node.child(word)
    elif of_turn and isinstance(node.value, str) and "turn" in node.value:
        return _read_ratio(metric, node, problems)
    ratio: float | None = None if node.missing else read_value(limit, node, problems)
    return ratio


def _read_ratio(metric: Metric, node: Node, problems: Problems) -> TurnRatio | None:
    word, signs, factor = _RATIOS[metric.better]
    match = _RATIO.fullmatch(node.value) if isinstance(node.value, str) else None
    if match is None or float(match[2]) <= 0:
        problems.add(node, f"expected a multiple of another turn such as {factor} x turn[2], got {node.describe()}")
        return None
    if match[1] not in (None, *signs):
        problems.add(node, f"{metric.title} is better when {metric.better}; write {signs[0]}, or {word}")
    return TurnRatio(float(match[2]), _read_turn(match[3]))


def _read_floor(node: Node, written: Mapping[str, Node], problems: Problems) -> Floor | None:
    for key in written.keys() - {_FLOOR}:
        problems.add(node.child(key), f"stands beside {_FLOOR}, which needs no baseline; write one of them")
    share = read_value(_SHARE, node.child(_FLOOR), problems)
    if share is not None and not 0 < share <= 1:
        problems.add(node.child(_FLOOR), f"expected a percentage above 0, 100% at most, got {node.child(_FLOOR).text}")
        return None
    return None if share is None else Floor(share)


def _write_schema() -> dict[str, Any]:
    """Make the JSON Schema, with each metric's definition."""
    properties, of_turns = {}, {}
    for key, metric in METRICS.items():
        word, limit = _find_limit(metric)
        json = write_value_schema(limit)
        floor = [_table({_FLOOR: write_value_schema(_SHARE)})] if key == FLOORED else []
        about = f"{metric.definition}, {metric.unit or 'a share'}; {metric.better} is better"
        properties[key] = {
            "anyOf": [*json.get("anyOf", [json]), _table({word: json}), *floor, {"type": "null"}],
            "description": about,
        }
        if key in OF_TURNS:
            ratio = {"type": "string", "pattern": f"^{_RATIO.pattern}$"}
            table = {"anyOf": [_table({word: json}), _table({_RATIOS[metric.better][0]: ratio})]}
            of_turns[rf"^{key}\.{_TURN}$"] = {
                "anyOf": [*json["anyOf"], ratio, table, {"type": "null"}],
                "description": f"{about}; of one turn of a conversation",
            }
    return {
        "type": "object", "properties": properties, "patternProperties": of_turns, "additionalProperties": False,
    }  # fmt: skip


def _table(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}
