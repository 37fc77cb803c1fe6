"""Room 5: what was measured so far, for reports, comparisons and exports: measurements, and the runs they are of."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from pytest_boobench.record import Measurement, RunFacts, RunStatus
from pytest_boobench.store.selection import Selection, select_measurements
from pytest_boobench.store.tables import baselines, cells, hosts, runs, suites
from pytest_boobench.store.values import (
    RUN_COLUMNS,
    load_aggregates,
    load_verdicts,
    read_canary,
    read_model,
    read_run,
    read_traffic,
)

_IDENTITY = ("model", "kind", "prompt_tokens", "output_tokens", "concurrency", "sampling", "request", "cache")
_AS_STORED = (
    "id",
    "node_id",
    "cell_key",
    "total_tok_s",
    "engine_build",
    "samples",
    "failed",
    "blocks",
    "extended",
    "attempts",
    "stalls",
    "load_ms",
    "clock",
    "text_digest",
    "reference_host",
    "spoiled",
    "rates",
    "contradiction",
    "error",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """A run with what it came to."""

    facts: RunFacts
    status: RunStatus
    finished_at: float | None
    """Seconds since 1970 UTC; blank while it runs, or where it was killed."""
    engine_build: str | None
    cells: int
    """How many measurements of cells it has."""
    errors: int
    """How many of them could not be made, or not to their end."""


def load_measurements(connection: Connection, selection: Selection, metrics: Collection[str]) -> list[Measurement]:
    """The wanted measurements, oldest first, each with its aggregates of the named metrics, or of all."""
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
    """The runs that have a wanted measurement, oldest first."""
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
    """Where several of a cell began in one moment, the query let more of them pass than were asked for."""
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
    """Measurement -> the names under which it is in force; there are few of those, so all are taken."""
    query = select(baselines.c.cell_id, baselines.c.name).where(baselines.c.replaced_at.is_(None))
    found: dict[int, list[str]] = defaultdict(list)
    for row in connection.execute(query.order_by(baselines.c.name)):
        found[row.cell_id].append(row.name)
    return found


def _measurement(row: Any, run: RunFacts, **linked: Any) -> Measurement:
    identity = {"suite": run.suite, "host": run.host, **{name: getattr(row, name) for name in _IDENTITY}}
    if row.length is not None:
        identity["length"] = row.length
    return Measurement(
        run=run,
        identity=identity,
        started_at=row.started_at.timestamp(),
        model=read_model(row.model_facts),
        canary=read_canary(row.canaries),
        traffic=read_traffic(row),
        blanks=row.blanks or {},
        **{name: getattr(row, name) for name in _AS_STORED},
        **linked,
    )
