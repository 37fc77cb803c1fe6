"""The plugin used on a server as a user would, each step with what it printed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.real.environment import write_json

CHECKOUT = Path(__file__).parents[2]
HOST = "real"
_TIMEOUT_S = 1800.0


@dataclass(frozen=True, slots=True)
class Step:
    """A command, and what came of it."""

    command: str
    exit_code: int
    output: str


@dataclass(frozen=True, slots=True)
class Session:
    """A pytest session with its JSON document."""

    step: Step
    document: Mapping[str, Any]

    @property
    def cells(self) -> Sequence[Mapping[str, Any]]:
        """Those that were measured."""
        return list(self.document.get("cells", []))

    @property
    def unmeasured(self) -> Sequence[Mapping[str, Any]]:
        """Those that were not, with the reason."""
        return list(self.document.get("unmeasured", []))


class Place:
    """A user's folder, empty at first: a hosts file, suites, a pytest.ini, a store."""

    def __init__(self, folder: Path, variables: Mapping[str, str] | None = None) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.folder = folder
        self._variables = dict(variables or {})

    def write(self, host: Mapping[str, Any], suites: Sequence[Mapping[str, Any]], gap_s: float = 5.0) -> None:
        """The files by hand. Blocks of a doubtful cell stand ``gap_s`` apart, not a minute, so that it takes less."""
        write_json(self.folder / "boobench.hosts.yaml", {"hosts": {HOST: dict(host)}})
        for suite in suites:
            write_json(self.folder / f"{suite['suite']}.boobench.yaml", {"hosts": [HOST], **suite})
        (self.folder / "pytest.ini").write_text(f"[pytest]\nboobench_block_gap = {gap_s}s\n")

    def boobench(self, *arguments: str) -> Step:
        """``boobench …``"""
        return self._run("boobench", ["-m", "pytest_boobench.cli"], arguments)

    def session(self, *arguments: str) -> Session:
        """``pytest --boobench …`` with all that it knows as JSON."""
        file = self.folder / "session.json"
        file.unlink(missing_ok=True)
        wanted = ["--boobench", *arguments, f"--boobench-json={file.name}", "--boobench-json-samples", "-v"]
        step = self._run("pytest", ["-m", "pytest", "-p", "no:cacheprovider"], wanted)
        return Session(step, json.loads(file.read_text()) if file.exists() else {})

    def _run(self, shown: str, how: Sequence[str], arguments: Sequence[str]) -> Step:
        path = os.pathsep.join(filter(None, (str(CHECKOUT), os.environ.get("PYTHONPATH"))))
        done = subprocess.run(
            [sys.executable, *how, *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200", **self._variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        return Step(" ".join((shown, *arguments)), done.returncode, done.stdout)
