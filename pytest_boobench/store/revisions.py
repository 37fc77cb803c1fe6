"""Room 5: the transactions there are, and the age of a schema: brings an empty or old database to today's tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    delete,
    event,
    false,
    func,
    insert,
    inspect,
    select,
)

from pytest_boobench.errors import StoreError
from pytest_boobench.store.database_errors import ELSEWHERE
from pytest_boobench.store.tables import VERSION_TABLE, hosts, metadata

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Inspector

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


MIGRATIONS = Path(__file__).parent / "migrations"
NEWEST = "0003"
"""The revision of today's tables."""
_SHOWN = 3
"""Tables of another program in a message."""
_versions = Table(
    VERSION_TABLE,
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name=f"{VERSION_TABLE}_pkc"),
)
"""Alembic's own table, as Alembic makes it."""


def prepare_schema(engine: Engine, where: str, *, create: bool, upgrade: bool = False) -> None:
    """Bring a store's schema to today's, in a transaction of its own; ``create`` asks for one that can be written.

    A team's PostgreSQL is made where it is empty, and upgraded only by someone who means to.
    """
    with reading(engine) as connection:
        today = read_revision(connection) == NEWEST
    if not today:
        with migrating(engine) as connection:
            bring_to_newest(connection, where, create=create, upgrade_old=upgrade or engine.dialect.name == "sqlite")
    if create:
        with writing(engine) as connection:
            # A read-only SQLite file lets every transaction begin and refuses the first write in it.
            connection.execute(delete(hosts).where(false()))


def configuration(connection: Connection | None = None) -> Config:
    """Alembic's configuration, on a connection whose transaction the migrations are to run in."""
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    # the value goes through configparser, where % begins a placeholder
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def revisions() -> tuple[str, ...]:
    """Every schema this version knows, newest first."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    return tuple(script.revision for script in ScriptDirectory.from_config(configuration()).walk_revisions())


def read_revision(connection: Connection) -> str | None:
    """The schema a database has; None for one that holds no store yet."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found: str | None = connection.execute(select(_versions.c.version_num)).scalar()
    return found


def refuse_foreign(connection: Connection, where: str) -> None:
    """StoreError where a SQLite database is another program's: a team's PostgreSQL is shared, a file is not."""
    found = inspect(connection)
    tables = found.get_table_names()
    marked = connection.exec_driver_sql("PRAGMA application_id").scalar()
    if not marked and (not tables or _is_ours(connection, found, tables)):
        return
    named = f" (its tables: {', '.join(tables[:_SHOWN])}{', …' * (len(tables) > _SHOWN)})" if tables else ""
    raise StoreError(f"{where}: belongs to another program{named}, name another store with --boobench-store")


def _is_ours(connection: Connection, found: Inspector, tables: Sequence[str]) -> bool:
    """Whether it has our version and our first table."""
    if not {VERSION_TABLE, hosts.name} <= set(tables):
        return False
    if [column["name"] for column in found.get_columns(VERSION_TABLE)] != [_versions.c.version_num.name]:
        return False
    return isinstance(read_revision(connection), str)


def bring_to_newest(connection: Connection, where: str, *, create: bool, upgrade_old: bool) -> None:
    """Make or upgrade the tables, in the connection's transaction; nothing happens to those of today.

    StoreError where the schema is newer than ours, older and not to be upgraded, or missing and not to be made.
    """
    found = read_revision(connection)
    if found == NEWEST:
        return
    if found is None and not create:
        raise StoreError(f"{where}: holds no store yet, let pytest --boobench make one {ELSEWHERE}")
    if found is None:
        _make_tables(connection)
        return
    if found not in revisions():
        raise StoreError(
            f"{where}: its schema {found} is newer than the {NEWEST} of this pytest-boobench, "
            f"upgrade pytest-boobench {ELSEWHERE}"
        )
    if not upgrade_old:
        raise StoreError(
            f"{where}: its schema {found} is older than the {NEWEST} of this pytest-boobench, "
            "upgrade it for the whole team with boobench store upgrade"
        )
    from alembic import command  # noqa: PLC0415

    command.upgrade(configuration(connection), "head")


def _make_tables(connection: Connection) -> None:
    """Just what all revisions, one after the other, would make."""
    metadata.create_all(connection)
    _versions.create(connection, checkfirst=True)
    connection.execute(insert(_versions).values(version_num=NEWEST))
