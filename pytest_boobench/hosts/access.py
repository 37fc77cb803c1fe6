"""Leave to use a host now. One host never serves two of our cells at once, whatever process they come from."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import TracebackType

import platformdirs
from filelock import FileLock, Timeout

from pytest_boobench.errors import HostError
from pytest_boobench.hosts import embedded
from pytest_boobench.hosts.inventory import Host, Inventory
from pytest_boobench.servers.clients import Clients, open_clients
from pytest_boobench.servers.connect import connect
from pytest_boobench.servers.interface import Server

RUN_HEADER = "X-Boobench-Run"
"""Marks our own requests, so that nobody takes them for foreign ones."""
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Grant:
    """Leave to use a host; `release` gives it back and may be called more than once."""

    host: str
    server: Server
    purpose: str
    lock: FileLock

    def release(self) -> None:
        """Let the next one in."""
        self.lock.release(force=True)


@dataclass(slots=True)
class _Connection:
    server: Server
    clients: Clients
    process: embedded.EmbeddedServer | None = None

    def usable(self) -> bool:
        return self.process is None or self.process.alive()

    async def close(self) -> None:
        await self.clients.close()
        if self.process is not None:
            self.process.stop()


class Hosts:
    """The hosts of one measuring process: connects on first use, starts the embedded ones, ends what it started."""

    def __init__(self, inventory: Inventory, run_uid: str) -> None:
        self._inventory = inventory
        self._run_uid = run_uid
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
        except BaseException:
            lock.release()
            raise
        return Grant(name, connection.server, purpose, lock)

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
        clients = open_clients(url, self._headers(host), verify=host.require_verify(), proxies_from_env=host.proxy)
        try:
            server = await connect(host.name, url, clients, host.server)
        except BaseException:
            await clients.close()
            if process is not None:
                process.stop()
            raise
        self._connections[host.name] = _Connection(server, clients, process)
        return self._connections[host.name]

    def _headers(self, host: Host) -> Mapping[str, str]:
        headers = {"User-Agent": f"pytest-boobench/{version('pytest-boobench')}", RUN_HEADER: self._run_uid}
        key = host.require_key()
        return headers if key is None else {**headers, "Authorization": f"Bearer {key}"}


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
    """By the server's address, so that two names of one server share a lock; the embedded ones share the machine."""
    what = host.base_url if host.embedded is None else "embedded"
    folder = platformdirs.user_cache_path("pytest-boobench") / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{hashlib.sha256(what.encode()).hexdigest()[:32]}.lock"
