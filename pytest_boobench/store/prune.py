"""Room 5: deleting old raw samples. Their aggregates, verdicts and baselines stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Select, delete, exists, func, select

from pytest_boobench.store.revisions import outside, reading, writing
from pytest_boobench.store.tables import baselines, cells, metadata, samples

_CELLS_AT_ONCE = 1_000
"""Measurements per transaction: other writers must not wait long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What was deleted, or would be."""

    measurements: int
    """Measurements without samples now."""
    samples: int
    bytes_before: int
    """Size of the whole store."""
    bytes_after: int


def drop_samples(engine: Engine, before: datetime, *, dry: bool) -> Pruned:
    """Delete the samples of measurements older than ``before``, then free the space. ``dry`` only counts.

    Baselines in force keep their samples.
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
    """Return the store's size on disk in bytes, with indexes."""
    if connection.dialect.name == "sqlite":
        pages, page = (
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in ("page_count", "page_size")
        )
        return int(pages * page)
    sizes = (func.pg_total_relation_size(name) for name in metadata.tables)
    return int(connection.execute(select(sum(sizes, start=func.pg_total_relation_size("bench_schema")))).scalar_one())


def _select_prunable(before: datetime) -> Select[Any]:
    """Measurement id -> its number of samples, for measurements that may lose them."""
    old = cells.c.started_at < before
    query = select(cells.c.id, func.count()).join_from(cells, samples, samples.c.cell_id == cells.c.id)
    return query.where(old, ~_in_force(cells.c.id)).group_by(cells.c.id)


def _in_force(cell_id: ColumnElement[int]) -> ColumnElement[bool]:
    return exists().where(baselines.c.cell_id == cell_id, baselines.c.replaced_at.is_(None))


def _drop(engine: Engine, cell_ids: Sequence[int]) -> int:
    """Delete samples and return their number. Checks again: a measurement may have become a baseline meanwhile."""
    wanted = (samples.c.cell_id.in_(cell_ids), ~_in_force(samples.c.cell_id))
    with writing(engine) as connection:
        return connection.execute(delete(samples).where(*wanted)).rowcount


def _make_room(engine: Engine) -> None:
    """Free the space: SQLite returns it to the disk, PostgreSQL reuses it."""
    with outside(engine) as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("VACUUM")
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        else:
            connection.exec_driver_sql(f"VACUUM (ANALYZE) {samples.name}")
