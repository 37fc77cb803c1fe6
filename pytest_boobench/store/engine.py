"""Room 5: a URL or path -> an engine on a store that exists, has today's schema and can be written."""

from __future__ import annotations

import errno
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from pytest_boobench.environment import FOLDER, make_file, make_folder
from pytest_boobench.errors import MissingExtra, StoreError, explain_os_error, means_no_locks
from pytest_boobench.store.database_errors import (
    DISK_FULL,
    ELSEWHERE,
    NO_LOCKS,
    NO_SQLITE,
    explained,
    sqlite_error_name,
)
from pytest_boobench.store.revisions import (
    outside,
    prepare_schema,
    read_revision,
    reading,
    refuse_foreign,
    take_over_begin,
)
from pytest_boobench.store.tables import prepare_for_postgresql
from pytest_boobench.untrusted import learn_url

BUSY_TIMEOUT_S = 30.0
_SQLITE = b"SQLite format 3\0"
"""The first bytes of SQLite files."""

_CONNECT_ARGS = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "tcp_user_timeout": 30_000,
    "application_name": "boobench",
}
"""Defaults for libpq, unless the URL says otherwise: no run may wait minutes for a server that is gone."""
_DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
_RIGHT_URL = "expected a path, sqlite:///path/to/store.db or postgresql://user:password@host/name"


def default_url(rootdir: Path) -> str:
    """Return the URL of a project's default store: ``.boobench/store.db`` under its rootdir."""
    return URL.create("sqlite", database=str(rootdir / FOLDER / "store.db")).render_as_string()


def parse_url(text: str) -> URL:
    """Parse a SQLAlchemy URL or a plain path; return a URL with the driver that we use.

    Raises StoreError for anything else, without repeating the text: it may hold a password. From here on,
    messages hide the URL's password.
    """
    learn_url(text)
    if "://" not in text:
        return URL.create("sqlite", database=str(Path(text).expanduser()))
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise StoreError(f"store URL: cannot be read, {_RIGHT_URL}") from None
    backend = url.get_backend_name()
    if backend not in _DRIVERS:
        raise StoreError(f"store URL: {backend} is no database for a store, {_RIGHT_URL}")
    if backend != "sqlite" and "@" in f"{url.host}{url.database}":
        raise StoreError("store URL: more than one @, expected %40 for one in a user name or password")
    return url.set(drivername=_DRIVERS[backend])


def describe(url: URL) -> str:
    """Return where a store is, for messages: SQLite's path, else the URL without password and options."""
    if url.get_backend_name() == "sqlite":
        return url.database or "store in memory"
    return url.set(query={}, drivername=url.get_backend_name()).render_as_string(hide_password=True)


def open_engine(url: URL, *, create: bool, upgrade: bool = False) -> Engine:
    """Open an engine on a store with today's schema.

    With ``create``, a missing store is created, readable only for its owner, and a store that cannot be written is
    refused before anything is measured. Without it, a missing store is refused and a read-only one is fine. Never
    changes a file of another program, nor a team's database with an old schema (unless ``upgrade``). Raises
    StoreError for every failure.
    """
    where = describe(url)
    if path := _file_of(url):
        _prepare_file(path, create=create)
    engine = _make_engine(url)
    try:
        with explained(where):
            if engine.dialect.name == "sqlite":
                with reading(engine) as connection:
                    refuse_foreign(connection, where)
            if create and engine.dialect.name == "sqlite":
                _use_wal(engine)
            prepare_schema(engine, where, create=create, upgrade=upgrade)
    except BaseException:
        engine.dispose()
        raise
    return engine


def upgrade_schema(url: URL) -> str | None:
    """Upgrade an existing store, also a team's, to today's schema. Returns the schema version it had before."""
    if path := _file_of(url):
        _prepare_file(path, create=False)
    engine = _make_engine(url)
    try:
        with explained(describe(url)), reading(engine) as connection:
            before = read_revision(connection)
    finally:
        engine.dispose()
    open_engine(url, create=False, upgrade=True).dispose()
    return before


def _file_of(url: URL) -> Path | None:
    """The file that a SQLite URL names; None for SQLite in memory or with ``file:`` URIs, and for other databases."""
    if url.get_backend_name() != "sqlite" or not url.database or url.database.startswith((":memory:", "file:")):
        return None
    return Path(url.database)


def _prepare_file(path: Path, *, create: bool) -> None:
    try:
        if create:
            make_folder(path.parent)
            make_file(path)
        elif not path.exists():
            raise StoreError(f"{path}: there is no store, let pytest --boobench make one {ELSEWHERE}")
        _require_sqlite(path)
        _require_locks(path)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise StoreError(f"{path.parent}: {DISK_FULL}") from error
        reason = explain_os_error(error)
        raise StoreError(f"{path.parent}: cannot be used ({reason}), let this user write there {ELSEWHERE}") from error


def _require_locks(path: Path) -> None:
    """Raise StoreError if the file system has no locks: SQLite would take it for busy, and wait.

    Asks with a file of its own: whoever closes a database file gives all locks of the process on it back.
    """
    if sys.platform == "win32":
        return
    import fcntl  # noqa: PLC0415  # not on Windows

    try:
        with tempfile.TemporaryFile(dir=path.parent) as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:  # of any other kind: the folder may be read-only, which a reader's may be
        if means_no_locks(error):
            raise StoreError(f"{path}: {NO_LOCKS}") from error


def _require_sqlite(path: Path) -> None:
    """Raise StoreError for a file that is not SQLite's: SQLite takes a very short file for empty and overwrites it."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        begin = file.read(len(_SQLITE))
    if begin and begin != _SQLITE:
        raise StoreError(f"{path}: {NO_SQLITE}")


def _make_engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        return _make_postgresql_engine(url)
    engine = create_engine(url, hide_parameters=True, connect_args={"timeout": BUSY_TIMEOUT_S})
    event.listen(engine, "connect", _prepare_connection)
    take_over_begin(engine)
    return engine


def _make_postgresql_engine(url: URL) -> Engine:
    """Check the connection before each transaction: cells may be minutes apart."""
    prepare_for_postgresql()
    mine = {key: value for key, value in _CONNECT_ARGS.items() if key not in url.query}
    try:
        return create_engine(url, hide_parameters=True, pool_pre_ping=True, connect_args=mine)
    except ImportError as error:
        raise MissingExtra("a PostgreSQL store", "postgres") from error


def _prepare_connection(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
    # else Python's driver begins transactions itself, too late for DDL and for the write lock
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = NORMAL")


def _use_wal(engine: Engine) -> None:
    """Let others read while one process writes; the setting stays in the file.

    SQLite's timeout does not apply to the lock that this takes, so we wait ourselves.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    with outside(engine) as connection:
        while True:
            try:
                connection.exec_driver_sql("PRAGMA journal_mode = WAL")
            except OperationalError as error:
                if sqlite_error_name(error.orig) != "SQLITE_BUSY" or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                return
