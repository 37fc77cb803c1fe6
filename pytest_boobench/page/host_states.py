"""Door 3: hosts and their models as they are now, and who measures there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from pytest_boobench.errors import BoobenchError, HostError
from pytest_boobench.hosts.access import is_locked
from pytest_boobench.hosts.embedded import MODELS
from pytest_boobench.hosts.inventory import Host, Inventory
from pytest_boobench.hosts.open_host import open_host, require_direct
from pytest_boobench.page.api_types import HostAnswer, HostBusy, HostModel
from pytest_boobench.page.desk import Desk
from pytest_boobench.page.run_book import RunBook
from pytest_boobench.servers.clients import NONE, Server
from pytest_boobench.servers.connect import connect
from pytest_boobench.untrusted import clean, to_object

_FRESH_S = 5.0
"""How long an answer stands: looking costs the host a few requests."""
_WITHIN_S = 8.0
_SOON_S = 1.0
"""How long a list waits for a slow host: the others shall not wait with it."""
_MOST_ASKED = 50
"""Models of a host that are asked whether they only embed."""
OTHER_SESSION = "another session of pytest --boobench on this machine"


@dataclass(eq=False)
class HostStates:
    """Asks hosts, but not those on which a run of this page measures: their last answer stands."""

    desk: Desk
    runs: RunBook
    _known: dict[str, tuple[float, Host, HostAnswer]] = field(default_factory=dict)
    _asking: dict[str, tuple[Host, asyncio.Task[HostAnswer]]] = field(default_factory=dict)

    async def list_hosts(self) -> tuple[HostAnswer, ...]:
        """All hosts of the file; one that has not answered soon is marked as being asked."""
        inventory = await asyncio.to_thread(self.desk.read_inventory)
        return tuple(await asyncio.gather(*(self._tell(host, inventory) for host in inventory.hosts.values())))

    async def rest(self) -> None:
        """Ask no more of what is being asked: a measurement begins, or the server ends."""
        tasks = [task for _, task in self._asking.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def find_users(self, host: Host, inventory: Inventory) -> tuple[str, ...]:
        """Who measures on the host's machine now, in words; empty where nobody does."""
        machines = {name: each.exclusive for name, each in inventory.hosts.items()}
        run = self.runs.find_using(machines, host.exclusive)
        if run is not None:
            return (f"the run {run.about.id} of this page",)
        return (OTHER_SESSION,) if is_locked(host) else ()

    async def _tell(self, host: Host, inventory: Inventory) -> HostAnswer:
        users = self.find_users(host, inventory)
        busy = HostBusy(by=users) if users else None
        at, asked, known = self._known.get(host.name, (0.0, None, describe(host)))
        if asked == host and (busy is not None or time.monotonic() - at < _FRESH_S):
            return replace(known, busy=busy)
        if busy is not None:  # it is asked at once when it is free again
            self._known[host.name] = (0.0, host, describe(host))
            return replace(describe(host), busy=busy)
        task = self._ask(host)
        await asyncio.wait([task], timeout=_SOON_S)
        if task.done() and not task.cancelled():
            return task.result()
        return replace(known if asked == host else describe(host), asking=True)

    def _ask(self, host: Host) -> asyncio.Task[HostAnswer]:
        """The look at a host that goes on, or a new one."""
        asked, task = self._asking.get(host.name, (None, None))
        if task is None or asked != host:
            if task is not None:
                task.cancel()
            task = asyncio.create_task(self._look(host))
            self._asking[host.name] = (host, task)
        return task

    async def _look(self, host: Host) -> HostAnswer:
        try:
            answer = await ask(host)
            self._known[host.name] = (time.monotonic(), host, answer)
            return answer
        finally:
            if self._asking.get(host.name, (None, None))[1] is asyncio.current_task():
                del self._asking[host.name]


def describe(host: Host) -> HostAnswer:
    """What the hosts file tells, and what is known without asking."""
    models: Sequence[str] = MODELS if host.embedded is not None else tuple(host.start.files) if host.start else ()
    return HostAnswer(
        name=host.name,
        kind=host.server,
        url=host.base_url or None,
        machine=host.machine,
        reachable=True if host.embedded is not None else None,
        models=tuple(
            HostModel(
                name=name,
                state="unloaded",
                vision=False if host.embedded is not None else None,
                embeds="embed" in name if host.embedded is not None else None,
            )
            for name in models
        ),
    )


async def ask(host: Host) -> HostAnswer:
    """What the host says now; why it says nothing where it does not."""
    about = describe(host)
    if host.ours:
        return about
    try:
        clients = open_host(host, host.base_url, patience=NONE)
    except BoobenchError as error:
        return replace(about, reachable=False, why=str(error))
    try:
        async with asyncio.timeout(_WITHIN_S):
            await require_direct(host)
            server = await connect(host.name, host.base_url, clients, host.server)
            models = await _list_models(server)
        return replace(about, reachable=True, kind=server.kind, models=models)
    except TimeoutError:
        return replace(about, reachable=False, why=f"no answer within {_WITHIN_S:.0f} s")
    except BoobenchError as error:
        return replace(about, reachable=False, why=str(error))
    finally:
        await clients.close()


async def _list_models(server: Server) -> tuple[HostModel, ...]:
    names = list(await server.models())
    ready = await server.ready_models()
    modalities = to_object((await server.facts()).extra.get("modalities"))
    vision = modalities.get("vision") if len(names) == 1 else None
    embeds: dict[str, bool | None] = {}
    for name in names[:_MOST_ASKED]:
        with suppress(HostError):
            embeds[name] = await server.embeds(name)
    return tuple(
        HostModel(
            name=clean(name),
            state="unknown" if ready is None else "ready" if name in ready else "unloaded",
            vision=vision if isinstance(vision, bool) else None,
            embeds=embeds.get(name),
        )
        for name in names
    )
