"""The baseline file that a session was given: read before the first cell, written at the end where cells are saved."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from pytest_boobench import baseline_file
from pytest_boobench.baseline_file import BaselineFile, SavedRun
from pytest_boobench.errors import DocumentError
from pytest_boobench.plugin.options import Settings
from pytest_boobench.record import Baseline, CellRecord, RunFacts


class SharedBaseline:
    """What the file holds, and what this session puts into it."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self._path = path
        self._shown = os.path.relpath(path)
        self._name = settings.baseline
        self._mode = settings.save_baseline
        self._file: BaselineFile | None = None
        self._new: list[SavedRun] = []

    def load(self) -> BaselineFile:
        """The file as it was found, read once; UsageError where it can't be used."""
        if self._file is None:
            self._file = self._read()
        return self._file

    def baselines(self) -> Mapping[str, Baseline]:
        """Cell key -> Baseline, as the file has it or is going to."""
        return self._now().baselines()

    def save(self, run: RunFacts, record: CellRecord) -> None:
        """Note a cell that becomes part of the baseline."""
        self._new.append(SavedRun(run=run, record=record, saved_at=time.time()))

    def write(self) -> str:
        """Write the file, where anything was saved; gives back why that failed, nothing where it didn't."""
        if self._new:
            try:
                baseline_file.write(self._path, self._now())
            except OSError as error:
                return f"cannot write {self._shown}: {error.strerror}; its new baselines are in the store only"
        return ""

    def _now(self) -> BaselineFile:
        return self.load().with_runs(self._new, add=self._mode == "add")

    def _read(self) -> BaselineFile:
        if not self._path.exists() and self._mode is not None:
            return BaselineFile(name=self._name)
        if not self._path.exists():
            raise pytest.UsageError(
                f"--boobench-baseline-file: there is no {self._shown}; make it with --boobench-save-baseline "
                "or boobench baseline export"
            )
        try:
            found = baseline_file.read(self._path, self._shown)
        except DocumentError as error:
            raise pytest.UsageError(str(error)) from error
        if found.name != self._name:
            raise pytest.UsageError(
                f"{self._shown}: holds the baseline {found.name}, not {self._name}; "
                f"ask for it with --boobench-baseline {found.name}"
            )
        return found
