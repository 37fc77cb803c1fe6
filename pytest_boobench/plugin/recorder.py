"""The reporting side, in the one process that reports: it owns the store and hands finished cells to the reports."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest

from pytest_boobench import find_version
from pytest_boobench.environment import Environment, read_environment
from pytest_boobench.errors import BoobenchError
from pytest_boobench.facts import ClientFacts
from pytest_boobench.plain import rebuild
from pytest_boobench.plugin.ordering import cell_of
from pytest_boobench.plugin.progress import explain, is_rerun
from pytest_boobench.plugin.session_store import SessionStore
from pytest_boobench.plugin.settings import Settings
from pytest_boobench.record import Baseline, CellRecord, RunFacts, Verdict
from pytest_boobench.reports import advice, junit, terminal
from pytest_boobench.reports.session import FinishedCell, explain_unsavable
from pytest_boobench.reports.text import wrap
from pytest_boobench.untrusted import clean_lines, hide_secrets

if TYPE_CHECKING:
    from pytest_boobench.store import Store


class Recorder:
    """Stores each cell as its reports come in, samples first and the verdict after; keeps a row of it for the end."""

    def __init__(self, config: pytest.Config, settings: Settings, session_uid: str) -> None:
        self.session_uid = session_uid
        self.workers = 1
        self._config = config
        self._settings = settings
        self._runs: dict[tuple[str, str], RunFacts] = {}
        self._rows: dict[str, FinishedCell] = {}
        """Node id -> the cell, in the order they came in."""
        self._held: dict[str, pytest.TestReport] = {}
        """Node id -> the record's report, of an item that a plugin may run again: the next report says whether."""
        self._reruns: dict[str, list[str]] = {}
        """Node id -> why a plugin ran it again."""
        self._storing = SessionStore(config.rootpath, settings, session_uid)
        self._baselines: Mapping[str, Baseline] = {}
        self._interrupted = False

    @property
    def rows(self) -> Sequence[FinishedCell]:
        """The cells measured so far."""
        return list(self._rows.values())

    @property
    def runs(self) -> Sequence[RunFacts]:
        """The runs that they belong to."""
        return list(self._runs.values())

    @property
    def client(self) -> ClientFacts:
        """The machine that measures; the number of workers is 1 until xdist says how many there are."""
        return ClientFacts(machine=self.environment.machine, cpu=self.environment.cpu, workers=self.workers)

    @cached_property
    def sections(self) -> Sequence[tuple[str, str]]:
        """Title and text of the report's sections from other plugins; asked for at the end."""
        found: Sequence[tuple[str, str]] = self._config.hook.pytest_boobench_report_section(
            config=self._config, rows=self.rows
        )
        return found

    @cached_property
    def environment(self) -> Environment:
        """Who runs the session and where."""
        return read_environment(self._config.rootpath)

    def open_store(self) -> Store:
        """The store, opened on first use; UsageError where it can't be, before anything is measured."""
        return self._storing.open()

    def baselines(self) -> Mapping[str, Baseline]:
        """Cell key -> the named baseline, asked of the store each time."""
        self._baselines = self._storing.baselines()
        return self._baselines

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """A store that can't be opened ends the session before the first request, not after the last."""
        if not session.config.option.collectonly and any(cell_of(item) is not None for item in session.items):
            self.open_store()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the facts off a cell's reports: the record comes with the set-up, the verdicts with the call."""
        held = self._held.pop(report.nodeid, None)
        if is_rerun(report):  # the next attempt brings what this one found, or takes its place
            self._reruns.setdefault(report.nodeid, []).append(explain(report))
            return
        facts: Mapping[str, Any] = getattr(report, "boobench", {})
        if held is not None:
            self._take_record(held)
        if "record" in facts and report.passed and hasattr(report, "rerun"):
            self._held[report.nodeid] = report
            return
        if "record" in facts:
            self._take_record(report)
        row = self._rows.get(report.nodeid)
        if row is None or report.when in ("teardown", "progress"):
            return
        if report.when == "call":
            row.outcome = "xfailed" if hasattr(report, "wasxfail") and report.skipped else report.outcome
            verdicts = tuple(Verdict(**plain) for plain in facts.get("verdicts", ()))
            self._take_verdicts(row, verdicts)
        if report.when == "call" or row.outcome == "error":
            hook = self._config.hook
            hook.pytest_boobench_cell_finished(config=self._config, record=row.record, verdicts=row.verdicts)

    def take_reference(self, told: Mapping[str, Any]) -> None:
        """Enter a measurement of a machine's reference, which is no cell of the session; keep the note for the end."""
        if told["note"]:
            self._storing.notes.append(told["note"])
        if told["record"] is not None:
            record = rebuild(CellRecord, told["record"])
            self._storing.record(self._run_of(record), record, extends=False)

    def _take_record(self, report: pytest.TestReport) -> None:
        """Enter a first block as a new measurement, any further one with it."""
        record = rebuild(CellRecord, report.boobench["record"])
        before = self._rows.get(report.nodeid)
        extends = before is not None and before.outcome == "in doubt"
        reruns = tuple(self._reruns.get(report.nodeid, ()))
        self._rows[report.nodeid] = FinishedCell(record, "error" if report.failed else "in doubt", reruns=reruns)
        self._storing.record(self._run_of(record), record, extends=extends)

    def _take_verdicts(self, row: FinishedCell, verdicts: tuple[Verdict, ...]) -> None:
        from pytest_boobench.store import BaselineSave

        row.verdicts = verdicts
        mode = self._settings.save_baseline
        save = (
            BaselineSave(name=self._settings.baseline, add=mode == "add")
            if mode and not explain_unsavable(row)
            else None
        )
        row.saved = self._storing.judge(self._run_of(row.record), row.record, verdicts, save)

    def _run_of(self, record: CellRecord) -> RunFacts:
        """The run that a cell belongs to, begun with its first cell."""
        key = (record.suite, record.host)
        if key not in self._runs:
            started_at = time.time()
            metadata: dict[str, Any] = {}
            self._config.hook.pytest_boobench_run_metadata(
                config=self._config, suite=record.suite, host=record.host, metadata=metadata
            )
            self._runs[key] = RunFacts(
                uid=uuid.uuid4().hex,
                session=self.session_uid,
                suite=record.suite,
                host=record.host,
                started_at=started_at,
                workers=self.workers,
                plugin_version=find_version(),
                metadata=metadata,
                **asdict(self.environment),
            )
        return self._runs[key]

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self) -> None:
        """Note it before pytest does: a second Ctrl-C may keep it from an exit status."""
        self._interrupted = True

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Close the runs and describe them to JUnit, while its file is not written yet."""
        self._describe_runs_to_junit()
        if self._settings.save_baseline is not None and any(row.verdicts for row in self._rows.values()):
            with contextlib.suppress(BoobenchError):  # they are for advice only
                self.baselines()
        interrupted = self._interrupted or exitstatus == pytest.ExitCode.INTERRUPTED
        self._storing.finish(self._runs.values(), "interrupted" if interrupted else "finished")
        if self._storing.is_behind and exitstatus == pytest.ExitCode.OK:
            # A green job whose numbers are not in the store would leave the next one without a baseline.
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _describe_runs_to_junit(self) -> None:
        measured = [row.record for row in self._rows.values() if row.record.server is not None]
        builds = {(record.suite, record.host): record.engine_build for record in measured}
        # record_testsuite_property is lost under xdist, so the properties go to whoever writes the file.
        for plugin in self._config.pluginmanager.get_plugins():
            if hasattr(plugin, "add_global_property"):
                for key, facts in self._runs.items():
                    for name, value in junit.properties_of_run(facts, builds.get(key)):
                        plugin.add_global_property(name, value)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The table, and what to know or do next."""
        rows = self.rows
        store = self._storing.store
        if not rows or store is None:
            return
        verbosity = self._config.get_verbosity()
        columns = max(shutil.get_terminal_size().columns, 40)  # a terminal with fewer does not know its width
        lines = list(terminal.render_tables(rows, verbosity=verbosity, width=columns)) if verbosity >= 0 else []
        lines += advice.render_closing(
            rows,
            baseline=self._settings.baseline,
            store=store.address,
            saving=self._settings.save_baseline is not None,
            baselines=self._baselines,
            verbosity=verbosity,
        )
        terminalreporter.ensure_newline()
        terminalreporter.section("boobench")
        # A log is searched for whole lines, so they are wrapped for people only.
        wraps = terminalreporter.isatty() or "COLUMNS" in os.environ
        for line in lines:
            markup = {line.colour: True} if line.colour else {}
            text = clean_lines(line.text)
            for part in wrap(text, columns) if wraps and line.wraps else (text,):
                terminalreporter.write_line(part, **markup)
        for title, text in self.sections:
            terminalreporter.section(hide_secrets(title))
            terminalreporter.write_line(hide_secrets(text))
        for note in self._storing.notes:
            terminalreporter.write_line(clean_lines(note))
        for trouble in self._storing.troubles:
            terminalreporter.write_line(clean_lines(trouble), red=self._storing.is_behind)
