"""The session's numbers as an OpenMetrics text file: what GitLab's metrics report shows beside a merge request.

https://prometheus.io/docs/specs/om/open_metrics_spec/ : gauges without time stamps, in base units, ended by ``# EOF``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pytest_boobench.metrics import METRICS, Metric
from pytest_boobench.reports.session import FinishedCell, name_parameters
from pytest_boobench.reports.text import flatten

_BASE_UNITS = {"ms": ("ms", "seconds", 1000.0), "tok/s": ("tok_s", "tokens_per_second", 1.0)}
"""Our unit -> its end in a metric's key, OpenMetrics' unit, ours in one of those."""


@dataclass(frozen=True, slots=True)
class _Family:
    """A metric with its points; the unit is the end of the name, as the specification asks."""

    name: str
    unit: str
    meaning: str
    points: Sequence[tuple[Mapping[str, str], float]]


def render(rows: Sequence[FinishedCell]) -> str:
    """The file's text, one gauge for each metric.

    Only cells whose samples speak of their host alone: another number would be shown as a change that is none.
    """
    clean = sorted((row for row in rows if row.record.clean), key=lambda row: row.record.node_id)
    lines = [line for family in _gather(clean) if family.points for line in _render_family(family)]
    return "\n".join([*lines, "# EOF"]) + "\n"


def _gather(rows: Sequence[FinishedCell]) -> Iterator[_Family]:
    for metric in METRICS.values():
        end, unit, per_base = _BASE_UNITS[metric.unit]
        points = [point for row in rows for point in _points(row, metric, per_base)]
        yield _Family(f"boobench_{metric.key.removesuffix(end)}{unit}", unit, metric.definition, points)
    totals = [(_labels(row), row.record.total_tok_s) for row in rows]
    yield _Family(
        "boobench_all_lanes_tokens_per_second",
        "tokens_per_second",
        "tokens of all lanes / time from first request sent to last answer ended",
        [(labels, value) for labels, value in totals if value is not None],
    )
    yield _Family(
        "boobench_change_ratio",
        "ratio",
        "median / level of the baseline - 1",
        [
            ({**_labels(row), "metric": verdict.metric}, verdict.change)
            for row in rows
            for verdict in row.verdicts
            if verdict.change is not None
        ],
    )
    yield _Family(
        "boobench_failed_requests",
        "requests",
        "measured requests that failed",
        [(_labels(row), len(row.record.failed)) for row in rows],
    )


def _points(row: FinishedCell, metric: Metric, per_base: float) -> Iterator[tuple[dict[str, str], float]]:
    """The median, and of the tails the bad one: all others are in the JSON document."""
    aggregate = row.record.aggregates.get(metric.key)
    if aggregate is not None:
        tail = ("p10", aggregate.p10) if metric.better == "higher" else ("p95", aggregate.p95)
        for stat, value in (("median", aggregate.median), tail):
            yield {**_labels(row), "stat": stat}, value / per_base


def _labels(row: FinishedCell) -> dict[str, str]:
    record = row.record
    model = str(record.identity["model"])
    return {"suite": record.suite, "host": record.host, "model": model, "cell": name_parameters(row)}


def _render_family(family: _Family) -> Iterator[str]:
    yield f"# TYPE {family.name} gauge"
    yield f"# UNIT {family.name} {family.unit}"
    yield f"# HELP {family.name} {_escape(family.meaning)}"
    for labels, value in family.points:
        told = ",".join(f'{name}="{_escape(text)}"' for name, text in labels.items())
        yield f"{family.name}{{{told}}} {value:.6g}"


def _escape(text: str) -> str:
    """As the specification says; and ``#`` is written wide, since GitLab takes what follows for a comment."""
    return flatten(text).replace("\\", r"\\").replace('"', r"\"").replace("#", "＃")
