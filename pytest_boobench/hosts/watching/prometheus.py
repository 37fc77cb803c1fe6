"""Room 2: the text that servers give their counters in: of Prometheus' exposition format as much as counters need."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping

from pytest_boobench.untrusted import MAX_COUNT


def sum_metrics(text: str) -> Mapping[str, float]:
    """Metric name -> the sum of its values over all labels; lines that say no finite number are left out.

    A line is ``name{labels} value [time stamp]``; a label's value may hold blanks and braces, a metric's name neither.
    Format: prometheus.io/docs/instrumenting/exposition_formats.
    """
    sums: dict[str, float] = defaultdict(float)
    for line in text.splitlines():
        name, brace, labelled = line.partition("{")
        if brace:
            words = labelled.rpartition("}")[2].split()
        else:
            name, *words = line.split() or [""]
        if name and not name.startswith("#") and (value := _read_number(words)) is not None:
            sums[name.strip()] += value
    return {name: value for name, value in sums.items() if math.isfinite(value)}


def take_whole(values: Mapping[str, float], name: str, otherwise: int | None = None) -> int:
    """What a metric has counted; KeyError where it is not there, or is no count that a server could reach."""
    value = values.get(name, otherwise)
    if value is None or not 0 <= value <= MAX_COUNT:
        raise KeyError(name)
    return int(value)


def _read_number(words: list[str]) -> float | None:
    try:
        value = float(words[0])
    except (IndexError, ValueError):
        return None
    return value if math.isfinite(value) else None
