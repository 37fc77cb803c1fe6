"""Room 5: baselines. A save points at a stored measurement; what it replaces stays, marked with when."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, insert, select, update

from pytest_boobench.aggregate import Aggregate
from pytest_boobench.facts import ModelFacts
from pytest_boobench.record import Baseline, BaselineRun
from pytest_boobench.store.tables import aggregates, baselines, cells, hosts, runs

_AGGREGATE_FIELDS = tuple(field.name for field in fields(Aggregate))
_MODEL_FIELDS = frozenset(field.name for field in fields(ModelFacts))


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineSave:
    """The wish that a measurement becomes a baseline."""

    name: str
    add: bool = False
    """Beside what is saved under the name, instead of in its place."""
    reason: str = ""
    """Why, in the words of who asked."""


def save_baseline(connection: Connection, cell_id: int, save: BaselineSave) -> None:
    """Put a measurement in force as the baseline of its cell, from now on."""
    now = datetime.now(UTC)
    cell_key = connection.execute(select(cells.c.cell_key).where(cells.c.id == cell_id)).scalar_one()
    if not save.add:
        replaced = (baselines.c.name == save.name, baselines.c.cell_key == cell_key, baselines.c.replaced_at.is_(None))
        connection.execute(update(baselines).where(*replaced).values(replaced_at=now))
    connection.execute(
        insert(baselines).values(name=save.name, cell_key=cell_key, cell_id=cell_id, saved_at=now, reason=save.reason)
    )


def load_baselines(connection: Connection, name: str, hosts_wanted: Collection[str] | None) -> dict[str, Baseline]:
    """Cell key -> Baseline, for all in force under a name, each with its runs in the order they were measured.

    Two queries, however many cells there are.
    """
    condensed = _load_aggregates(connection, name, hosts_wanted)
    wanted = _in_force(
        select(
            baselines.c.cell_key,
            baselines.c.cell_id,
            baselines.c.saved_at,
            cells.c.started_at.label("measured_at"),
            cells.c.model_facts,
            cells.c.engine_build,
            runs.c.uid,
            runs.c.git_commit,
            runs.c.workers,
        ),
        name,
        hosts_wanted,
    )
    found: dict[str, list[BaselineRun]] = defaultdict(list)
    for row in connection.execute(wanted.order_by(cells.c.started_at, cells.c.id)):
        found[row.cell_key].append(_baseline_run(row, condensed[row.cell_id]))
    return {key: Baseline(name=name, cell_key=key, runs=tuple(saved)) for key, saved in found.items()}


def _in_force(query: Select[Any], name: str, hosts_wanted: Collection[str] | None) -> Select[Any]:
    query = (
        query.select_from(baselines)
        .join(cells, cells.c.id == baselines.c.cell_id)
        .join(runs, runs.c.id == cells.c.run_id)
        .where(baselines.c.name == name, baselines.c.replaced_at.is_(None))
    )
    if hosts_wanted is None:
        return query
    return query.join(hosts, hosts.c.id == runs.c.host_id).where(hosts.c.name.in_(hosts_wanted))


def _load_aggregates(
    connection: Connection, name: str, hosts_wanted: Collection[str] | None
) -> Mapping[int, Mapping[str, Aggregate]]:
    found: dict[int, dict[str, Aggregate]] = defaultdict(dict)
    wanted = _in_force(select(aggregates), name, hosts_wanted).join(aggregates, aggregates.c.cell_id == cells.c.id)
    for row in connection.execute(wanted).mappings():
        found[row["cell_id"]][row["metric"]] = Aggregate(**{field: row[field] for field in _AGGREGATE_FIELDS})
    return found


def _baseline_run(row: Row[Any], condensed: Mapping[str, Aggregate]) -> BaselineRun:
    return BaselineRun(
        run_uid=row.uid,
        measured_at=row.measured_at.timestamp(),
        saved_at=row.saved_at.timestamp(),
        aggregates=condensed,
        model=_model_facts(row.model_facts),
        engine_build=row.engine_build,
        git_commit=row.git_commit,
        workers=row.workers,
    )


def _model_facts(stored: Mapping[str, Any] | None) -> ModelFacts | None:
    """The facts this version knows; a colleague's newer one may have stored more of them."""
    if stored is None:
        return None
    return ModelFacts(**{key: value for key, value in stored.items() if key in _MODEL_FIELDS})
