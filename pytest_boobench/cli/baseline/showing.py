"""Door 2: ``boobench baseline show``."""

from __future__ import annotations

from pathlib import Path

import click

from pytest_boobench.cli.baseline.foundation import find_foundations, render, to_plain
from pytest_boobench.cli.examples import show_examples
from pytest_boobench.cli.plain import to_json
from pytest_boobench.cli.project import find_project
from pytest_boobench.cli.selecting import cell_options
from pytest_boobench.cli.stored import baseline_option, find_baseline, open_store, store_option
from pytest_boobench.store import Selection


@click.command(
    epilog=show_examples(
        ("boobench baseline show", "every cell of the baseline main"),
        ("boobench baseline show -k pp512-tg32-c4 --host rack-1", "one cell"),
        ("boobench power", "only what all of them can prove, the weakest first"),
    )
)
@baseline_option
@cell_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_option
def show(*, selection: Selection, baseline: str | None, as_json: bool, store_url: str | None) -> int:
    """Show what a baseline rests on, cell by cell.

    Runs and sessions, the level, and the smallest drop that it can prove.
    """
    project = find_project(Path.cwd())
    name = find_baseline(project, baseline)
    with open_store(project, store_url) as store:
        found = find_foundations(store, name, selection)
    if not found:
        raise click.UsageError(f"nothing of that is in force as baseline {name}; see boobench baseline list")
    if as_json:
        plain = {"baseline": name, "cells": [to_plain(each) for each in found]}
        click.echo(to_json(plain))
    else:
        click.echo("\n\n".join("\n".join(render(each)) for each in found))
    return 0
