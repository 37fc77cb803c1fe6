"""Room 5: dropping old raw samples. What was made of them stays: aggregates, verdicts, baselines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Select, delete, exists, func, select

from pytest_boobench.store.revisions import outside, reading, writing
from pytest_boobench.store.tables import baselines, cells, metadata, samples

_CELLS_AT_ONCE = 1_000
"""In one transaction, so that others who write need not wait for long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What was dropped, or would be."""

    measurements: int
    """That have no samples any more."""
    samples: int
    bytes_before: int
    """Size of the whole store."""
    bytes_after: int


def drop_samples(engine: Engine, before: datetime, *, dry: bool) -> Pruned:
    """Drop the samples of measurements older than ``before``, but for those in force as a baseline, and make room.

    ``dry`` counts what that would be, and leaves all as it is.
    """
    with reading(engine) as connection:
        size = measure_size(connection)
        found = {row[0]: row[1] for row in connection.execute(_select_prunable(before))}
    if dry or not found:
        return Pruned(measurements=len(found), samples=sum(found.values()), bytes_before=size, bytes_after=size)
    ids = list(found)
    dropped = sum(_drop(engine, ids[start : start + _CELLS_AT_ONCE]) for start in range(0, len(ids), _CELLS_AT_ONCE))
    _make_room(engine)
    with reading(engine) as connection:
        after = measure_size(connection)
    return Pruned(measurements=len(found), samples=dropped, bytes_before=size, bytes_after=after)


def measure_size(connection: Connection) -> int:
    """Bytes that the store takes on its disk, indexes included."""
    if connection.dialect.name == "sqlite":
        pages, page = (
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in ("page_count", "page_size")
        )
        return int(pages * page)
    sizes = (func.pg_total_relation_size(name) for name in metadata.tables)
    return int(connection.execute(select(sum(sizes, start=func.pg_total_relation_size("bench_schema")))).scalar_one())


def _select_prunable(before: datetime) -> Select[Any]:
    """Measurement -> how many samples it has, for those that need none any more."""
    old = cells.c.started_at < before
    query = select(cells.c.id, func.count()).join_from(cells, samples, samples.c.cell_id == cells.c.id)
    return query.where(old, ~_in_force(cells.c.id)).group_by(cells.c.id)


def _in_force(cell_id: ColumnElement[int]) -> ColumnElement[bool]:
    return exists().where(baselines.c.cell_id == cell_id, baselines.c.replaced_at.is_(None))


def _drop(engine: Engine, cell_ids: Sequence[int]) -> int:
    """How many samples were dropped; a measurement that became a baseline meanwhile keeps its own."""
    wanted = (samples.c.cell_id.in_(cell_ids), ~_in_force(samples.c.cell_id))
    with writing(engine) as connection:
        return connection.execute(delete(samples).where(*wanted)).rowcount


def _make_room(engine: Engine) -> None:
    """SQLite gives the room back to the disk; PostgreSQL uses it again."""
    with outside(engine) as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("VACUUM")
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        else:
            connection.exec_driver_sql(f"VACUUM (ANALYZE) {samples.name}")
