"""Room 5: database rows -> the package's values: measurements, runs, aggregates, samples."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar, cast, get_origin

from sqlalchemy import Column, Connection, Select, Table, and_, func, select

from pytest_boobench.aggregate import Aggregate
from pytest_boobench.facts import Canary, ForeignRequest, ModelFacts, Traffic
from pytest_boobench.metrics import Sample
from pytest_boobench.plain import Fact, list_facts, rebuild_value
from pytest_boobench.record import Measurement, RunFacts, RunStatus, Verdict
from pytest_boobench.store.selection import Selection, select_measurements
from pytest_boobench.store.tables import (
    AXIS_NAMES,
    CELL_FACTS,
    TRAFFIC_COLUMNS,
    aggregates,
    baselines,
    cells,
    hosts,
    runs,
    samples,
    suites,
    verdicts,
)
from pytest_boobench.suite.cell import AXES, make_identity

T = TypeVar("T")
_IDS_AT_ONCE = 10_000
"""SQLite allows 32,766 parameters in a statement, PostgreSQL 65,535."""

_KNOWN: Mapping[type, frozenset[str]] = {kind: frozenset(list_facts(kind)) for kind in (ModelFacts, ForeignRequest)}
_RUN_FIELDS = tuple(name for name in list_facts(RunFacts) if name not in ("suite", "host"))

RUN_COLUMNS = (
    suites.c.name.label("suite"),
    hosts.c.name.label("host"),
    *(runs.c[name].label(f"run_{name}") for name in _RUN_FIELDS),
)
"""The columns that `read_run` needs, from runs joined with suites and hosts."""


def execute_for(connection: Connection, query: Select[Any], column: Any, ids: Collection[int]) -> Iterator[Any]:
    """Yield the query's rows whose ``column`` is one of the ids, in as few statements as databases allow."""
    listed = list(ids)
    for start in range(0, len(listed), _IDS_AT_ONCE):
        yield from connection.execute(query.where(column.in_(listed[start : start + _IDS_AT_ONCE]))).all()


def load_aggregates(
    connection: Connection, cell_ids: Collection[int], metrics: Collection[str] = (), *, judged: bool = False
) -> dict[int, dict[str, Aggregate]]:
    """Return measurement id -> metric -> Aggregate. No ``metrics``: all. ``judged``: only metrics with a verdict."""
    query = select(aggregates.c.cell_id, aggregates.c.metric, *_columns_of(aggregates, Aggregate))
    if metrics:
        query = query.where(aggregates.c.metric.in_(metrics))
    if judged:
        same = (verdicts.c.cell_id == aggregates.c.cell_id, verdicts.c.metric == aggregates.c.metric)
        query = query.join(verdicts, and_(*same))
    found: dict[int, dict[str, Aggregate]] = defaultdict(dict)
    for row in execute_for(connection, query, aggregates.c.cell_id, cell_ids):
        found[row[0]][row[1]] = _read(Aggregate, row[2:])
    return found


def load_verdicts(connection: Connection, cell_ids: Collection[int]) -> dict[int, tuple[Verdict, ...]]:
    """Return measurement id -> its verdicts, in the order they were given."""
    query = select(verdicts.c.cell_id, *_columns_of(verdicts, Verdict)).order_by(verdicts.c.id)
    found: dict[int, list[Verdict]] = defaultdict(list)
    for row in execute_for(connection, query, verdicts.c.cell_id, cell_ids):
        found[row[0]].append(_read(Verdict, row[1:]))
    return {cell_id: tuple(several) for cell_id, several in found.items()}


def load_samples(connection: Connection, cell_ids: Collection[int]) -> dict[int, tuple[Sample, ...]]:
    """Return measurement id -> its samples, also warm-up and failed ones, in the order they were stored."""
    query = select(samples.c.cell_id, *_columns_of(samples, Sample)).order_by(samples.c.id)
    found: dict[int, list[Sample]] = defaultdict(list)
    for row in execute_for(connection, query, samples.c.cell_id, cell_ids):
        found[row[0]].append(_read(Sample, row[1:]))
    return {cell_id: tuple(several) for cell_id, several in found.items()}


def _columns_of(table: Table, kind: type) -> tuple[Column[Any], ...]:
    """The columns that `_read` needs, in the order of the fields."""
    return tuple(table.c[name] for name in list_facts(kind))


def _read(kind: type[T], values: Iterable[Any]) -> T:
    """Make the dataclass from a row's values."""
    return kind(
        **{
            fact.name: read_fact(fact, value)
            for fact, value in zip(list_facts(cast("Any", kind)).values(), values, strict=True)
        }
    )


def read_fact(fact: Fact, stored: Any) -> Any:
    """Convert a column's value to the fact's type; the fact's default if an older version stored nothing."""
    if stored is None:
        return None if fact.optional else fact.make_default()
    if isinstance(stored, datetime):
        return stored.timestamp()
    if get_origin(fact.type) is tuple:  # JSON has no NaN or infinity: they come back as None
        return tuple(value for value in stored if value is not None)
    return rebuild_value(fact.type, stored)


def read_run(row: Any) -> RunFacts:
    """Make the run from a row that has `RUN_COLUMNS`."""
    facts = {name: getattr(row, f"run_{name}") for name in _RUN_FIELDS}
    return RunFacts(**{**facts, "suite": row.suite, "host": row.host, "started_at": row.run_started_at.timestamp()})


def read_canary(stored: Sequence[Mapping[str, float | None]]) -> Canary | None:
    """The machine's state during a measurement: the median over its blocks."""
    if not stored:
        return None
    names = list_facts(Canary)
    known = {name: [value for canary in stored if (value := canary.get(name)) is not None] for name in names}
    return Canary(**{name: statistics.median(values) for name, values in known.items() if values})


def read_model(stored: Mapping[str, Any] | None) -> ModelFacts | None:
    """The model's facts; None if nothing is stored."""
    return None if stored is None else _make(ModelFacts, stored)


def read_traffic(row: Any) -> Traffic | None:
    """Other requests on the host during a measurement; None if nobody watched."""
    if row.model_swaps is None:
        return None
    stored = {fact.name: read_fact(fact, getattr(row, column)) for column, fact in TRAFFIC_COLUMNS.items()}
    return Traffic(**{**stored, "requests": tuple(_make(ForeignRequest, request) for request in stored["requests"])})


def _make(kind: type[T], stored: Mapping[str, Any]) -> T:
    return kind(**{key: value for key, value in stored.items() if key in _KNOWN[kind]})


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """A run and its result."""

    facts: RunFacts
    status: RunStatus
    finished_at: float | None
    """Seconds since 1970 UTC; None while the run goes on, or if it was killed."""
    engine_build: str | None
    cells: int
    """Number of measurements."""
    errors: int
    """Number of measurements that failed or were not completed."""


def load_measurements(connection: Connection, selection: Selection, metrics: Collection[str]) -> list[Measurement]:
    """Return the selected measurements, oldest first, with their aggregates of the named metrics, or of all."""
    rows = _newest_only(connection.execute(select_measurements(selection, cells, *RUN_COLUMNS)).all(), selection.last)
    ids = [row.id for row in rows]
    condensed = load_aggregates(connection, ids, metrics)
    judged = load_verdicts(connection, ids)
    names = _load_baseline_names(connection)
    of_run: dict[int, RunFacts] = {}
    found = []
    for row in rows:
        run = of_run.get(row.run_id) or of_run.setdefault(row.run_id, read_run(row))
        linked = {"aggregates": condensed.get(row.id, {}), "verdicts": judged.get(row.id, ())}
        found.append(_measurement(row, run, baselines=tuple(names.get(row.id, ())), **linked))
    return found


def load_runs(connection: Connection, selection: Selection) -> list[StoredRun]:
    """Return the runs that have a selected measurement, oldest first."""
    wanted = select_measurements(selection, cells.c.run_id).order_by(None).distinct().subquery()
    per_run = (
        select(cells.c.run_id, func.count().label("cells"), func.count(cells.c.error).label("errors"))
        .where(cells.c.run_id.in_(select(wanted.c.run_id)))
        .group_by(cells.c.run_id)
        .subquery()
    )
    query = (
        select(*RUN_COLUMNS, runs.c.status, runs.c.finished_at, runs.c.engine_build, per_run.c.cells, per_run.c.errors)
        .join(per_run, per_run.c.run_id == runs.c.id)
        .join(hosts, hosts.c.id == runs.c.host_id)
        .join(suites, suites.c.id == runs.c.suite_id)
        .order_by(runs.c.started_at, runs.c.id)
    )
    return [
        StoredRun(
            facts=read_run(row),
            status=row.status,
            finished_at=row.finished_at and row.finished_at.timestamp(),
            engine_build=row.engine_build,
            cells=row.cells,
            errors=row.errors,
        )
        for row in connection.execute(query)
    ]


def _newest_only(rows: Sequence[Any], last: int | None) -> Sequence[Any]:
    """Cut to ``last`` per cell: the query returns more if several measurements of a cell began at the same moment."""
    if last is None:
        return rows
    seen: Counter[str] = Counter()
    kept = []
    for row in reversed(rows):
        seen[row.cell_key] += 1
        if seen[row.cell_key] <= last:
            kept.append(row)
    return kept[::-1]


def _load_baseline_names(connection: Connection) -> Mapping[int, list[str]]:
    """Return measurement id -> the names under which it is in force. These are few, so it loads all."""
    query = select(baselines.c.cell_id, baselines.c.name).where(baselines.c.replaced_at.is_(None))
    found: dict[int, list[str]] = defaultdict(list)
    for row in connection.execute(query.order_by(baselines.c.name)):
        found[row.cell_id].append(row.name)
    return found


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "model": lambda row: read_model(row.model_facts),
    "canary": lambda row: read_canary(row.canaries),
    "traffic": read_traffic,
}
"""Facts of a measurement that need more than reading one column."""
NEEDED_BY = {"model": cells.c.model_facts, "canary": cells.c.canaries}
"""The column of a fact that has another name."""


def read_facts(kind: type, names: Iterable[str], row: Any) -> dict[str, Any]:
    """Read a measurement's facts from their columns. ``kind`` is the dataclass that declares them."""
    known = list_facts(kind)
    return {
        name: _READERS[name](row) if name in _READERS else read_fact(known[name], getattr(row, name)) for name in names
    }


_AS_STORED = tuple(
    name for name in list_facts(Measurement) if name in {*CELL_FACTS, *_READERS, "id", "samples", "failed"}
)


def _measurement(row: Any, run: RunFacts, **linked: Any) -> Measurement:
    stored = {"suite": run.suite, "host": run.host, **{name: getattr(row, name) for name in AXIS_NAMES}}
    identity = make_identity({axis.name: axis.read(stored[axis.name]) for axis in AXES})
    return Measurement(run=run, identity=identity, **read_facts(Measurement, _AS_STORED, row), **linked)
