"""Room 5: who has an SQLite file locked. Linux tells; elsewhere nobody does, and the answer is empty."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc")


def find_holders(path: Path) -> list[str]:
    """The processes that hold a lock to write on a database, as in ``pytest (process 4711)``."""
    try:
        lines = (_PROC / "locks").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
    # With WAL the lock is on the index of the log, without it on the database itself.
    files = {place for file in (path, path.with_name(f"{path.name}-shm")) for place in _place(file)}
    holders = {int(pid) for pid, kind, place in map(_read, lines) if kind == "WRITE" and place in files}
    return [f"{_name(pid)} (process {pid})" for pid in sorted(holders)]


def _place(file: Path) -> Iterator[str]:
    """Device and inode as ``/proc/locks`` writes them; nothing for a file that is not there."""
    try:
        found = file.stat()
    except OSError:
        return
    yield f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"


def _read(line: str) -> tuple[str, str, str]:
    """Process, kind and place of a lock; blanks for the line of one that is waited for (``->``)."""
    words = line.split()
    if len(words) < 6 or words[1] == "->":
        return "0", "", ""
    return words[4], words[3], words[5]


def _name(pid: int) -> str:
    """The program's short name: a command line may hold secrets."""
    try:
        return (_PROC / str(pid) / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "a program"
