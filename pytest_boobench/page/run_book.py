"""Door 3: the runs that the page started: their command lines, their processes, and who may start one now."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import psutil

from pytest_boobench.environment import make_folder
from pytest_boobench.page import run_keeper
from pytest_boobench.page.api_types import BusyHost, RunAnswer
from pytest_boobench.page.bodies import RunBody
from pytest_boobench.page.desk import Desk
from pytest_boobench.page.guard import ApiRefusal
from pytest_boobench.page.run_file import ABOUT, PROGRESS, RunAbout, RunFile
from pytest_boobench.page.suite_tree import ListedCell, SuiteTree, estimate
from pytest_boobench.untrusted import hide_secrets

_LOOK_EVERY_S = 0.25
_MOST_RUNS = 50
"""Whose files are kept."""
_MANY = 100
"""Node ids that a command line may name; more are in a file."""
_INTERRUPT_S, _TERMINATE_S = 10.0, 5.0
"""How long an ended server waits for its runs after each signal."""


def write_options(body: RunBody) -> list[str]:
    """The options of pytest that a request asks for, each with its value in one word."""
    options = [f"--boobench-host={name}" for name in body.hosts]
    options += [f"-k{body.k}"] if body.k else []
    options += {None: [], "replace": ["--boobench-save-baseline"], "add": ["--boobench-save-baseline=add"]}[
        body.save_baseline
    ]
    options += [f"--boobench-baseline={body.baseline}"] if body.baseline is not None else []
    options += [f"--boobench-wait={body.wait}"] if body.wait is not None else []
    options += ["--boobench-takeover"] if body.takeover else []
    options += [f"-n{body.workers}"] if body.workers is not None else []
    return options


def require_sound(body: RunBody, known: Collection[str]) -> None:
    """ApiRefusal for hosts that are not in the file, and for a takeover that nobody confirmed."""
    for name in body.hosts:
        if name not in known:
            raise ApiRefusal(422, f"hosts: no host {name!r} in the hosts file", "hosts")
    if not body.k.isprintable():
        raise ApiRefusal(422, "k: expected an expression on one line", "k")
    if body.takeover and body.confirm != "takeover":
        raise ApiRefusal(
            422, "confirm: expected the word takeover, typed, to measure while others use the host", "confirm"
        )


@dataclass(eq=False)
class RunBook:
    """All runs, the newest last. One task follows those that go on."""

    desk: Desk
    tree: SuiteTree
    runs: dict[str, RunFile] = field(default_factory=dict)
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _starting: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def folder(self) -> Path:
        """Of all runs."""
        return make_folder(self.desk.folder / "runs")

    def recall(self) -> None:
        """Find the runs of earlier servers, some of which may still go on; forget the oldest."""
        folders = sorted(path for path in self.folder.iterdir() if path.is_dir())
        for path in folders[:-_MOST_RUNS]:
            shutil.rmtree(path, ignore_errors=True)
        for path in folders[-_MOST_RUNS:]:
            with suppress(OSError, ValueError, TypeError, KeyError):
                told = json.loads((path / ABOUT).read_text(encoding="utf-8"))
                run = RunFile(RunAbout(**{**told, "hosts": tuple(told["hosts"])}), path)
                run.poll()
                self.runs[run.about.id] = run

    async def follow(self) -> None:
        """Read what the runs write, until cancelled."""
        while True:
            for run in self.runs.values():
                if run.ended_at is None and run.poll():
                    self._reap(run.about.id)
            await asyncio.sleep(_LOOK_EVERY_S)

    def get(self, run_id: str) -> RunFile:
        """ApiRefusal where there is none."""
        if run_id not in self.runs:
            raise ApiRefusal(404, f"no run {run_id!r}")
        return self.runs[run_id]

    def list_answers(self) -> tuple[RunAnswer, ...]:
        """The newest first."""
        return tuple(run.describe() for run in reversed(self.runs.values()))

    def find_using(self, machines: Mapping[str, str], machine: str) -> RunFile | None:
        """The run that goes on on a machine; ``machines`` has that of each host."""
        running = (run for run in self.runs.values() if run.ended_at is None)
        return next((run for run in running if machine in {machines.get(host) for host in run.about.hosts}), None)

    async def start(self, body: RunBody) -> RunFile | str:
        """Start a run; with ``dry`` only its command line. ApiRefusal for what is unknown, and for a host in use."""
        async with self._starting:
            inventory = await asyncio.to_thread(self.desk.read_inventory)
            require_sound(body, inventory.hosts)
            chosen, arguments = await self._choose(body)
            options = write_options(body)
            run_id = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"
            shown = _show(self.desk, [*options, *arguments])
            if body.dry:
                return shown
            machines = {name: host.exclusive for name, host in inventory.hosts.items()}
            hosts = tuple(dict.fromkeys(cell.host for cell in chosen))
            busy = tuple(
                BusyHost(host=host, who=(f"the run {run.about.id} of this page",))
                for host in hosts
                if (run := self.find_using(machines, machines.get(host, host))) is not None
            )
            if busy:
                raise ApiRefusal(
                    409, f"{busy[0].host}: {busy[0].who[0]} uses it; wait for its end, or stop it", busy=busy
                )
            newest = await asyncio.to_thread(self.tree.load_newest)
            about = RunAbout(
                id=run_id,
                command=shown,
                started_at=time.time(),
                hosts=hosts,
                estimates_s={
                    cell.node_id: estimate(cell, newest[cell.key]) if cell.key in newest else None for cell in chosen
                },
            )
            return self._launch(about, [*options, *arguments])

    async def _choose(self, body: RunBody) -> tuple[Sequence[ListedCell], list[str]]:
        """The cells that will run, and the arguments that name them."""
        collected = await self.tree.collect(body.k)
        known = {cell.node_id: cell for cell in collected.cells}
        unknown = [node_id for node_id in body.node_ids or () if node_id not in known]
        if unknown:
            raise ApiRefusal(422, f"node_ids: no cell {unknown[0]!r}; the tree lists all", "node_ids")
        wanted = (
            [known[node_id] for node_id in dict.fromkeys(body.node_ids)]
            if body.node_ids is not None
            else [*known.values()]
        )
        chosen = [cell for cell in wanted if cell.selected and (not body.hosts or cell.host in body.hosts)]
        if not chosen:
            raise ApiRefusal(422, "node_ids: nothing is selected; expected at least one cell", "node_ids")
        return chosen, _name_cells(wanted, collected.cells)

    def _launch(self, about: RunAbout, arguments: Sequence[str]) -> RunFile:
        folder = make_folder(self.folder / about.id)
        words = list(arguments)
        if len(words) > _MANY + 20:
            names = [word for word in words if not word.startswith("-")]
            (folder / "cells.txt").write_text("\n".join(names), encoding="utf-8")
            words = [word for word in words if word.startswith("-")] + [f"@{folder / 'cells.txt'}"]
        progress = f"--boobench-progress={folder / PROGRESS}"
        command = [sys.executable, "-m", "pytest", "--boobench", "--color=no", progress, *words]
        process = subprocess.Popen(  # noqa: S603  # a list of words that we made
            [sys.executable, "-P", run_keeper.__file__, json.dumps({"command": command, "folder": str(folder)})],
            cwd=self.desk.root,
            env=self.desk.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        about = replace(about, pid=process.pid, pid_created_at=psutil.Process(process.pid).create_time())
        new = folder / f"{ABOUT}.new"
        new.write_text(json.dumps(asdict(about)), encoding="utf-8")
        new.replace(folder / ABOUT)
        self._processes[about.id] = process
        self.runs[about.id] = RunFile(about, folder)
        return self.runs[about.id]

    def stop(self, run_id: str, number: signal.Signals) -> RunFile:
        """Send a signal to pytest and all its processes, as a terminal does; nothing where the run is over."""
        run = self.get(run_id)
        if run.ended_at is None and run.about.is_alive():
            run.stopping = True
            with suppress(ProcessLookupError):
                os.killpg(run.about.pid, number)
        return run

    def _reap(self, run_id: str) -> None:
        if (process := self._processes.pop(run_id, None)) is not None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(1.0)

    async def close(self) -> None:
        """End what goes on: as Ctrl-C first, then as a request to end, then at once."""
        for number, patience_s in (
            (signal.SIGINT, _INTERRUPT_S),
            (signal.SIGTERM, _TERMINATE_S),
            (signal.SIGKILL, _TERMINATE_S),
        ):
            left = [run for run in self.runs.values() if not run.poll()]
            for run in left:
                self.stop(run.about.id, number)
            end = time.monotonic() + patience_s
            while left and time.monotonic() < end:
                await asyncio.sleep(_LOOK_EVERY_S / 5)
                left = [run for run in left if not run.poll()]
        for run_id in list(self._processes):
            self._reap(run_id)


def _name_cells(wanted: Sequence[ListedCell], collected: Sequence[ListedCell]) -> list[str]:
    """The arguments that name these cells: whole files where all their cells are wanted."""
    chosen = {cell.node_id for cell in wanted}
    partly = {cell.path for cell in collected if cell.node_id not in chosen}
    names = dict.fromkeys(cell.node_id if cell.path in partly else cell.path for cell in wanted)
    return [f"./{name}" if name.startswith(("-", "@")) else name for name in names]


def _show(desk: Desk, words: Sequence[str]) -> str:
    """The command line for people, in the project's folder; a long list of cells is shown by its first ones."""
    named = [f"{name}={shlex.quote(desk.environ[name])}" for name in desk.named]
    more = [f"# and {len(words) - _MANY} more"] if len(words) > _MANY else []
    return hide_secrets(" ".join([*named, shlex.join(["pytest", "--boobench", *words[:_MANY]]), *more]))
