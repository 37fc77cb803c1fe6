"""Room 5: database errors in words that a user can act on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    InterfaceError,
    ProgrammingError,
    SQLAlchemyError,
    StatementError,
)

from pytest_boobench.errors import StoreError, UnstorableError

_PROC = Path("/proc")


def find_holders(path: Path) -> list[str]:
    """Return the processes with a write lock on a database file, as in ``pytest (process 4711)``."""
    try:
        lines = (_PROC / "locks").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
    # With WAL, the lock is on the ``-shm`` file; without it, on the database file.
    files = {place for file in (path, path.with_name(f"{path.name}-shm")) for place in _place(file)}
    holders = {int(pid) for pid, kind, place in map(_read, lines) if kind == "WRITE" and place in files}
    return [f"{_name(pid)} (process {pid})" for pid in sorted(holders)]


def _place(file: Path) -> Iterator[str]:
    """Device and inode as ``/proc/locks`` writes them; nothing if the file does not exist."""
    try:
        found = file.stat()
    except OSError:
        return
    yield f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"


def _read(line: str) -> tuple[str, str, str]:
    """Parse a lock's process id, kind and place; blanks for a lock that is only waited for (``->``)."""
    words = line.split()
    if len(words) < 6 or words[1] == "->":
        return "0", "", ""
    return words[4], words[3], words[5]


def _name(pid: int) -> str:
    """The program's short name only: a command line may hold secrets."""
    try:
        return (_PROC / str(pid) / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "a program"


ELSEWHERE = "or name another store with --boobench-store"

NO_SQLITE = f"is not an SQLite database, move it away {ELSEWHERE}"

DISK_FULL = f"the disk is full, free some space {ELSEWHERE}"
NO_LOCKS = f"its file system has no working locks, put the store on a local disk {ELSEWHERE}"

_SQLITE_FINDINGS = {
    "SQLITE_PROTOCOL": NO_LOCKS,
    **{f"SQLITE_IOERR_{name}": NO_LOCKS for name in ("LOCK", "RDLOCK", "UNLOCK", "CHECKRESERVEDLOCK", "SHMLOCK")},
    "SQLITE_CANTOPEN": f"cannot be opened, give this user a file and folder to read and write {ELSEWHERE}",
    "SQLITE_CORRUPT": f"is damaged, put a copy of it back, move it away {ELSEWHERE}",
    "SQLITE_FULL": DISK_FULL,
    "SQLITE_IOERR": f"the disk fails to read or write, check its space and health {ELSEWHERE}",
    "SQLITE_NOTADB": NO_SQLITE,
    "SQLITE_READONLY": f"is read-only, let this user write to the file and its folder {ELSEWHERE}",
}
_POSTGRESQL_FINDINGS = {
    "25006": f"is read-only, name its primary server {ELSEWHERE}",
    "42501": f"this user may not do that, grant it to use the schema and its tables {ELSEWHERE}",
    "53100": f"the server's disk is full, free some space there {ELSEWHERE}",
    "53300": f"the server takes no more connections, raise its max_connections {ELSEWHERE}",
}
"""By SQLSTATE."""
_SQLITE_OF_CONTENT = ("SQLITE_CONSTRAINT_CHECK", "SQLITE_CONSTRAINT_NOTNULL", "SQLITE_MISMATCH", "SQLITE_TOOBIG")
_POSTGRESQL_OF_CONTENT = ("22", "23502", "23514")
"""Data exceptions, and the constraints that only the row itself can violate."""
_LOST = f"the server ended the connection, see its log {ELSEWHERE}"


def sqlite_error_name(error: BaseException | None) -> str:
    """Return SQLite's name of an error, as in ``SQLITE_IOERR_WRITE``; empty for other databases."""
    return str(getattr(error, "sqlite_errorname", ""))


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Convert SQLAlchemyError to a StoreError of one line that begins with ``where``, without SQL or values."""
    try:
        yield
    except SQLAlchemyError as error:
        kind = UnstorableError if _is_of_content(error) else StoreError
        raise kind(f"{where}: {_finding(where, error)}") from error


@contextmanager
def entering(where: str) -> Iterator[None]:
    """Do the same around inserts: wrong values raise an UnstorableError that says what is wrong."""
    try:
        with explained(where):
            yield
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise UnstorableError(f"{where}: cannot hold this: {type(error).__name__}: {error}") from error


def _is_of_content(error: SQLAlchemyError) -> bool:
    """Whether the database or its driver refused the values, so that trying again cannot help."""
    if isinstance(error, DataError) or (isinstance(error, StatementError) and not isinstance(error, DBAPIError)):
        return True
    cause = getattr(error, "orig", None)
    state = str(getattr(cause, "sqlstate", None) or "")
    if sqlite_error_name(cause).startswith(_SQLITE_OF_CONTENT) or state.startswith(_POSTGRESQL_OF_CONTENT):
        return True
    # when the driver refuses a value's type, the error has no code
    unsent = isinstance(error, ProgrammingError | InterfaceError) and not state and not sqlite_error_name(cause)
    return unsent and any(words in str(cause) for words in ("binding parameter", "cannot adapt"))


def _finding(where: str, error: SQLAlchemyError) -> str:
    cause = getattr(error, "orig", None) or error
    name, state = sqlite_error_name(cause), str(getattr(cause, "sqlstate", None) or "")
    if name.startswith("SQLITE_BUSY"):
        holders = " and ".join(find_holders(Path(where))) or "another process"
        return f"is locked by {holders}, end that process {ELSEWHERE}"
    for code, findings in ((name, _SQLITE_FINDINGS), (state, _POSTGRESQL_FINDINGS)):
        for known, finding in findings.items():
            if code.startswith(known):
                return finding
    if getattr(error, "connection_invalidated", False):
        return _LOST
    return str(cause).strip().partition("\n")[0] or type(cause).__name__
