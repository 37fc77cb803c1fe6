"""Door 2: the file that ``boobench record`` writes: a request a line, and beside it whose requests they are."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from pytest_boobench.cli.project import show_path
from pytest_boobench.errors import BoobenchError, explain_os_error
from pytest_boobench.recording import Spoken, Turns, read_line

SUFFIX = ".jsonl"
_BESIDE = ".recording.json"
_SAME_MS = 2500
"""The log's times are whole seconds, so a request in it may be one of the file within this time."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose requests a file has."""

    host: str
    model: str


class RecordingFile:
    """One file, for one model of one host; each request is in it as soon as `write` returns."""

    def __init__(self, path: Path, origin: Origin) -> None:
        """Go on with the file if it is there. A usage error if it is not a recording of this host and model."""
        self.path = path
        self.requests = 0
        """How many were written since it was opened."""
        self._origin = origin
        self._beside = path.with_name(path.name.removesuffix(SUFFIX) + _BESIDE)
        self._zero_ms: int | None = None
        """When the file's times begin, ms since 1970 UTC."""
        self._turns = Turns()
        self._known: list[Spoken] = []
        """Those of the file that no row of the log was taken for yet."""
        self._latest_ms = 0
        self._sorted = True
        self._size = 0
        """Bytes of the file as it was left; it has others if another program writes to it."""
        with self._explaining():
            if path.exists():
                self._resume()

    def write(self, request: Spoken) -> None:
        """Append a request, and flush. Raises BoobenchError if the disk does not take it."""
        placed = self._turns.place(request)
        with self._explaining():
            self._require_alone()
            if self._zero_ms is None:
                self._set_zero(placed.began_ms)
            elif placed.began_ms < self._zero_ms:
                self._rewrite(self._read(), placed.began_ms)
            self._append(placed)

    def write_past(self, request: Spoken) -> None:
        """Do the same, unless the file has the request already."""
        for known in self._known:
            same = (known.prompt_tokens, known.output_tokens) == (request.prompt_tokens, request.output_tokens)
            if same and abs(known.began_ms - request.began_ms) <= _SAME_MS:
                self._known.remove(known)
                return
        self.write(request)

    def finish(self) -> None:
        """Sort the lines by time: requests were written when they ended."""
        if not self._sorted and self._zero_ms is not None:
            with self._explaining():
                self._require_alone()
                self._rewrite(self._read(), self._zero_ms)

    @contextlib.contextmanager
    def _explaining(self) -> Iterator[None]:
        """Raise BoobenchError for what the system refuses."""
        try:
            yield
        except OSError as error:
            why = explain_os_error(error)
            raise BoobenchError(f"{show_path(self.path)}: cannot be read and written: {why}") from error

    def _require_alone(self) -> None:
        if (self.path.stat().st_size if self.path.exists() else 0) != self._size:
            raise BoobenchError(
                f"{show_path(self.path)}: another program has changed it; expected one recording at a time for a file"
            )

    def _append(self, request: Spoken) -> None:
        line = json.dumps(request.to_line(self._zero_ms or 0))
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
        self._size = self.path.stat().st_size
        self.requests += 1
        self._sorted = self._sorted and request.began_ms >= self._latest_ms
        self._latest_ms = max(self._latest_ms, request.began_ms)

    def _set_zero(self, zero_ms: int) -> None:
        self._zero_ms = zero_ms
        _replace(self._beside, json.dumps({**asdict(self._origin), "zero_ms": zero_ms}))

    def _rewrite(self, requests: Iterable[Spoken], zero_ms: int) -> None:
        ordered = sorted(requests, key=lambda each: (each.began_ms, each.turn))
        _replace(self.path, "".join(f"{json.dumps(each.to_line(zero_ms))}\n" for each in ordered))
        self._set_zero(zero_ms)
        self._size = self.path.stat().st_size
        self._sorted = True

    def _resume(self) -> None:
        about = self._read_beside()
        self._zero_ms = about["zero_ms"]
        content = self.path.read_bytes()
        if whole := content.rpartition(b"\n")[0]:
            whole += b"\n"
        if len(whole) < len(content):  # a line that was broken off when a recording was killed
            os.truncate(self.path, len(whole))
        self._size = len(whole)
        self._known = self._read()
        for request in self._known:
            self._turns.remember(request)
            self._sorted = self._sorted and request.began_ms >= self._latest_ms
            self._latest_ms = max(self._latest_ms, request.began_ms)

    def _read_beside(self) -> dict[str, Any]:
        """What stands beside the file; a usage error where that is not there, or of another host or model."""
        shown, origin = show_path(self.path), self._origin
        try:
            about = json.loads(self._beside.read_text(encoding="utf-8"))
            found = Origin(about["host"], about["model"])
            int(about["zero_ms"])
        except (OSError, ValueError, KeyError, TypeError):
            raise click.UsageError(
                f"--output: {shown} is there, but no {self._beside.name} that says whose recording it is; "
                "expected a new file, or one of boobench record"
            ) from None
        if found != origin:
            raise click.UsageError(
                f"--output: {shown} is the recording of {found.model} on {found.host}, not of {origin.model} on "
                f"{origin.host}; expected another file"
            )
        return {**about}

    def _read(self) -> list[Spoken]:
        found = []
        for number, line in enumerate(self.path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
            try:
                found.append(read_line(json.loads(line), self._zero_ms or 0))
            except (ValueError, KeyError, TypeError, AttributeError):
                raise click.UsageError(
                    f"{show_path(self.path)}:{number}: is no line of a recording; mend it, or name a new file"
                ) from None
        return found


def _replace(path: Path, text: str) -> None:
    """Write a file so that it is never half there."""
    beside = path.with_name(f"{path.name}.new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)
