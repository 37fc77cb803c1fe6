"""Leave to use a host now. One host never serves two of our cells at once, whatever process they come from."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import TracebackType

import platformdirs
from filelock import FileLock, Timeout

from pytest_boobench.errors import HostError
from pytest_boobench.hosts import embedded
from pytest_boobench.hosts.inventory import Host, Inventory
from pytest_boobench.hosts.quiet import Manners, require_quiet
from pytest_boobench.hosts.watching.choose import choose
from pytest_boobench.hosts.watching.interface import RUN_HEADER, Watcher
from pytest_boobench.servers.clients import Clients, open_clients
from pytest_boobench.servers.connect import connect
from pytest_boobench.servers.interface import Server

_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Grant:
    """Leave to use a host; `release` gives it back and may be called more than once."""

    host: str
    server: Server
    purpose: str
    lock: FileLock
    watcher: Callable[[str], Watcher]
    """Model -> who watches the host for foreign requests while that model is measured."""
    takeover: bool = False
    """Whether it was taken without asking whether others use the host."""

    def release(self) -> None:
        """Let the next one in."""
        self.lock.release(force=True)


@dataclass(slots=True)
class _Connection:
    server: Server
    clients: Clients
    process: embedded.EmbeddedServer | None = None
    ready_before: Sequence[str] | None = None
    """The models that were loaded when we came; None where none of them is to be loaded again."""
    known: bool = False
    """Whether a cell ran on it before."""
    watchers: dict[str, Watcher] = field(default_factory=dict)

    def watcher(self, model: str) -> Watcher:
        """One for each model, kept: it may hold a stream open from its first look on."""
        if model not in self.watchers:
            self.watchers[model] = choose(self.server, model)
        return self.watchers[model]

    def usable(self) -> bool:
        return self.process is None or self.process.alive()

    async def close(self) -> None:
        for watcher in self.watchers.values():
            await watcher.close()
        if self.ready_before is not None:
            with contextlib.suppress(HostError):  # a host that died has nothing to bring back
                await self.server.restore(self.ready_before)
        await self.clients.close()
        if self.process is not None:
            self.process.stop()


class Hosts:
    """The hosts of one measuring process: connects on first use, starts the embedded ones, ends what it started."""

    def __init__(self, inventory: Inventory, run_uid: str, manners: Manners | None = None) -> None:
        self._inventory = inventory
        self._run_uid = run_uid
        self._manners = manners or Manners()
        self._connections: dict[str, _Connection] = {}

    async def __aenter__(self) -> Hosts:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def grant(self, name: str, purpose: str) -> Grant:
        """Wait until no other process of ours uses the host, then connect. HostError where it is dead or unknown."""
        host = self._inventory.get(name)
        lock = FileLock(_lock_path(host))
        await _acquire(lock)
        try:
            connection = await self._connect(host)
            if not await connection.server.alive():
                raise HostError(f"{name}: no answer from {connection.server.url}; is the server running?")
            takeover = await self._require_quiet(host, connection)
        except BaseException:
            lock.release()
            raise
        return Grant(name, connection.server, purpose, lock, connection.watcher, takeover)

    async def close(self) -> None:
        """End what was started and close what was opened."""
        while self._connections:
            _, connection = self._connections.popitem()
            await connection.close()

    async def _connect(self, host: Host) -> _Connection:
        known = self._connections.get(host.name)
        if known is not None and known.usable():
            return known
        if known is not None:
            await self._connections.pop(host.name).close()
        process = embedded.start(host.embedded) if host.embedded else None
        url = process.url if process is not None else host.base_url
        clients = open_host(host, url, self._run_uid)
        try:
            server = await connect(host.name, url, clients, host.server)
        except BaseException:
            await clients.close()
            if process is not None:
                process.stop()
            raise
        self._connections[host.name] = _Connection(server, clients, process)
        return self._connections[host.name]

    async def _require_quiet(self, host: Host, connection: _Connection) -> bool:
        """HostError where others use it; whether it was taken over. What is ours alone is not asked."""
        first, connection.known = not connection.known, True
        ready = await connection.server.ready_models()
        if first and host.restore:
            connection.ready_before = ready
        if host.embedded is not None or host.shared is False:
            return False
        model = next(iter(ready or await connection.server.models()), "")
        quiet_s = self._manners.quiet_s if first else 0.0
        await require_quiet(host.name, connection.watcher(model).look, self._manners, quiet_s=quiet_s)
        return self._manners.takeover


def open_host(host: Host, url: str, run_uid: str | None = None) -> Clients:
    """Clients that carry the host's key, and the run's name where there is a run. HostError for a missing key."""
    headers = {"User-Agent": f"pytest-boobench/{version('pytest-boobench')}"}
    if run_uid is not None:
        headers[RUN_HEADER] = run_uid
    if (key := host.require_key()) is not None:
        headers["Authorization"] = f"Bearer {key}"
    return open_clients(url, headers, verify=host.require_verify(), proxies_from_env=host.proxy)


async def _acquire(lock: FileLock) -> None:
    """Wait without blocking the loop; the kernel frees the lock when its holder dies."""
    while True:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            await asyncio.sleep(_POLL_S)
        else:
            return


def _lock_path(host: Host) -> Path:
    folder = platformdirs.user_cache_path("pytest-boobench") / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{hashlib.sha256(host.exclusive.encode()).hexdigest()[:32]}.lock"
