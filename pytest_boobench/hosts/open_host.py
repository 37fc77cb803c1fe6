"""Room 2: one host, connected: its server, who watches it, what is to be ended and brought back afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import httpx
from filelock import FileLock

from pytest_boobench import PACKAGE, find_version
from pytest_boobench.errors import HostError
from pytest_boobench.facts import OwnTraffic, Sighting, Traffic
from pytest_boobench.hosts import embedded
from pytest_boobench.hosts.inventory import Host
from pytest_boobench.hosts.llama_watcher import SlotsWatcher
from pytest_boobench.hosts.restore import Restore
from pytest_boobench.hosts.swap_watcher import SwapWatcher
from pytest_boobench.hosts.vllm_watcher import VllmWatcher
from pytest_boobench.hosts.watcher import RUN_HEADER, OwnMarks, Watcher
from pytest_boobench.servers.clients import Clients, Patience, Server, open_clients, tell_nobody
from pytest_boobench.servers.connect import connect
from pytest_boobench.servers.llama_swap import LlamaSwap


class UnknownWatcher:
    """For servers that say nothing of other requests: Ollama, LM Studio, plain OpenAI-compatible ones."""

    def __init__(self, model: str) -> None:
        self.model = model

    async def look(self) -> Sighting:
        """Not known."""
        return Sighting(known=False)

    async def begin(self, marks: OwnMarks) -> None:
        """There is nothing to look at."""

    async def end(self, own: OwnTraffic) -> Traffic:  # noqa: ARG002  # the others need it
        """All blank."""
        return Traffic(notes=("this kind of server cannot tell of foreign requests",))

    async def close(self) -> None:
        """Nothing runs."""


WATCHERS: Mapping[str, Callable[[Clients, str], Watcher]] = {
    "embedded": SlotsWatcher,
    "llama-server": SlotsWatcher,
    "llama-router": SlotsWatcher,
    "llama-swap": SwapWatcher,
    "vllm": VllmWatcher,
}
"""Kind of server -> what watches it."""


def choose(server: Server, model: str) -> Watcher:
    """A watcher for a host, and for one of its models at first; it contacts nothing until it is asked."""
    watch = WATCHERS.get(server.kind)
    return watch(server.clients, model) if watch is not None else UnknownWatcher(model)


_PORTS = {"http": 80, "https": 443}
_REACH_S = 5.0


@dataclass(slots=True)
class OpenHost:
    """Open until `close`."""

    server: Server
    clients: Clients
    watcher: Watcher
    process: embedded.EmbeddedServer | None = None
    aftercare: Restore | None = None
    used: bool = False
    """Whether a cell was let in before."""

    def watch(self, model: str) -> Watcher:
        """The host's watcher, about to watch while a model is measured. There is one, since it knows what was ours."""
        self.watcher.model = model
        return self.watcher

    def usable(self) -> bool:
        """False where the server was ours and is dead."""
        return self.process is None or self.process.alive()

    async def begin_use(self) -> None:
        """Once, before the first cell."""
        if self.aftercare is not None and not self.used:
            await self.aftercare.arrive()
        self.used = True

    async def close(self) -> None:
        """Leave the host as it was. One that is not ready now is not waited for, but for what we load again."""
        self.clients.patience = replace(self.clients.patience, waits=False, refused_s=0.0, tell=tell_nobody)
        await self.watcher.close()
        if self.aftercare is not None and self.used:
            with contextlib.suppress(HostError):  # a host that died has nothing to bring back
                await self.aftercare.leave()
        await self.clients.close()
        if self.process is not None:
            self.process.stop()


MakeServer = Callable[[Host, Clients], Server | None]
"""Answers with what speaks to a host of a kind that is not built in; None for all others."""


def make_none(host: Host, clients: Clients) -> None:
    """The answer where every kind is built in."""


async def open_connection(
    host: Host, run_uid: str, lock: FileLock, make: MakeServer = make_none, patience: Patience | None = None
) -> OpenHost:
    """Start the server where it is ours to start, and find out what it is. HostError where nothing answers."""
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
    aftercare = Restore(server, lock) if isinstance(server, LlamaSwap) and host.restore else None
    return OpenHost(server, clients, choose(server, ""), process, aftercare)


async def require_direct(host: Host) -> None:
    """HostError where only a proxy reaches the host: measured requests take none, its time would be in theirs."""
    if not host.proxy:
        return
    url = httpx.URL(host.base_url)
    try:
        async with asyncio.timeout(_REACH_S):
            _, writer = await asyncio.open_connection(url.host, url.port or _PORTS[url.scheme])
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno and error.errno > 0 else "no connection"
        raise HostError(
            f"{host.name}: proxy: measured requests go straight to {host.base_url}, never through a proxy, and do not "
            f"get there ({reason}); measure from a machine that reaches it"
        ) from error
    writer.close()


def open_host(host: Host, url: str, run_uid: str | None = None, patience: Patience | None = None) -> Clients:
    """Clients that carry the host's key, and the run's name where there is a run. HostError for a missing key."""
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
