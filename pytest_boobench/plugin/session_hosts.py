"""The session's hosts file, read once, and the hosts that ``--boobench-host`` leaves of it."""

from __future__ import annotations

import os

import pytest

from pytest_boobench.documents.yaml_tree import suggest
from pytest_boobench.hosts.inventory import Inventory, load
from pytest_boobench.plugin.options import Settings


def read_inventory(config: pytest.Config, settings: Settings) -> Inventory:
    """The inventory; DocumentError for a bad file, UsageError for a host that is not in it."""
    path = settings.hosts_file
    if path is not None and not path.is_file():
        raise pytest.UsageError(f"boobench: no hosts file {path}; see --boobench-hosts")
    display = os.path.relpath(path, config.invocation_params.dir) if path is not None else None
    inventory = load(path, display=display, env=os.environ)
    for name in settings.only_hosts:
        if name not in inventory.names:
            where = f"in {display}" if display else "without a hosts file"
            raise pytest.UsageError(f"--boobench-host: no host {name!r} {where}; {suggest(name, inventory.names)}")
    return inventory
