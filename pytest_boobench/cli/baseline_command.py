"""Door 2: ``boobench baseline``: which baselines there are, what they rest on, and how they come and go."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path

import click

from pytest_boobench import baseline_file, gate
from pytest_boobench.cli import show_examples
from pytest_boobench.cli.baseline_flaws import find_flaw
from pytest_boobench.cli.baseline_measure import measure
from pytest_boobench.cli.parameters import (
    baseline_option,
    cell_options,
    echo,
    json_option,
    measurement_options,
    name_cell,
    store_option,
)
from pytest_boobench.cli.power_command import find_foundations, foundation_to_plain, render_foundation
from pytest_boobench.cli.project import show_path
from pytest_boobench.reports.text import render_table
from pytest_boobench.store import Saved, Selection, Store
from pytest_boobench.units import count, moment

_add_option = click.option("--add", is_flag=True, help="Keep what is in force, and add to it.")


@click.group()
def command() -> None:
    """Look at baselines, set and clear them, carry them in git."""


command.add_command(measure)


@command.command(
    "list",
    epilog=show_examples(
        ("boobench baseline list", "all names that the store knows"),
        ("boobench baseline list --json | jq -r '.baselines[].name'", "for other programs"),
    ),
)
@json_option
@store_option
def list_(as_json: bool, store_url: str) -> int:
    """List the names of baselines, and what is in force under each.

    How many cells it is, and how many measurements of them.
    """
    with Store.open(store_url, create=False) as store:
        names = store.baseline_names()
    if as_json:
        echo({"baselines": [asdict(name) for name in names]})
    elif not names:
        click.echo(f"{store.address}: no baseline; store one with pytest --boobench --boobench-save-baseline")
    else:
        head = ("name", "cells", "runs", "replaced", "last saved (UTC)")
        rows = [(one.name, str(one.cells), str(one.runs), str(one.replaced), moment(one.saved_at)) for one in names]
        echo(render_table(head, rows))
    return 0


@command.command(
    epilog=show_examples(
        ("boobench baseline show", "every cell of the baseline main"),
        ("boobench baseline show -k pp512-tg32-c4 --host rack-1", "one cell"),
        ("boobench power", "only what all of them can prove, the weakest first"),
    )
)
@baseline_option
@cell_options
@json_option
@store_option
def show(*, selection: Selection, baseline: str, as_json: bool, store_url: str) -> int:
    """Show what a baseline rests on, cell by cell.

    Runs and sessions, the level, and the smallest drop that it can prove.
    """
    with Store.open(store_url, create=False) as store:
        found = find_foundations(store, baseline, selection)
    if not found:
        raise click.UsageError(f"nothing of that is in force as baseline {baseline}; see boobench baseline list")
    if as_json:
        echo({"baseline": baseline, "cells": [foundation_to_plain(each) for each in found]})
    else:
        click.echo("\n\n".join("\n".join(render_foundation(each)) for each in found))
    return 0


@command.command(
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
@_add_option
@click.option("--spoiled", is_flag=True, help="Also measurements that others disturbed, or that were still warming up.")
@store_option
def set_(*, selection: Selection, baseline: str, reason: str, add: bool, spoiled: bool, store_url: str) -> int:
    """Make stored measurements the baseline of their cells.

    It is the newest of each cell that is chosen, also a slower one. What is replaced stays in the store. Exit code 1
    where something chosen cannot become a baseline.
    """
    if not (selection.runs or selection.sessions or selection.commits or selection.since is not None):
        raise click.UsageError("say which with --session, --run, --commit or --since; boobench history shows them")
    with Store.open(store_url, create=False) as store:
        chosen = store.measurements(replace(selection, last=selection.last or 1))
        flaws = {one.id: find_flaw(one, spoiled=spoiled) for one in chosen}
        saves = [
            Saved(measurement_id=one.id, cell_key=one.cell_key, saved_at=time.time(), reason=reason)
            for one in chosen
            if not flaws[one.id]
        ]
        change = store.put_in_force(baseline, saves, add=add)
    if not chosen:
        raise click.UsageError("nothing of that was measured; boobench history shows what was")
    for one in chosen:
        if flaws[one.id]:
            click.echo(f"not set: {name_cell(one)}: {flaws[one.id]}")
    click.echo(f"{count(change.came, 'measurement')} set as baseline {baseline}, {change.went} replaced")
    return 1 if any(flaws.values()) else 0


@command.command(
    epilog=show_examples(
        ("boobench baseline clear --baseline old", "all of a baseline"),
        ("boobench baseline clear --model qwen3-8b --reason 'new GPU'", "the cells of one model"),
    )
)
@baseline_option
@cell_options
@click.option("--reason", default="", metavar="TEXT", help="Why; it is stored, and the page shows it.")
@store_option
def clear(*, selection: Selection, baseline: str, reason: str, store_url: str) -> int:
    """Take a baseline out of force, all of it or some cells. Nothing is deleted: set puts it back.

    Exit code 1 where nothing of that was in force.
    """
    with Store.open(store_url, create=False) as store:
        keys = {one.cell_key for one in store.measurements(replace(selection, baselines=(baseline,)))}
        gone = store.clear_baseline(baseline, keys, reason)
    click.echo(f"{count(gone, 'measurement')} of {count(len(keys), 'cell')} out of force as baseline {baseline}")
    return 0 if gone else 1


@command.command(
    epilog=show_examples(
        ("boobench baseline export boobench.baseline.yaml", "all of the baseline main"),
        (
            "pytest --boobench --boobench-baseline-file boobench.baseline.yaml",
            "a gate on it, with no database kept anywhere",
        ),
    )
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@baseline_option
@cell_options
@store_option
def export(*, file: Path, selection: Selection, baseline: str, store_url: str) -> int:
    """Write a baseline to FILE, as text for git; - is the terminal.

    It has each request's numbers, and where they come from. The same baseline and history give the same text.
    """
    with Store.open(store_url, create=False) as store:
        found = store.export_baseline(baseline, selection)
        noise = gate.add_noise({}, store.looks(hosts=found.hosts), found.hosts)
    if not found.runs:
        raise click.UsageError(f"nothing of that is in force as baseline {baseline}; see boobench baseline list")
    found = replace(found, host_noise=noise)
    if file == Path("-"):
        click.echo(baseline_file.render(found), nl=False)
        return 0
    try:
        baseline_file.write(file, found)
    except OSError as error:
        raise click.UsageError(f"cannot write {file}: {error.strerror}") from error
    cells = len({saved.record.cell_key for saved in found.runs})
    click.echo(f"wrote {count(len(found.runs), 'measurement')} of {count(cells, 'cell')} to {file}")
    return 0


@command.command(
    "import",
    epilog=show_examples(
        ("boobench baseline import boobench.baseline.yaml", "in the place of what is in force for its cells"),
        ("boobench baseline import --add --baseline team FILE", "beside it, under another name"),
    ),
)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--baseline", metavar="NAME", help="Under this name (default: the file's own).")
@_add_option
@store_option
def import_(file: Path, baseline: str | None, add: bool, store_url: str) -> int:
    """Put the baseline of FILE in force in the store.

    The store is made where there is none. Other cells than those of the file keep their baseline, and what is replaced
    stays in the store. A second import of the same file changes nothing.
    """
    found = baseline_file.read(file, show_path(file))
    named = replace(found, name=baseline or found.name)
    with Store.open(store_url, create=True) as store:
        change = store.import_baseline(named, add=add)
    came = count(change.came, "measurement")
    click.echo(f"{came} of {show_path(file)} in force as baseline {named.name}, {change.went} replaced")
    return 0
