"""Door 2: ``boobench store``: upgrade its schema, store what sessions kept in files, drop old raw samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from pytest_boobench.cli import show_examples
from pytest_boobench.cli.parameters import read_moment, store_option
from pytest_boobench.cli.project import find_project, show_path
from pytest_boobench.environment import FOLDER
from pytest_boobench.errors import BoobenchError
from pytest_boobench.store import Store
from pytest_boobench.store.engine import describe, parse_url, upgrade_schema
from pytest_boobench.store.revisions import NEWEST
from pytest_boobench.store.spool import find_stores, find_waiting, take_in
from pytest_boobench.units import count, moment, size


@click.group()
def command() -> None:
    """Look after the store: upgrade, import, prune."""


@command.command(
    epilog=show_examples(
        ("boobench store upgrade --store postgresql://me@db/bench", "a team's store, for all of the team"),
    )
)
@store_option
def upgrade(store_url: str) -> int:
    """Bring the store's schema up to date; its data stay.

    A store in a file is upgraded by itself. One that a team shares is only upgraded here: colleagues whose
    pytest-boobench is older cannot use it any more.
    """
    url = parse_url(store_url)
    before = upgrade_schema(url)
    done = f"has today's schema {NEWEST}" if before == NEWEST else f"upgraded from schema {before} to {NEWEST}"
    click.echo(f"{describe(url)}: {done}")
    return 0


@command.command(
    "import",
    epilog=show_examples(
        ("boobench store import", "all files in .boobench that wait for this store"),
        ("boobench store import /tmp/spool-3f2a.jsonl", "a file from elsewhere"),
    ),
)
@click.argument("files", nargs=-1, metavar="[FILE]...", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@store_option
def import_(files: Sequence[Path], store_url: str) -> int:
    """Take in what sessions measured without reaching the store.

    Sessions keep their runs, cells, verdicts and baselines in files called spool-….jsonl. What the store has already is
    not stored twice, and a file is removed when all of it is stored. A line that can never be stored is moved to a file
    beside it, spool-….rejected.jsonl. Exit code 1 where something was not stored.
    """
    waiting = list(files) or find_waiting(find_project(Path.cwd()).root / FOLDER)
    if not waiting:
        click.echo("nothing waits to be taken in")
        return 0
    with Store.open(store_url, create=True) as store:
        # A file that was found, and not named, may be for another store.
        return max([_take_in(store, path, named=bool(files)) for path in waiting])


def _take_in(store: Store, path: Path, *, named: bool) -> int:
    try:
        others = find_stores(path) - {store.address}
        if others and not named:
            click.echo(f"{show_path(path)}: waits for {', '.join(sorted(others))}; name that store, or the file")
            return 1
        taken = take_in(store, path)
    except (BoobenchError, OSError) as error:
        click.echo(f"{show_path(path)}: not taken in: {error}")
        return 1
    counted = ((taken.new.cells, "cell"), (taken.new.verdicts, "judged cell"), (taken.new.baselines, "baseline"))
    found = ", ".join(count(number, noun) for number, noun in counted if number)
    click.echo(f"{show_path(path)}: {found or 'nothing new'} taken into {store.address}; file removed")
    if rejected := taken.describe_rejected(show_path):
        click.echo(f"{show_path(path)}: {rejected}")
    return 1 if rejected else 0


@command.command(
    epilog=show_examples(
        ("boobench store prune --keep-raw 90d --dry-run", "what that would drop"),
        ("boobench store prune --keep-raw 90d", "as a job of its own, once a month"),
    )
)
@click.option(
    "--keep-raw",
    "before",
    required=True,
    callback=read_moment,
    metavar="TIME",
    help="How old raw samples may become, as in 90d or 26w; or the day from which they stay.",
)
@click.option("--dry-run", is_flag=True, help="Only tell what would be dropped.")
@store_option
def prune(before: float, dry_run: bool, store_url: str) -> int:
    """Drop old raw samples and free their space on the disk.

    Aggregates, verdicts and baselines stay, and so do the samples of baselines in force. Verdicts and charts need the
    aggregates only; the distribution of a dropped measurement's samples is lost.
    """
    with Store.open(store_url, create=False) as store:
        pruned = store.prune(before, dry=dry_run)
    old = f"{count(pruned.samples, 'sample')} of {count(pruned.measurements, 'measurement')}"
    since = f"{moment(before)} UTC"
    if dry_run:
        click.echo(f"{store.address}: {size(pruned.bytes_before)}; would drop {old} before {since}")
        return 0
    click.echo(f"{store.address}: dropped {old} before {since}")
    smaller = pruned.bytes_after < pruned.bytes_before
    now = f"{size(pruned.bytes_after)} now" if smaller else "its free space is used again"
    click.echo(f"{size(pruned.bytes_before)} before, {now}")
    return 0
