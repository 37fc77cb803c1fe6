"""Room 2: what every way of watching a host can be asked, and what they share: names, a short memory, counters."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from pytest_boobench.facts import OwnTraffic, Sighting, Traffic
from pytest_boobench.untrusted import MAX_COUNT

RUN_HEADER = "X-Boobench-Run"
"""Names the run that a request belongs to: by it our own are told from foreign ones."""


@dataclass(frozen=True, slots=True)
class OwnMarks:
    """By what a watcher knows our requests while they run."""

    run_uid: str
    """Value of the header ``X-Boobench-Run``."""
    seeds: frozenset[int] = frozenset()
    """Seeds that our requests carry."""


class Watcher(Protocol):
    """Watches one host. Windows follow each other and never overlap.

    Methods never raise for what the host does: what cannot be seen is a note in the Traffic, or unknown.
    """

    model: str
    """The one that the next window is of."""

    async def look(self) -> Sighting:
        """What is in flight now. Never loads a model."""
        ...

    async def begin(self, marks: OwnMarks) -> None:
        """Open a window, right before the first request of a cell."""
        ...

    async def end(self, own: OwnTraffic) -> Traffic:
        """Close the window, right after the last answer, and say what was in it that is not ours."""
        ...

    async def close(self) -> None:
        """Stop watching."""
        ...


def sum_metrics(text: str) -> Mapping[str, float]:
    """Metric name -> the sum of its values over all labels; lines that say no finite number are left out.

    A line is ``name{labels} value [time stamp]``; a label's value may hold blanks and braces, a metric's name neither.
    Format: prometheus.io/docs/instrumenting/exposition_formats.
    """
    sums: dict[str, float] = defaultdict(float)
    for line in text.split("\n"):  # a label may hold what Unicode calls the end of a line
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
