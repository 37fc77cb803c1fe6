"""Door 2: ``boobench history``: the history of a cell: its medians in the order of time, and where they changed."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from pytest_boobench.aggregate import median_of
from pytest_boobench.cli.output import show_examples, to_json
from pytest_boobench.cli.parameters import name_cell, selection_options
from pytest_boobench.cli.project import find_project, open_store, store_option
from pytest_boobench.gate.change_points import Change, find_changes
from pytest_boobench.metrics import METRICS, Metric, metrics_of
from pytest_boobench.record import Measurement
from pytest_boobench.reports.text import render_table
from pytest_boobench.store import Selection
from pytest_boobench.units import BLANK, change, count, moment, number, quantity

_BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True, kw_only=True)
class Median:
    """One measurement in the course."""

    measurement: Measurement
    median: float | None
    change: float | None
    """Since the measurement before that has a number, as a ratio."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellHistory:
    """One metric of one cell, oldest measurement first."""

    metric: Metric
    points: tuple[Median, ...]
    changes: tuple[Change, ...]
    """Indexes are those of the points."""

    @property
    def newest(self) -> Measurement:
        """The last measurement."""
        return self.points[-1].measurement


def follow(measurements: Sequence[Measurement], metric: str | None) -> CellHistory:
    """The course of one cell's measurements, oldest first; of the first gated metric where none is named."""
    kind = measurements[0].identity["kind"]
    key = metric or next(one.key for one in metrics_of(kind) if one.gated)
    points: list[Median] = []
    before: float | None = None
    for measurement in measurements:
        median = median_of(measurement.aggregates, key)
        points.append(Median(measurement=measurement, median=median, change=_divide(median, before)))
        before = before if median is None else median
    return CellHistory(
        metric=METRICS[key], points=tuple(points), changes=find_changes([point.median for point in points])
    )


def render_course(course: CellHistory) -> Iterator[str]:
    """A head with a sparkline, a line for each measurement, and the changes in words."""
    metric = course.metric
    yield f"{course.newest.run.suite}  {name_cell(course.newest)}"
    yield f"{metric.title} {metric.unit}  {draw_sparkline(course)}  {count(len(course.points), 'measurement')}"
    head = ("measured (UTC)", "session", "commit", "build", metric.unit, "change", "verdict", "")
    marks = {change.index: _mark(change) for change in course.changes}
    rows = [_describe_point(course, point, marks.get(at, "")) for at, point in enumerate(course.points)]
    yield from render_table(head, rows, left=(0, 1, 2, 3, 6, 7))
    yield from (_describe_change(course, change) for change in course.changes)


def render_overview(courses: Sequence[CellHistory]) -> Iterator[str]:
    """A line for each cell: where it is, how it got there, and where its course changed last."""
    head = ("suite", "cell", "metric", "newest", "verdict", "course", "")
    rows = [
        (
            course.newest.run.suite,
            name_cell(course.newest),
            course.metric.title,
            quantity(course.points[-1].median, course.metric.unit),
            find_outcome(course, course.newest),
            draw_sparkline(course),
            _describe_change(course, course.changes[-1]) if course.changes else "",
        )
        for course in courses
    ]
    yield from render_table(head, rows, left=(0, 1, 2, 4, 5, 6))
    yield f"{count(len(courses), 'cell')}; one of them measurement by measurement: boobench history -k TEXT"


def draw_sparkline(course: CellHistory) -> str:
    """A bar for each measurement, from the least median to the greatest; a gap where there is none."""
    known = [point.median for point in course.points if point.median is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    step = (high - low) / (len(_BARS) - 1) or math.inf
    return "".join(
        " " if point.median is None else _BARS[round((point.median - low) / step)] for point in course.points
    )


def find_outcome(course: CellHistory, measurement: Measurement) -> str:
    """What was judged of the metric; of a measurement that failed, that it did."""
    if measurement.error:
        return "error"
    return next((one.outcome for one in measurement.verdicts if one.metric == course.metric.key), BLANK)


def to_plain(course: CellHistory) -> dict[str, Any]:
    """As JSON has it; times are seconds since 1970 UTC, changes are ratios."""
    return {
        **course.newest.identity,
        "cell_key": course.newest.cell_key,
        "node_id": course.newest.node_id,
        "metric": course.metric.key,
        "unit": course.metric.unit,
        "measurements": [_point_to_plain(course, point) for point in course.points],
        "changes": [{**asdict(change), "ratio": change.ratio, "gradual": change.gradual} for change in course.changes],
    }


def _point_to_plain(course: CellHistory, point: Median) -> dict[str, Any]:
    measurement = point.measurement
    condensed = measurement.aggregates.get(course.metric.key)
    return {
        "measured_at": measurement.started_at,
        "session": measurement.run.session,
        "run": measurement.run.uid,
        "git_commit": measurement.run.git_commit,
        "engine_build": measurement.engine_build,
        "median": point.median,
        "n": condensed.n if condensed else 0,
        "change": point.change,
        "verdict": find_outcome(course, measurement),
        "baselines": list(measurement.baselines),
        "spoiled": measurement.spoiled,
        "error": measurement.error,
    }


def _describe_point(course: CellHistory, point: Median, mark: str) -> tuple[str, ...]:
    measurement = point.measurement
    baselines = ", ".join(measurement.baselines)
    remarks = (mark, baselines and f"baseline {baselines}", measurement.error or measurement.spoiled or "")
    return (
        moment(measurement.started_at),
        measurement.run.session[:8],
        (measurement.run.git_commit or BLANK)[:10] + ("*" if measurement.run.git_dirty else ""),
        measurement.engine_build or BLANK,
        number(point.median),
        change(point.change),
        find_outcome(course, measurement),
        "; ".join(filter(None, remarks)),
    )


def _mark(found: Change) -> str:
    return f"{'slide begins' if found.gradual else 'step'} {change(found.ratio)}"


def _describe_change(course: CellHistory, found: Change) -> str:
    """As in ``step −12.3 % on 2026-11-20: 50.1 to 43.9 tok/s, from b11000 to b11549``."""
    first, last = course.points[found.index].measurement, course.points[found.last].measurement
    before = course.points[max(0, found.index - 1)].measurement
    days = [f"{datetime.fromtimestamp(one.started_at, UTC):%Y-%m-%d}" for one in (first, last)]
    when = f"from {days[0]} to {days[1]}" if found.gradual else f"on {days[0]}"
    levels = f"{number(found.before)} to {quantity(found.after, course.metric.unit)}"
    builds = (before.engine_build, last.engine_build)
    changed = f", engine {builds[0]} to {builds[1]}" if all(builds) and builds[0] != builds[1] else ""
    return f"{'slide' if found.gradual else 'step'} {change(found.ratio)} {when}: {levels}{changed}"


def _divide(now: float | None, before: float | None) -> float | None:
    return now / before - 1 if now is not None and before else None


LAST = 30
"""Measurements of each cell that are shown where nobody says how many: what fits on a screen."""


@click.command(
    epilog=show_examples(
        ("boobench history", "all cells, a line each"),
        ("boobench history -k pp512-tg32-c4 --host rack-1", "one cell, a line for each measurement"),
        ("boobench history -v --suite nightly --since 30d", "all of a suite, measurement by measurement"),
        ("boobench history -k pp512 --metric ttft_ms --json", "for other programs"),
    )
)
@selection_options
@click.option("--metric", type=click.Choice(tuple(METRICS)), metavar="KEY", help="Which metric (default: as gated).")
@click.option("-v", "--verbose", is_flag=True, help="Every measurement, also where there are several cells.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_option
def command(*, selection: Selection, metric: str | None, verbose: bool, as_json: bool, store_url: str | None) -> int:
    """Show how cells fared, and where their course changed.

    Median by median, with builds, commits and verdicts. One cell is shown measurement by measurement, several with a
    line each. A change is reported where the whole course shows one; it never fails anything.
    """
    wanted = replace(selection, last=selection.last or LAST)
    with open_store(find_project(Path.cwd()), store_url) as store:
        of_cell: dict[str, list[Measurement]] = defaultdict(list)
        for measurement in store.measurements(wanted):
            of_cell[measurement.cell_key].append(measurement)
    courses = [follow(several, metric) for several in of_cell.values()]
    if as_json:
        click.echo(to_json({"cells": [to_plain(course) for course in courses]}))
    elif not courses:
        click.echo(f"{store.address}: nothing of that was measured")
    elif verbose or len(courses) == 1:
        click.echo("\n\n".join("\n".join(render_course(course)) for course in courses))
    else:
        click.echo("\n".join(render_overview(courses)))
    return 0
