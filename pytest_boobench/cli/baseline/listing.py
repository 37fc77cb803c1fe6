"""Door 2: ``boobench baseline list``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from pytest_boobench.cli.examples import show_examples
from pytest_boobench.cli.plain import to_json
from pytest_boobench.cli.project import find_project
from pytest_boobench.cli.stored import open_store, store_option
from pytest_boobench.reports.tables import render_table
from pytest_boobench.units import moment


@click.command(
    "list",
    epilog=show_examples(
        ("boobench baseline list", "all names that the store knows"),
        ("boobench baseline list --json | jq -r '.baselines[].name'", "for other programs"),
    ),
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_option
def list_(as_json: bool, store_url: str | None) -> int:
    """List the names of baselines, and what is in force under each.

    How many cells it is, and how many measurements of them.
    """
    with open_store(find_project(Path.cwd()), store_url) as store:
        names = store.baseline_names()
    if as_json:
        click.echo(to_json({"baselines": [asdict(name) for name in names]}))
    elif not names:
        click.echo(f"{store.address}: no baseline; store one with pytest --boobench --boobench-save-baseline")
    else:
        rows = [
            (
                name.name,
                str(name.cells),
                str(name.runs),
                str(name.replaced),
                moment(name.saved_at),
            )
            for name in names
        ]
        click.echo("\n".join(render_table(("name", "cells", "runs", "replaced", "last saved (UTC)"), rows)))
    return 0
