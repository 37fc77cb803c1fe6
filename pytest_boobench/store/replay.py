"""Room 5: what was measured while a store could not be reached: one line of JSON each, inserted later.

Inserting is idempotent.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, Table, exists, select

from pytest_boobench.baseline_file import SavedRun
from pytest_boobench.plain import make
from pytest_boobench.record import CellRecord, RunFacts, RunStatus, Verdict
from pytest_boobench.store import tables
from pytest_boobench.store.baselines import BaselineSave, Saved, save_baseline
from pytest_boobench.store.column_types import moment, storable_text
from pytest_boobench.store.writes import (
    extend_cell,
    finish_run,
    insert_cell,
    insert_run,
    insert_verdicts,
    update_run_facts,
)
from pytest_boobench.untrusted import hide_in, show

_FORMAT = 1
"""Increase it when a field changes its meaning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpooledCell:
    """A measured cell, or the end of a run, with all that a store needs to insert it, even twice or late."""

    store: str
    """Address of the store that could not take it."""
    run: RunFacts
    at: float
    """When the verdicts were given, the baseline was saved or the run ended; seconds since 1970 UTC."""
    record: CellRecord | None = None
    verdicts: tuple[Verdict, ...] = ()
    save_as: BaselineSave | None = None
    status: RunStatus | None = None
    """How the run ended; None while it goes on."""


def to_line(entry: SpooledCell) -> str:
    """Return one line of JSON, with its line end."""
    plain = {
        "boobench": _FORMAT,
        "store": entry.store,
        "run": asdict(entry.run),
        "at": entry.at,
        "record": asdict(entry.record) if entry.record else None,
        "verdicts": [asdict(verdict) for verdict in entry.verdicts],
        "save_as": asdict(entry.save_as) if entry.save_as else None,
        "status": entry.status,
    }
    # not hidden: the address never holds a password, and later sessions find the entry by it
    return json.dumps({**hide_in(plain), "store": entry.store}, default=str) + "\n"


def from_line(line: str) -> SpooledCell:
    """Parse a line that `to_line` made. Raises ValueError, worded for a message, for any other line.

    Every line gives either an entry that a store can take, or a ValueError.
    """
    try:
        plain = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("expected a JSON object, got something else") from None
    if not isinstance(plain, dict) or plain.get("boobench") != _FORMAT:
        found = plain.get("boobench") if isinstance(plain, dict) else None
        raise ValueError(f"expected an entry of format {_FORMAT}, got {show(found) if found else 'something else'}")
    del plain["boobench"]
    try:
        entry = make(SpooledCell, plain, "entry")
        _require_times(entry)
    except RecursionError:
        raise ValueError("expected an entry, got one that is nested too deep") from None
    return entry


def _require_times(entry: SpooledCell) -> None:
    """Raise ValueError for a number of seconds that is out of a date's range."""
    times = {"entry.at": entry.at, "entry.run.started_at": entry.run.started_at}
    if entry.record is not None:
        times["entry.record.started_at"] = entry.record.started_at
        times |= {
            f"entry.record.samples[{place}].started_at": sample.started_at
            for place, sample in enumerate(entry.record.samples)
        }
    for where, seconds in times.items():
        try:
            moment(seconds)
        except (ArithmeticError, OSError, ValueError):
            raise ValueError(f"{where} is {show(seconds)}, expected seconds since 1970") from None


@dataclass(slots=True)
class Replayed:
    """Counts of what was new to the store."""

    cells: int = 0
    """Measurements that the store did not have, or not with all blocks."""
    verdicts: int = 0
    """Measurements whose verdicts the store did not have."""
    baselines: int = 0

    def add(self, other: Replayed) -> None:
        """Add the other's counts."""
        self.cells += other.cells
        self.verdicts += other.verdicts
        self.baselines += other.baselines


def take_in(connection: Connection, entry: SpooledCell, taken: Replayed) -> None:
    """Insert what the store does not have yet, and count it in ``taken``.

    Needs a write transaction, so that two processes with the same run wait for each other.
    """
    at = moment(entry.at)
    run_id = enter_run(connection, entry.run)
    if entry.record is not None:
        cell_id, is_new = enter_cell(connection, run_id, entry.record)
        taken.cells += is_new
        if entry.verdicts and not _has(connection, tables.verdicts, cell_id):
            insert_verdicts(connection, cell_id, entry.verdicts, at)
            taken.verdicts += 1
        if entry.save_as and not _has(connection, tables.baselines, cell_id, name=entry.save_as.name):
            save_baseline(connection, cell_id, entry.save_as, at)
            taken.baselines += 1
    if entry.status is not None:
        finish_run(connection, run_id, entry.status, at)


def enter_saved(connection: Connection, saved: SavedRun) -> Saved:
    """Insert the measurement of a baseline file, if the store does not have it. Returns what to put in force."""
    run_id = enter_run(connection, saved.run)
    cell_id, _ = enter_cell(connection, run_id, saved.record)
    finish_run(connection, run_id, "finished", moment(saved.saved_at))
    key, at = saved.record.cell_key, saved.saved_at
    return Saved(measurement_id=cell_id, cell_key=key, saved_at=at, reason=saved.reason)


def enter_run(connection: Connection, facts: RunFacts) -> int:
    """Return the run's id; insert the run if the store does not have it."""
    runs = tables.runs
    found = connection.execute(select(runs.c.id).where(runs.c.uid == facts.uid).with_for_update()).scalar()
    return insert_run(connection, facts) if found is None else int(found)


def enter_cell(connection: Connection, run_id: int, record: CellRecord) -> tuple[int, bool]:
    """Insert or extend a measurement. Returns its id, and whether it was new or had fewer blocks.

    The start time is part of its identity: a test item may be measured twice in a run.
    """
    cells = tables.cells
    found = connection.execute(
        select(cells.c.id, cells.c.extended, cells.c.error).where(
            cells.c.run_id == run_id,
            cells.c.node_id == storable_text(record.node_id),
            cells.c.started_at == moment(record.started_at),
        )
    ).first()
    if found is None:
        cell_id = insert_cell(connection, run_id, record)
    elif len(record.extended) > len(found.extended) or (record.error and not found.error):
        cell_id = found.id
        extend_cell(connection, cell_id, record)
    else:
        return int(found.id), False
    update_run_facts(connection, run_id, record)
    return cell_id, True


def _has(connection: Connection, table: Table, cell_id: int, **more: str) -> bool:
    same = (table.c.cell_id == cell_id, *(table.c[name] == value for name, value in more.items()))
    return bool(connection.execute(select(exists().where(*same))).scalar())
