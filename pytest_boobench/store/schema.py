"""Room 5: the age of a schema. Brings an empty or old database to today's tables, refuses one from the future.

Alembic is imported for an old one only: a store of today's schema is made and opened without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    delete,
    false,
    insert,
    inspect,
    select,
)

from pytest_boobench.errors import StoreError
from pytest_boobench.store.tables import VERSION_TABLE, hosts, metadata
from pytest_boobench.store.transactions import migrating, reading, writing
from pytest_boobench.store.trouble import ELSEWHERE

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Inspector

MIGRATIONS = Path(__file__).parent / "migrations"
NEWEST = "0002"
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
