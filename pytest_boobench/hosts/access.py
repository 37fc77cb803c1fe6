"""Room 2: permission to use a host. A machine never serves two of our cells at once, from whatever process."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from pytest_boobench.environment import find_cache, make_folder
from pytest_boobench.errors import HostError
from pytest_boobench.hosts import living
from pytest_boobench.hosts.inventory import Host, Inventory
from pytest_boobench.hosts.launcher import StartedServer
from pytest_boobench.hosts.open_host import MakeServer, OpenHost, make_none, open_connection, open_started
from pytest_boobench.hosts.quiet import Manners, require_quiet
from pytest_boobench.hosts.sensors import Sensors
from pytest_boobench.hosts.start_fields import Combination
from pytest_boobench.hosts.watcher import Watcher
from pytest_boobench.servers.clients import Patience, Server, Waiting

_NOT_IN_A_FILE = re.compile(r"[^\w.-]+")
_LOCK_EVERY_S = 0.05
_ALIVE_EVERY_S = 0.5
_ENDING_S = 2.0
"""How long a server may work on a cancelled request of ours before the request counts as foreign."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a cell needs from a host that we start."""

    model: str
    launch: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Grant:
    """Permission to use a host. `release` gives it back and is idempotent."""

    host: str
    server: Server
    purpose: str
    lock: ExitStack
    """Releases the locks of the machines when it is closed."""
    watcher: Callable[[str], Watcher]
    """Model -> the watcher for foreign requests while that model is measured."""
    takeover: bool = False
    """True if nobody checked whether others use the host."""
    local: bool = False
    """Whether the host is this machine."""
    sensors: Sensors | None = None
    """The sensors of this machine, if the host is on it."""
    started: StartedServer | None = None
    """The server, if we started it by a command of the hosts file."""
    listed_as: str | None = None
    """The server's own name of the model, if it differs and we started the server for this model alone."""
    fresh: Callable[[], Awaitable[Grant]] | None = None
    """Restarts its server. Returns a grant of the same host and locks; the same grant if its server has served nothing
    yet. None if we do not start the server."""
    end: Callable[[], Awaitable[None]] | None = None
    """Stops its server until it is needed again. None if we do not start the server."""

    def release(self) -> None:
        """Let the next session use the host."""
        self.lock.close()


@dataclass(frozen=True, slots=True)
class _Terms:
    """What stays the same when a host's server is restarted."""

    purpose: str
    locks: ExitStack
    takeover: bool
    combination: Combination | None
    listed_as: str | None


@dataclass(eq=False)
class Hosts:
    """The hosts of one measuring process. Connects at first use, starts embedded hosts, and stops what it started."""

    inventory: Inventory
    run_uid: str
    manners: Manners = field(default_factory=Manners)
    make: MakeServer = make_none
    reference: str | None = None
    """The reference host of a duet, used beside each of the others."""
    together: bool = False
    """Whether both servers may run at once if we start both."""
    patience: Patience = field(default_factory=Patience)
    logs: Path = Path(".boobench", "logs")
    """Folder for the logs of the servers that it starts; created with the first log."""
    _gone: set[str] = field(default_factory=set, init=False)
    """Hosts that did not answer in time: no second cell waits for them."""
    _connections: dict[str, OpenHost] = field(default_factory=dict, init=False)
    _locks: dict[str, FileLock] = field(default_factory=dict, init=False)
    _not_started: dict[tuple[str, Hashable], str] = field(default_factory=dict, init=False)
    """Host and combination -> why it did not start: no second cell waits for it."""
    _starts: int = 0

    @cached_property
    def _start_lock(self) -> FileLock:
        """The lock for all servers on this machine that a session starts by a command."""
        return FileLock(_find_folder() / "started.lock")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def grant(self, name: str, purpose: str, wanted: Wanted | None = None) -> Grant:
        """Wait until no other process of ours uses the machine, then connect.

        ``wanted`` is what to start a host with, if we start it. Raises HostError for a dead or unknown host.
        """
        host = self.inventory.get(name)
        combination = _combine(host, wanted)
        await self._reserve_start(host)
        with await self._lock_machines(host) as locks:
            connection = await self._connect(host, self._locks[host.exclusive], combination)
            await self._require_alive(name, connection)
            takeover = await self._require_quiet(host, connection)
            connection.served = connection.used
            await connection.begin_use()
            listed_as = await _find_listed_name(connection, wanted)
            held = locks.pop_all()
        return self._make_grant(host, connection, _Terms(purpose, held, takeover, combination, listed_as))

    def _make_grant(self, host: Host, connection: OpenHost, terms: _Terms) -> Grant:
        return Grant(
            host=host.name,
            server=connection.server,
            purpose=terms.purpose,
            lock=terms.locks,
            watcher=connection.watch,
            takeover=terms.takeover,
            local=host.here,
            sensors=connection.sensors,
            started=connection.started,
            listed_as=terms.listed_as,
            fresh=partial(self._start_anew, host, terms) if host.ours else None,
            end=partial(self._end, host, terms) if host.ours else None,
        )

    async def _start_anew(self, host: Host, terms: _Terms) -> Grant:
        known = self._connections.get(host.name)
        if known is not None and known.served:
            await self._end(host, terms)
        connection = await self._connect(host, self._locks[host.exclusive], terms.combination)
        await connection.begin_use()
        connection.served = True
        return self._make_grant(host, connection, terms)

    async def _end(self, host: Host, terms: _Terms) -> None:
        known = self._connections.get(host.name)
        if known is not None and known.runs(terms.combination):
            await self._connections.pop(host.name).close()

    async def close(self) -> None:
        """Stop what was started and close what was opened."""
        while self._connections:
            _, connection = self._connections.popitem()
            await connection.close()
        self._start_lock.release()

    async def _lock_machines(self, host: Host) -> ExitStack:
        """Take one lock per machine; the two hosts of a duet may be on one machine.

        Locks both hosts of a duet, always in the same order: otherwise duets with swapped hosts could deadlock.
        """
        pair = (host, host if self.reference is None else self.inventory.get(self.reference))
        wanted = {one.exclusive: one for one in pair}
        with ExitStack() as locks:
            for exclusive in sorted(wanted):
                if exclusive not in self._locks:
                    self._locks[exclusive] = FileLock(_find_folder() / wanted[exclusive].lock_name)
                await _acquire(self._locks[exclusive])
                locks.callback(self._locks[exclusive].release)
            return locks.pop_all()

    async def _reserve_start(self, host: Host) -> None:
        """Wait until no other session on this machine runs a server that it started.
        Call it before locking the machine itself: others hold that lock only for a cell."""
        if host.start is not None:
            await _acquire(self._start_lock)

    async def _connect(self, host: Host, lock: FileLock, combination: Combination | None) -> OpenHost:
        known = self._connections.get(host.name)
        if known is not None and known.usable() and known.runs(combination):
            return known
        if known is not None:
            await self._connections.pop(host.name).close()
        if combination is not None:
            return await self._start(host, combination)
        patience = replace(self.patience, refused_s=0.0) if host.name in self._gone else self.patience
        self._gone.add(host.name)
        self._connections[host.name] = await open_connection(host, self.run_uid, lock, self.make, patience)
        self._gone.discard(host.name)
        return self._connections[host.name]

    async def _start(self, host: Host, combination: Combination) -> OpenHost:
        """Start a host's server. First stop any other that we started: both may not fit into memory."""
        for name in [name for name, other in self._connections.items() if other.started is not None]:
            if not (self.together and self.reference in (name, host.name)):
                await self._connections.pop(name).close()
        failed = (host.name, combination.key)
        if failed in self._not_started:
            raise HostError(self._not_started[failed])
        self._starts += 1
        log = make_folder(self.logs) / f"{_NOT_IN_A_FILE.sub('_', host.name)}-{os.getpid()}-{self._starts}.log"
        try:
            opened = await open_started(host, combination, log, self.run_uid, self.make, self.patience)
        except HostError as error:
            first = str(error).partition("\n")[0]
            self._not_started[failed] = f"{first.rstrip(':')}; not tried again"
            raise
        self._connections[host.name] = opened
        return opened

    async def _require_alive(self, name: str, connection: OpenHost) -> None:
        """Wait for an answer, up to the timeout; raise HostError if none comes."""
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
        """Return whether the host was taken over. Raises HostError if others use it. Does not ask a host of our own."""
        if host.ours or host.shared is False:
            return False
        first = not connection.used
        if first:
            server = connection.server
            connection.watch(next(iter(await server.ready_models() or await server.models()), ""))
        await require_quiet(
            host.name,
            connection.watcher.look,
            self.manners,
            quiet_s=self.manners.quiet_s if first else 0.0,
            grace_s=0.0 if first else _ENDING_S,
        )
        return self.manners.takeover


def _combine(host: Host, wanted: Wanted | None) -> Combination | None:
    """What to start a host with; None for a host that we do not start."""
    if host.start is None:
        return None
    if wanted is None:
        raise HostError(f"{host.name}: it is started for a cell; grant it with the cell's model and launch")
    return host.start.combine(wanted.model, wanted.launch)


async def _find_listed_name(connection: OpenHost, wanted: Wanted | None) -> str | None:
    """The server's name of the model, if we started it for that model alone and it lists another name; else None."""
    if connection.started is None or wanted is None:
        return None
    listed = await connection.server.models()
    return listed[0] if len(listed) == 1 and listed[0] != wanted.model else None


async def _acquire(lock: FileLock) -> None:
    """Wait without blocking the event loop. The kernel releases the lock when its holder dies.

    Raises HostError where there can be no lock: two sessions could measure on one machine at once.
    """
    while True:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            await asyncio.sleep(_LOCK_EVERY_S)
        except OSError as error:
            raise living.explain_no_lock(Path(lock.lock_file), error) from error
        else:
            return


def is_locked(host: Host) -> bool:
    """Whether a session measures on the host's machine now; it is any but one in this process that holds the lock."""
    try:
        lock = FileLock(_find_folder() / host.lock_name)
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except (HostError, OSError):  # then no session can measure
        return False
    lock.release()
    return False


def hold_session(session: str) -> FileLock:
    """Take the lock that tells other sessions on this machine that this one runs; `living.give_back` ends it.

    Raises HostError where there can be no lock.
    """
    return living.hold(_find_session(session))


def has_died_here(session: str) -> bool:
    """Whether a session ran on this machine and was killed. False for one that runs, and for one of elsewhere."""
    if not session.isalnum():  # from a store that others write to: it becomes a file's name
        return False
    path = _find_session(session)
    try:
        return path.exists() and not living.is_held(path)
    except OSError:
        return False


def _find_session(session: str) -> Path:
    return _find_folder() / f"session-{session}.lock"


def _find_folder() -> Path:
    """Return the folder of the machine's locks; create it if it is missing. Raises HostError if it cannot be made."""
    folder = find_cache() / "locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise living.explain_no_lock(folder / "any", error) from error
    return folder
