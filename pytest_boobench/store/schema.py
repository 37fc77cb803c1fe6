"""Room 5: the age of a schema. Brings an empty or old database to today's tables, refuses one from the future.

Alembic is imported for that only: a store of today's schema, the usual case, is opened without it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, column, delete, false, inspect, select, table

from pytest_boobench.errors import StoreError
from pytest_boobench.store.tables import VERSION_TABLE, hosts
from pytest_boobench.store.transactions import migrating, reading, writing
from pytest_boobench.store.trouble import ELSEWHERE

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations"
NEWEST = "0001"
"""The revision of today's tables."""


def prepare_schema(engine: Engine, where: str, *, create: bool) -> None:
    """Bring a store's schema to today's, in a transaction of its own; ``create`` asks for one that can be written.

    A team's PostgreSQL is made where it is empty, and upgraded only by someone who means to.
    """
    with reading(engine) as connection:
        today = read_revision(connection) == NEWEST
    if not today:
        with migrating(engine) as connection:
            bring_to_newest(connection, where, create=create, upgrade_old=engine.dialect.name == "sqlite")
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
    versions = table(VERSION_TABLE, column("version_num"))
    found: str | None = connection.execute(select(versions.c.version_num)).scalar()
    return found


def bring_to_newest(connection: Connection, where: str, *, create: bool, upgrade_old: bool) -> None:
    """Make or upgrade the tables, in the connection's transaction; nothing happens to those of today.

    StoreError where the schema is newer than ours, older and not to be upgraded, or missing and not to be made.
    """
    known = revisions()
    found = read_revision(connection)
    if found == known[0]:
        return
    if found is None and not create:
        raise StoreError(f"{where}: holds no store yet, let pytest --boobench make one {ELSEWHERE}")
    if found is not None and found not in known:
        raise StoreError(
            f"{where}: its schema {found} is newer than the {known[0]} of this pytest-boobench, "
            f"upgrade pytest-boobench {ELSEWHERE}"
        )
    if found is not None and not upgrade_old:
        raise StoreError(
            f"{where}: its schema {found} is older than the {known[0]} of this pytest-boobench, "
            "upgrade it for the whole team with boobench store upgrade"
        )
    from alembic import command  # noqa: PLC0415

    command.upgrade(configuration(connection), "head")
