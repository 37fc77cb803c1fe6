"""Room 7: the session's numbers as OpenMetrics text, which GitLab's metrics report shows beside a merge request.

https://prometheus.io/docs/specs/om/open_metrics_spec/ : gauges without time stamps, in base units, ended by ``# EOF``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from pytest_boobench.metrics import METRICS, Metric, find_metric
from pytest_boobench.reports.session import FinishedCell, name_cell
from pytest_boobench.reports.text import flatten

_BASE_UNITS = {
    "ms": ("ms", "seconds", 1000.0),
    "tok/s": ("tok_s", "tokens_per_second", 1.0),
    "MB": ("mb", "bytes", 1e-6),
    "req/s": ("rps", "requests_per_second", 1.0),
    "tok/step": ("len", "tokens_per_step", 1.0),
    "1/s": ("per_s", "per_second", 1.0),
    "nat": ("kld", "kld_nats", 1.0),
    "": ("share", "ratio", 1.0),
    "J": ("joule_per_token", "joules_per_token", 1.0),
}
"""Our unit -> its end in a metric's key, OpenMetrics' unit, ours in one of those."""

Point = tuple[Mapping[str, str], float]
"""Labels and value."""


_CHANGES = (
    ("change_", "change", "median / level of the baseline - 1"),
    ("change_low_", "change_low", "lower end of the 95 % interval of the change, in a duet"),
    ("change_high_", "change_high", "upper end of the 95 % interval of the change, in a duet"),
)


def render(rows: Sequence[FinishedCell]) -> str:
    """The file's text, one gauge for each metric, of clean cells only: GitLab would show the numbers of a disturbed one
    as a change."""
    clean = sorted((row for row in rows if row.record.clean), key=lambda row: row.record.node_id)
    return "\n".join([*_render_gauges(clean), "# EOF"]) + "\n"


def _render_gauges(rows: Sequence[FinishedCell]) -> Iterator[str]:
    for metric in METRICS.values():
        end, unit, per_base = _BASE_UNITS[metric.unit]
        points = [point for row in rows for point in _points(row, metric, per_base)]
        yield from _render_gauge(metric.key.removesuffix(end), unit, metric.definition, points)
    totals = [(_labels(row), row.record.total_tok_s) for row in rows]
    yield from _render_gauge(
        "all_lanes_",
        "tokens_per_second",
        "tokens of all lanes / time from first request sent to last answer ended",
        [(labels, value) for labels, value in totals if value is not None],
    )
    for name, fact, meaning in _CHANGES:
        changes = [
            ({**_labels(row), "metric": verdict.metric}, value)
            for row in rows
            for verdict in row.verdicts
            if (value := getattr(verdict, fact)) is not None
        ]
        if changes or fact == "change":
            yield from _render_gauge(name, "ratio", meaning, changes)
    failed = [(_labels(row), len(row.record.failed)) for row in rows]
    yield from _render_gauge("failed_", "requests", "measured requests that failed", failed)


def _points(row: FinishedCell, metric: Metric, per_base: float) -> Iterator[Point]:
    """The median and the tail of the worse values, also of each turn; the JSON document has all others."""
    for key, aggregate in row.record.aggregates.items():
        found = find_metric(key)
        if found.base != metric.key:
            continue
        turn = {"turn": str(found.turn)} if found.turn else {}
        tail = ("p10", aggregate.p10) if metric.better == "higher" else ("p95", aggregate.p95)
        for stat, value in (("median", aggregate.median), tail):
            yield {**_labels(row), **turn, "stat": stat}, value / per_base


def _labels(row: FinishedCell) -> dict[str, str]:
    """``cell`` is what stands in the brackets of the node id."""
    record = row.record
    parameters = name_cell(row).partition("[")[2].removesuffix("]")
    return {"suite": record.suite, "host": record.host, "model": str(record.identity["model"]), "cell": parameters}


def _render_gauge(name: str, unit: str, meaning: str, points: Iterable[Point]) -> Iterator[str]:
    """A gauge, empty without points; its name ends in the unit, as the specification asks."""
    name = f"boobench_{name}{unit}"
    lines = []
    for labels, value in points:
        shown = ",".join(f'{label}="{_escape(text)}"' for label, text in labels.items())
        lines.append(f"{name}{{{shown}}} {value:.6g}")
    if lines:
        yield from (f"# TYPE {name} gauge", f"# UNIT {name} {unit}", f"# HELP {name} {_escape(meaning)}", *lines)


def _escape(text: str) -> str:
    """As the specification says; and a wide ``＃`` for ``#``, after which GitLab reads a comment."""
    return flatten(text).replace("\\", r"\\").replace('"', r"\"").replace("#", "＃")
