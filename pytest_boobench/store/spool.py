"""Room 5: spool files: lines of entries that wait for a store, in the project folder that git ignores."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from pytest_boobench.errors import UnstorableError
from pytest_boobench.store.replay import Replayed, SpooledCell, from_line, to_line
from pytest_boobench.units import count

if TYPE_CHECKING:
    from pytest_boobench.store.facade import Store

_PATTERN = "spool-*.jsonl"
_TAKING = ".taking"
_REJECTED = ".rejected.jsonl"
_LOCK_WAIT_S = 10.0


@dataclass(frozen=True, slots=True)
class SpoolLine:
    """A line of a spool file: its entry, or what is wrong with it."""

    number: int
    text: str
    entry: SpooledCell | None = None
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class TakenIn:
    """What happened to the entries of a spool file."""

    new: Replayed
    """What was new to the store."""
    rejected: tuple[SpoolLine, ...] = ()
    """Lines that no store can take."""
    aside: Path | None = None
    """The file with the rejected lines."""

    def describe_rejected(self, show_path: Callable[[Path], str] = str) -> str:
        """Return one sentence with the first rejected line as an example; empty if there are none."""
        if self.aside is None:
            return ""
        first = self.rejected[0]
        return (
            f"{count(len(self.rejected), 'line')} can never come in, put aside in {show_path(self.aside)}: "
            f"line {first.number}: {first.wrong}"
        )


def append(path: Path, entry: SpooledCell) -> None:
    """Append an entry to a spool file; create the file if it is missing. Raises OSError.

    Only this user may read the file: it holds names of hosts and users.
    """
    with _locked(path):
        _append(path, to_line(entry))


def _append(path: Path, text: str) -> None:
    handle = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
    with os.fdopen(handle, "wb", buffering=0) as file:
        before, left = os.fstat(handle).st_size, memoryview(text.encode())
        try:
            while left:
                left = left[file.write(left) :]
        except OSError:
            os.ftruncate(handle, before)  # or half a line would spoil the next one, once there is room again
            raise


def find_waiting(folder: Path) -> list[Path]:
    """Return the spool files in a folder, also those whose import began but did not finish."""
    found = [*folder.glob(_PATTERN), *folder.glob(f"{_PATTERN}.*{_TAKING}")]
    return sorted(path for path in found if not path.name.endswith(_REJECTED))


def read(path: Path) -> list[SpoolLine]:
    """Read a spool file's lines, oldest first. Skips a last line without a line end: its writer was killed."""
    *whole, _cut_off = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return [_read_line(number, text) for number, text in enumerate(whole, start=1)]


def _read_line(number: int, text: str) -> SpoolLine:
    try:
        return SpoolLine(number, text, entry=from_line(text))
    except ValueError as error:
        return SpoolLine(number, text, wrong=str(error))


def find_stores(path: Path) -> set[str]:
    """Return the addresses of the stores that a spool file's entries wait for. Ignores lines that are no entries."""
    return {line.entry.store for line in read(path) if line.entry is not None}


def take_in(store: Store, path: Path) -> TakenIn:
    """Insert a spool file's entries into a store, then remove the file.

    Entries that no store can hold move to a second file beside it. If the store cannot take anything now, the file
    stays: raises StoreError or OSError. Entries inserted before that do no harm when they come again.
    """
    taken, rejected = Replayed(), []
    with _claimed(path) as claim:
        for line in read(claim):
            if line.entry is not None:
                try:
                    taken.add(store.take_in([line.entry]))
                except UnstorableError as error:
                    line = replace(line, entry=None, wrong=str(error))  # noqa: PLW2901  # the same, and why not
            if line.entry is None:
                rejected.append(line)
        aside = _put_aside(path, rejected) if rejected else None
    return TakenIn(taken, tuple(rejected), aside)


def _put_aside(path: Path, lines: Sequence[SpoolLine]) -> Path:
    """Append lines, unchanged, to ``spool-….rejected.jsonl``."""
    stem = path.name.partition(".jsonl")[0].removesuffix(_REJECTED.removesuffix(".jsonl"))
    aside = path.with_name(f"{stem}{_REJECTED}")
    with _locked(path):
        _append(aside, "".join(f"{line.text}\n" for line in lines))
    return aside


@contextmanager
def _claimed(path: Path) -> Iterator[Path]:
    """Rename the file, so that nobody appends to it. Remove it at the end; on an error, rename it back."""
    claim = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{_TAKING}")
    with _locked(path):
        path.rename(claim)
    try:
        yield claim
    except BaseException:
        with _locked(path):
            if not path.exists():  # else the session goes on and has begun a new file
                claim.rename(path)
        raise
    claim.unlink()


def _locked(path: Path) -> FileLock:
    """The lock between writers and readers: one for all files of a folder."""
    return FileLock(path.with_name("spool.lock"), timeout=_LOCK_WAIT_S, mode=0o600)
