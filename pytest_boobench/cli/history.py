"""Door 2: ``boobench history``: the course of cells, measurement by measurement."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import click

from pytest_boobench.cli.courses import follow, render_course, render_overview, to_plain
from pytest_boobench.cli.examples import show_examples
from pytest_boobench.cli.plain import to_json
from pytest_boobench.cli.project import find_project
from pytest_boobench.cli.selecting import selection_options
from pytest_boobench.cli.stored import open_store, store_option
from pytest_boobench.metrics import METRICS
from pytest_boobench.record import Measurement
from pytest_boobench.store import Selection

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
