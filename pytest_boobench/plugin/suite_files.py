"""The files of a session's arguments: which suites they are, and where the hosts file is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from pytest_boobench import HOSTS_FILE
from pytest_boobench.documents.yaml_tree import suggest
from pytest_boobench.errors import BoobenchError
from pytest_boobench.hosts.inventory import Inventory, find_beside, load
from pytest_boobench.plugin.options import is_suite
from pytest_boobench.plugin.settings import Settings


def read_inventory(config: pytest.Config, settings: Settings) -> Inventory:
    """The session's hosts; DocumentError for a bad hosts file, UsageError for a host that is not in it."""
    path = _find_hosts_file(config, settings)
    if path is not None and not path.is_file():
        raise pytest.UsageError(f"boobench: no hosts file {path}; see --boobench-hosts")
    display = os.path.relpath(path, config.invocation_params.dir) if path is not None else None
    inventory = load(path, display=display, env=os.environ)
    for name in settings.only_hosts:
        if name not in inventory.names:
            where = f"in {display}" if display else "without a hosts file"
            raise pytest.UsageError(f"--boobench-host: no host {name!r} {where}; {suggest(name, inventory.names)}")
    return inventory


def _find_hosts_file(config: pytest.Config, settings: Settings) -> Path | None:
    """The file that the user names, else the rootdir's, else the one beside the suites."""
    if settings.hosts_file is not None:
        return settings.hosts_file
    usual = config.rootpath / HOSTS_FILE
    if usual.is_file():
        return usual
    try:
        return find_beside(path for arg in config.args for path in find_suites(config, settings, arg))
    except BoobenchError as error:
        raise pytest.UsageError(f"{error}; name one with --boobench-hosts") from error


def find_suites(config: pytest.Config, settings: Settings, arg: str) -> Iterator[Path]:
    """The suite files of an argument of pytest: of a folder, or of ``FILE`` and what may follow it after ``::``."""
    start = config.invocation_params.dir / arg.partition("::")[0]
    if start.is_file() and is_suite(start.name, settings.patterns):
        yield start
    left_out: list[str] = config.getini("norecursedirs")
    for folder, folders, files in os.walk(start):
        folders[:] = [name for name in folders if not any(fnmatch(name, pattern) for pattern in left_out)]
        yield from (Path(folder, name) for name in files if is_suite(name, settings.patterns))
