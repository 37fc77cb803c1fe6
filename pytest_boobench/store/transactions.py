"""Room 5: the transactions there are: one to read, one to write, one to change the schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, event, func, select

_BEGIN = "boobench_begin"
_SCHEMA_LOCK = 0x626F6F62656E6368
"""Any number that no other program takes a PostgreSQL advisory lock on: "boobench" in ASCII."""
_READING: Mapping[str, Mapping[str, Any]] = {
    "sqlite": {},
    # not read-only as well: the pool would make the next transaction read-write, which a standby refuses
    "postgresql": {"isolation_level": "REPEATABLE READ"},
}

_OUTSIDE: Mapping[str, Mapping[str, Any]] = {
    "sqlite": {_BEGIN: ""},
    "postgresql": {"isolation_level": "AUTOCOMMIT"},
}


def take_over_begin(engine: Engine) -> None:
    """Let the transactions of a SQLite engine begin as this module says; its driver must not begin any by itself."""
    event.listen(engine, "begin", _begin)


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that only reads, and all of it as the store was at its first query, whoever writes meanwhile."""
    with engine.execution_options(**_READING[engine.dialect.name]).begin() as connection:
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes.

    SQLite takes the write lock at its begin, for one that comes to it by reading first is refused without waiting.
    """
    with engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"}).begin() as connection:
        yield connection


@contextmanager
def outside(engine: Engine) -> Iterator[Connection]:
    """A connection without a transaction, for what cannot be done inside one."""
    with engine.execution_options(**_OUTSIDE[engine.dialect.name]).connect() as connection:
        yield connection


def migrating(engine: Engine) -> AbstractContextManager[Connection]:
    """A transaction that changes the schema; others that want to do so wait for its end."""
    return _migrating_sqlite(engine) if engine.dialect.name == "sqlite" else _migrating_postgresql(engine)


@contextmanager
def _migrating_sqlite(engine: Engine) -> Iterator[Connection]:
    """With foreign keys off: rebuilding a table drops the old one, and all that hangs on it would go too."""
    with outside(engine) as connection:
        connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
        connection.rollback()
        connection.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})
        try:
            with connection.begin():
                yield connection
        finally:
            connection.execution_options(**{_BEGIN: ""})
            connection.exec_driver_sql("PRAGMA foreign_keys = ON")


@contextmanager
def _migrating_postgresql(engine: Engine) -> Iterator[Connection]:
    with writing(engine) as connection:
        connection.execute(select(func.pg_advisory_xact_lock(_SCHEMA_LOCK)))
        yield connection


def _begin(connection: Connection) -> None:
    statement = connection.get_execution_options().get(_BEGIN, "BEGIN")
    if statement:
        connection.exec_driver_sql(statement)
