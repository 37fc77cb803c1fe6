"""Room 5: what is in force as a baseline: its names and saves, put in force and taken out of it by hand."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Connection, case, func, insert, select, update

from pytest_boobench.store.columns import moment
from pytest_boobench.store.tables import baselines


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineName:
    """A name under which something is or was in force."""

    name: str
    cells: int
    """That have a baseline of this name in force."""
    runs: int
    """Measurements in force, over all its cells."""
    replaced: int
    """Measurements that were in force once."""
    saved_at: float
    """The newest save; seconds since 1970 UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """One measurement that is in force under a name."""

    measurement_id: int
    cell_key: str
    saved_at: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """How many measurements came into force as a baseline, and how many went out of it."""

    came: int
    went: int


def list_names(connection: Connection) -> list[BaselineName]:
    """All names, in their own order."""
    in_force = baselines.c.replaced_at.is_(None)
    query = select(
        baselines.c.name,
        func.count(case((in_force, baselines.c.cell_key)).distinct()).label("cells"),
        func.count(case((in_force, 1))).label("runs"),
        func.count(baselines.c.replaced_at).label("replaced"),
        func.max(baselines.c.saved_at).label("saved_at"),
    )
    rows = connection.execute(query.group_by(baselines.c.name).order_by(baselines.c.name))
    return [
        BaselineName(
            name=row.name, cells=row.cells, runs=row.runs, replaced=row.replaced, saved_at=row.saved_at.timestamp()
        )
        for row in rows
    ]


def load_saves(connection: Connection, name: str) -> list[Saved]:
    """What is in force under a name, in the order it was saved."""
    query = select(baselines).where(baselines.c.name == name, baselines.c.replaced_at.is_(None))
    return [
        Saved(measurement_id=row.cell_id, cell_key=row.cell_key, saved_at=row.saved_at.timestamp(), reason=row.reason)
        for row in connection.execute(query.order_by(baselines.c.saved_at, baselines.c.id))
    ]


def clear_baselines(connection: Connection, name: str, cell_keys: Collection[str]) -> int:
    """Take the baselines of these cells out of force; gives back how many measurements that were. None is deleted."""
    return _replace(connection, name, cell_keys)


def put_in_force(connection: Connection, name: str, saves: Sequence[Saved], *, add: bool) -> Exchange:
    """Make these measurements the baseline of their cells: in the place of what is in force, or beside it (``add``)."""
    wanted = {save.measurement_id: save for save in saves}
    keys = {save.cell_key for save in saves}
    went = 0 if add else _replace(connection, name, keys, but=wanted)
    there = select(baselines.c.cell_id).where(*_in_force(name, keys))
    missing = wanted.keys() - set(connection.execute(there).scalars())
    rows = [
        {
            "name": name,
            "cell_key": save.cell_key,
            "cell_id": save.measurement_id,
            "saved_at": moment(save.saved_at),
            "reason": save.reason,
        }
        for save in saves
        if save.measurement_id in missing
    ]
    if rows:
        connection.execute(insert(baselines), rows)
    return Exchange(came=len(rows), went=went)


def _replace(connection: Connection, name: str, cell_keys: Collection[str], but: Collection[int] = ()) -> int:
    gone = update(baselines).where(*_in_force(name, cell_keys), baselines.c.cell_id.not_in(but))
    return connection.execute(gone.values(replaced_at=datetime.now(UTC))).rowcount


def _in_force(name: str, cell_keys: Collection[str]) -> tuple[ColumnElement[bool], ...]:
    return (baselines.c.name == name, baselines.c.cell_key.in_(cell_keys), baselines.c.replaced_at.is_(None))
