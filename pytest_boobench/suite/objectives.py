"""Room 1: the SLO of a suite (service level objective): the most that metrics of a request may be for it to be good."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_boobench.documents.validation import Expected, Located, parsed
from pytest_boobench.documents.yaml_tree import Node, Problems, suggest
from pytest_boobench.metrics import METRICS, Kind, Sample
from pytest_boobench.units import parse_duration

OBJECTIVES: Mapping[str, str] = {
    "ttft_ms": "time to first token",
    "ttfo_ms": "time to first visible token",
    "itl_ms": "mean time between the request's tokens (TPOT)",
    "e2e_ms": "time to the end of the answer",
}
"""Metric of a request -> what is limited. All are times: lower is better."""
_LIMIT = "a time in milliseconds such as 500, 500ms or 2s"


def slo_limits() -> Expected:
    """Metric of a request -> the most that it may be, in milliseconds, or with a unit as in ``2s``."""
    json = {
        "type": "object",
        "properties": {
            key: {
                "anyOf": [
                    {"type": "number", "exclusiveMinimum": 0},
                    {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*(ms|s|m|h)\s*$"},
                ],
                "description": about,
            }
            for key, about in OBJECTIVES.items()
        },
        "additionalProperties": False,
    }
    return parsed("a mapping such as ttft_ms: 500", _read, json)


def _read(given: Any, problems: Problems) -> dict[str, float]:
    if not isinstance(given, Located):
        raise ValueError
    found = {}
    for key in given:
        node = given.node.child(key)
        if key not in OBJECTIVES:
            problems.add(node, f"is no time of a request; {suggest(key, OBJECTIVES)}")
        elif (limit_ms := _read_limit(node, problems)) is not None:
            found[key] = limit_ms
    return found


def _read_limit(node: Node, problems: Problems) -> float | None:
    try:
        return parse_limit_ms(node.value)
    except ValueError:
        problems.add(node, f"expected {_LIMIT}, got {node.describe()}")
        return None


def parse_limit_ms(given: Any) -> float:
    """Return the milliseconds of a number or of a text with a unit. Raises ValueError for anything else."""
    if isinstance(given, str) and not given.strip()[-1:].isdigit():
        limit_ms = parse_duration(given) * 1000
    elif isinstance(given, int | float) and not isinstance(given, bool):
        limit_ms = float(given)
    else:
        raise ValueError(f"expected {_LIMIT}, got {given!r}")
    if not 0 < limit_ms < float("inf"):
        raise ValueError(f"expected {_LIMIT}, got {given!r}")
    return limit_ms


def list_objectives(kind: Kind) -> tuple[str, ...]:
    """Return the metrics that an SLO of this kind of cell may limit."""
    return tuple(key for key in OBJECTIVES if kind in METRICS[key].kinds)


def find_time_ms(sample: Sample, metric: str) -> float | None:
    """Return the time of a request that an SLO limits; None if it is not known.

    ``itl_ms`` is the mean of the request's gaps, (last - first token) / (tokens - 1): the TPOT of vLLM's goodput.
    """
    if metric != "itl_ms":
        found: float | None = getattr(sample, metric)
        return found
    tokens = sample.output_tokens or 0
    if tokens < 2:
        return 0.0 if tokens == 1 else None
    if "itl_ms" in sample.blanks or len(sample.chunk_ms) < 2:
        return None
    return (sample.chunk_ms[-1] - sample.chunk_ms[0]) / (tokens - 1)


def is_good(sample: Sample, slo: Mapping[str, float]) -> bool | None:
    """Whether a request was within every limit; None if nobody can tell. A failed one was not."""
    if not sample.ok:
        return False
    times = [(find_time_ms(sample, metric), limit_ms) for metric, limit_ms in slo.items()]
    if any(time_ms is not None and time_ms > limit_ms for time_ms, limit_ms in times):
        return False
    return None if any(time_ms is None for time_ms, _ in times) else True
