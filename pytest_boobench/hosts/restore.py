"""Room 2: load the models again that a llama-swap had ready before our first session. The last session does it.

A file next to the machine's lock, one per server, notes these models. So sessions that take turns share it, and if a
session was killed, the next one finds it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
import uuid
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from pytest_boobench.hosts.addresses import merge_loopback
from pytest_boobench.hosts.living import is_held
from pytest_boobench.servers.llama_swap import LlamaSwap

_POLL_S = 0.05
_PATIENCE_S = 300.0
"""How long the end of a session waits for others that measure on the machine, also on another server of it."""
_BELIEVED_S = 24 * 3600.0
"""Older notes of ended sessions are ignored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """The content of the file."""

    host: str
    before: tuple[str, ...]
    """The models that were ready before our first session."""
    loaded: tuple[str, ...] = ()
    """The models that we have loaded since, or were about to load."""
    sessions: tuple[str, ...] = ()
    """Our sessions on the host. Each holds a lock of its own while it runs."""


class Restore:
    """One session's part, for one host. A session writes the note only while it holds the machine's ``lock``."""

    def __init__(self, server: LlamaSwap, lock: FileLock) -> None:
        self._server = server
        self._lock = lock
        name = hashlib.sha256(merge_loopback(server.url).encode()).hexdigest()[:32]
        self._path = Path(lock.lock_file).with_name(f"{name}.json")
        self._session = uuid.uuid4().hex
        self._life = FileLock(self._life_path(self._session))

    async def arrive(self) -> None:
        """Before the first cell: note what is ready, unless an earlier session of ours has noted it."""
        ready = await self._server.find_ready()
        note = self._read()
        living = self._find_living(note.sessions) if note else ()
        if note is None or not (living or self._believes(note, ready)):
            note = Note(host=self._server.url, before=tuple(ready))
        self._life.acquire(timeout=0)
        self._write(replace(note, sessions=(*living, self._session)))
        self._server.announce = self._add

    async def leave(self) -> None:
        """Load again what was ready, unless other sessions continue. Raises HostError if the host does not answer."""
        locked = await self._lock_machine()
        try:
            self._life.release()
            if locked:
                await self._settle()
        finally:
            if locked:
                self._lock.release()

    async def _lock_machine(self) -> bool:
        """Return False if other sessions of ours use this server and will restore it, or if they use the machine for
        long: then the next session finds the note."""
        end = time.monotonic() + _PATIENCE_S
        while True:
            with suppress(Timeout):
                self._lock.acquire(timeout=0)
                return True
            note = self._read()
            others = set(note.sessions if note else ()) - {self._session}
            if note is None or self._find_living(others) or time.monotonic() >= end:
                return False
            await asyncio.sleep(_POLL_S)

    async def _settle(self) -> None:
        note = self._read()
        if note is None:
            return
        living = self._find_living(note.sessions)
        if living:
            self._write(replace(note, sessions=living))
            return
        self._server.loaded.update(note.loaded)
        await self._server.restore(note.before)
        self._path.unlink(missing_ok=True)

    def _add(self, model: str) -> None:
        note = self._read()
        if note is not None:
            self._write(replace(note, loaded=tuple(dict.fromkeys((*note.loaded, model)))))

    def _believes(self, note: Note, ready: Collection[str]) -> bool:
        """Whether the models that are ready now are left over from ended sessions."""
        age_s = time.time() - self._path.stat().st_mtime
        return bool(ready) and set(ready) <= set(note.loaded) and age_s < _BELIEVED_S

    def _find_living(self, sessions: Collection[str]) -> tuple[str, ...]:
        """The sessions whose process runs: the kernel releases the lock of an ended one."""
        return tuple(filter(self._lives, sessions))

    def _lives(self, session: str) -> bool:
        return is_held(self._life_path(session))

    def _life_path(self, session: str) -> Path:
        return self._path.with_suffix(f".{session}.lock")

    def _read(self) -> Note | None:
        """Return None if there is no valid note."""
        try:
            plain = json.loads(self._path.read_text(encoding="utf-8"))
            lists = {name: tuple(plain[name]) for name in ("before", "loaded", "sessions")}
            return Note(host=plain["host"], **lists)
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def _write(self, note: Note) -> None:
        """Replace the file atomically, because the process may be killed at any time."""
        fresh = self._path.with_suffix(".fresh")
        fresh.write_text(json.dumps(asdict(note), indent=1), encoding="utf-8")
        fresh.replace(self._path)
