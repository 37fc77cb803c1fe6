"""Door 2: ``boobench history`` and ``report``: how cells changed over time, in the terminal and as an HTML page."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click

from pytest_boobench.aggregate import median_of
from pytest_boobench.cli import show_examples
from pytest_boobench.cli.parameters import (
    echo,
    json_option,
    measurement_options,
    name_cell,
    selection_options,
    store_option,
)
from pytest_boobench.errors import explain_os_error
from pytest_boobench.gate.change_points import Change, find_changes
from pytest_boobench.metrics import METRICS, Metric, find_metric, is_metric, metrics_of
from pytest_boobench.record import Measurement
from pytest_boobench.reports import html
from pytest_boobench.reports.text import render_table
from pytest_boobench.store import Selection, Store
from pytest_boobench.units import BLANK, change, count, moment, number, quantity

_BARS = "▁▂▃▄▅▆▇█"
_LAST = 30
"""Measurements of each cell that are shown by default: what fits on a screen."""


@dataclass(frozen=True, slots=True)
class Median:
    """One measurement of a cell with its median of the metric."""

    measurement: Measurement
    median: float | None
    change: float | None
    """Since the newest median before it, as a ratio."""
    outcome: str
    """The metric's verdict; ``error`` for a measurement that failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellHistory:
    """One metric of one cell, oldest measurement first."""

    metric: Metric
    points: tuple[Median, ...]
    changes: tuple[Change, ...]
    """Their indexes are those of the points."""

    @property
    def newest(self) -> Measurement:
        return self.points[-1].measurement


class _MetricKey(click.Choice[str]):
    """The key of a metric, of all requests or of one turn."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return value if is_metric(value) else super().convert(value, param, ctx)


def follow(measurements: Sequence[Measurement], metric: str | None) -> CellHistory:
    """The history of one cell's measurements, oldest first; of its first gated metric where none is named."""
    key = metric or _choose_metric(measurements)
    points: list[Median] = []
    before: float | None = None
    for measurement in measurements:
        median = median_of(measurement.aggregates, key)
        ratio = median / before - 1 if median is not None and before else None
        judged = next((one.outcome for one in measurement.verdicts if one.metric == key), BLANK)
        points.append(Median(measurement, median, ratio, "error" if measurement.error else judged))
        before = before if median is None else median
    changes = find_changes([point.median for point in points])
    return CellHistory(metric=find_metric(key), points=tuple(points), changes=changes)


def _choose_metric(measurements: Sequence[Measurement]) -> str:
    """The first gated metric that one of them has, or else the first one of all; else the first gated metric."""
    metrics = metrics_of(measurements[0].identity["kind"])
    gated = [one.key for one in metrics if one.gated]
    wanted = (*gated, *(one.key for one in metrics))
    return next((key for key in wanted if any(key in one.aggregates for one in measurements)), gated[0])


def render_measurements(history: CellHistory) -> Iterator[str]:
    """A title with a sparkline, a line for each measurement, and the changes in words."""
    metric = history.metric
    yield f"{history.newest.run.suite}  {name_cell(history.newest)}"
    yield f"{metric.title} {metric.unit}  {draw_sparkline(history)}  {count(len(history.points), 'measurement')}"
    head = ("measured (UTC)", "session", "commit", "build", metric.unit, "change", "verdict", "")
    marks = {it.index: f"{'slide begins' if it.gradual else 'step'} {change(it.ratio)}" for it in history.changes}
    rows = [_describe_point(point, marks.get(at, "")) for at, point in enumerate(history.points)]
    yield from render_table(head, rows, left=(0, 1, 2, 3, 6, 7))
    yield from (describe_change(history, found) for found in history.changes)


def render_overview(histories: Sequence[CellHistory]) -> Iterator[str]:
    """A line for each cell: newest median and verdict, a sparkline, and the newest change."""
    head = ("suite", "cell", "metric", "newest", "verdict", "course", "")
    rows = [
        (
            history.newest.run.suite,
            name_cell(history.newest),
            history.metric.title,
            quantity(history.points[-1].median, history.metric.unit),
            history.points[-1].outcome,
            draw_sparkline(history),
            describe_change(history, history.changes[-1]) if history.changes else "",
        )
        for history in histories
    ]
    yield from render_table(head, rows, left=(0, 1, 2, 4, 5, 6))
    yield f"{count(len(histories), 'cell')}; one of them measurement by measurement: boobench history -k TEXT"


def draw_sparkline(history: CellHistory) -> str:
    """A bar for each measurement, between the least median and the greatest; a space where there is no median."""
    medians = [point.median for point in history.points]
    known = [median for median in medians if median is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    step = (high - low) / (len(_BARS) - 1) or math.inf
    return "".join(" " if median is None else _BARS[round((median - low) / step)] for median in medians)


def to_plain(history: CellHistory) -> dict[str, Any]:
    """The history as JSON has it; times are seconds since 1970 UTC, changes are ratios."""
    return {
        **history.newest.identity,
        "cell_key": history.newest.cell_key,
        "node_id": history.newest.node_id,
        "metric": history.metric.key,
        "unit": history.metric.unit,
        "measurements": [
            {
                "measured_at": point.measurement.started_at,
                "session": point.measurement.run.session,
                "run": point.measurement.run.uid,
                "git_commit": point.measurement.run.git_commit,
                "engine_build": point.measurement.engine_build,
                "median": point.median,
                "n": aggregate.n if (aggregate := point.measurement.aggregates.get(history.metric.key)) else 0,
                "change": point.change,
                "verdict": point.outcome,
                "baselines": list(point.measurement.baselines),
                "spoiled": point.measurement.spoiled,
                "error": point.measurement.error,
            }
            for point in history.points
        ],
        "changes": [{**asdict(found), "ratio": found.ratio, "gradual": found.gradual} for found in history.changes],
    }


def _describe_point(point: Median, mark: str) -> tuple[str, ...]:
    measurement = point.measurement
    baselines = ", ".join(measurement.baselines)
    imported = measurement.run.imported_from
    remarks = (
        mark,
        baselines and f"baseline {baselines}",
        f"imported from {imported}" if imported else "",
        measurement.error or measurement.spoiled or "",
    )
    return (
        moment(measurement.started_at),
        measurement.run.session[:8],
        (measurement.run.git_commit or BLANK)[:10] + ("*" if measurement.run.git_dirty else ""),
        measurement.engine_build or BLANK,
        number(point.median),
        change(point.change),
        point.outcome,
        "; ".join(filter(None, remarks)),
    )


def describe_change(history: CellHistory, found: Change) -> str:
    """As in ``step −12.3 % on 2026-11-20: 50.1 to 43.9 tok/s, engine b11000 to b11549``."""
    places = (max(0, found.index - 1), found.index, found.last)
    before, first, last = (history.points[place].measurement for place in places)
    begin, end = (moment(one.started_at).partition(" ")[0] for one in (first, last))
    when = f"from {begin} to {end}" if found.gradual else f"on {begin}"
    levels = f"{number(found.before)} to {quantity(found.after, history.metric.unit)}"
    old, new = before.engine_build, last.engine_build
    changed = f", engine {old} to {new}" if old and new and old != new else ""
    return f"{'slide' if found.gradual else 'step'} {change(found.ratio)} {when}: {levels}{changed}"


@click.command(
    epilog=show_examples(
        ("boobench history", "all cells, a line each"),
        ("boobench history -k pp512-tg32-c4 --host rack-1", "one cell, a line for each measurement"),
        ("boobench history -v --suite nightly --since 30d", "all of a suite, measurement by measurement"),
        ("boobench history -k pp512 --metric ttft_ms --json", "for other programs"),
    )
)
@selection_options
@click.option("--metric", type=_MetricKey(tuple(METRICS)), metavar="KEY", help="Which metric (default: as gated).")
@click.option("-v", "--verbose", is_flag=True, help="Every measurement, also where there are several cells.")
@json_option
@store_option
def command(*, selection: Selection, metric: str | None, verbose: bool, as_json: bool, store_url: str) -> int:
    """Show how the medians of cells changed over time.

    One cell is shown measurement by measurement, with builds, commits and verdicts; several have a line each. A change
    is reported where the whole course shows one; it never fails anything.
    """
    of_cell: dict[str, list[Measurement]] = defaultdict(list)
    with Store.open(store_url, create=False) as store:
        for measurement in store.measurements(replace(selection, last=selection.last or _LAST)):
            of_cell[measurement.cell_key].append(measurement)
    histories = [follow(several, metric) for several in of_cell.values()]
    if as_json:
        echo({"cells": [to_plain(history) for history in histories]})
    elif not histories:
        click.echo(f"{store.address}: nothing of that was measured")
    elif verbose or len(histories) == 1:
        click.echo("\n\n".join("\n".join(render_measurements(history)) for history in histories))
    else:
        echo(render_overview(histories))
    return 0


def gather_history(store: Store, selection: Selection) -> html.History:
    """What the HTML page of these measurements is made from, with the baselines of their cells."""
    cells = Selection(
        suites=selection.suites, hosts=selection.hosts, models=selection.models, containing=selection.containing
    )

    def ask(*, last: int | None = None, baselines: Collection[str] = ()) -> Sequence[Measurement]:
        # A baseline may be from another session, and older than --since.
        wanted = replace(cells, baselines=baselines) if baselines else replace(selection, last=last)
        return store.measurements(wanted)

    return html.gather(ask, store.samples, last=selection.last or html.RUNS, store=store.address)


@click.command(
    epilog=show_examples(
        ("boobench report", "all cells of the store, as boobench-report.html"),
        ("boobench report --suite nightly --last 200 -o nightly.html", "one suite, its last 200 measurements"),
        ("pytest --boobench suites/ --boobench-report now.html", "the cells of one session, at its end"),
    )
)
@measurement_options
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), default=Path("boobench-report.html"),
    show_default=True, help="Where to.",
)  # fmt: skip
@store_option
def report_command(selection: Selection, output: Path, store_url: str) -> int:
    """Write one HTML page with each cell's verdict and course. It opens offline and loads nothing.

    Of each cell the newest 50 measurements are shown, or as many as --last says.
    """
    html.require_template_engine()
    with Store.open(store_url, create=False) as store:
        history = gather_history(store, selection)
    if not history.measurements and selection != Selection():
        raise click.UsageError(f"nothing of that was measured; expected what {history.store} has, see boobench history")
    page = html.render(history, made_at=time.time())
    try:
        output.write_text(page, encoding="utf-8", newline="\n")
    except OSError as error:
        raise click.UsageError(f"--output: cannot write {output}: {explain_os_error(error)}") from error
    click.echo(f"wrote {output}")
    return 0
