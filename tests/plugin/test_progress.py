"""Live progress: what the measuring side tells, how it travels, and what hooks, files and terminals make of it."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_boobench.plugin.live import JsonLines, PlainLines, describe
from pytest_boobench.plugin.progress import Progress, Teller
from pytest_boobench.suite.cell import Plan
from tests.conftest import BenchFolder
from tests.forking import ForkedPython
from tests.making import make_cell
from tests.measure.test_measure import Script
from tests.plugin.test_session import properties, query

FULL = Path("/dev/full")


def make_progress(**changed: Any) -> Progress:
    known: dict[str, Any] = {
        "at": 1_795_500_000.0,
        "run": "5e55",
        "worker": "gw0",
        "suite": "smoke",
        "host": "rack-1",
        "model": "qwen",
        "cell": "pp64-tg8-c1",
        "node_id": "smoke.boobench.yaml::rack-1::qwen[pp64-tg8-c1]",
        "state": "measuring",
    }
    return Progress(**{**known, **changed})


# --- the measuring side


class Listener:
    """Stands in for a test item, and keeps what is told of it; its clock goes on by ``step_s`` with each look."""

    nodeid = "smoke.boobench.yaml::rack-1::qwen[pp64-tg8-c1]"
    location = ("smoke.boobench.yaml", 0, "qwen[pp64-tg8-c1]")

    def __init__(self, step_s: float) -> None:
        self.ihook = self
        self.heard: list[Progress] = []
        self.step_s = step_s
        self.now_s = 100.0

    def pytest_runtest_logreport(self, report: Any) -> None:
        assert (report.when, report.outcome, report.nodeid) == ("progress", "passed", self.nodeid)
        self.heard.append(Progress(**report.boobench_progress))

    def clock(self) -> float:
        self.now_s += self.step_s
        return self.now_s

    def teller(self, **cell: Any) -> Teller:
        made = make_cell(plan=Plan(samples=10), **cell)
        return Teller(self, made, run="5e55", worker="gw0", clock=self.clock)  # type: ignore[arg-type]


def test_each_phase_is_told_with_what_is_done_and_what_is_left() -> None:
    listener = Listener(step_s=1.0)
    teller = listener.teller()
    teller.tell("waiting")
    asyncio.run(Script().run("warmup", lanes=1, count=2, observe=teller.observe))
    asyncio.run(Script().run(lanes=1, count=2, observe=teller.observe))
    assert [(heard.state, heard.phase, heard.done, heard.total) for heard in listener.heard] == [
        ("waiting", None, 0, 0),
        ("warming up", "warmup", 0, 2),
        ("warming up", "warmup", 1, 2),
        ("warming up", "warmup", 2, 2),
        ("measuring", "measure", 0, 2),
        ("measuring", "measure", 1, 2),
        ("measuring", "measure", 2, 2),
    ]
    assert [heard.tok_s for heard in listener.heard] == [None, None, 8.0, 8.0, None, 8.0, 8.0]
    assert [heard.left_s for heard in listener.heard] == [None, None, 11.0, 10.0, None, 1.0, 0.0]
    first = listener.heard[0]
    assert (first.schema, first.run, first.job_type, first.worker) == (1, "5e55", "bench", "gw0")
    assert (first.suite, first.host, first.model, first.cell) == ("smoke", "rack-1", "qwen", "pp64-tg8-c1")


def test_little_is_said_of_many_requests() -> None:
    listener = Listener(step_s=0.125)
    asyncio.run(Script().run(lanes=4, count=18, observe=listener.teller().observe))
    assert [heard.done for heard in listener.heard] == [0, 4, 8, 12, 16, 18]


def test_an_embedding_counts_its_prompt() -> None:
    listener = Listener(step_s=1.0)
    teller = listener.teller(kind="embedding", output_tokens=None)
    asyncio.run(Script().run(lanes=1, count=1, observe=teller.observe))
    assert listener.heard[-1].tok_s == 64.0


def test_observing_comes_after_a_request_and_before_the_next_of_its_lane() -> None:
    script = Script()
    seen: list[tuple[int, int]] = []

    def observe(phase: str, done: int, total: int) -> None:
        seen.append((done, len(script.tickets)))

    asyncio.run(script.run(lanes=1, count=3, observe=observe))
    assert seen == [(0, 0), (1, 1), (2, 2), (3, 3)]


# --- the reporting side


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"state": "waiting"}, "rack-1 qwen[pp64-tg8-c1] waiting"),
        (
            {"state": "loading", "note": "rack-1: loading the model, 12 s so far"},
            "rack-1 qwen[pp64-tg8-c1] loading, rack-1: loading the model, 12 s so far",
        ),
        ({"state": "warming up", "total": 4}, "rack-1 qwen[pp64-tg8-c1] warming up 0/4"),
        (
            {"done": 3, "total": 10, "tok_s": 41.23, "left_s": 12.4},
            "rack-1 qwen[pp64-tg8-c1] measuring 3/10, 41.2 tok/s, 12 seconds left",
        ),
    ],
)
def test_describe(changed: dict[str, Any], text: str) -> None:
    assert describe(make_progress(**changed)) == text


class Terminal:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def write_line(self, line: str, **markup: bool) -> None:
        self.lines.append(line)


def test_plain_lines_are_sparse() -> None:
    terminal = Terminal()
    config = SimpleNamespace(pluginmanager=SimpleNamespace(get_plugin=lambda name: None))
    lines = PlainLines(config, terminal)  # type: ignore[arg-type]
    for second in range(25):
        lines.pytest_boobench_progress(make_progress(at=1000.0 + second, done=second, total=25))
        lines.pytest_boobench_progress(make_progress(at=1000.0 + second, node_id=f"short-{second}", state="loading"))
        lines.pytest_boobench_progress(make_progress(at=1000.5 + second, node_id=f"short-{second}", state="finished"))
    assert terminal.lines == [f"rack-1 qwen[pp64-tg8-c1] measuring {done}/25" for done in (10, 20)]


@pytest.mark.parametrize("waiting_only", [True, False])
def test_a_host_that_is_waited_for_is_told_of_at_once(waiting_only: bool) -> None:
    terminal = Terminal()
    config = SimpleNamespace(pluginmanager=SimpleNamespace(get_plugin=lambda name: None))
    lines = PlainLines(config, terminal, waiting_only=waiting_only)  # type: ignore[arg-type]
    for second in range(15):
        note = f"rack-1: loading the model, {second} s so far"
        lines.pytest_boobench_progress(make_progress(at=1000.0 + second, state="loading", note=note))
    for second in range(15, 35):
        lines.pytest_boobench_progress(make_progress(at=1000.0 + second, done=second, total=40))
    told = [line.partition("] ")[2] for line in terminal.lines]
    waits = [f"loading, rack-1: loading the model, {second} s so far" for second in (0, 10)]
    assert told == waits + ([] if waiting_only else ["measuring 20/40", "measuring 30/40"])


@pytest.mark.skipif(not FULL.exists(), reason="a device that is always full")
def test_a_full_disk_ends_the_file_and_nothing_else() -> None:
    lines = JsonLines(FULL)
    lines.pytest_boobench_progress(make_progress())
    lines.pytest_boobench_progress(make_progress())
    terminal = Terminal()
    lines.pytest_terminal_summary(terminal)  # type: ignore[arg-type]
    lines.pytest_unconfigure()
    assert terminal.lines == ["--boobench-progress: /dev/full ends early: No space left on device"]


# --- whole sessions


def read_lines(bench: BenchFolder, file: str = "progress.jsonl") -> dict[str, list[dict[str, Any]]]:
    """Cell -> its lines, in order."""
    told: dict[str, list[dict[str, Any]]] = {}
    for line in (bench.path / file).read_text(encoding="utf-8").splitlines():
        fields_of_line = json.loads(line)
        told.setdefault(fields_of_line["cell"], []).append(fields_of_line)
    return told


def states(lines: Sequence[dict[str, Any]]) -> list[str]:
    return [state for state, _ in groupby(line["state"] for line in lines)]


WHOLE = ["waiting", "loading", "warming up", "measuring", "finished"]
HOOK = """
    import os

    def pytest_boobench_progress(config, progress):
        assert not hasattr(config, "workerinput"), "called where nothing is reported"
        with open("heard.txt", "a") as file:
            print(progress.state, progress.done, progress.total, progress.worker, file=file)
"""


END = {"state": "finished", "left_s": 0.0, "requests": [], "outcome": "no baseline"}


@pytest.mark.parametrize(("args", "workers"), [((), {"main"}), (("-n", "1"), {"gw0"})])
def test_progress_reaches_the_file_and_the_hook(bench: BenchFolder, args: tuple[str, ...], workers: set[str]) -> None:
    bench.write_suite(samples=3)
    bench.pytester.makeconftest(HOOK)
    run = bench.run_workers if args else bench.run
    result = run(*args, "--boobench-progress", "progress.jsonl", "--junitxml=junit.xml")
    result.assert_outcomes(passed=2)
    told = read_lines(bench)
    assert {cell: states(lines) for cell, lines in told.items()} == {"pp16-tg4-c1": WHOLE, "pp32-tg4-c1": WHOLE}
    lines = told["pp16-tg4-c1"]
    assert list(lines[0]) == [each.name for each in fields(Progress)]
    assert [(line["done"], line["total"]) for line in lines if line["state"] == "measuring"][-1] == (3, 3)
    assert lines[-1] == {**lines[-2], **END, "at": lines[-1]["at"]}
    assert {line["worker"] for line in lines} <= workers
    assert {(line["run"],) for line in lines} == set(query(bench, "select session from bench_runs"))
    heard = (bench.path / "heard.txt").read_text().splitlines()
    assert len(heard) == sum(map(len, told.values()))
    assert sorted(properties(bench)) == ["tiny-chat[pp16-tg4-c1]", "tiny-chat[pp32-tg4-c1]"]
    assert 'tests="2"' in (bench.path / "junit.xml").read_text()


def test_the_file_grows_from_run_to_run(bench: BenchFolder) -> None:
    bench.write_suite(grid={"prompt_tokens": [16], "output_tokens": [4]})
    for _ in range(2):
        bench.run("--boobench-progress", "progress.jsonl").assert_outcomes(passed=1)
    assert states(read_lines(bench)["pp16-tg4-c1"]) == WHOLE * 2


def test_nothing_is_written_where_nothing_runs(bench: BenchFolder) -> None:
    bench.write_suite()
    bench.run("--boobench-progress", "progress.jsonl", "--collect-only")
    assert not (bench.path / "progress.jsonl").exists()


def test_a_file_that_cannot_be_written_ends_the_session_at_once(bench: BenchFolder) -> None:
    bench.write_suite()
    result = bench.run("--boobench-progress", "missing/progress.jsonl")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    path = bench.path / "missing" / "progress.jsonl"
    result.stderr.fnmatch_lines([f"ERROR: --boobench-progress: cannot append to {path}: No such file or directory"])


def test_a_cell_that_cannot_be_measured_has_failed(bench: BenchFolder) -> None:
    bench.write_hosts(dead={"server": "llama-server", "url": "http://127.0.0.1:1"})
    bench.write_suite(hosts=["dead"], grid={"prompt_tokens": [16], "output_tokens": [4]})
    bench.run("--boobench-progress", "progress.jsonl").assert_outcomes(errors=1)
    assert states(read_lines(bench)["pp16-tg4-c1"]) == ["waiting", "failed"]


def test_a_cell_whose_worker_dies_has_failed(bench: BenchFolder) -> None:
    bench.write_suite(grid={"prompt_tokens": [16], "output_tokens": [4]})
    bench.pytester.makeconftest(
        """
        import os, pytest

        @pytest.fixture(autouse=True)
        def _die(boobench_record):
            os._exit(9)
        """
    )
    bench.run_workers("-n", "1", "--boobench-progress", "progress.jsonl").assert_outcomes(failed=1)
    lines = read_lines(bench)["pp16-tg4-c1"]
    assert states(lines) == ["waiting", "loading", "warming up", "measuring", "failed"]
    assert lines[-1]["left_s"] is None


@pytest.mark.parametrize("verbose", ["-v", "-vv"])
def test_other_plugins_see_nothing_of_it(bench: BenchFolder, verbose: str) -> None:
    bench.write_suite()
    result = bench.run(verbose, "--durations=0")
    result.assert_outcomes(passed=2)
    assert len([line for line in result.outlines if "PASSED" in line]) == 2
    assert not [line for line in result.outlines if "progress" in line]


def test_without_a_terminal_the_file_is_written_all_the_same(bench: BenchFolder) -> None:
    bench.write_suite(grid={"prompt_tokens": [16], "output_tokens": [4]})
    bench.run_apart("-p", "no:terminal", "--boobench-progress", "progress.jsonl")
    assert states(read_lines(bench)["pp16-tg4-c1"]) == WHOLE


# --- the line on a terminal


class Screen:
    """As much of a terminal as pytest and the live line use."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.rows: list[list[str]] = [[]]
        self.row = self.column = 0
        self.saved = (0, 0)
        self.history: list[str] = []

    def feed(self, text: str) -> None:
        for token in re.findall(r"\x1b\[[\d;]*[A-Za-z]|\x1b.|[^\x1b]", text, re.DOTALL):
            self._obey(token)

    def _obey(self, token: str) -> None:
        if token in ("\n", "\x1bD", "\x1b[B"):
            self.row += 1
            while len(self.rows) <= self.row:
                self.rows.append([])
        elif token == "\r":
            self.column = 0
        elif token == "\x1b[A":
            self.row -= 1
        elif token == "\x1b7":
            self.saved = (self.row, self.column)
        elif token == "\x1b8":
            self.row, self.column = self.saved
            self.history.append("\n".join(self.lines))
        elif token == "\x1b[K":
            del self.rows[self.row][self.column :]
        elif not token.startswith("\x1b"):
            row = self.rows[self.row]
            row.extend(" " * (self.column + 1 - len(row)))
            row[self.column] = token
            self.column += 1

    @property
    def lines(self) -> list[str]:
        return ["".join(row).rstrip() for row in self.rows]


def run_on_terminal(bench: BenchFolder, *args: str) -> Screen:
    """A session whose output is a terminal, to its end."""
    terminal, theirs = pty.openpty()
    command = ["-m", "pytest", *bench.prepare_apart(), "-p", "no:cacheprovider", *args]
    environ = {**bench.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = ForkedPython(command, (theirs, theirs, theirs), folder=bench.path, environ=environ)
    os.close(theirs)
    said = bytearray()
    with suppress(OSError):  # the end of a terminal is an error
        while piece := os.read(terminal, 4096):
            said += piece
    os.close(terminal)
    assert process.wait() == 0, said.decode()
    screen = Screen(100)
    screen.feed(said.decode())
    return screen


@pytest.mark.parametrize("args", [(), ("-v",), ("-n", "1"), ("-n", "1", "-v")])
def test_a_terminal_has_one_line_that_is_gone_at_the_end(bench: BenchFolder, args: tuple[str, ...]) -> None:
    bench.write_suite()
    screen = run_on_terminal(bench, *args)
    shown = [line for view in screen.history for line in view.splitlines() if " measuring " in line]
    assert any(
        re.fullmatch(r"llama tiny-chat\[pp16-tg4-c1\] measuring 2/2, .* tok/s, 0 seconds left", each) for each in shown
    )
    assert not [line for line in screen.lines if " measuring " in line or " waiting" in line or "left" in line]
    if not args:
        (line,) = [line for line in screen.lines if "100%" in line]
        assert re.fullmatch(r"smoke\.boobench\.yaml \.\. +\[100%\]", line), "pytest's own line is as it was"


def test_quiet_is_quiet(bench: BenchFolder) -> None:
    bench.write_suite()
    assert not run_on_terminal(bench, "-q").history
