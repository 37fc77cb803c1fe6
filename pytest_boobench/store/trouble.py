"""Room 5: the database's errors in words a user can act on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from pytest_boobench.errors import StoreError
from pytest_boobench.store.holders import find_holders

ELSEWHERE = "or name another store with --boobench-store"

_SQLITE_FINDINGS = {
    "SQLITE_CANTOPEN": f"cannot be opened, give this user a file and folder to read and write {ELSEWHERE}",
    "SQLITE_CORRUPT": f"is damaged, put a copy of it back, move it away {ELSEWHERE}",
    "SQLITE_FULL": f"the disk is full, free some space {ELSEWHERE}",
    "SQLITE_IOERR": f"the disk fails to read or write, check its space and health {ELSEWHERE}",
    "SQLITE_NOTADB": f"is not an SQLite database, move it away {ELSEWHERE}",
    "SQLITE_READONLY": f"is read-only, let this user write to the file and its folder {ELSEWHERE}",
}
_POSTGRESQL_FINDINGS = {
    "25006": f"is read-only, name its primary server {ELSEWHERE}",
    "42501": f"this user may not do that, grant it to use the schema and its tables {ELSEWHERE}",
    "53100": f"the server's disk is full, free some space there {ELSEWHERE}",
    "53300": f"the server takes no more connections, raise its max_connections {ELSEWHERE}",
}
"""By SQLSTATE."""
_LOST = f"the server ended the connection, see its log {ELSEWHERE}"


def sqlite_error_name(error: BaseException | None) -> str:
    """SQLite's own name of an error, as in ``SQLITE_IOERR_WRITE``; empty for other databases' errors."""
    return str(getattr(error, "sqlite_errorname", ""))


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Turns any SQLAlchemyError inside into a StoreError that begins with ``where``: no SQL, no values, one line."""
    try:
        yield
    except SQLAlchemyError as error:
        raise StoreError(f"{where}: {_finding(where, error)}") from error


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
