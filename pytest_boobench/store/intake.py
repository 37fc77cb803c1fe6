"""Room 5: taking in what was measured while a store could not be reached. A second time changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, Table, exists, select

from pytest_boobench.baseline_file import SavedRun
from pytest_boobench.record import CellRecord, RunFacts
from pytest_boobench.store import tables
from pytest_boobench.store.baselines import save_baseline
from pytest_boobench.store.columns import moment, storable_text
from pytest_boobench.store.entry import Entry
from pytest_boobench.store.record import (
    extend_cell,
    finish_run,
    insert_cell,
    insert_run,
    insert_verdicts,
    update_run_facts,
)
from pytest_boobench.store.saves import Saved


@dataclass(slots=True)
class Taken:
    """What was new to the store, counted."""

    cells: int = 0
    """Measurements that it did not have, or not with all their blocks."""
    verdicts: int = 0
    """Measurements whose verdicts it did not have."""
    baselines: int = 0

    def add(self, other: Taken) -> None:
        """Count what another has counted too."""
        self.cells += other.cells
        self.verdicts += other.verdicts
        self.baselines += other.baselines


def take_in(connection: Connection, entry: Entry, taken: Taken) -> None:
    """Enter what the store does not have yet, and count it.

    In a transaction that writes: of two that take in one run at once, one waits for the other.
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
    """Enter the measurement of a baseline file where the store does not have it; gives back what to put in force."""
    run_id = enter_run(connection, saved.run)
    cell_id, _ = enter_cell(connection, run_id, saved.record)
    finish_run(connection, run_id, "finished", moment(saved.saved_at))
    key, at = saved.record.cell_key, saved.saved_at
    return Saved(measurement_id=cell_id, cell_key=key, saved_at=at, reason=saved.reason)


def enter_run(connection: Connection, facts: RunFacts) -> int:
    """The run's id, as the store knows it or from now on."""
    runs = tables.runs
    found = connection.execute(select(runs.c.id).where(runs.c.uid == facts.uid).with_for_update()).scalar()
    return insert_run(connection, facts) if found is None else int(found)


def enter_cell(connection: Connection, run_id: int, record: CellRecord) -> tuple[int, bool]:
    """The measurement's id, and whether it was new or had fewer blocks; a test item may be measured again in a run."""
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
