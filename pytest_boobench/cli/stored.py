"""Door 2: the store and the baseline of a verb: as typed, from environment or configuration, or the usual one."""

from __future__ import annotations

from pathlib import Path

import click

from pytest_boobench.cli.project import Project
from pytest_boobench.store import Store, default_url
from pytest_boobench.usual import BASELINE

store_option = click.option(
    "--store",
    "store_url",
    envvar="BOOBENCH_STORE",
    metavar="URL",
    help="The store: an SQLAlchemy URL or a file (default: what pytest --boobench uses here).",
)
"""For every verb that needs the store."""


baseline_option = click.option(
    "--baseline",
    envvar="BOOBENCH_BASELINE",
    metavar="NAME",
    help=f"Which baseline (default: what pytest --boobench uses here, {BASELINE} where nothing is said).",
)
"""For every verb that is about one baseline."""


def find_baseline(project: Project, typed: str | None) -> str:
    """The name of the baseline: as typed, from the environment or configuration, or the usual one."""
    return typed or str(project.ini.get("boobench_baseline") or BASELINE)


def find_store_url(project: Project, typed: str | None) -> str:
    """Where the store is; a file that the configuration names is relative to the project's root."""
    if typed:
        return typed
    named = str(project.ini.get("boobench_store") or "")
    if not named:
        return default_url(project.root)
    return named if "://" in named else str(project.root / named)


def find_store_file(url: str) -> Path | None:
    """The file of a SQLite store; None for other databases."""
    if "://" not in url:
        return Path(url).expanduser()
    path = url.removeprefix("sqlite:///")
    return None if path == url else Path(path)


def open_store(project: Project, typed: str | None, *, create: bool = False) -> Store:
    """The store, close it; StoreError where there is none and none is to be made."""
    return Store.open(find_store_url(project, typed), create=create)
