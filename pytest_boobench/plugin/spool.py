"""Where measured cells go when the store fails in the middle of a session, and how they come into it after all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_boobench.errors import BoobenchError, StoreError
from pytest_boobench.units import count

if TYPE_CHECKING:
    from pytest_boobench.store import Store
    from pytest_boobench.store.entry import Entry


class Spool:
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

    def keep(self, entry: Entry, error: StoreError) -> None:
        """Append what the store did not take, at the first place that takes it."""
        from pytest_boobench.store import spool
        from pytest_boobench.store.open import FOLDER, make_folder

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
    from pytest_boobench.store.open import FOLDER

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
