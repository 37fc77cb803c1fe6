"""Room 5: baselines: what is in force under which name. A save refers to a measurement; replaced saves are kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, case, func, insert, select, update

from pytest_boobench.aggregate import Aggregate
from pytest_boobench.facts import ClientFacts
from pytest_boobench.plain import list_facts
from pytest_boobench.record import Baseline, BaselineRun, Circumstances
from pytest_boobench.store.column_types import moment
from pytest_boobench.store.later_runs import find_later
from pytest_boobench.store.reads import NEEDED_BY, execute_for, load_aggregates, read_facts
from pytest_boobench.store.tables import baselines, cells, hosts, runs, suites


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineName:
    """A name under which something is or was in force."""

    name: str
    cells: int
    """Cells with a baseline of this name in force."""
    runs: int
    """Measurements in force, over all cells."""
    replaced: int
    """Measurements that were in force before."""
    saved_at: float
    """Time of the newest save; seconds since 1970 UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """One measurement that is in force under a name."""

    measurement_id: int
    cell_key: str
    saved_at: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PastSave:
    """One measurement that is or was in force under a name. Times are seconds since 1970 UTC."""

    measurement_id: int
    cell_key: str
    name: str
    saved_at: float
    reason: str
    replaced_at: float | None
    """When it went out of force."""
    cleared_reason: str | None
    """Why a user took it out of force."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineChange:
    """How many measurements came into force as a baseline, and how many went out of force."""

    came: int
    went: int


def list_names(connection: Connection) -> list[BaselineName]:
    """Return all names in alphabetical order."""
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
    """Return what is in force under a name, in the order it was saved."""
    query = select(baselines).where(baselines.c.name == name, baselines.c.replaced_at.is_(None))
    return [
        Saved(measurement_id=row.cell_id, cell_key=row.cell_key, saved_at=row.saved_at.timestamp(), reason=row.reason)
        for row in connection.execute(query.order_by(baselines.c.saved_at, baselines.c.id))
    ]


def load_past_saves(connection: Connection, measurement_ids: Collection[int]) -> list[PastSave]:
    """Return all saves of these measurements under any name, oldest first; also those that are out of force."""
    return [
        PastSave(
            measurement_id=row.cell_id,
            cell_key=row.cell_key,
            name=row.name,
            saved_at=row.saved_at.timestamp(),
            reason=row.reason,
            replaced_at=row.replaced_at.timestamp() if row.replaced_at is not None else None,
            cleared_reason=row.cleared_reason,
        )
        for row in sorted(
            execute_for(connection, select(baselines), baselines.c.cell_id, list(measurement_ids)),
            key=lambda row: (row.saved_at, row.id),
        )
    ]


def clear_baselines(connection: Connection, name: str, cell_keys: Collection[str], reason: str = "") -> int:
    """Take the baselines of these cells out of force; return how many measurements these were. Deletes nothing."""
    return _replace(connection, name, cell_keys, reason=reason or None)


def put_in_force(connection: Connection, name: str, saves: Sequence[Saved], *, add: bool) -> BaselineChange:
    """Make these measurements the baseline of their cells: instead of what is in force, or (``add``) beside it."""
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
    return BaselineChange(came=len(rows), went=went)


def _replace(
    connection: Connection,
    name: str,
    cell_keys: Collection[str],
    but: Collection[int] = (),
    reason: str | None = None,
) -> int:
    gone = update(baselines).where(*_in_force(name, cell_keys), baselines.c.cell_id.not_in(but))
    return connection.execute(gone.values(replaced_at=datetime.now(UTC), cleared_reason=reason)).rowcount


def _in_force(name: str, cell_keys: Collection[str]) -> tuple[ColumnElement[bool], ...]:
    return (baselines.c.name == name, baselines.c.cell_key.in_(cell_keys), baselines.c.replaced_at.is_(None))


_COLUMNS = (
    cells.c.id,
    cells.c.cell_key,
    cells.c.started_at,
    *(NEEDED_BY.get(name, cells.c.get(name)) for name in list_facts(Circumstances)),
    *(runs.c[name] for name in ("uid", "session", "machine", "cpu", "git_commit", "workers")),
)
"""The columns that a `BaselineRun` needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineSave:
    """A request to make a measurement a baseline."""

    name: str
    add: bool = False
    """Keep what is saved under the name, instead of replacing it."""
    reason: str = ""
    """The user's reason."""


def save_baseline(connection: Connection, cell_id: int, save: BaselineSave, at: datetime | None = None) -> None:
    """Put a measurement in force as the baseline of its cell. Default of ``at``: now.

    If a newer save replaced it since ``at``, it is inserted as already replaced.
    """
    at = at or datetime.now(UTC)
    cell_key = connection.execute(select(cells.c.cell_key).where(cells.c.id == cell_id)).scalar_one()
    row = {"name": save.name, "cell_key": cell_key, "cell_id": cell_id, "saved_at": at, "reason": save.reason}
    if not save.add:
        rivals = (baselines.c.name == save.name, baselines.c.cell_key == cell_key, baselines.c.replaced_at.is_(None))
        connection.execute(update(baselines).where(*rivals, baselines.c.saved_at <= at).values(replaced_at=at))
        row["replaced_at"] = connection.execute(select(func.min(baselines.c.saved_at)).where(*rivals)).scalar()
    connection.execute(insert(baselines).values(row))


def load_baselines(connection: Connection, name: str, hosts_wanted: Collection[str] | None) -> dict[str, Baseline]:
    """Return cell key -> Baseline for all in force under a name, with its runs and later ones, oldest first.

    The number of queries does not grow with cells and runs. ``hosts_wanted`` None: of all hosts.
    """
    saved = connection.execute(_select_saved(name, hosts_wanted)).all()
    newest = {row.cell_key: row for row in saved}
    later = find_later(connection, list(newest.values()))
    made = _make_runs(connection, saved, [cell_id for several in later.values() for cell_id in several])
    of_key: dict[str, list[BaselineRun]] = defaultdict(list)
    for row in saved:
        of_key[row.cell_key].append(made[row.id])
    return {
        key: Baseline(
            name=name,
            cell_key=key,
            suite=row.suite,
            host=row.host,
            runs=tuple(of_key[key]),
            node_id=row.node_id,
            prompts=row.prompts or "",
            later=tuple(made[cell_id] for cell_id in later.get(key, ())),
        )
        for key, row in newest.items()
    }


def _select_saved(name: str, hosts_wanted: Collection[str] | None) -> Select[Any]:
    """Query for what is in force, oldest measurement first."""
    query = (
        select(
            baselines.c.saved_at,
            suites.c.name.label("suite"),
            hosts.c.name.label("host"),
            cells.c.node_id,
            cells.c.prompts,
            *_COLUMNS,
        )
        .select_from(baselines)
        .join(cells, cells.c.id == baselines.c.cell_id)
        .join(runs, runs.c.id == cells.c.run_id)
        .join(suites, suites.c.id == runs.c.suite_id)
        .join(hosts, hosts.c.id == runs.c.host_id)
        .where(baselines.c.name == name, baselines.c.replaced_at.is_(None))
        .order_by(cells.c.started_at, cells.c.id)
    )
    return query if hosts_wanted is None else query.where(hosts.c.name.in_(hosts_wanted))


def _make_runs(connection: Connection, saved: Sequence[Any], later: Sequence[int]) -> dict[int, BaselineRun]:
    """Measurement id -> its `BaselineRun`. A later one counts as saved when it was measured.
    It has only its judged metrics: nothing is known about the others."""
    query = select(cells.c.started_at.label("saved_at"), *_COLUMNS).join(runs, runs.c.id == cells.c.run_id)
    condensed = load_aggregates(connection, [row.id for row in saved])
    condensed |= load_aggregates(connection, later, judged=True)
    rows = [*saved, *execute_for(connection, query, cells.c.id, later)]
    return {row.id: _make_run(row, condensed.get(row.id, {})) for row in rows}


def _make_run(row: Any, condensed: Mapping[str, Aggregate]) -> BaselineRun:
    return BaselineRun(
        run_uid=row.uid,
        session=row.session,
        measured_at=row.started_at.timestamp(),
        saved_at=row.saved_at.timestamp(),
        git_commit=row.git_commit,
        client=ClientFacts(machine=row.machine, cpu=row.cpu, workers=row.workers),
        aggregates=condensed,
        **read_facts(BaselineRun, list_facts(Circumstances), row),
    )
