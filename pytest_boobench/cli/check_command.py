"""Door 2: ``boobench check`` and ``schema``: mistakes in suites and hosts file, and the schemas for editors."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import click

from pytest_boobench import baseline_file, suite
from pytest_boobench.cli import show_examples
from pytest_boobench.cli.parameters import echo, hosts_option, json_option, to_json
from pytest_boobench.cli.project import Project, find_project, read_inventory, show_path
from pytest_boobench.errors import DocumentError, MissingExtra, Problem
from pytest_boobench.hosts import inventory
from pytest_boobench.hosts.inventory import Inventory
from pytest_boobench.suite.cell import Suite
from pytest_boobench.suite.names import shorten
from pytest_boobench.units import count


def _write_api_schema() -> dict[str, Any]:
    """That of the page, which this room does not import: it needs the extra."""
    if importlib.util.find_spec("starlette") is None:
        raise MissingExtra("the schema of the page's API", "page")
    made: dict[str, Any] = importlib.import_module("pytest_boobench.page.api_schema").schema()
    return made


SCHEMAS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "suite": suite.schema,
    "hosts": inventory.schema,
    "baseline": baseline_file.schema,
    "api": _write_api_schema,
}


@click.command(
    epilog=show_examples(
        ("boobench schema > suite.schema.json", "for *.boobench.yaml, in an editor's yaml.schemas"),
        ("boobench schema hosts > hosts.schema.json", "for boobench.hosts.yaml"),
        ("boobench schema api", "what the page's server takes and answers"),
    )
)
@click.argument("what", type=click.Choice(tuple(SCHEMAS)), default="suite")
def schema_command(what: str) -> int:
    """Print the JSON Schema of a kind of file, or of the page's API."""
    click.echo(to_json(SCHEMAS[what]()))
    return 0


_NO_SUITES_IN = ("build", "dist", "node_modules", "venv")


@dataclass(frozen=True, slots=True)
class FileReport:
    """One file with its suite, or its problems."""

    file: str
    suite: Suite | None = None
    problems: tuple[Problem, ...] = ()

    def __str__(self) -> str:
        if self.suite is None:
            return "\n".join(map(str, self.problems))
        return f"{self.file}: {self.suite.name}: {count(len(self.suite.cells), 'cell')}"

    def to_plain(self) -> dict[str, Any]:
        """The report as JSON has it; cells are named as their node ids end."""
        cells = self.suite.cells if self.suite else ()
        short = shorten(cell.model for cell in cells)
        return {
            "file": self.file,
            "suite": self.suite.name if self.suite else None,
            "cells": [f"{cell.host}::{short[cell.model]}[{cell.id}]" for cell in cells],
            "problems": [asdict(problem) for problem in self.problems],
        }


@click.command(
    epilog=show_examples(
        ("boobench check", "every suite below here, and the hosts file"),
        ("boobench check suites/chat.boobench.yaml", "one; exit code 1 where something is wrong"),
        ("boobench check --json | jq -r '.files[].cells[]'", "the cells that pytest --boobench would run"),
    )
)
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path, exists=True))
@hosts_option
@json_option
def command(paths: Sequence[Path], hosts_file: Path | None, as_json: bool) -> int:
    """Check suites and hosts file: every problem, with its line.

    PATHS are suite files and folders; by default all below the project's root.
    """
    project = find_project(Path.cwd())
    files = [file for path in paths or (project.root,) for file in find_suites(path, project.patterns)]
    if not files:
        wanted = " or ".join(project.patterns) or "by boobench_files, which is empty"
        raise click.UsageError(f"no suite there; expected files named {wanted}")
    reports = list(check_files(files, project, hosts_file))
    echo({"files": [report.to_plain() for report in reports]} if as_json else map(str, reports))
    return 1 if any(report.problems for report in reports) else 0


def check_files(files: Sequence[Path], project: Project, hosts_file: Path | None) -> Iterator[FileReport]:
    """The hosts file where it is wrong, then each suite; without the hosts, suites may name any host."""
    inventory: Inventory | None = None
    try:
        inventory = read_inventory(project, hosts_file, files)
    except DocumentError as error:
        yield FileReport(error.problems[0].file, problems=error.problems)
    names = suite.SuiteNames()
    known_hosts, display = (inventory.names, inventory.display) if inventory else (None, None)
    starts = inventory.starts if inventory else {}
    for file in files:
        shown = show_path(file)
        try:
            loaded = suite.load(file, display=shown, known_hosts=known_hosts, hosts_file=display, starts=starts)
            names.claim(loaded, shown)
            yield FileReport(shown, loaded)
        except DocumentError as error:
            yield FileReport(shown, problems=error.problems)


def find_suites(path: Path, patterns: Sequence[str]) -> Iterator[Path]:
    """The file itself, or a folder's suites in order; hidden folders and those of tools are left out."""
    if path.is_file():
        yield path
        return
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _NO_SUITES_IN)
        yield from (Path(folder, name) for name in sorted(files) if any(fnmatch(name, pattern) for pattern in patterns))
