"""Room 5: spool files: lines of entries that wait for a store, in the project's own folder for what is not for git."""

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
    """What became of a spool file."""

    new: Replayed
    """To the store."""
    rejected: tuple[SpoolLine, ...] = ()
    """Lines that can never come in."""
    aside: Path | None = None
    """Where they are now."""

    def describe_rejected(self, show_path: Callable[[Path], str] = str) -> str:
        """In one sentence, with the first of them as an example; empty where there are none."""
        if self.aside is None:
            return ""
        first = self.rejected[0]
        return (
            f"{count(len(self.rejected), 'line')} can never come in, put aside in {show_path(self.aside)}: "
            f"line {first.number}: {first.wrong}"
        )


def append(path: Path, entry: SpooledCell) -> None:
    """Add an entry to a spool file, made where it is missing; OSError where that can't be.

    It is for this user's eyes only: names of hosts and users are in it.
    """
    with _locked(path):
        _append(path, to_line(entry))


def _append(path: Path, text: str) -> None:
    handle = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)


def find_waiting(folder: Path) -> list[Path]:
    """The spool files in a folder, also those that somebody began to take in and did not come to an end with."""
    found = [*folder.glob(_PATTERN), *folder.glob(f"{_PATTERN}.*{_TAKING}")]
    return sorted(path for path in found if not path.name.endswith(_REJECTED))


def read(path: Path) -> list[SpoolLine]:
    """A spool file's lines, oldest first.

    A last line without its end is left out: who wrote it was killed.
    """
    *whole, _cut_off = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return [_read_line(number, text) for number, text in enumerate(whole, start=1)]


def _read_line(number: int, text: str) -> SpoolLine:
    try:
        return SpoolLine(number, text, entry=from_line(text))
    except ValueError as error:
        return SpoolLine(number, text, wrong=str(error))


def find_stores(path: Path) -> set[str]:
    """Addresses of the stores that a spool file's entries wait for; lines that are none of ours wait for nothing."""
    return {line.entry.store for line in read(path) if line.entry is not None}


def take_in(store: Store, path: Path) -> TakenIn:
    """Take a spool file's entries into a store and remove it.

    What can never come in, into no store, is put aside into a file beside it. Where the store cannot take anything now,
    all stays where it is: StoreError or OSError; what was entered until then does no harm when it comes again.
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
    """Append lines to ``spool-….rejected.jsonl``, as they came."""
    stem = path.name.partition(".jsonl")[0].removesuffix(_REJECTED.removesuffix(".jsonl"))
    aside = path.with_name(f"{stem}{_REJECTED}")
    with _locked(path):
        _append(aside, "".join(f"{line.text}\n" for line in lines))
    return aside


@contextmanager
def _claimed(path: Path) -> Iterator[Path]:
    """The file under a name that nobody appends to; removed at the end, or renamed back."""
    claim = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{_TAKING}")
    with _locked(path):
        path.rename(claim)
    try:
        yield claim
    except BaseException:
        with _locked(path):
            if not path.exists():  # else the session goes on and has begun a new one
                claim.rename(path)
        raise
    claim.unlink()


def _locked(path: Path) -> FileLock:
    """Keeps apart who appends and who takes in; one lock for all files of a folder."""
    return FileLock(path.with_name("spool.lock"), timeout=_LOCK_WAIT_S, mode=0o600)
