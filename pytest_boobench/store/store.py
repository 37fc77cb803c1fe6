"""Room 5: the Store, as the rest of the house sees it: plain facts in, plain facts out, StoreError for all trouble."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from sqlalchemy import Connection, Engine

from pytest_boobench.record import Baseline, CellRecord, RunFacts, RunStatus, Verdict
from pytest_boobench.store.baselines import BaselineSave, load_baselines, save_baseline
from pytest_boobench.store.leases import Lease, give_back, take_lease
from pytest_boobench.store.open import describe, open_engine, parse_url
from pytest_boobench.store.record import finish_run, insert_cell, insert_run, insert_verdicts, update_run_facts
from pytest_boobench.store.transactions import reading, writing
from pytest_boobench.store.trouble import explained


class Store:
    """An open store. One process of a session has it; each method is one transaction."""

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
        with self._write() as connection:
            return insert_run(connection, facts)

    def record(self, run_id: int, record: CellRecord) -> int:
        """Enter a measured cell with all its samples and aggregates, and what it learned of the server; gives back
        the measurement's id."""
        with self._write() as connection:
            cell_id = insert_cell(connection, run_id, record)
            update_run_facts(connection, run_id, record)
            return cell_id

    def record_verdicts(
        self, cell_id: int, verdicts: Iterable[Verdict], *, save_as: BaselineSave | None = None
    ) -> None:
        """Enter the verdicts on a recorded cell and, where asked, make it a baseline."""
        with self._write() as connection:
            insert_verdicts(connection, cell_id, verdicts)
            if save_as:
                save_baseline(connection, cell_id, save_as)

    def finish_run(self, run_id: int, status: RunStatus) -> None:
        """Enter how a run ended."""
        with self._write() as connection:
            finish_run(connection, run_id, status)

    def baselines(self, name: str, *, hosts: Collection[str] | None = None) -> dict[str, Baseline]:
        """Cell key -> Baseline, for all in force under a name, of the named hosts or of all; runs oldest first."""
        with explained(self.address), reading(self._engine) as connection:
            return load_baselines(connection, name, hosts)

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
    def _write(self) -> Iterator[Connection]:
        with explained(self.address), writing(self._engine) as connection:
            yield connection
