"""The session's way into the store and the baseline file.

What the store does not take goes to the spool, a file of JSON lines, and into the store at the end if it can.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_boobench import baseline_file
from pytest_boobench.baseline_file import BaselineFile, SavedRun
from pytest_boobench.environment import FOLDER, make_folder
from pytest_boobench.errors import BoobenchError, DocumentError, StoreError
from pytest_boobench.gate import add_noise, learn_noise
from pytest_boobench.plugin.settings import Settings
from pytest_boobench.record import Baseline, CellRecord, HostNoise, RunFacts, RunStatus, Verdict
from pytest_boobench.units import count

if TYPE_CHECKING:
    from pytest_boobench.store import BaselineSave, Store
    from pytest_boobench.store.replay import SpooledCell


class SessionSpool:
    """The session's spool, made when it is needed."""

    def __init__(self, rootdir: Path, session_uid: str) -> None:
        self._rootdir = rootdir
        self._name = f"spool-{session_uid}.jsonl"
        self._paths: list[Path] = []
        """Files with entries: more than one where the first folder was full for a while."""
        self._cells: set[str] = set()
        self._lost = False
        self._rejected = ""
        """What to say of entries that no store can take."""
        self.trouble = ""
        """The store's last error; empty while all went well."""

    @property
    def is_waiting(self) -> bool:
        """Whether the store lacks something."""
        return self._lost or bool(self._paths) or bool(self._rejected)

    def keep(self, entry: SpooledCell, error: StoreError) -> None:
        """Append what the store did not take, in the first folder that can be written to."""
        from pytest_boobench.store import spool

        self.trouble = str(error)
        for folder in (self._rootdir / FOLDER, Path(tempfile.gettempdir())):
            try:
                make_folder(folder)
                spool.append(folder / self._name, entry)
            except OSError:
                continue
            if (path := folder / self._name) not in self._paths:
                self._paths.append(path)
            if entry.record is not None:
                self._cells.add(entry.record.node_id)
            return
        self._lost = True

    def empty_into(self, store: Store) -> None:
        """Try once more, at the end of the session; what the store still does not take stays in the file."""
        from pytest_boobench.store import spool

        for path in tuple(self._paths):
            try:
                rejected = spool.take_in(store, path).describe_rejected()
            except (BoobenchError, OSError):
                continue
            self._rejected = "; ".join(filter(None, (self._rejected, rejected)))
            self._paths.remove(path)

    def describe(self) -> str:
        """What happened, and where the cells are."""
        return f"the store failed: {self.trouble}; {self._locate_cells()}"

    def _locate_cells(self) -> str:
        kept = count(len(self._cells), "cell")
        if self._lost:
            return "no file took all of the cells either"
        if self._rejected:
            return self._rejected
        if not self._paths:
            return f"{kept} waited in a file and came in at the end"
        return f"{kept} kept in {' and in '.join(map(self._describe_file, self._paths))}"

    def _describe_file(self, path: Path) -> str:
        if path.parent == self._rootdir / FOLDER:
            return f"{path}: the next run takes them in, or boobench store import"
        return f"{path}: boobench store import FILE takes them in"


def take_in_waiting(store: Store, rootdir: Path) -> Iterator[str]:
    """Take in what earlier sessions of this project kept for this very store; yields a message for each file."""
    from pytest_boobench.store import spool

    for path in spool.find_waiting(rootdir / FOLDER):
        try:
            if spool.find_stores(path) <= {store.address}:
                taken = spool.take_in(store, path)
                rejected = taken.describe_rejected()
                if taken.new.cells:
                    yield f"{count(taken.new.cells, 'cell')} of an earlier session taken in from {path.name}"
                if rejected:
                    yield f"{path}: {rejected}"
        except (BoobenchError, OSError) as error:
            yield f"{path}: waits to be taken in: {error}"


def read_baseline_file(path: Path, display: str, settings: Settings) -> BaselineFile:
    """The session's baseline file, empty where it is yet to be made; UsageError where it can't be used."""
    if not path.exists():
        if settings.save_baseline is not None:
            return BaselineFile(name=settings.baseline)
        raise pytest.UsageError(
            f"--boobench-baseline-file: there is no {display}; make it with --boobench-save-baseline "
            "or boobench baseline export"
        )
    try:
        found = baseline_file.read(path, display)
    except DocumentError as error:
        raise pytest.UsageError(str(error)) from error
    if found.name != settings.baseline:
        raise pytest.UsageError(
            f"{display}: holds the baseline {found.name}, not {settings.baseline}; "
            f"ask for it with --boobench-baseline {found.name}"
        )
    return found


class SessionStore:
    """Enters what the session measures. No error of the store ends it: cells are costly."""

    def __init__(self, rootdir: Path, settings: Settings, session_uid: str) -> None:
        self._rootdir = rootdir
        self._settings = settings
        self._session_uid = session_uid
        self._spool = SessionSpool(rootdir, session_uid)
        self._file: BaselineFile | None = None
        """The baseline file as it was found; None where the session has none, or not yet."""
        self._saved: list[SavedRun] = []
        """What this session adds to it."""
        self._file_trouble = ""
        self._run_ids: dict[str, int] = {}
        self._cell_ids: dict[str, int] = {}
        """Node id -> the measurement as the store knows it; none of those in the spool."""
        self.store: Store | None = None
        """None until it is opened."""
        self.notes: list[str] = []
        """What to say of earlier sessions' cells."""

    @property
    def is_behind(self) -> bool:
        """Whether the store or the baseline file lacks something that it should have."""
        return self._spool.is_waiting or bool(self._file_trouble)

    @property
    def troubles(self) -> list[str]:
        """What went wrong with them, and where the cells are; empty while all went well."""
        return list(filter(None, (self._spool.trouble and self._spool.describe(), self._file_trouble)))

    def open(self) -> Store:
        """The store, opened on first use; UsageError where it can't be, before anything is measured."""
        from pytest_boobench.store import Store, default_url

        if self.store is None:
            try:
                self.store = Store.open(self._settings.store_url or default_url(self._rootdir))
            except BoobenchError as error:
                raise pytest.UsageError(str(error)) from error
            self.notes += take_in_waiting(self.store, self._rootdir)
            if (path := self._settings.baseline_file) is not None:
                self._file = read_baseline_file(path, os.path.relpath(path), self._settings)
        return self.store

    def baselines(self) -> Mapping[str, Baseline]:
        """Cell key -> the named baseline, from the file where the session has one, with the noise of its host."""
        store, hosts = self.open(), self._settings.only_hosts or None
        found = (
            self._merge(self._file).baselines()
            if self._file is not None
            else store.baselines(self._settings.baseline, hosts=hosts)
        )
        return learn_noise(found, store.looks(hosts=hosts, but_session=self._session_uid))

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
            self._keep(error, run, record=record)
        else:
            self._cell_ids[record.node_id] = cell_id

    def judge(
        self, run: RunFacts, record: CellRecord, verdicts: tuple[Verdict, ...], save_as: BaselineSave | None
    ) -> bool:
        """Enter the verdicts on a cell and, where asked, make it a baseline; gives back whether it became one."""
        if self._file is not None and save_as is not None:
            self._saved.append(SavedRun(run=run, record=record, saved_at=time.time()))
        cell_id = self._cell_ids.pop(record.node_id, None)
        try:
            if cell_id is None:  # its record is in the spool
                raise StoreError(self._spool.trouble)
            self.open().record_verdicts(cell_id, verdicts, save_as=save_as)
        except StoreError as error:
            self._keep(error, run, record=record, verdicts=verdicts, save_as=save_as)
            return False
        return save_as is not None

    def finish(self, runs: Iterable[RunFacts], status: RunStatus) -> None:
        """Enter how the runs ended and what is in the spool; close the store and write the baseline file."""
        for run in runs:
            try:
                store = self.open()
                store.finish_run(self._run_id(store, run), status)
            except StoreError as error:
                self._keep(error, run, status=status)
        path = self._settings.baseline_file
        merged = self._merge(self._file) if self._file is not None and self._saved else None
        if self.store is not None:
            self._spool.empty_into(self.store)
            if merged is not None:
                merged = replace(merged, host_noise=self._learn(merged, self.store))
            self.store.close()
        if path is not None and merged is not None:
            try:
                baseline_file.write(path, merged)
            except OSError as error:
                shown = os.path.relpath(path)
                self._file_trouble = f"cannot write {shown}: {error.strerror}; its new baselines are in the store only"

    def _learn(self, file: BaselineFile, store: Store) -> Mapping[str, HostNoise]:
        """The noise of the file's hosts, with what this session adds."""
        try:
            return add_noise(file.host_noise, store.looks(hosts=file.hosts), file.hosts)
        except StoreError:
            return file.host_noise

    def _merge(self, found: BaselineFile) -> BaselineFile:
        return found.with_runs(self._saved, add=self._settings.save_baseline == "add")

    def _run_id(self, store: Store, run: RunFacts) -> int:
        """The store's number for the run, which is entered with its first cell."""
        if run.uid not in self._run_ids:
            self._run_ids[run.uid] = store.start_run(run)
        return self._run_ids[run.uid]

    def _keep(self, error: StoreError, run: RunFacts, **found: Any) -> None:
        from pytest_boobench.store.replay import SpooledCell

        self._spool.keep(SpooledCell(store=self.open().address, run=run, at=time.time(), **found), error)
