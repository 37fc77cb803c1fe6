"""Room 5: the Store, as the rest of the house sees it: plain facts in, plain facts out, StoreError for all trouble."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Self

from sqlalchemy import Connection, Engine

from pytest_boobench.baseline_file import BaselineFile, save_measurement
from pytest_boobench.metrics import Sample
from pytest_boobench.record import Baseline, CellRecord, Measurement, RunFacts, RunStatus, Verdict
from pytest_boobench.store.baselines import (
    BaselineChange,
    BaselineName,
    BaselineSave,
    Saved,
    clear_baselines,
    list_names,
    load_baselines,
    load_saves,
    put_in_force,
    save_baseline,
)
from pytest_boobench.store.column_types import moment
from pytest_boobench.store.database_errors import entering, explained
from pytest_boobench.store.engine import describe, open_engine, parse_url
from pytest_boobench.store.prune import Pruned, drop_samples
from pytest_boobench.store.reads import StoredRun, load_measurements, load_runs, load_samples
from pytest_boobench.store.replay import Replayed, SpooledCell, enter_saved, take_in
from pytest_boobench.store.revisions import reading, writing
from pytest_boobench.store.selection import Selection
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
    """An open store. One process of a session has it; each method is one transaction.

    What enters facts raises UnstorableError, a StoreError, where no store can hold them.
    """

    def __init__(self, engine: Engine, address: str) -> None:
        self._engine = engine
        self.address = address
        """Where it is, fit for a message: a path, or a URL without its password."""

    @classmethod
    def open(cls, url: str, *, create: bool = True) -> Self:
        """The store at a SQLAlchemy URL or path, brought to today's schema.

        With ``create`` it is made where missing and must be writable. StoreError for all that goes wrong;
        MissingExtra for PostgreSQL without its driver.
        """
        parsed = parse_url(url)
        return cls(open_engine(parsed, create=create), describe(parsed))

    def start_run(self, facts: RunFacts) -> int:
        """Enter a run as running; gives back its id."""
        with self._enter() as connection:
            return insert_run(connection, facts)

    def record(self, run_id: int, record: CellRecord) -> int:
        """Enter a measured cell with all its samples and aggregates, and what it learned of the server; gives back
        the measurement's id."""
        with self._enter() as connection:
            cell_id = insert_cell(connection, run_id, record)
            update_run_facts(connection, run_id, record)
            return cell_id

    def extend(self, cell_id: int, record: CellRecord) -> None:
        """Enter what was measured of a recorded cell since: further blocks' samples, and the whole condensed anew.

        Verdicts on less than that are taken back.
        """
        with self._enter() as connection:
            run_id = extend_cell(connection, cell_id, record)
            update_run_facts(connection, run_id, record)

    def record_verdicts(
        self, cell_id: int, verdicts: Iterable[Verdict], *, save_as: BaselineSave | None = None
    ) -> None:
        """Enter the verdicts on a recorded cell and, where asked, make it a baseline."""
        with self._enter() as connection:
            insert_verdicts(connection, cell_id, verdicts)
            if save_as:
                save_baseline(connection, cell_id, save_as)

    def take_in(self, entries: Iterable[SpooledCell]) -> Replayed:
        """Enter what was kept elsewhere while the store could not be reached; gives back what was new to it.

        One transaction an entry, and a second time changes nothing: it may be broken off and begun again.
        """
        taken = Replayed()
        for entry in entries:
            with self._enter() as connection:
                take_in(connection, entry, taken)
        return taken

    def finish_run(self, run_id: int, status: RunStatus) -> None:
        """Enter how a run ended."""
        with self._write() as connection:
            finish_run(connection, run_id, status)

    def baselines(self, name: str, *, hosts: Collection[str] | None = None) -> dict[str, Baseline]:
        """Cell key -> Baseline, for all in force under a name, of the named hosts or of all; runs oldest first."""
        with self._read() as connection:
            return load_baselines(connection, name, hosts)

    def baseline_names(self) -> list[BaselineName]:
        """The names under which something is or was in force, in their own order."""
        with self._read() as connection:
            return list_names(connection)

    def saves(self, name: str) -> list[Saved]:
        """What is in force under a name, in the order it was saved."""
        with self._read() as connection:
            return load_saves(connection, name)

    def put_in_force(self, name: str, saves: Sequence[Saved], *, add: bool = False) -> BaselineChange:
        """Make stored measurements the baseline of their cells, in the place of what is in force or beside it."""
        with self._write() as connection:
            return put_in_force(connection, name, saves, add=add)

    def import_baseline(self, file: BaselineFile, *, add: bool = False) -> BaselineChange:
        """The same for the measurements of a file; those that the store has already are not doubled."""
        with self._write() as connection:
            saves = [enter_saved(connection, saved) for saved in file.runs]
            return put_in_force(connection, file.name, saves, add=add)

    def export_baseline(self, name: str, selection: Selection) -> BaselineFile:
        """What is in force under a name, of the cells that have a selected measurement in force."""
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

    def clear_baseline(self, name: str, cell_keys: Collection[str]) -> int:
        """Take the baselines of these cells out of force; gives back how many measurements that were. None is
        deleted."""
        with self._write() as connection:
            return clear_baselines(connection, name, cell_keys)

    def prune(self, before: float, *, dry: bool = False) -> Pruned:
        """Drop the raw samples of measurements that began before then (seconds since 1970 UTC), but for those of
        baselines in force; ``dry`` only counts them."""
        with explained(self.address):
            return drop_samples(self._engine, moment(before), dry=dry)

    def measurements(self, selection: Selection, *, metrics: Collection[str] = ()) -> list[Measurement]:
        """The selected measurements, oldest first, each with its aggregates of the named metrics, or of all."""
        with self._read() as connection:
            return load_measurements(connection, selection, metrics)

    def samples(self, measurement_ids: Collection[int]) -> Mapping[int, tuple[Sample, ...]]:
        """Measurement -> its samples, warm-up and failed ones too; those that were pruned are missing."""
        with self._read() as connection:
            return load_samples(connection, measurement_ids)

    def runs(self, selection: Selection) -> list[StoredRun]:
        """The runs that have a selected measurement, oldest first."""
        with self._read() as connection:
            return load_runs(connection, selection)

    def take_lease(self, address: str, owner: str, session: str) -> Lease | None:
        """Take or renew the lease of a host's address; None where that worked, else whose it is."""
        with self._write() as connection:
            return take_lease(connection, address, owner, session)

    def give_leases_back(self, session: str) -> None:
        """Let others have the hosts that a session leased."""
        with self._write() as connection:
            give_back(connection, session)

    def close(self) -> None:
        """Let go of the database; a second time does nothing."""
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
