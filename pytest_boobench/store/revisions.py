"""Room 5: kinds of transactions, schema versions, and the upgrade of an empty or old database to today's tables."""

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
"""Key of the PostgreSQL advisory lock: "boobench" in ASCII, which no other program uses."""
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
    """Let this module begin the transactions of a SQLite engine; its driver must not begin any itself."""
    event.listen(engine, "begin", _begin)


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Begin a read transaction. All its queries see the store as it was at the first one."""
    with engine.execution_options(**_READING[engine.dialect.name]).begin() as connection:
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Begin a write transaction.

    SQLite takes the write lock at once: a transaction that reads first and writes later fails without waiting.
    """
    with engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"}).begin() as connection:
        yield connection


@contextmanager
def outside(engine: Engine) -> Iterator[Connection]:
    """Connect without a transaction, for statements that cannot run inside one."""
    with engine.execution_options(**_OUTSIDE[engine.dialect.name]).connect() as connection:
        yield connection


def migrating(engine: Engine) -> AbstractContextManager[Connection]:
    """Begin a transaction that changes the schema. Others that want the same wait for its end."""
    return _migrating_sqlite(engine) if engine.dialect.name == "sqlite" else _migrating_postgresql(engine)


@contextmanager
def _migrating_sqlite(engine: Engine) -> Iterator[Connection]:
    """Foreign keys are off: rebuilding a table drops the old one, and that would delete all rows that refer to it."""
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
NEWEST = "0004"
"""The schema version of today's tables."""
_SHOWN = 3
"""How many tables of another program a message names."""
_versions = Table(
    VERSION_TABLE,
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name=f"{VERSION_TABLE}_pkc"),
)
"""Alembic's own table, exactly as Alembic creates it."""


def prepare_schema(engine: Engine, where: str, *, create: bool, upgrade: bool = False) -> None:
    """Upgrade a store's schema to the newest, in its own transaction. ``create``: the store must be writable.

    Creates the tables in an empty PostgreSQL database, but upgrades an old one only with ``upgrade``.
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
    """Make Alembic's configuration. Migrations run in the transaction of this connection."""
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    # Alembic reads the value with configparser, where % begins a placeholder
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def revisions() -> tuple[str, ...]:
    """Return every schema version that this package knows, newest first."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    return tuple(script.revision for script in ScriptDirectory.from_config(configuration()).walk_revisions())


def read_revision(connection: Connection) -> str | None:
    """Return a database's schema version; None if it holds no store yet."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found: str | None = connection.execute(select(_versions.c.version_num)).scalar()
    return found


def refuse_foreign(connection: Connection, where: str) -> None:
    """Raise StoreError if a SQLite file belongs to another program. (A team may share a PostgreSQL database.)"""
    found = inspect(connection)
    tables = found.get_table_names()
    marked = connection.exec_driver_sql("PRAGMA application_id").scalar()
    if not marked and (not tables or _is_ours(connection, found, tables)):
        return
    named = f" (its tables: {', '.join(tables[:_SHOWN])}{', …' * (len(tables) > _SHOWN)})" if tables else ""
    raise StoreError(f"{where}: belongs to another program{named}, name another store with --boobench-store")


def _is_ours(connection: Connection, found: Inspector, tables: Sequence[str]) -> bool:
    """Whether the database has our version table and our first table."""
    if not {VERSION_TABLE, hosts.name} <= set(tables):
        return False
    if [column["name"] for column in found.get_columns(VERSION_TABLE)] != [_versions.c.version_num.name]:
        return False
    return isinstance(read_revision(connection), str)


def bring_to_newest(connection: Connection, where: str, *, create: bool, upgrade_old: bool) -> None:
    """Create or upgrade the tables in the connection's transaction; does nothing if they are up to date.

    Raises StoreError for a newer schema, an old one without ``upgrade_old``, a missing one without ``create``.
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
    """Create the same schema as all migrations in sequence would."""
    metadata.create_all(connection)
    _versions.create(connection, checkfirst=True)
    connection.execute(insert(_versions).values(version_num=NEWEST))
