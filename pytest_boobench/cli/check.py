"""Door 2: ``boobench check``: what is wrong with suites and hosts file, without contacting a host."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

import click

from pytest_boobench import suite
from pytest_boobench.cli.project import Project, find_project, hosts_option, read_inventory, show_path
from pytest_boobench.errors import DocumentError
from pytest_boobench.hosts.inventory import Inventory
from pytest_boobench.suite.cell import Suite
from pytest_boobench.units import count

_NO_SUITES_IN = ("build", "dist", "node_modules", "venv")


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path, exists=True))
@hosts_option
def command(paths: Sequence[Path], hosts_file: Path | None) -> int:
    """Check suite files and the hosts file: every problem, with its line.

    PATHS are suite files and folders; by default all below the project's root.
    """
    project = find_project(Path.cwd())
    files = [file for path in paths or (project.root,) for file in _find_suites(path, project.patterns)]
    if not files:
        raise click.UsageError(f"no suite there; expected files named {' or '.join(project.patterns)}")
    problems: list[str] = []
    inventory = _read_hosts(project, hosts_file, problems)
    first: dict[str, Path] = {}
    for file in files:
        try:
            loaded = _read_suite(file, inventory, first)
        except DocumentError as error:
            problems.append(str(error))
            click.echo(str(error))
        else:
            click.echo(f"{show_path(file)}: {loaded.name}: {count(len(loaded.cells), 'cell')}")
    return 1 if problems else 0


def _read_hosts(project: Project, typed: Path | None, problems: list[str]) -> Inventory | None:
    """None where the hosts file is wrong itself: then nothing can be said of the names that suites use."""
    try:
        return read_inventory(project, typed)
    except DocumentError as error:
        problems.append(str(error))
        click.echo(str(error))
        return None


def _read_suite(file: Path, inventory: Inventory | None, first: dict[str, Path]) -> Suite:
    display = show_path(file)
    loaded = suite.load(
        file,
        display=display,
        known_hosts=inventory.names if inventory else None,
        hosts_file=inventory.display if inventory else None,
    )
    other = first.setdefault(loaded.name, file)
    if other != file:
        text = f"{loaded.name!r} is the name of {show_path(other)} too; the store needs two names"
        raise suite.problem_at(file, display, "suite", text)
    return loaded


def _find_suites(path: Path, patterns: Sequence[str]) -> Iterator[Path]:
    """A file as it is, a folder's suites in order; hidden folders and those of tools are left out."""
    if path.is_file():
        yield path
        return
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _NO_SUITES_IN)
        yield from (Path(folder, name) for name in sorted(files) if any(fnmatch(name, pattern) for pattern in patterns))
