"""Which models the hosts have loaded, asked before the first cell: those come first, so that the least is swapped."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

from pytest_boobench.errors import BoobenchError
from pytest_boobench.hosts.inventory import Host, Inventory
from pytest_boobench.plugin.order import Loaded, Ready

_PATIENCE_S = 5.0
"""A host that says nothing for so long is left out; its cells will say why."""


def ask_hosts(inventory: Inventory) -> Ready:
    """A question to the hosts of an inventory, all at the same time. Asking loads no model."""

    def ready(names: Collection[str]) -> Loaded:
        hosts = [host for name in names if (host := inventory.hosts[name]).embedded is None]
        return asyncio.run(_ask_all(hosts)) if hosts else {}

    return ready


async def _ask_all(hosts: Sequence[Host]) -> Loaded:
    answers = await asyncio.gather(*map(_ask, hosts))
    return {host.name: models for host, models in zip(hosts, answers, strict=True) if models is not None}


async def _ask(host: Host) -> Sequence[str] | None:
    from pytest_boobench.hosts.connection import open_host
    from pytest_boobench.servers.connect import connect
    from pytest_boobench.servers.patience import NONE

    try:
        clients = open_host(host, host.base_url, patience=NONE)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                server = await connect(host.name, host.base_url, clients, host.server)
                return await server.ready_models()
        finally:
            await clients.close()
    except (BoobenchError, TimeoutError):
        return None
