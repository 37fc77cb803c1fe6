"""Room 5: the database's errors in words a user can act on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import SQLAlchemyError

from pytest_boobench.errors import StoreError

ELSEWHERE = "or name another store with --boobench-store"

_SQLITE_FINDINGS = {
    "SQLITE_BUSY": f"is locked by another process, end that process {ELSEWHERE}",
    "SQLITE_CANTOPEN": f"cannot be opened, give this user a file and folder to read and write {ELSEWHERE}",
    "SQLITE_CORRUPT": f"is damaged, put a copy of it back, move it away {ELSEWHERE}",
    "SQLITE_FULL": f"the disk is full, free some space {ELSEWHERE}",
    "SQLITE_IOERR": f"the disk fails to read or write, check its space and health {ELSEWHERE}",
    "SQLITE_NOTADB": f"is not an SQLite database, move it away {ELSEWHERE}",
    "SQLITE_READONLY": f"is read-only, let this user write to the file and its folder {ELSEWHERE}",
}


def sqlite_error_name(error: BaseException | None) -> str:
    """SQLite's own name of an error, as in ``SQLITE_IOERR_WRITE``; empty for other databases' errors."""
    return str(getattr(error, "sqlite_errorname", ""))


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Turns any SQLAlchemyError inside into a StoreError that begins with ``where``: no SQL, no values, one line."""
    try:
        yield
    except SQLAlchemyError as error:
        raise StoreError(f"{where}: {_finding(error)}") from error


def _finding(error: SQLAlchemyError) -> str:
    cause = getattr(error, "orig", None) or error
    name = sqlite_error_name(cause)
    for known, finding in _SQLITE_FINDINGS.items():
        if name.startswith(known):
            return finding
    return str(cause).strip().partition("\n")[0] or type(cause).__name__
