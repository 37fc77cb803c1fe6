"""Room 5: rows that several runners may make at the same time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Column, Connection, Table


def insert_new(connection: Connection, table: Table, row: Mapping[str, Any], unique: Column[Any]) -> None:
    """Make the row unless one with its value of ``unique`` is there already."""
    if connection.dialect.name == "sqlite":
        from sqlalchemy.dialects.sqlite import insert  # noqa: PLC0415  # each takes a while to import
    else:
        from sqlalchemy.dialects.postgresql import insert  # type: ignore[assignment]  # noqa: PLC0415
    make = insert(table).values(dict(row))
    connection.execute(make.on_conflict_do_nothing(index_elements=[unique]))
