"""The progress of the cells, as the reporting side shows it: the hook, JSON lines for programs, a line for people."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from pytest_boobench.plugin.progress import Progress, State, explain, is_progress, is_rerun
from pytest_boobench.plugin.settings import Settings
from pytest_boobench.reports.session import STANDINGS
from pytest_boobench.reports.text import cut_right
from pytest_boobench.units import count, quantity
from pytest_boobench.untrusted import hide_in

PLAIN_EVERY_S = 10.0
"""How often a cell has a line where lines can't be overwritten."""
_OVER: tuple[State, ...] = ("finished", "failed")
_ROOM_BELOW = "\x1bD\x1b[A"
_BELOW = "\x1b7\x1b[B\r"
_BACK = "\x1b[K\x1b8"


def register(config: pytest.Config, settings: Settings) -> None:
    """Register what shows progress; UsageError where the file can't be written."""
    config.pluginmanager.register(Relay(config), "boobench-progress")
    if settings.progress_file is not None and not config.option.collectonly:
        config.pluginmanager.register(JsonLines(settings.progress_file), "boobench-progress-file")


class Relay:
    """Takes progress off the reports that carry it, adds the end of each cell, and calls the hook."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._last: dict[str, Progress] = {}
        self._kept: list[Any] = []
        """Where pytest's terminal keeps reports without an outcome, for ``--durations``; ours are taken out again."""

    def pytest_sessionstart(self) -> None:
        """Only now it is known whether there is a terminal, and which kind."""
        terminal: pytest.TerminalReporter | None = self._config.pluginmanager.get_plugin("terminalreporter")
        if terminal is None:
            return
        self._kept = terminal.stats.setdefault("", [])
        if (shown := choose_display(self._config, terminal)) is not None:
            self._config.pluginmanager.register(shown, "boobench-progress-line")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None, None, None]:
        """Add the end of a cell here, where the crash of a worker is known too."""
        plain: Mapping[str, Any] | None = getattr(report, "boobench_progress", None)
        over = report.failed or report.skipped or report.when == "call"
        if plain is not None:
            self._last[report.nodeid] = Progress(**plain)
            self._tell(self._last[report.nodeid])
        yield
        # Only now: who hears that a cell has ended finds it in the store, even if we are killed at once.
        if plain is None and report.nodeid in self._last and over and not is_rerun(report):
            state: State = "failed" if report.failed else "finished"
            last = self._last.pop(report.nodeid)
            left_s = None if report.failed else 0.0
            self._tell(replace(last, at=time.time(), state=state, left_s=left_s, requests=(), **tell_end(report)))
        if is_progress(report) and self._kept and self._kept[-1] is report:
            self._kept.pop()

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Progress has no letter, no word and no count; a cell that is put off has a letter, but no count."""
        if hasattr(report, "boobench_progress"):
            return "", "", ""
        if hasattr(report, "boobench_put_off"):
            return ("", "d", f"IN DOUBT ({report.boobench_put_off})") if report.boobench_put_off else ("", "", "")
        return None

    def _tell(self, progress: Progress) -> None:
        self._config.hook.pytest_boobench_progress(config=self._config, progress=progress)


def tell_end(report: pytest.TestReport) -> dict[str, Any]:
    """How a cell ended: its most urgent verdict, and why it failed or was skipped."""
    facts: Mapping[str, Any] = getattr(report, "boobench", {})
    outcomes = [verdict["outcome"] for verdict in facts.get("verdicts", ())]
    outcome = min(outcomes, key=STANDINGS.index) if outcomes else "error" if report.when == "setup" else None
    return {
        "outcome": None if report.when == "setup" and report.skipped else outcome,
        "sentence": explain(report) if report.failed or report.skipped else None,
    }


class JsonLines:
    """Appends each progress to a file, at once."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise pytest.UsageError(f"--boobench-progress: cannot append to {path}: {error.strerror}") from error
        self._trouble = ""

    def pytest_boobench_progress(self, progress: Progress) -> None:
        """A full disk ends the file, not the measuring."""
        if self._trouble:
            return
        try:
            self._file.write(json.dumps(hide_in(asdict(progress))) + "\n")
            self._file.flush()
        except OSError as error:
            self._trouble = f"--boobench-progress: {self._file.name} ends early: {error.strerror}"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say what is missing."""
        if self._trouble:
            terminalreporter.write_line(self._trouble, yellow=True)

    def pytest_unconfigure(self) -> None:
        """Close the file."""
        with suppress(OSError):  # of what could not be flushed before
            self._file.close()


class LiveLine:
    """One line below pytest's own, overwritten again and again, with the cells that run now."""

    def __init__(self, config: pytest.Config, terminal: pytest.TerminalReporter) -> None:
        self._config = config
        self._terminal = terminal
        self._running: dict[str, Progress] = {}
        self._shown = False

    def pytest_boobench_progress(self, progress: Progress) -> None:
        """Show it, beside those of the other hosts."""
        self._running.pop(progress.node_id, None)
        if progress.state not in _OVER:
            self._running[progress.node_id] = progress
        text = " | ".join(describe(each) for each in sorted(self._running.values(), key=lambda each: each.host))
        if text:
            self._write(f"{_ROOM_BELOW}{_BELOW}{cut_right(text, shutil.get_terminal_size().columns - 1)}{_BACK}")
        self._shown = bool(text)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Clear the line before pytest writes."""
        if not hasattr(report, "boobench_progress"):
            self.clear()

    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def clear(self) -> None:
        """Remove the line, if it is there."""
        if self._shown:
            self._write(f"{_BELOW}{_BACK}")
        self._shown = False

    pytest_runtest_logstart = pytest_testnodedown = pytest_sessionfinish = clear

    def _write(self, text: str) -> None:
        with _uncaptured(self._config):
            self._terminal.write_raw(text, flush=True)


class PlainLines:
    """A line every ten seconds of a cell, where lines can't be overwritten; short cells have none.

    A cell that begins to wait for its host has a line at once, and without ``-v`` too: the wait may take minutes.
    """

    def __init__(self, config: pytest.Config, terminal: pytest.TerminalReporter, *, waiting_only: bool = False) -> None:
        self._config = config
        self._terminal = terminal
        self._waiting_only = waiting_only
        self._told_at: dict[str, float] = {}
        self._waiting: set[str] = set()
        """The cells whose last line said that they wait."""

    def pytest_boobench_progress(self, progress: Progress) -> None:
        """Show it if the cell's last line is old enough."""
        cell = progress.node_id
        waits = progress.note is not None
        is_due = progress.at - self._told_at.setdefault(cell, progress.at) >= PLAIN_EVERY_S
        if not waits:
            self._waiting.discard(cell)
        if progress.state in _OVER:
            del self._told_at[cell]
        elif (waits and cell not in self._waiting) or (is_due and (waits or not self._waiting_only)):
            if waits:
                self._waiting.add(cell)
            self._told_at[cell] = progress.at
            with _uncaptured(self._config):
                self._terminal.write_line(describe(progress))


def choose_display(config: pytest.Config, terminal: pytest.TerminalReporter) -> LiveLine | PlainLines | None:
    """A live line on a terminal that can move its cursor, plain lines elsewhere, nothing with ``-q``."""
    verbosity = config.get_verbosity()
    if verbosity < 0:
        return None
    if terminal.isatty() and os.environ.get("TERM", "dumb") != "dumb" and sys.platform != "win32":
        return LiveLine(config, terminal)
    return PlainLines(config, terminal, waiting_only=verbosity == 0)


def describe(progress: Progress) -> str:
    """``rack-1 qwen3-8b[pp512-tg32-c4] measuring 3/10, 41.2 tok/s, 12 seconds left``."""
    counted = f" {progress.done}/{progress.total}" if progress.total else ""
    facts = [f"{progress.host} {progress.node_id.rpartition('::')[2]} {progress.state}{counted}"]
    if progress.note is not None:
        facts.append(progress.note)
    if progress.tok_s is not None:
        facts.append(quantity(progress.tok_s, "tok/s"))
    if progress.left_s is not None:
        facts.append(f"{count(round(progress.left_s), 'second')} left")
    return ", ".join(facts)


@contextmanager
def _uncaptured(config: pytest.Config) -> Iterator[None]:
    """Let the block write to the terminal in the middle of a test, whose output is captured."""
    capture = config.pluginmanager.get_plugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture is not None else nullcontext():
        yield
