"""Room 2: what a llama-swap had ready before the first of our sessions came: the last one that leaves brings it back.

It is noted in a file beside the machine's lock, one for each server: so sessions that take turns know it of each
other, and the next one that comes knows it where one was killed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
import uuid
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from pytest_boobench.hosts.addresses import merge_loopback
from pytest_boobench.servers.llama_swap import LlamaSwap

_POLL_S = 0.05
_PATIENCE_S = 300.0
"""How long the end of a session waits for others that measure on the machine, another server of it too."""
_BELIEVED_S = 24 * 3600.0
"""The age at which a note of sessions that are gone says nothing any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What stands in the file."""

    host: str
    before: tuple[str, ...]
    """The models that were ready when the first of us came."""
    loaded: tuple[str, ...] = ()
    """Those that we have loaded since, or were about to."""
    sessions: tuple[str, ...] = ()
    """Who uses the host. Each of them that lives holds a lock of its own."""


class Restore:
    """One session's part in it, for one host. Whoever writes the note has the machine's ``lock``."""

    def __init__(self, server: LlamaSwap, lock: FileLock) -> None:
        self._server = server
        self._lock = lock
        name = hashlib.sha256(merge_loopback(server.url).encode()).hexdigest()[:32]
        self._path = Path(lock.lock_file).with_name(f"{name}.json")
        self._session = uuid.uuid4().hex
        self._life = FileLock(self._life_path(self._session))

    async def arrive(self) -> None:
        """Before our first cell: note what is ready, or take on what others of us have noted."""
        ready = await self._server.find_ready()
        note = self._read()
        living = self._find_living(note.sessions) if note else ()
        if note is None or not (living or self._believes(note, ready)):
            note = Note(host=self._server.url, before=tuple(ready))
        self._life.acquire(timeout=0)
        self._write(replace(note, sessions=(*living, self._session)))
        self._server.announce = self._add

    async def leave(self) -> None:
        """Bring back what was ready, unless others of us go on. HostError where the host does not answer."""
        if not await self._lock_machine():
            self._life.release()
            return
        try:
            self._life.release()
            await self._settle()
        finally:
            self._lock.release()

    async def _lock_machine(self) -> bool:
        """False where others of us are at work on this server, and will bring it back, or on the machine for long: then
        the next session of ours finds the note."""
        end = time.monotonic() + _PATIENCE_S
        while True:
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                note = self._read()
                others = set(note.sessions if note else ()) - {self._session}
                if note is None or self._find_living(others) or time.monotonic() >= end:
                    return False
                await asyncio.sleep(_POLL_S)
            else:
                return True

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
        """Whether what is there now is what sessions that are gone have left behind."""
        age_s = time.time() - self._path.stat().st_mtime
        return bool(ready) and set(ready) <= set(note.loaded) and age_s < _BELIEVED_S

    def _find_living(self, sessions: Collection[str]) -> tuple[str, ...]:
        """Those whose process lives: the kernel frees the lock of one that does not, however it ended."""
        return tuple(session for session in sessions if self._lives(session))

    def _lives(self, session: str) -> bool:
        path = self._life_path(session)
        try:
            with FileLock(path, timeout=0):
                pass
        except Timeout:
            return True
        path.unlink(missing_ok=True)
        return False

    def _life_path(self, session: str) -> Path:
        return self._path.with_suffix(f".{session}.lock")

    def _read(self) -> Note | None:
        """None where there is none, or none that makes sense."""
        try:
            plain = json.loads(self._path.read_text(encoding="utf-8"))
            lists = {name: tuple(plain[name]) for name in ("before", "loaded", "sessions")}
            return Note(host=plain["host"], **lists)
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def _write(self, note: Note) -> None:
        """In one step, since we may be killed in the middle."""
        fresh = self._path.with_suffix(".fresh")
        fresh.write_text(json.dumps(asdict(note), indent=1), encoding="utf-8")
        fresh.replace(self._path)
