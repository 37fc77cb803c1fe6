"""Door 2: ``boobench baseline export`` and ``import``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from pytest_boobench import baseline_file
from pytest_boobench.cli.examples import show_examples
from pytest_boobench.cli.project import find_project, show_path
from pytest_boobench.cli.selecting import cell_options
from pytest_boobench.cli.stored import baseline_option, find_baseline, open_store, store_option
from pytest_boobench.store import Selection
from pytest_boobench.units import count

_STDOUT = Path("-")


@click.command(
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
def export(*, file: Path, selection: Selection, baseline: str | None, store_url: str | None) -> int:
    """Write a baseline to FILE, as text for git; - is the terminal.

    It has each request's numbers, and where they come from. The same baseline gives the same text.
    """
    project = find_project(Path.cwd())
    name = find_baseline(project, baseline)
    with open_store(project, store_url) as store:
        found = store.export_baseline(name, selection)
    if not found.runs:
        raise click.UsageError(f"nothing of that is in force as baseline {name}; see boobench baseline list")
    if file == _STDOUT:
        click.echo(baseline_file.render(found), nl=False)
        return 0
    try:
        baseline_file.write(file, found)
    except OSError as error:
        raise click.UsageError(f"cannot write {file}: {error.strerror}") from error
    cells = len({saved.record.cell_key for saved in found.runs})
    click.echo(f"wrote {count(len(found.runs), 'measurement')} of {count(cells, 'cell')} to {file}")
    return 0


@click.command(
    "import",
    epilog=show_examples(
        ("boobench baseline import boobench.baseline.yaml", "in the place of what is in force for its cells"),
        ("boobench baseline import --add --baseline team FILE", "beside it, under another name"),
    ),
)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--baseline", metavar="NAME", help="Under this name (default: the file's own).")
@click.option("--add", is_flag=True, help="Beside what is in force, instead of in its place.")
@store_option
def import_(file: Path, baseline: str | None, add: bool, store_url: str | None) -> int:
    """Put the baseline of FILE in force in the store.

    The store is made where there is none. For the cells of the file only; what is replaced stays in the store. A second
    time changes nothing.
    """
    found = baseline_file.read(file, show_path(file))
    named = replace(found, name=baseline or found.name)
    with open_store(find_project(Path.cwd()), store_url, create=True) as store:
        exchange = store.import_baseline(named, add=add)
    came = count(exchange.came, "measurement")
    click.echo(f"{came} of {show_path(file)} in force as baseline {named.name}, {exchange.went} replaced")
    return 0
