"""Room 1: the gate of a suite: which metrics are judged, and how much worse each may become."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_boobench.documents.node import Node
from pytest_boobench.documents.problems import Problems, suggest
from pytest_boobench.documents.scalars import Single, percentage
from pytest_boobench.metrics import METRICS, Kind, Metric, gated_metrics

Thresholds = dict[str, float | None]
"""Metric key -> allowed worsening as a ratio; None where the session's default holds."""


@dataclass(frozen=True, slots=True)
class ThresholdsShape:
    """Metric -> ``{max_drop: 10%}`` where higher is better, ``{max_rise: 10%}`` where lower is, or just ``10%``."""

    wanted: str = "a mapping such as decode_tok_s: {max_drop: 10%}"

    def read(self, node: Node, problems: Problems) -> Thresholds | None:
        """The thresholds that are right; ``{}`` for a metric means the session's default."""
        if not isinstance(node.value, Mapping):
            problems.add(node, f"expected {self.wanted}, got {node.describe()}")
            return None
        found: Thresholds = {}
        for key, child in node.value.items():
            if key in METRICS:
                found[key] = _read_threshold(METRICS[key], child, problems)
            else:
                problems.add(child, f"unknown metric; {suggest(key, METRICS)}")
        return found

    def schema(self) -> dict[str, Any]:
        """JSON Schema, with each metric's definition."""
        properties = {key: _threshold_schema(metric) for key, metric in METRICS.items()}
        return {"type": "object", "properties": properties, "additionalProperties": False}


def default_thresholds(kind: Kind, lanes: int) -> Thresholds:
    """What is judged where a suite has no gate."""
    return dict.fromkeys(gated_metrics(kind, lanes))


def _limit(metric: Metric) -> tuple[str, Single[float]]:
    """The word and the shape of a metric's limit; nothing can drop by 100 % or more."""
    return ("max_drop", percentage(below=1)) if metric.better == "higher" else ("max_rise", percentage())


def _read_threshold(metric: Metric, node: Node, problems: Problems) -> float | None:
    word, shape = _limit(metric)
    if node.value is None:
        return None
    if not isinstance(node.value, Mapping):
        return shape.read(node, problems)
    for key, child in node.value.items():
        if key in ("max_drop", "max_rise") and key != word:
            problems.add(child, f"{metric.title} is better when {metric.better}; write {word}")
        elif key != word:
            problems.add(child, f"unknown key; {suggest(key, [word])}")
    return shape.read(node.value[word], problems) if word in node.value else None


def _threshold_schema(metric: Metric) -> dict[str, Any]:
    word, shape = _limit(metric)
    limit = shape.schema()
    table = {"type": "object", "properties": {word: limit}, "additionalProperties": False}
    about = f"{metric.definition}, {metric.unit}; {metric.better} is better"
    return {"anyOf": [*limit["anyOf"], table, {"type": "null"}], "description": about}
