"""How many workers ``-n auto`` means: one for each machine that the suites on the command line run on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

import pytest

from pytest_boobench import suite
from pytest_boobench.errors import BoobenchError
from pytest_boobench.hosts.inventory import Inventory
from pytest_boobench.plugin import options
from pytest_boobench.plugin.inventory import read_inventory


def count_workers(config: pytest.Config) -> int | None:
    """Machines behind the hosts of the session's suites; None, which is xdist's own answer, where there are none.

    Called before pytest is configured. What is wrong with a file is said by those who need it, later.
    """
    settings = options.resolve(config)
    try:
        inventory = read_inventory(config, settings)
    except BoobenchError:
        return None
    names = {
        host
        for arg in config.args
        for host in _find_hosts(config, arg, settings.patterns, inventory)
        if not settings.only_hosts or host in settings.only_hosts
    }
    return len({inventory.get(name).exclusive for name in names}) or None


def _find_hosts(config: pytest.Config, arg: str, patterns: Sequence[str], inventory: Inventory) -> Iterator[str]:
    """The hosts of an argument: a folder, a file, or ``FILE::HOST`` and what may follow it."""
    name, _, rest = arg.partition("::")
    wanted = rest.partition("::")[0]
    for path in _find_suites(config.invocation_params.dir / name, patterns, config.getini("norecursedirs")):
        try:
            found = suite.load(path, display=path.name, known_hosts=inventory.names)
        except BoobenchError:
            continue
        yield from (host for host in found.hosts if wanted in ("", host))


def _find_suites(start: Path, patterns: Sequence[str], left_out: Sequence[str]) -> Iterator[Path]:
    if start.is_file() and _fits(start.name, patterns):
        yield start
    for folder, folders, files in os.walk(start):
        folders[:] = [name for name in folders if not _fits(name, left_out)]
        yield from (Path(folder, name) for name in files if _fits(name, patterns))


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)
