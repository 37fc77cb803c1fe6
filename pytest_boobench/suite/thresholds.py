"""Room 1: the gate of a suite: which metrics are judged, and how much worse each may become."""

from __future__ import annotations

from collections.abc import Mapping
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
from pytest_boobench.metrics import METRICS, Kind, Metric, gated_metrics

Thresholds = Mapping[str, float | None]
"""Metric key -> allowed worsening as a ratio, or the limit of a distance from the baseline in the metric's unit;
None: the session's default."""
_LIMITS = {"higher": ("max_drop", percentage(below=1)), "lower": ("max_rise", percentage())}
"""Which direction is better -> key and type of a limit. Nothing can drop by 100 % or more."""
_DISTANCE = ("at_most", number(0))
"""The same for a distance from the baseline."""


def default_thresholds(kind: Kind, lanes: int) -> Thresholds:
    """Return the thresholds of a suite without a gate."""
    return dict.fromkeys(gated_metrics(kind, lanes))


def gate_limits() -> Expected:
    """Metric -> ``{max_drop: 10%}`` if higher is better, ``{max_rise: 10%}`` if lower is better, or just ``10%``.

    ``{}`` for a metric means the session's default.
    """
    return parsed("a mapping such as decode_tok_s: {max_drop: 10%}", _read_gate, _write_schema)


def _read_gate(given: Any, problems: Problems) -> Thresholds:
    if not isinstance(given, Located):
        raise ValueError
    for key in given.keys() - METRICS.keys():
        problems.add(given.node.child(key), f"unknown metric; {suggest(key, METRICS)}")
    known = (key for key in given if key in METRICS)
    return {key: _read_threshold(METRICS[key], given.node.child(key), problems) for key in known}


def _find_limit(metric: Metric) -> tuple[str, Expected]:
    return _DISTANCE if metric.of_baseline else _LIMITS[metric.better]


def _read_threshold(metric: Metric, node: Node, problems: Problems) -> float | None:
    word, limit = _find_limit(metric)
    if node.value is None:
        return None
    if isinstance(node.value, Mapping):
        for key in node.value.keys() - {word}:
            other = key in ("max_drop", "max_rise")
            about = "a distance" if metric.of_baseline else f"better when {metric.better}"
            remedy = f"{metric.title} is {about}; write {word}"
            problems.add(node.child(key), remedy if other else f"unknown key; {suggest(key, [word])}")
        node = node.child(word)
    ratio: float | None = None if node.missing else read_value(limit, node, problems)
    return ratio


def _write_schema() -> dict[str, Any]:
    """Make the JSON Schema, with each metric's definition."""
    properties = {}
    for key, metric in METRICS.items():
        word, limit = _find_limit(metric)
        json = write_value_schema(limit)
        table = {"type": "object", "properties": {word: json}, "additionalProperties": False}
        about = f"{metric.definition}, {metric.unit}; {metric.better} is better"
        properties[key] = {"anyOf": [*json.get("anyOf", [json]), table, {"type": "null"}], "description": about}
    return {"type": "object", "properties": properties, "additionalProperties": False}
