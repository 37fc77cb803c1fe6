"""Room 1: the gate of a suite: which metrics are judged, how much worse each may become, and the least of a share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_boobench.documents.validation import Expected, Located, parsed, percentage, read_value, write_value_schema
from pytest_boobench.documents.yaml_tree import Node, Problems, suggest
from pytest_boobench.metrics import METRICS, Kind, Load, Metric, gated_metrics


@dataclass(frozen=True, slots=True)
class Floor:
    """The least that a share must be, whatever the baseline was."""

    at_least: float
    """Above 0, at most 1."""


Thresholds = Mapping[str, float | Floor | None]
"""Metric key -> allowed worsening as a ratio, or a floor; None: the session's default."""
_LIMITS = {"higher": ("max_drop", percentage(below=1)), "lower": ("max_rise", percentage())}
"""Which direction is better -> key and type of a limit. Nothing can drop by 100 % or more."""
_FLOOR, _SHARE = "at_least", percentage()
FLOORED = "slo_share"
"""The metric that may have a floor."""


def default_thresholds(kind: Kind, lanes: int, load: Load = "lanes") -> Thresholds:
    """Return the thresholds of a suite without a gate."""
    return dict.fromkeys(gated_metrics(kind, lanes, load=load))


def keep_relative(thresholds: Thresholds) -> dict[str, float | None]:
    """Return metric key -> allowed worsening, without the metrics that have a floor instead."""
    return {key: limit for key, limit in thresholds.items() if not isinstance(limit, Floor)}


def keep_floors(thresholds: Thresholds | None) -> dict[str, float]:
    """Return metric key -> the least that it must be."""
    return {key: limit.at_least for key, limit in (thresholds or {}).items() if isinstance(limit, Floor)}


def gate_limits() -> Expected:
    """Metric -> ``{max_drop: 10%}`` if higher is better, ``{max_rise: 10%}`` if lower is better, or just ``10%``.

    ``{}`` for a metric means the session's default. The share within the SLO may have ``{at_least: 99%}`` instead.
    """
    return parsed("a mapping such as decode_tok_s: {max_drop: 10%}", _read_gate, _write_schema)


def _read_gate(given: Any, problems: Problems) -> Thresholds:
    if not isinstance(given, Located):
        raise ValueError
    for key in given.keys() - METRICS.keys():
        problems.add(given.node.child(key), f"unknown metric; {suggest(key, METRICS)}")
    known = (key for key in given if key in METRICS)
    return {key: _read_threshold(METRICS[key], given.node.child(key), problems) for key in known}


def _read_threshold(metric: Metric, node: Node, problems: Problems) -> float | Floor | None:
    word, limit = _LIMITS[metric.better]
    if node.value is None:
        return None
    if isinstance(node.value, Mapping):
        if metric.key == FLOORED and _FLOOR in node.value:
            return _read_floor(node, node.value, problems)
        for key in node.value.keys() - {word}:
            other = key in ("max_drop", "max_rise")
            remedy = f"{metric.title} is better when {metric.better}; write {word}"
            problems.add(node.child(key), remedy if other else f"unknown key; {suggest(key, [word])}")
        node = node.child(word)
    ratio: float | None = None if node.missing else read_value(limit, node, problems)
    return ratio


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
    properties = {}
    for key, metric in METRICS.items():
        word, limit = _LIMITS[metric.better]
        json = write_value_schema(limit)
        words = {word: json, _FLOOR: write_value_schema(_SHARE)} if key == FLOORED else {word: json}
        table = {"type": "object", "properties": words, "additionalProperties": False}
        about = f"{metric.definition}, {metric.unit}; {metric.better} is better"
        properties[key] = {"anyOf": [*json["anyOf"], table, {"type": "null"}], "description": about}
    return {"type": "object", "properties": properties, "additionalProperties": False}
