"""Room 5: inserts and updates of runs, cells, verdicts and leases, each inside the caller's transaction."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from sqlalchemy import Column, Connection, Table, delete, func, insert, select, update

from pytest_boobench.aggregate import Aggregate
from pytest_boobench.facts import Traffic
from pytest_boobench.metrics import STORED_BESIDE, Sample
from pytest_boobench.plain import list_facts, take
from pytest_boobench.record import CellRecord, RunFacts, RunStatus, Verdict
from pytest_boobench.store import tables
from pytest_boobench.store.column_types import moment


def insert_new(connection: Connection, table: Table, row: Mapping[str, Any], unique: Column[Any]) -> None:
    """Insert the row, unless one with the same value of ``unique`` exists."""
    if connection.dialect.name == "sqlite":
        from sqlalchemy.dialects.sqlite import insert  # noqa: PLC0415  # each takes a while to import
    else:
        from sqlalchemy.dialects.postgresql import insert  # type: ignore[assignment]  # noqa: PLC0415
    make = insert(table).values(dict(row))
    connection.execute(make.on_conflict_do_nothing(index_elements=[unique]))


def insert_run(connection: Connection, facts: RunFacts) -> int:
    """Insert a run, and its host and suite if they are new. Returns the run's id."""
    row = {
        **{name: value for name, value in asdict(facts).items() if name in tables.runs.c},
        "host_id": _name_id(connection, tables.hosts, facts.host),
        "suite_id": _name_id(connection, tables.suites, facts.suite),
        "started_at": moment(facts.started_at),
        "model_facts": {},
        "takeover": False,
        "status": "running",
    }
    return _insert_one(connection, tables.runs, row)


def insert_cell(connection: Connection, run_id: int, record: CellRecord) -> int:
    """Insert a measurement of a cell with its samples and aggregates. Returns the measurement's id."""
    cell_id = _insert_one(connection, tables.cells, {"run_id": run_id, **_cell_row(record)})
    _insert_all(connection, tables.samples, [_sample_row(cell_id, sample) for sample in record.samples])
    _insert_all(connection, tables.aggregates, _aggregate_rows(cell_id, record))
    return cell_id


def extend_cell(connection: Connection, cell_id: int, record: CellRecord) -> int:
    """Add the samples of further blocks, replace the aggregates, delete the verdicts; return the run's id."""
    run_id: int = connection.execute(select(tables.cells.c.run_id).where(tables.cells.c.id == cell_id)).scalar_one()
    connection.execute(update(tables.cells).where(tables.cells.c.id == cell_id).values(_cell_row(record)))
    here = tables.samples.c
    stored = {
        (row.block, row.attempt)
        for row in connection.execute(select(here.block, here.attempt).where(here.cell_id == cell_id).distinct())
    }
    added = [sample for sample in record.samples if (sample.block, sample.attempt) not in stored]
    _insert_all(connection, tables.samples, [_sample_row(cell_id, sample) for sample in added])
    for table in (tables.aggregates, tables.verdicts):
        connection.execute(delete(table).where(table.c.cell_id == cell_id))
    _insert_all(connection, tables.aggregates, _aggregate_rows(cell_id, record))
    return run_id


def update_run_facts(connection: Connection, run_id: int, record: CellRecord) -> None:
    """Update the run with what a cell learned about server, model and other requests. Other facts stay unchanged."""
    run = connection.execute(select(tables.runs).where(tables.runs.c.id == run_id)).one()
    values: dict[str, Any] = {"takeover": run.takeover or record.takeover}
    values["engine_build"] = record.engine_build or run.engine_build
    if record.server:
        values["server_facts"] = asdict(record.server)
    if record.model:
        values["model_facts"] = {**run.model_facts, record.identity["model"]: asdict(record.model)}
    if record.traffic:
        values["in_flight_at_start"] = _first_known(run.in_flight_at_start, record.traffic.in_flight_at_start)
        of_cells = tables.cells.c.concurrent_foreign_requests
        values["concurrent_foreign_requests"] = (
            select(func.sum(of_cells)).where(tables.cells.c.run_id == run_id).scalar_subquery()
        )
    connection.execute(update(tables.runs).where(tables.runs.c.id == run_id).values(values))


def _first_known(before: int | None, now: int | None) -> int | None:
    """The first cell's number stands for the run."""
    return now if before is None else before


def insert_verdicts(
    connection: Connection, cell_id: int, verdicts: Iterable[Verdict], judged_at: datetime | None = None
) -> None:
    """Insert the verdicts on one measurement. Default of ``judged_at``: now."""
    judged_at = judged_at or datetime.now(UTC)
    rows = [{"cell_id": cell_id, "judged_at": judged_at, **asdict(verdict)} for verdict in verdicts]
    _insert_all(connection, tables.verdicts, rows)


def finish_run(connection: Connection, run_id: int, status: RunStatus, at: datetime | None = None) -> None:
    """Record how a run ended. Default of ``at``: now. A run that has already ended stays unchanged."""
    runs = tables.runs
    going_on = (runs.c.id == run_id, runs.c.status == "running")
    connection.execute(update(runs).where(*going_on).values(status=status, finished_at=at or datetime.now(UTC)))


def _name_id(connection: Connection, table: Table, name: str) -> int:
    """Return the id of a named row; insert it if missing. Safe when two processes do so at once."""
    insert_new(connection, table, {"name": name, "first_seen_at": datetime.now(UTC)}, unique=table.c.name)
    return int(connection.execute(select(table.c.id).where(table.c.name == name)).scalar_one())


def _insert_one(connection: Connection, table: Table, row: Mapping[str, Any]) -> int:
    key: Any = connection.execute(insert(table).values(row)).inserted_primary_key
    return int(key[0])


def _insert_all(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    if rows:  # without rows, the statement would insert one row of defaults
        connection.execute(insert(table), rows)


def _cell_row(record: CellRecord) -> dict[str, Any]:
    facts = {
        name: asdict(cast("Any", fact)) if is_dataclass(fact) else fact
        for name, fact in take(tables.CELL_FACTS, record).items()
    }
    return {
        **{name: record.identity.get(name) for name in tables.AXIS_NAMES},
        "prompt_tokens": record.identity.get("prompt_tokens", 0),  # the first schema allows no NULL
        **facts,
        "started_at": moment(record.started_at),
        "canaries": [asdict(canary) for canary in record.canaries],
        "spoiled": record.error or record.spoiled,
        "samples": record.measured,
        "failed": len(record.failed),
        "model_facts": asdict(record.model) if record.model else None,
        "reference_facts": asdict(record.reference) if record.reference else None,
        **(_traffic_columns(record.traffic) if record.traffic else {}),
    }


def _traffic_columns(traffic: Traffic) -> dict[str, Any]:
    plain = asdict(traffic)
    return {column: plain[fact.name] for column, fact in tables.TRAFFIC_COLUMNS.items()}


def _aggregate_rows(cell_id: int, record: CellRecord) -> list[dict[str, Any]]:
    return [
        {"cell_id": cell_id, "metric": metric, **asdict(aggregate)}
        for metric, aggregate in record.aggregates.items()
        if _is_storable(aggregate)
    ]


def _sample_row(cell_id: int, sample: Sample) -> dict[str, Any]:
    facts = take((*list_facts(Sample), *STORED_BESIDE), sample)
    return {**facts, "cell_id": cell_id, "started_at": moment(sample.started_at)}


def _is_storable(aggregate: Aggregate) -> bool:
    """Whether its statistics are finite numbers; others cannot be compared."""
    return all(math.isfinite(value) for value in asdict(aggregate).values() if value is not None)


LEASE_S = 90.0
"""How long a lease lasts after its last heartbeat: several heartbeats, and a margin for clocks that differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Who has a host."""

    address: str
    owner: str
    session: str
    taken_at: datetime
    heartbeat_at: datetime


def take_lease(connection: Connection, address: str, owner: str, session: str) -> Lease | None:
    """Take or renew a session's lease of an address. Returns None on success, else the current owner's lease.

    Needs a write transaction, so that two sessions wait for each other.
    """
    now = datetime.now(UTC)
    table = tables.leases
    wanted = {"owner": owner, "session": session, "heartbeat_at": now, "expires_at": now + timedelta(seconds=LEASE_S)}
    insert_new(connection, table, {"address": address, "taken_at": now, **wanted}, unique=table.c.address)
    row = connection.execute(select(table).where(table.c.address == address).with_for_update()).one()
    if row.session != session and row.expires_at > now:
        return Lease(
            address=address, owner=row.owner, session=row.session, taken_at=row.taken_at, heartbeat_at=row.heartbeat_at
        )
    taken_at = row.taken_at if row.session == session else now
    connection.execute(update(table).where(table.c.address == address).values(taken_at=taken_at, **wanted))
    return None


def give_back(connection: Connection, session: str) -> None:
    """Release every lease of a session."""
    connection.execute(delete(tables.leases).where(tables.leases.c.session == session))
