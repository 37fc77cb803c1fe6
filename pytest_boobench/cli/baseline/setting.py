"""Door 2: ``boobench baseline set`` and ``clear``."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import click

from pytest_boobench.cli.cells import name_cell
from pytest_boobench.cli.examples import show_examples
from pytest_boobench.cli.project import find_project
from pytest_boobench.cli.selecting import cell_options, measurement_options
from pytest_boobench.cli.stored import baseline_option, find_baseline, open_store, store_option
from pytest_boobench.record import Measurement
from pytest_boobench.store import Saved, Selection
from pytest_boobench.units import count


@click.command(
    "set",
    epilog=show_examples(
        ("boobench baseline set --session 3f2a --reason 'new driver, accepted'", "what a red session measured"),
        ("boobench baseline set --baseline 1.4 --commit 0a1b2c3d --reason released", "under a name of its own"),
        ("boobench baseline set --add --run 9c01 --reason 'another evening'", "beside what is in force"),
    ),
)
@baseline_option
@measurement_options
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is stored, and shown with the baseline.")
@click.option("--add", is_flag=True, help="Beside what is in force, instead of in its place.")
@click.option("--spoiled", is_flag=True, help="Also what others disturbed, or was still warming up.")
@store_option
def set_(
    *, selection: Selection, baseline: str | None, reason: str, add: bool, spoiled: bool, store_url: str | None
) -> int:
    """Make stored measurements the baseline of their cells.

    It is the newest of each cell that is chosen, also a slower one. What is replaced stays in the store. Exit code 1
    where something chosen cannot become a baseline.
    """
    if not (selection.runs or selection.sessions or selection.commits or selection.since):
        raise click.UsageError("say which with --session, --run, --commit or --since; boobench history shows them")
    project = find_project(Path.cwd())
    name = find_baseline(project, baseline)
    with open_store(project, store_url) as store:
        chosen = store.measurements(replace(selection, last=selection.last or 1))
        flaws = {one.id: _find_flaw(one, spoiled=spoiled) for one in chosen}
        saves = [
            Saved(measurement_id=one.id, cell_key=one.cell_key, saved_at=time.time(), reason=reason)
            for one in chosen
            if not flaws[one.id]
        ]
        exchange = store.put_in_force(name, saves, add=add)
    if not chosen:
        raise click.UsageError("nothing of that was measured; boobench history shows what was")
    for one in chosen:
        if flaws[one.id]:
            click.echo(f"not set: {name_cell(one)}: {flaws[one.id]}")
    click.echo(f"{count(exchange.came, 'measurement')} set as baseline {name}, {exchange.went} replaced")
    return 1 if any(flaws.values()) else 0


@click.command(
    epilog=show_examples(
        ("boobench baseline clear --baseline old", "all of a baseline"),
        ("boobench baseline clear --model qwen3-8b", "the cells of one model"),
    )
)
@baseline_option
@cell_options
@store_option
def clear(*, selection: Selection, baseline: str | None, store_url: str | None) -> int:
    """Take a baseline out of force, all of it or some cells. Nothing is deleted: set puts it back.

    Exit code 1 where nothing of that was in force.
    """
    project = find_project(Path.cwd())
    name = find_baseline(project, baseline)
    with open_store(project, store_url) as store:
        keys = {one.cell_key for one in store.measurements(replace(selection, baselines=(name,)))}
        gone = store.clear_baseline(name, keys)
    click.echo(f"{count(gone, 'measurement')} of {count(len(keys), 'cell')} out of force as baseline {name}")
    return 0 if gone else 1


def _find_flaw(measurement: Measurement, *, spoiled: bool) -> str:
    """Why a measurement cannot be a baseline; empty where it can."""
    if measurement.error:
        return measurement.error
    if measurement.reference_host:
        return f"measured in turns with {measurement.reference_host}, which another session cannot repeat"
    if measurement.verdicts and all(verdict.now is None for verdict in measurement.verdicts):
        return "none of its judged metrics has a number"
    return "" if spoiled else measurement.spoiled or ""
