"""Door 2: where the command stands: the folder, ini values and store that a pytest session started here would have."""

from __future__ import annotations

import configparser
import os
import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from pytest_boobench import BASELINE, HOSTS_FILE, SUITE_FILES
from pytest_boobench.cli.parameters import read_span
from pytest_boobench.hosts import inventory
from pytest_boobench.hosts.inventory import Inventory
from pytest_boobench.store import Store, default_url

_TOML_FILES = {"pytest.toml": ("pytest",), ".pytest.toml": ("pytest",)}
_PYPROJECT = (("tool", "pytest"), ("tool", "pytest", "ini_options"))
_INI_FILES = {"pytest.ini": "pytest", ".pytest.ini": "pytest", "tox.ini": "pytest", "setup.cfg": "tool:pytest"}

hosts_option = click.option(
    "--hosts",
    "hosts_file",
    envvar="BOOBENCH_HOSTS",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help=f"The hosts file (default: {HOSTS_FILE} beside pytest's configuration).",
)
"""For every verb that needs the hosts."""

load_timeout_option = click.option(
    "--load-timeout",
    "load_timeout_s",
    metavar="TIME",
    default="5m",
    envvar="BOOBENCH_LOAD_TIMEOUT",
    callback=read_span,
    help="How long a server may take to load its model before it is given up (default: 5m).",
)
"""For every verb that asks a server."""


@dataclass(frozen=True, slots=True)
class Project:
    """A folder, and what pytest's configuration in it says."""

    root: Path
    ini: Mapping[str, Any]
    configured: bool = False
    """Whether it has a configuration of pytest."""

    @property
    def patterns(self) -> tuple[str, ...]:
        """File patterns of bench suites; none where the configuration leaves them empty, as for pytest."""
        written = self.ini.get("boobench_files")
        if written is None:
            return SUITE_FILES
        return tuple(shlex.split(written) if isinstance(written, str) else written)

    @property
    def hosts_file(self) -> Path | None:
        """The hosts file that the configuration names, else the usual one if it is there."""
        named = self.ini.get("boobench_hosts")
        if named:
            return self.root / str(named)
        usual = self.root / HOSTS_FILE
        return usual if usual.is_file() else None


def find_project(start: Path) -> Project:
    """The nearest folder from ``start`` upwards with a configuration of pytest, else ``start`` itself."""
    for folder in (start, *start.parents):
        ini = _read_ini(folder)
        if ini is not None or (folder / HOSTS_FILE).is_file():
            return Project(folder, ini or {}, ini is not None)
    return Project(start, {})


def read_inventory(project: Project, typed: Path | None) -> Inventory:
    """The hosts; DocumentError for a bad file, a usage error for one that is not there."""
    path = typed or project.hosts_file
    if path is not None and not path.is_file():
        raise click.UsageError(f"boobench_hosts: no hosts file {path}; mend pytest's configuration, or see --hosts")
    return inventory.load(path, display=show_path(path) if path else None, env=os.environ)


def show_path(path: Path) -> str:
    """As messages call it: from where the command was typed."""
    return os.path.relpath(path)


def _read_ini(folder: Path) -> Mapping[str, Any] | None:
    """pytest's values in a folder, from the file that pytest would take; None where no file has any."""
    for name, place in _TOML_FILES.items():
        if (folder / name).is_file():
            return _dig(_read_toml(folder / name), place) or {}
    if (folder / "pyproject.toml").is_file():
        tables = [_dig(_read_toml(folder / "pyproject.toml"), place) for place in _PYPROJECT]
        if any(table is not None for table in tables):
            return {key: value for table in tables for key, value in (table or {}).items()}
    for name, section in _INI_FILES.items():
        parser = configparser.ConfigParser(interpolation=None, strict=False, allow_no_value=True)
        if parser.read(folder / name, encoding="utf-8") and parser.has_section(section):
            return dict(parser.items(section))
    return None


def _read_toml(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise click.UsageError(f"{show_path(path)}: {error}; expected TOML") from error


def _dig(table: Any, place: tuple[str, ...]) -> Mapping[str, Any] | None:
    for key in place:
        table = table.get(key) if isinstance(table, Mapping) else None
    return table if isinstance(table, Mapping) else None


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
