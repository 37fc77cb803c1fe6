"""Room 5: baselines. A save points at a stored measurement; what it replaces stays, marked with when."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Select, func, insert, select, update

from pytest_boobench.aggregate import Aggregate
from pytest_boobench.facts import ClientFacts
from pytest_boobench.record import Baseline, BaselineRun
from pytest_boobench.store.later import find_later
from pytest_boobench.store.tables import baselines, cells, hosts, runs, suites
from pytest_boobench.store.values import execute_for, load_aggregates, read_canary, read_model

_COLUMNS = (
    cells.c.id,
    cells.c.cell_key,
    cells.c.started_at,
    cells.c.model_facts,
    cells.c.engine_build,
    cells.c.canaries,
    cells.c.clock,
    cells.c.text_digest,
    runs.c.uid,
    runs.c.session,
    runs.c.machine,
    runs.c.cpu,
    runs.c.git_commit,
    runs.c.workers,
)
"""What a `BaselineRun` is made of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineSave:
    """The wish that a measurement becomes a baseline."""

    name: str
    add: bool = False
    """Beside what is saved under the name, instead of in its place."""
    reason: str = ""
    """Why, in the words of who asked."""


def save_baseline(connection: Connection, cell_id: int, save: BaselineSave, at: datetime | None = None) -> None:
    """Put a measurement in force as the baseline of its cell, now where nothing else is said.

    A save that comes late is entered as already replaced where another one took its place since.
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
    """Cell key -> Baseline, for all in force under a name, with its runs and the later ones as they were measured.

    A handful of queries by index, however many cells and runs there are.
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
            runs=tuple(of_key[key]),
            later=tuple(made[cell_id] for cell_id in later.get(key, ())),
        )
        for key, row in newest.items()
    }


def _select_saved(name: str, hosts_wanted: Collection[str] | None) -> Select[Any]:
    """What is in force, oldest measurement first."""
    query = (
        select(baselines.c.saved_at, suites.c.name.label("suite"), *_COLUMNS)
        .select_from(baselines)
        .join(cells, cells.c.id == baselines.c.cell_id)
        .join(runs, runs.c.id == cells.c.run_id)
        .join(suites, suites.c.id == runs.c.suite_id)
        .where(baselines.c.name == name, baselines.c.replaced_at.is_(None))
        .order_by(cells.c.started_at, cells.c.id)
    )
    if hosts_wanted is None:
        return query
    return query.join(hosts, hosts.c.id == runs.c.host_id).where(hosts.c.name.in_(hosts_wanted))


def _make_runs(connection: Connection, saved: Sequence[Any], later: Sequence[int]) -> dict[int, BaselineRun]:
    """Measurement -> the run of a baseline that it is. A later one counts as saved when it was measured, and has the
    metrics that were judged: of the others nobody said that they passed."""
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
        aggregates=condensed,
        model=read_model(row.model_facts),
        engine_build=row.engine_build,
        git_commit=row.git_commit,
        client=ClientFacts(machine=row.machine, cpu=row.cpu, workers=row.workers),
        clock=row.clock,
        text_digest=row.text_digest,
        canary=read_canary(row.canaries),
    )
