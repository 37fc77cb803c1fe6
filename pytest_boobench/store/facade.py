"""Room 5: the Store, the interface for the rest of the package. Plain facts in and out; StoreError for failures."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Self

from sqlalchemy import Connection, Engine

from pytest_boobench.baseline_file import BaselineFile, save_measurement
from pytest_boobench.metrics import Sample
from pytest_boobench.record import Baseline, CellRecord, HostLook, Measurement, RunFacts, RunStatus, Verdict, Vote
from pytest_boobench.store.baselines import (
    BaselineChange,
    BaselineName,
    BaselineSave,
    PastSave,
    Saved,
    clear_baselines,
    list_names,
    load_baselines,
    load_past_saves,
    load_saves,
    put_in_force,
    save_baseline,
)
from pytest_boobench.store.column_types import moment
from pytest_boobench.store.database_errors import entering, explained
from pytest_boobench.store.engine import describe, open_engine, parse_url
from pytest_boobench.store.looks import load_looks
from pytest_boobench.store.prune import Pruned, drop_samples
from pytest_boobench.store.reads import StoredRun, load_measurements, load_runs, load_samples
from pytest_boobench.store.replay import Replayed, SpooledCell, enter_saved, take_in
from pytest_boobench.store.revisions import reading, writing
from pytest_boobench.store.selection import Selection
from pytest_boobench.store.votes import insert_vote, load_votes
from pytest_boobench.store.writes import (
    Lease,
    extend_cell,
    finish_run,
    give_back,
    insert_cell,
    insert_run,
    insert_verdicts,
    take_lease,
    update_run_facts,
)


class Store:
    """An open store. Only one process of a session has it. Each method is one transaction.

    Methods that insert facts raise UnstorableError, a StoreError, for values that no store can hold.
    """

    def __init__(self, engine: Engine, address: str) -> None:
        self._engine = engine
        self.address = address
        """Where the store is, safe to print: a path, or a URL without its password."""

    @classmethod
    def open(cls, url: str, *, create: bool = True) -> Self:
        """Open the store at a SQLAlchemy URL or a path. Upgrades an old SQLite schema, never a team's database.

        With ``create``, a missing store is created, and the store must be writable. Raises StoreError for every
        failure, MissingExtra for PostgreSQL without its driver.
        """
        parsed = parse_url(url)
        return cls(open_engine(parsed, create=create), describe(parsed))

    def start_run(self, facts: RunFacts) -> int:
        """Insert a run as running and return its id."""
        with self._enter() as connection:
            return insert_run(connection, facts)

    def record(self, run_id: int, record: CellRecord) -> int:
        """Insert a measured cell with samples and aggregates, and its facts of the server; return its id."""
        with self._enter() as connection:
            cell_id = insert_cell(connection, run_id, record)
            update_run_facts(connection, run_id, record)
            return cell_id

    def extend(self, cell_id: int, record: CellRecord) -> None:
        """Add what was measured of a recorded cell since then: samples of further blocks, and new aggregates.

        Deletes earlier verdicts, because they rest on fewer samples.
        """
        with self._enter() as connection:
            run_id = extend_cell(connection, cell_id, record)
            update_run_facts(connection, run_id, record)

    def record_verdicts(
        self, cell_id: int, verdicts: Iterable[Verdict], *, save_as: BaselineSave | None = None
    ) -> None:
        """Insert the verdicts on a recorded cell. With ``save_as``, also make it a baseline."""
        with self._enter() as connection:
            insert_verdicts(connection, cell_id, verdicts)
            if save_as:
                save_baseline(connection, cell_id, save_as)

    def take_in(self, entries: Iterable[SpooledCell]) -> Replayed:
        """Insert the entries that were kept while the store could not be reached. Returns what was new.

        Each entry is one transaction. Idempotent: after an interruption, simply start again.
        """
        taken = Replayed()
        for entry in entries:
            with self._enter() as connection:
                take_in(connection, entry, taken)
        return taken

    def finish_run(self, run_id: int, status: RunStatus) -> None:
        """Record how a run ended."""
        with self._write() as connection:
            finish_run(connection, run_id, status)

    def baselines(self, name: str, *, hosts: Collection[str] | None = None) -> dict[str, Baseline]:
        """Return cell key -> Baseline for all in force under a name, oldest run first. ``hosts`` None: of all hosts."""
        with self._read() as connection:
            return load_baselines(connection, name, hosts)

    def looks(self, *, hosts: Collection[str] | None = None, but_session: str = "") -> list[HostLook]:
        """Return what the newest measurements of each host say about its noise; ``hosts`` None: of all hosts.

        Leaves out the session ``but_session``.
        """
        with self._read() as connection:
            return load_looks(connection, hosts, but_session=but_session)

    def baseline_names(self) -> list[BaselineName]:
        """Return the names under which something is or was in force, in alphabetical order."""
        with self._read() as connection:
            return list_names(connection)

    def saves(self, name: str) -> list[Saved]:
        """Return what is in force under a name, in the order it was saved."""
        with self._read() as connection:
            return load_saves(connection, name)

    def put_in_force(self, name: str, saves: Sequence[Saved], *, add: bool = False) -> BaselineChange:
        """Make stored measurements the baseline of their cells: instead of what is in force, or (``add``) beside it."""
        with self._write() as connection:
            return put_in_force(connection, name, saves, add=add)

    def import_baseline(self, file: BaselineFile, *, add: bool = False) -> BaselineChange:
        """Do the same for the measurements of a baseline file. Does not duplicate those that the store already has."""
        with self._write() as connection:
            saves = [enter_saved(connection, saved) for saved in file.runs]
            return put_in_force(connection, file.name, saves, add=add)

    def export_baseline(self, name: str, selection: Selection) -> BaselineFile:
        """Return what is in force under a name, for cells with a selected measurement in force."""
        saves = {save.measurement_id: save for save in self.saves(name)}
        found = self.measurements(replace(selection, baselines=(name,)))
        samples = self.samples([measurement.id for measurement in found])
        return BaselineFile(
            name=name,
            runs=tuple(
                save_measurement(one, samples.get(one.id, ()), saved_at=save.saved_at, reason=save.reason)
                for one in found
                if (save := saves.get(one.id))
            ),
        )

    def past_saves(self, measurement_ids: Collection[int]) -> list[PastSave]:
        """Return all saves of these measurements under any name, oldest first; also those that are out of force."""
        with self._read() as connection:
            return load_past_saves(connection, measurement_ids)

    def clear_baseline(self, name: str, cell_keys: Collection[str], reason: str = "") -> int:
        """Take the baselines of these cells out of force; return how many measurements these were. Deletes nothing."""
        with self._write() as connection:
            return clear_baselines(connection, name, cell_keys, reason)

    def prune(self, before: float, *, dry: bool = False) -> Pruned:
        """Delete raw samples of measurements that began before ``before`` (seconds since 1970 UTC).
        Baselines in force keep their samples. ``dry`` only counts."""
        with explained(self.address):
            return drop_samples(self._engine, moment(before), dry=dry)

    def measurements(self, selection: Selection, *, metrics: Collection[str] = ()) -> list[Measurement]:
        """Return the selected measurements, oldest first, with their aggregates of the named metrics, or of all."""
        with self._read() as connection:
            return load_measurements(connection, selection, metrics)

    def samples(self, measurement_ids: Collection[int]) -> Mapping[int, tuple[Sample, ...]]:
        """Return measurement id -> its samples, also warm-up and failed ones. Pruned ones are missing."""
        with self._read() as connection:
            return load_samples(connection, measurement_ids)

    def runs(self, selection: Selection) -> list[StoredRun]:
        """Return the runs that have a selected measurement, oldest first."""
        with self._read() as connection:
            return load_runs(connection, selection)

    def take_lease(self, address: str, owner: str, session: str) -> Lease | None:
        """Take or renew the lease of a host's address. Returns None on success, else the lease of the current owner."""
        with self._write() as connection:
            return take_lease(connection, address, owner, session)

    def give_leases_back(self, session: str) -> None:
        """Release all leases of a session."""
        with self._write() as connection:
            give_back(connection, session)

    def record_vote(self, vote: Vote) -> None:
        """Insert a vote on the answers to one prompt."""
        with self._enter() as connection:
            insert_vote(connection, vote)

    def votes(self) -> list[Vote]:
        """Return all votes, oldest first."""
        with self._read() as connection:
            return load_votes(connection)

    def close(self) -> None:
        """Close all connections to the database. Idempotent."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with explained(self.address), reading(self._engine) as connection:
            yield connection

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with explained(self.address), writing(self._engine) as connection:
            yield connection

    @contextmanager
    def _enter(self) -> Iterator[Connection]:
        with entering(self.address), writing(self._engine) as connection:
            yield connection
