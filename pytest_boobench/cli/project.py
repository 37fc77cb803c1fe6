"""Door 2: the folder, ini values, hosts file and store that a pytest session started here would use."""

from __future__ import annotations

import configparser
import os
import shlex
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from pytest_boobench import BASELINE, HOSTS_FILE, SUITE_FILES
from pytest_boobench.hosts import inventory

_INI_FILES = {"pytest.ini": "pytest", ".pytest.ini": "pytest", "tox.ini": "pytest", "setup.cfg": "tool:pytest"}


@dataclass(frozen=True, slots=True)
class Project:
    """A folder with the values of its pytest configuration."""

    root: Path
    ini: Mapping[str, Any]
    configured: bool = False
    """Whether it has a pytest configuration."""

    @property
    def patterns(self) -> tuple[str, ...]:
        """File patterns of bench suites; none where the configuration leaves them empty, as for pytest."""
        written = self.ini.get("boobench_files")
        if written is None:
            return SUITE_FILES
        return tuple(shlex.split(written) if isinstance(written, str) else written)

    @property
    def hosts_file(self) -> Path | None:
        """The hosts file that the configuration names, else the default one if it exists."""
        if named := self.ini.get("boobench_hosts"):
            return self.root / str(named)
        default = self.root / HOSTS_FILE
        return default if default.is_file() else None

    @property
    def baseline(self) -> str:
        """The name of the baseline that the configuration names, else the default one."""
        return str(self.ini.get("boobench_baseline") or BASELINE)

    @property
    def store_url(self) -> str:
        """The store that the configuration names, a file relative to the root; else the default one."""
        from pytest_boobench.store import default_url  # noqa: PLC0415  # SQLAlchemy: for verbs that open a store

        named = str(self.ini.get("boobench_store") or "")
        if not named:
            return default_url(self.root)
        return named if "://" in named else str(self.root / named)


def find_project(start: Path) -> Project:
    """The nearest folder from ``start`` upwards with a configuration of pytest, else ``start`` itself."""
    for folder in (start, *start.parents):
        ini = _read_ini(folder)
        if ini is not None or (folder / HOSTS_FILE).is_file():
            return Project(folder, ini or {}, ini is not None)
    return Project(start, {})


def read_inventory(project: Project, typed: Path | None, suites: Iterable[Path] = ()) -> inventory.Inventory:
    """The hosts; DocumentError for a bad file, a usage error for one that does not exist.

    Where nothing names a file and the project's root has none, it is the one beside ``suites``.
    """
    path = typed or project.hosts_file or inventory.find_beside(suites)
    if path is not None and not path.is_file():
        raise click.UsageError(f"boobench_hosts: no hosts file {path}; mend pytest's configuration, or see --hosts")
    return inventory.load(path, display=show_path(path) if path else None, env=os.environ)


def show_path(path: Path) -> str:
    """The path relative to the current folder, for messages."""
    return os.path.relpath(path)


def _read_ini(folder: Path) -> Mapping[str, Any] | None:
    """pytest's values from the file that pytest would take; None where no file of the folder has any."""
    for name in ("pytest.toml", ".pytest.toml"):
        if (folder / name).is_file():
            return _find_table(folder / name, "pytest") or {}
    pyproject = folder / "pyproject.toml"
    if pyproject.is_file() and (values := _find_table(pyproject, "tool", "pytest")) is not None:
        return {**values, **(_find_table(pyproject, "tool", "pytest", "ini_options") or {})}
    for name, section in _INI_FILES.items():
        parser = configparser.ConfigParser(interpolation=None, strict=False, allow_no_value=True)
        if parser.read(folder / name, encoding="utf-8") and parser.has_section(section):
            return dict(parser.items(section))
    return None


def _find_table(path: Path, *names: str) -> Mapping[str, Any] | None:
    try:
        table: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise click.UsageError(f"{show_path(path)}: {error}; expected TOML") from error
    for name in names:
        table = table.get(name) if isinstance(table, Mapping) else None
    return table if isinstance(table, Mapping) else None
