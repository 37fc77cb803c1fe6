"""Room 5: which measurements are wanted: as a value, and as SQL."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import CTE, ColumnElement, FromClause, Select, and_, func, or_, select

from pytest_boobench.store import tables
from pytest_boobench.store.column_types import moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The measurements that match every field; an empty field matches all."""

    suites: Collection[str] = ()
    hosts: Collection[str] = ()
    models: Collection[str] = ()
    cell_keys: Collection[str] = ()
    ids: Collection[int] = ()
    """The store's ids of measurements."""
    runs: Collection[str] = ()
    """Unique names of runs, or prefixes of them."""
    sessions: Collection[str] = ()
    """Unique names of pytest sessions, or prefixes of them."""
    commits: Collection[str] = ()
    """Git commits, or prefixes of them."""
    builds: Collection[str] = ()
    """Engine builds."""
    baselines: Collection[str] = ()
    """Names under which the measurement is in force as a baseline."""
    containing: str = ""
    """Part of the node id; case is ignored."""
    since: float | None = None
    """Seconds since 1970 UTC."""
    until: float | None = None
    """Seconds since 1970 UTC, exclusive."""
    last: int | None = None
    """At most this many of each cell: the newest that match the other fields."""


def select_measurements(selection: Selection, *columns: Any) -> Select[Any]:
    """Return a query for columns of cells, runs, hosts and suites: the selected measurements, oldest first.

    With ``last``, the query returns a few more if several of a cell began at the same moment.
    """
    cells, runs = tables.cells, tables.runs
    query = (
        select(*columns)
        .select_from(cells)
        .join(runs, runs.c.id == cells.c.run_id)
        .join(tables.hosts, tables.hosts.c.id == runs.c.host_id)
        .join(tables.suites, tables.suites.c.id == runs.c.suite_id)
        .order_by(cells.c.started_at, cells.c.id)
    )
    if selection.last is None:
        return query.where(*_conditions(selection, cells, runs))
    newest = _find_newest(selection, selection.last)
    query = query.join(newest, and_(newest.c.cell_key == cells.c.cell_key, newest.c.oldest <= cells.c.started_at))
    return query.where(*_conditions(_of_known_cells(selection), cells, runs))


def _find_newest(selection: Selection, last: int) -> CTE:
    """Cell key -> when the ``last``-newest of its selected measurements began. One step in an index for each cell."""
    keys = _select_wanted(selection, tables.cells, tables.runs, "cell_key").distinct().subquery()
    cells, runs = tables.cells.alias(), tables.runs.alias()
    wanted = _select_wanted(_of_known_cells(selection), cells, runs, "started_at")
    by_age = wanted.where(cells.c.cell_key == keys.c.cell_key).order_by(cells.c.started_at.desc())
    oldest = func.coalesce(by_age.offset(last - 1).limit(1).correlate(keys).scalar_subquery(), moment(0.0))
    # materialized: else PostgreSQL computes a cell's oldest once for each of its measurements
    return select(keys.c.cell_key, oldest.label("oldest")).cte("newest").prefix_with("MATERIALIZED")


def _of_known_cells(selection: Selection) -> Selection:
    """What is left of the selection once the cell keys are known."""
    return replace(selection, cell_keys=())


def _select_wanted(selection: Selection, cells: FromClause, runs: FromClause, column: str) -> Select[Any]:
    of_cells = select(cells.c[column])
    of_runs = list(_run_conditions(selection, runs))
    if of_runs:
        of_cells = of_cells.join(runs, runs.c.id == cells.c.run_id).where(*of_runs)
    return of_cells.where(*_cell_conditions(selection, cells))


def _conditions(selection: Selection, cells: FromClause, runs: FromClause) -> Iterator[ColumnElement[bool]]:
    yield from _run_conditions(selection, runs)
    yield from _cell_conditions(selection, cells)


def _run_conditions(selection: Selection, runs: FromClause) -> Iterator[ColumnElement[bool]]:
    for table, names, key in (
        (tables.suites, selection.suites, runs.c.suite_id),
        (tables.hosts, selection.hosts, runs.c.host_id),
    ):
        if names:
            yield key.in_(select(table.c.id).where(table.c.name.in_(names)))
    for column, beginnings in (
        (runs.c.uid, selection.runs),
        (runs.c.session, selection.sessions),
        (runs.c.git_commit, selection.commits),
    ):
        if beginnings:
            yield or_(*(column.startswith(beginning, autoescape=True) for beginning in beginnings))


def _cell_conditions(selection: Selection, cells: FromClause) -> Iterator[ColumnElement[bool]]:
    wanted: Collection[Any]
    for column, wanted in (
        (cells.c.id, selection.ids),
        (cells.c.model, selection.models),
        (cells.c.cell_key, selection.cell_keys),
        (cells.c.engine_build, selection.builds),
    ):
        if wanted:
            yield column.in_(wanted)
    if selection.containing:
        yield cells.c.node_id.icontains(selection.containing, autoescape=True)
    if selection.since is not None:
        yield cells.c.started_at >= moment(selection.since)
    if selection.until is not None:
        yield cells.c.started_at < moment(selection.until)
    if selection.baselines:
        saved = tables.baselines.c
        in_force = select(saved.cell_id).where(saved.name.in_(selection.baselines), saved.replaced_at.is_(None))
        yield cells.c.id.in_(in_force)
