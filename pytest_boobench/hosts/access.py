"""Leave to use a host now. One machine never serves two of our cells at once, whatever process they come from."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import platformdirs
from filelock import FileLock, Timeout

from pytest_boobench import PACKAGE
from pytest_boobench.errors import HostError
from pytest_boobench.facts import Sighting
from pytest_boobench.hosts.inventory import Host, Inventory
from pytest_boobench.hosts.open_host import MakeServer, OpenHost, make_none, open_connection
from pytest_boobench.hosts.watcher import Watcher
from pytest_boobench.servers.clients import Patience, Server, Waiting
from pytest_boobench.units import count

_LOOK_EVERY_S = 0.25
_SHOWN = 3
"""Foreign requests that a refusal names; the rest are counted."""
_BLIND_KIND = "this kind of server cannot tell whether others use it"

Look = Callable[[], Awaitable[Sighting]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """How to behave on a host that others may use."""

    quiet_s: float = 2.0
    """How long nothing foreign must be in flight, nor come and go, before the first cell."""
    wait_s: float = 0.0
    """How long to wait for that before refusing."""
    takeover: bool = False
    """Measure whoever else is there."""


async def require_quiet(host: str, look: Look, manners: Manners, *, quiet_s: float, grace_s: float = 0.0) -> Sighting:
    """Return once the host was quiet for ``quiet_s``; HostError with who is there and the ways on, when it won't be.

    Nobody is refused before ``grace_s`` is over. With takeover the host is looked at once, and nothing is asked of it.
    """
    sighting = await look()
    if manners.takeover:
        return sighting
    began = quiet_since = time.monotonic()
    passed: Sequence[str] = ()
    while True:
        now = time.monotonic()
        if not sighting.known:
            raise HostError(
                f"{host}: {sighting.why or _BLIND_KIND}; if nobody does, say 'shared: false' in the hosts file, or "
                "measure all the same with --boobench-takeover"
            )
        if sighting.in_flight or passed:
            quiet_since = now
            if now - began >= max(manners.wait_s, grace_s):
                raise HostError(_refusal(host, sighting, passed, manners))
        elif now - quiet_since >= quiet_s:
            return sighting
        await asyncio.sleep(_LOOK_EVERY_S)
        before, sighting = sighting, await look()
        passed = _find_passed(before, sighting)


def _find_passed(before: Sighting, now: Sighting) -> Sequence[str]:
    """What ended between two looks."""
    return list((Counter(now.recent) - Counter(before.recent)).elements())


def _refusal(host: str, sighting: Sighting, passed: Sequence[str], manners: Manners) -> str:
    """Who is there, what was there before, and the two ways on."""
    waited = f" after waiting {manners.wait_s:g} s" if manners.wait_s else ""
    requests = list(map(str, sighting.in_flight))
    if requests:
        lines = [f"{host}: busy{waited}: {count(len(requests), 'foreign request')} in flight: {_name(requests)}"]
        if sighting.recent:
            lines.append(f"ended in the last minute: {'; '.join(sighting.recent[:_SHOWN])}")
    else:
        lines = [f"{host}: not quiet{waited}: a request came and went while we looked: {_name(passed)}"]
    lines.append("wait for it with --boobench-wait 10m, or measure all the same with --boobench-takeover")
    return "\n".join(lines)


def _name(requests: Sequence[str]) -> str:
    more = len(requests) - _SHOWN
    return f"{'; '.join(requests[:_SHOWN])}{f'; and {more} more' if more > 0 else ''}"


_POLL_S = 0.05
_ALIVE_EVERY_S = 0.5
_ENDING_S = 2.0
"""How long a server may go on with a request of ours that broke off, before it is taken for somebody else's."""


@dataclass(slots=True)
class Hold:
    """A hold on locks of this process, given back once; two hosts of one process may share a lock."""

    locks: Sequence[FileLock]
    held: bool = True

    def release(self) -> None:
        """Give it back; a second time does nothing."""
        if self.held:
            self.held = False
            for lock in self.locks:
                lock.release()


@dataclass(frozen=True, slots=True)
class Grant:
    """Leave to use a host; `release` gives it back and may be called more than once."""

    host: str
    server: Server
    purpose: str
    lock: Hold
    watcher: Callable[[str], Watcher]
    """Model -> who watches the host for foreign requests while that model is measured."""
    takeover: bool = False
    """Whether it was taken without asking whether others use the host."""
    local: bool = False
    """Whether the host is this machine."""

    def release(self) -> None:
        """Let the next one in."""
        self.lock.release()


class Hosts:
    """The hosts of one measuring process: connects on first use, starts the embedded ones, ends what it started.

    ``reference`` is the host of a duet that is used beside each of the others.
    """

    def __init__(
        self,
        inventory: Inventory,
        run_uid: str,
        manners: Manners | None = None,
        make: MakeServer = make_none,
        reference: str | None = None,
        *,
        patience: Patience | None = None,
    ) -> None:
        self._inventory = inventory
        self._run_uid = run_uid
        self._manners = manners or Manners()
        self._make = make
        self._reference = inventory.get(reference) if reference is not None else None
        self._patience = patience or Patience()
        self._gone: set[str] = set()
        """Hosts that were waited for in vain: they are not a second time."""
        self._connections: dict[str, OpenHost] = {}
        self._locks: dict[str, FileLock] = {}

    async def __aenter__(self) -> Hosts:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def grant(self, name: str, purpose: str) -> Grant:
        """Wait until no other process of ours uses the machine, then connect. HostError where it is dead or unknown."""
        host = self._inventory.get(name)
        hold = await self._hold(host)
        try:
            connection = await self._connect(host, self._locks[host.exclusive])
            await self._require_alive(name, connection)
            takeover = await self._require_quiet(host, connection)
            await connection.begin_use()
        except BaseException:
            hold.release()
            raise
        return Grant(name, connection.server, purpose, hold, connection.watch, takeover, host.local)

    async def close(self) -> None:
        """End what was started and close what was opened."""
        while self._connections:
            _, connection = self._connections.popitem()
            await connection.close()

    async def _hold(self, host: Host) -> Hold:
        """One lock for each machine, so that the two hosts of a duet may be on one.

        Both are locked with either, always in one order: two duets with crossed hosts would wait for each other.
        """
        wanted = {one.exclusive: one for one in (host, self._reference or host)}
        locks: list[FileLock] = []
        for exclusive in sorted(wanted):
            if exclusive not in self._locks:
                self._locks[exclusive] = FileLock(_find_folder() / wanted[exclusive].lock_name)
            await _acquire(self._locks[exclusive])
            locks.append(self._locks[exclusive])
        return Hold(locks)

    async def _connect(self, host: Host, lock: FileLock) -> OpenHost:
        known = self._connections.get(host.name)
        if known is not None and known.usable():
            return known
        if known is not None:
            await self._connections.pop(host.name).close()
        patience = replace(self._patience, refused_s=0.0) if host.name in self._gone else self._patience
        self._gone.add(host.name)
        self._connections[host.name] = await open_connection(host, self._run_uid, lock, self._make, patience)
        self._gone.discard(host.name)
        return self._connections[host.name]

    async def _require_alive(self, name: str, connection: OpenHost) -> None:
        """HostError where nothing answers, once it was waited for."""
        patience = connection.clients.patience
        began = time.monotonic()
        while not await connection.server.alive():
            waited_s = time.monotonic() - began
            if waited_s >= patience.refused_s or name in self._gone:
                self._gone.add(name)
                raise HostError(f"{name}: no answer from {connection.server.url}; is the server running?")
            patience.tell(Waiting(name, "refused", waited_s))
            await asyncio.sleep(min(_ALIVE_EVERY_S, patience.refused_s - waited_s))
        self._gone.discard(name)

    async def _require_quiet(self, host: Host, connection: OpenHost) -> bool:
        """HostError where others use it; whether it was taken over. What is ours alone is not asked."""
        if host.embedded is not None or host.shared is False:
            return False
        look, first = connection.watcher.look, not connection.used
        if first:
            server = connection.server
            connection.watch(next(iter(await server.ready_models() or await server.models()), ""))
        await require_quiet(
            host.name,
            look,
            self._manners,
            quiet_s=self._manners.quiet_s if first else 0.0,
            grace_s=0.0 if first else _ENDING_S,
        )
        return self._manners.takeover


async def _acquire(lock: FileLock) -> None:
    """Wait without blocking the loop; the kernel frees the lock when its holder dies."""
    while True:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            await asyncio.sleep(_POLL_S)
        else:
            return


def _find_folder() -> Path:
    """Of the machine's locks, made where it is missing."""
    folder = platformdirs.user_cache_path(PACKAGE) / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
