"""Sessions of six cells in processes of their own that are struck from outside, and what is left of them after that."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.forking import ForkedPython

CELLS = 6
_ENDING_S = 20.0
_SESSION_S = 120.0
SMALL = {"server": "embedded", "layers": 1, "width": 256, "feed_forward": 256}
_PATIENT = (Path(__file__).parent / "patient.py").read_text(encoding="utf-8")
_INI = (
    "[pytest]\nboobench_block_gap = 0s\nboobench_quiet = 0s\naddopts = --disable-plugin-autoload -p boobench -p xdist\n"
)


def make_project(
    folder: Path, hosts: Mapping[str, Mapping[str, Any]], *, output_tokens: int = 8, samples: int = 4
) -> None:
    """A suite of six cells, on the first of these hosts."""
    grid = {"prompt_tokens": [16, 24, 32], "output_tokens": [output_tokens], "concurrency": [1, 2]}
    suite = {"suite": "six", "hosts": [next(iter(hosts))], "models": ["tiny-chat"], "grid": grid}
    (folder / "six.boobench.yaml").write_text(yaml.safe_dump({**suite, "warmup": 1, "samples": samples}))
    (folder / "boobench.hosts.yaml").write_text(yaml.safe_dump({"hosts": {name: dict(hosts[name]) for name in hosts}}))
    (folder / "patient.py").write_text(_PATIENT)
    (folder / "pytest.ini").write_text(_INI)


class _Fork:
    """A process forked from one that has imported everything, as a `subprocess.Popen`: a second sooner."""

    def __init__(self, args: Sequence[str], output: int, folder: Path, environ: Mapping[str, str]) -> None:
        with Path(os.devnull).open("rb") as nothing:
            self._process = ForkedPython(args, (nothing.fileno(), output, output), folder=folder, environ=environ)
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return None if psutil.pid_exists(self.pid) else self._process.wait()

    def wait(self, timeout: float) -> int:
        return self._process.wait()


@dataclass(eq=False)
class Session:
    """``pytest --boobench`` over a project, as somebody else starts it: with the usual handling of signals."""

    folder: Path
    args: Sequence[str] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    before: Callable[[], None] | None = None
    """Called in the new process before it becomes pytest, as to set limits; not in a fork."""
    forked: bool = False
    process: subprocess.Popen[bytes] | _Fork = field(init=False)

    def __post_init__(self) -> None:
        name = uuid.uuid4().hex
        self._progress = self.folder / f"{name}.jsonl"
        self.output = self.folder / f"{name}.out"
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(self.folder), os.environ.get("PYTHONPATH", "")])}
        environ = {name: value for name, value in environ.items() if not name.startswith("PYTEST_")} | self.environ
        own = ("-m", "pytest", "--boobench", "-p", "patient", "-p", "no:cacheprovider", "--color=no", "-rfE")
        command = [*own, f"--boobench-progress={self._progress}", *self.args]
        with self.output.open("wb") as output:
            if self.forked:
                self.process = _Fork(command, output.fileno(), self.folder, environ)
                return
            self.process = subprocess.Popen(
                [sys.executable, *command],
                cwd=self.folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=self._prepare,  # noqa: PLW1509  # it only sets signals and limits
            )

    def _prepare(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # a shell's background jobs have SIGINT ignored
            signal.signal(number, signal.SIG_DFL)
        if self.before is not None:
            self.before()

    @property
    def said(self) -> str:
        """What it has written to the terminal."""
        return self.output.read_text(encoding="utf-8", errors="replace")

    def finished(self) -> list[str]:
        """The node ids of the cells that have ended with a verdict, as the session told them while it ran."""
        with suppress(FileNotFoundError):
            lines = self._progress.read_text(encoding="utf-8").split("\n")[:-1]
            told = [json.loads(line) for line in lines]
            return [line["node_id"] for line in told if line["state"] == "finished"]
        return []

    def has_begun(self) -> bool:
        """Whether the first cell is told of: until then pytest and xdist only start up."""
        return self._progress.exists() and self._progress.stat().st_size > 0

    def wait_for(self, seen: Callable[[], object]) -> None:
        """Until something is seen, or the session ends."""
        end = time.monotonic() + _SESSION_S
        while not seen() and self.process.poll() is None:
            assert time.monotonic() < end, self.said
            time.sleep(0.005)

    def wait(self) -> int:
        """Its exit code, negative for a signal."""
        return self.process.wait(_SESSION_S)

    def living(self) -> list[psutil.Process]:
        """All processes of the session that live: those that work in its folder."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.cwd() == str(self.folder) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def find(self, part: str) -> list[psutil.Process]:
        """Its processes of a kind: ``pytest``, ``worker`` or ``server``."""
        found = []
        for process in self.living():
            with suppress(psutil.Error):
                if part == self._name(process):
                    found.append(process)
        return found

    def _name(self, process: psutil.Process) -> str:
        words = " ".join(process.cmdline())
        if "embedded_child.py" in words:
            return "server"
        if process.pid == self.process.pid:
            return "pytest"
        return "worker" if "exec(eval(sys.stdin.readline()))" in words or "tests.forking" in words else "other"

    def wait_for_orphans(self) -> list[str]:
        """What still lives long after the end; nothing, after as long as it takes."""
        end = time.monotonic() + _ENDING_S
        while (left := self.living()) and time.monotonic() < end:
            time.sleep(0.02)
        return [str(process) for process in left]


def ask(store: Path, sql: str) -> list[tuple[Any, ...]]:
    """What a store says; nothing where there is none yet."""
    if not store.exists():
        return []
    with closing(sqlite3.connect(store)) as connection:
        try:
            return connection.execute(sql).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []
            raise


JUDGED = "select distinct node_id from bench_cells join bench_verdicts on cell_id = bench_cells.id"


def find_losses(session: Session, store: Path) -> list[str]:
    """What is wrong after a session that was struck has ended, in words; empty where nothing is."""
    found = [f"orphan: {command}" for command in session.wait_for_orphans()]
    if (state := ask(store, "pragma integrity_check")) not in ([], [("ok",)]):
        found.append(f"damaged: {state}")
    lost = set(session.finished()) - {node_id for (node_id,) in ask(store, JUDGED)}
    found += [f"not in the store: {node_id}" for node_id in sorted(lost)]
    return found


def find_troubles_of_next(folder: Path, store: Path, *args: str, forked: bool = False) -> list[str]:
    """What is wrong with the session after it: it must be green at once, and leave no lease."""
    session = Session(folder, args, forked=forked)
    code = session.wait()
    found = [] if code == 0 and f"{CELLS} passed" in session.said else [f"next session: {code}: {session.said[-2000:]}"]
    if leases := ask(store, "select * from bench_leases"):
        found.append(f"leases left: {leases}")
    return found
