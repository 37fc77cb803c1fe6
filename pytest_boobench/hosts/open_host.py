"""Room 2: one connected host: its server, its watcher, and what to end and restore afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import httpx
from filelock import FileLock

from pytest_boobench import PACKAGE, find_version
from pytest_boobench.errors import HostError
from pytest_boobench.hosts import embedded
from pytest_boobench.hosts.addresses import DEFAULT_PORTS
from pytest_boobench.hosts.inventory import Host
from pytest_boobench.hosts.launcher import StartedServer, launch
from pytest_boobench.hosts.llama_watcher import SlotsWatcher
from pytest_boobench.hosts.restore import Restore
from pytest_boobench.hosts.sensors import Sensors
from pytest_boobench.hosts.server_process import find_listening, list_family
from pytest_boobench.hosts.start_fields import Combination
from pytest_boobench.hosts.swap_watcher import SwapWatcher
from pytest_boobench.hosts.vllm_watcher import VllmWatcher
from pytest_boobench.hosts.watcher import RUN_HEADER, Watcher
from pytest_boobench.servers.clients import Clients, Patience, Server, Waiting, open_clients, tell_nobody
from pytest_boobench.servers.connect import connect
from pytest_boobench.servers.llama_swap import LlamaSwap
from pytest_boobench.servers.openai import OpenAIServer

WATCHERS: Mapping[str, Callable[[Clients, str], Watcher]] = {
    "embedded": SlotsWatcher,
    "llama-server": SlotsWatcher,
    "llama-router": SlotsWatcher,
    "llama-swap": SwapWatcher,
    "vllm": VllmWatcher,
}
"""Kind of server -> its watcher."""


def choose(server: Server, model: str) -> Watcher:
    """Make the watcher of a host, at first for ``model``; it sends nothing yet."""
    watch = WATCHERS.get(server.kind)
    return watch(server.clients, model) if watch is not None else Watcher(model)


@dataclass(slots=True)
class OpenHost:
    """A connected host, open until `close`."""

    server: Server
    clients: Clients
    watcher: Watcher
    process: embedded.EmbeddedServer | None = None
    started: StartedServer | None = None
    """The server that a command of the hosts file started."""
    restore: Restore | None = None
    sensors: Sensors | None = None
    """Those of this machine, if the server runs on it."""
    used: bool = False
    """Whether a cell has used it."""
    served: bool = False
    """Whether its server has been measured since it started."""

    def watch(self, model: str) -> Watcher:
        """Return the host's watcher, for windows of ``model``. A host has only one: it knows our own requests."""
        self.watcher.model = model
        return self.watcher

    def usable(self) -> bool:
        """False if we started the server and it has ended."""
        own = self.process or self.started
        return own is None or own.alive()

    def runs(self, combination: Combination | None) -> bool:
        """Whether this is the server that we would start with these values."""
        return combination is None or (self.started is not None and self.started.combination.key == combination.key)

    async def begin_use(self) -> None:
        """Prepare for a cell: before the first one, note what to restore."""
        if self.restore is not None and not self.used:
            await self.restore.arrive()
        self.used = True

    async def close(self) -> None:
        """Leave the host as it was. Waits only for a model that is restored."""
        self.clients.patience = replace(self.clients.patience, waits=False, refused_s=0.0, tell=tell_nobody)
        await self.watcher.close()
        if self.sensors is not None:
            self.sensors.close()
        if self.restore is not None and self.used:
            with contextlib.suppress(HostError):  # a dead host has nothing to restore
                await self.restore.leave()
        await self.clients.close()
        for own in (self.process, self.started):
            if own is not None:
                own.stop()


MakeServer = Callable[[Host, Clients], Server | None]
"""Makes the Server of a host whose kind is not built in; returns None for all others."""


def make_none(host: Host, clients: Clients) -> None:
    """Support only built-in kinds."""


async def open_connection(host: Host, run_uid: str, lock: FileLock, make: MakeServer, patience: Patience) -> OpenHost:
    """Start the server if it is embedded, and detect its kind. Raises HostError if nothing answers."""
    process = embedded.start(host.embedded) if host.embedded else None
    url = process.url if process is not None else host.base_url
    clients = open_host(host, url, run_uid, patience)
    try:
        await require_direct(host)
        server = make(host, clients) or await connect(host.name, url, clients, host.server)
    except BaseException:
        await clients.close()
        if process is not None:
            process.stop()
        raise
    restore = Restore(server, lock) if isinstance(server, LlamaSwap) and host.restore else None
    sensors = _choose_sensors(host, url, process)
    return OpenHost(server, clients, choose(server, ""), process=process, restore=restore, sensors=sensors)


def _choose_sensors(host: Host, url: str, process: embedded.EmbeddedServer | None) -> Sensors | None:
    """This machine's, for the processes of a server on it; None if it is another machine."""
    if process is not None:
        return Sensors(partial(list_family, process.pid))
    address = httpx.URL(url)
    port = address.port or DEFAULT_PORTS[address.scheme]
    return Sensors(partial(find_listening, port)) if host.local else None


async def open_started(
    host: Host, combination: Combination, log: Path, run_uid: str, make: MakeServer, patience: Patience
) -> OpenHost:
    """Start a host's server by its command. Raises HostError if it does not start, or answers as another kind."""
    process = await launch(
        host.name, combination, log, lambda waited_s: patience.tell(Waiting(host.name, "loading", waited_s))
    )
    try:
        clients = open_host(host, process.url, run_uid, patience)
        try:
            server = make(host, clients) or await _connect_kind(host, process.url, clients, combination)
        except BaseException:
            await clients.close()
            raise
    except BaseException:
        process.stop()
        raise
    if isinstance(server, OpenAIServer):
        server.started_with = process.command
    sensors = Sensors(lambda: frozenset(one.pid for one in process.processes()))
    return OpenHost(server, clients, choose(server, ""), started=process, sensors=sensors)


async def _connect_kind(host: Host, url: str, clients: Clients, combination: Combination) -> Server:
    """Connect as the kind in the file. Raises HostError if the server shows that it is another."""
    server = await connect(host.name, url, clients, None)
    same = {server.kind, host.server} <= {"llama-server", "llama-router"}
    if host.server in (None, server.kind) or same:
        return server
    if OpenAIServer.kind in (server.kind, host.server):  # this kind shows nothing, or fits every server
        return await connect(host.name, url, clients, host.server)
    raise HostError(
        f"{combination.start.place}: {host.name} answers as {server.kind}, expected {host.server}; "
        "mend server or the command"
    )


async def require_direct(host: Host) -> None:
    """Raise HostError if only a proxy reaches the host: measured requests use none, as it would add its own time."""
    if not host.proxy:
        return
    url = httpx.URL(host.base_url)
    try:
        async with asyncio.timeout(5):
            _, writer = await asyncio.open_connection(url.host, url.port or DEFAULT_PORTS[url.scheme])
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno and error.errno > 0 else "no connection"
        raise HostError(
            f"{host.name}: proxy: measured requests go straight to {host.base_url}, never through a proxy, and do not "
            f"get there ({reason}); measure from a machine that reaches it"
        ) from error
    writer.close()


def open_host(host: Host, url: str, run_uid: str | None = None, patience: Patience | None = None) -> Clients:
    """Make clients that send the host's key and the run's name, if any. Raises HostError for a missing key."""
    headers = {"User-Agent": f"{PACKAGE}/{find_version()}"}
    if run_uid is not None:
        headers[RUN_HEADER] = run_uid
    if (key := host.require_key()) is not None:
        headers["Authorization"] = f"Bearer {key}"
    verify = host.require_verify()
    try:
        return open_clients(url, headers, verify=verify, proxies_from_env=host.proxy, patience=patience)
    except ssl.SSLError as error:
        raise HostError(f"{host.name}: verify: no certificate in {verify}; expected CA certificates in PEM") from error
