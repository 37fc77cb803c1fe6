"""The session's way into the store. What the store does not take goes to the spool, and in at the end if it can."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_boobench.errors import BoobenchError, StoreError
from pytest_boobench.plugin.options import Settings
from pytest_boobench.plugin.shared_baseline import SharedBaseline
from pytest_boobench.record import Baseline, CellRecord, RunFacts, RunStatus, Verdict
from pytest_boobench.units import count

if TYPE_CHECKING:
    from pytest_boobench.store import BaselineSave, Store
    from pytest_boobench.store.replay import SpooledCell


class SessionSpool:
    """A session's file of JSON lines, made when it is needed."""

    def __init__(self, rootdir: Path, session_uid: str) -> None:
        self._rootdir = rootdir
        self._name = f"spool-{session_uid}.jsonl"
        self._path: Path | None = None
        self._cells: set[str] = set()
        self._lost = False
        self._rejected = ""
        """What to say of what can never come in."""
        self.trouble = ""
        """The store's last error; empty while all went well."""

    @property
    def is_waiting(self) -> bool:
        """Whether something is not in the store."""
        return self._lost or self._path is not None or bool(self._rejected)

    def keep(self, entry: SpooledCell, error: StoreError) -> None:
        """Append what the store did not take, at the first place that takes it."""
        from pytest_boobench.store import spool
        from pytest_boobench.store.engine import FOLDER, make_folder

        self.trouble = str(error)
        for folder in (self._rootdir / FOLDER, Path(tempfile.gettempdir())):
            try:
                make_folder(folder)
                spool.append(folder / self._name, entry)
            except OSError:
                continue
            self._path = folder / self._name
            if entry.record is not None:
                self._cells.add(entry.record.node_id)
            return
        self._lost = True

    def empty_into(self, store: Store) -> None:
        """Try once more, at the end of the session; what the store still does not take stays where it is, what no store
        can ever take is put aside."""
        from pytest_boobench.store import spool

        if self._path is not None:
            try:
                self._rejected = spool.take_in(store, self._path).describe_rejected()
            except (BoobenchError, OSError):
                return
            self._path = None

    def describe(self) -> str:
        """What happened, and where the cells are."""
        return f"the store failed: {self.trouble}; {self._describe_cells()}"

    def _describe_cells(self) -> str:
        kept = count(len(self._cells), "cell")
        if self._lost:
            return "no file took all of the cells either"
        if self._rejected:
            return self._rejected
        if self._path is None:
            return f"{kept} waited in a file and came in at the end"
        if self._path.is_relative_to(self._rootdir):
            return f"{kept} kept in {self._path}: the next run takes them in, or boobench store import"
        return f"{kept} kept in {self._path}: boobench store import FILE takes them in"


def take_in_waiting(store: Store, rootdir: Path) -> Iterator[str]:
    """Take in what earlier sessions of this project kept for this very store; what to say of each file."""
    from pytest_boobench.store import spool
    from pytest_boobench.store.engine import FOLDER

    for path in spool.find_waiting(rootdir / FOLDER):
        try:
            if spool.find_stores(path) <= {store.address}:
                taken = spool.take_in(store, path)
                rejected = taken.describe_rejected()
                if taken.new.cells or not rejected:
                    yield f"{count(taken.new.cells, 'cell')} of an earlier session taken in from {path.name}"
                if rejected:
                    yield f"{path}: {rejected}"
        except (BoobenchError, OSError) as error:
            yield f"{path}: waits to be taken in: {error}"


class SessionStore:
    """Everything that the session enters. No error of the store ends it: cells are costly."""

    def __init__(self, rootdir: Path, settings: Settings, session_uid: str) -> None:
        self._rootdir = rootdir
        self._settings = settings
        self._spool = SessionSpool(rootdir, session_uid)
        self._file = SharedBaseline(settings.baseline_file, settings) if settings.baseline_file else None
        self._file_trouble = ""
        self._store: Store | None = None
        self._run_ids: dict[str, int] = {}
        self._cell_ids: dict[str, int] = {}
        """Node id -> the measurement as the store knows it; none of those in the spool."""
        self.notes: list[str] = []
        """What to say of earlier sessions' cells."""

    @property
    def store(self) -> Store | None:
        """The store, where it was opened."""
        return self._store

    @property
    def is_behind(self) -> bool:
        """Whether the store or the baseline file lacks something that it should have."""
        return self._spool.is_waiting or bool(self._file_trouble)

    @property
    def troubles(self) -> list[str]:
        """What happened to them meanwhile, and where the cells are; empty while all went well."""
        return list(filter(None, (self._spool.trouble and self._spool.describe(), self._file_trouble)))

    def open(self) -> Store:
        """The store, opened on first use; UsageError where it can't be, before anything is measured."""
        from pytest_boobench.store import Store, default_url

        if self._store is None:
            try:
                self._store = Store.open(self._settings.store_url or default_url(self._rootdir))
            except BoobenchError as error:
                raise pytest.UsageError(str(error)) from error
            self.notes += take_in_waiting(self._store, self._rootdir)
            if self._file is not None:
                self._file.load()
        return self._store

    def baselines(self) -> Mapping[str, Baseline]:
        """Cell key -> the named baseline, from the file where the session has one."""
        store = self.open()
        if self._file is not None:
            return self._file.baselines()
        return store.baselines(self._settings.baseline, hosts=self._settings.only_hosts or None)

    def record(self, run: RunFacts, record: CellRecord, *, extends: bool) -> None:
        """Enter a first block as a new measurement, any further one with it."""
        cell_id = self._cell_ids.pop(record.node_id, None)
        try:
            store = self.open()
            if extends and cell_id is not None:
                store.extend(cell_id, record)
            else:
                cell_id = store.record(self._run_id(store, run), record)
        except StoreError as error:
            self._keep(error, run, record)
        else:
            self._cell_ids[record.node_id] = cell_id

    def judge(
        self, run: RunFacts, record: CellRecord, verdicts: tuple[Verdict, ...], save_as: BaselineSave | None
    ) -> bool:
        """Enter the verdicts on a cell and, where asked, make it a baseline; gives back whether it became one."""
        if self._file is not None and save_as is not None:
            self._file.save(run, record)
        cell_id = self._cell_ids.pop(record.node_id, None)
        if cell_id is None:  # its record is in the spool
            self._keep(StoreError(self._spool.trouble), run, record, verdicts, save_as)
            return False
        try:
            self.open().record_verdicts(cell_id, verdicts, save_as=save_as)
        except StoreError as error:
            self._keep(error, run, record, verdicts, save_as)
            return False
        return save_as is not None

    def finish(self, runs: Iterable[RunFacts], status: RunStatus) -> None:
        """Enter how the runs ended, and whatever waits in the spool; close the store and write the baseline file."""
        for run in runs:
            try:
                store = self.open()
                store.finish_run(self._run_id(store, run), status)
            except StoreError as error:
                self._spool.keep(self._entry(run, status=status), error)
        if self._store is not None:
            self._spool.empty_into(self._store)
            self._store.close()
        if self._file is not None:
            self._file_trouble = self._file.write()

    def _run_id(self, store: Store, run: RunFacts) -> int:
        """As the store knows the run, which is entered with its first cell."""
        if run.uid not in self._run_ids:
            self._run_ids[run.uid] = store.start_run(run)
        return self._run_ids[run.uid]

    def _keep(
        self,
        error: StoreError,
        run: RunFacts,
        record: CellRecord,
        verdicts: tuple[Verdict, ...] = (),
        save_as: BaselineSave | None = None,
    ) -> None:
        self._spool.keep(self._entry(run, record=record, verdicts=verdicts, save_as=save_as), error)

    def _entry(self, run: RunFacts, **found: Any) -> SpooledCell:
        from pytest_boobench.store.replay import SpooledCell

        return SpooledCell(store=self.open().address, run=run, at=time.time(), **found)
