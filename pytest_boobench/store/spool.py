"""Room 5: spool files: lines of entries that wait for a store, in the project's own folder for what is not for git."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from pytest_boobench.errors import DocumentError, Problem
from pytest_boobench.store.entry import Entry, from_line, to_line
from pytest_boobench.store.intake import Taken

if TYPE_CHECKING:
    from pytest_boobench.store.store import Store

_PATTERN = "spool-*.jsonl"
_TAKING = ".taking"
_LOCK_WAIT_S = 10.0


def append(path: Path, entry: Entry) -> None:
    """Add an entry to a spool file, made where it is missing; OSError where that can't be.

    It is for this user's eyes only: names of hosts and users are in it.
    """
    with _locked(path):
        handle = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(to_line(entry))


def find_waiting(folder: Path) -> list[Path]:
    """The spool files in a folder, also those that somebody began to take in and did not come to an end with."""
    return sorted([*folder.glob(_PATTERN), *folder.glob(f"{_PATTERN}.*{_TAKING}")])


def read(path: Path, display: str | None = None) -> list[Entry]:
    """A spool file's entries, oldest first; DocumentError with all lines that are none of ours.

    A last line without its end is left out: who wrote it was killed. ``display`` is how messages call the file.
    """
    entries, problems = [], []
    *whole, _cut_off = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, line in enumerate(whole, start=1):
        try:
            entries.append(from_line(line))
        except ValueError as error:
            problems.append(Problem(display or str(path), number, "", str(error)))
    if problems:
        raise DocumentError(problems)
    return entries


def take_in(store: Store, path: Path) -> Taken:
    """Take a spool file's entries into a store and remove it; it stays where anything goes wrong.

    StoreError, DocumentError or OSError for that; what was entered until then does no harm when it comes again.
    """
    with _claimed(path) as claim:
        return store.take_in(read(claim, str(path)))


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
