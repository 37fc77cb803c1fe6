"""The reporting side, in the one process that reports: it owns the store and hands finished cells to the reports."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest

from pytest_boobench.errors import BoobenchError, StoreError
from pytest_boobench.plugin.collect import cell_of
from pytest_boobench.plugin.options import Settings
from pytest_boobench.plugin.spool import Spool
from pytest_boobench.plugin.surroundings import Surroundings, look_around
from pytest_boobench.record import Baseline, CellRecord, RunFacts, Verdict, from_plain
from pytest_boobench.reports import junit, terminal
from pytest_boobench.reports.rows import Row

if TYPE_CHECKING:
    from pytest_boobench.store import BaselineSave, Store


class Recorder:
    """Stores each cell as its reports come in, samples first and the verdict after; keeps a row of it for the end."""

    def __init__(self, config: pytest.Config, settings: Settings, session_uid: str) -> None:
        self.session_uid = session_uid
        self.workers = 1
        self._config = config
        self._settings = settings
        self._runs: dict[tuple[str, str], tuple[RunFacts, int]] = {}
        self._rows: dict[str, Row] = {}
        self._cell_ids: dict[str, int] = {}
        self._spool = Spool(config.rootpath, session_uid)
        self._store: Store | None = None

    @cached_property
    def surroundings(self) -> Surroundings:
        """Who runs the session and where."""
        return look_around(self._config.rootpath)

    def open_store(self) -> Store:
        """The store, opened on first use; UsageError where it can't be, before anything is measured."""
        from pytest_boobench.store import Store, default_url

        if self._store is None:
            try:
                self._store = Store.open(self._settings.store_url or default_url(self._config.rootpath))
            except BoobenchError as error:
                raise pytest.UsageError(str(error)) from error
        return self._store

    def baselines(self) -> Mapping[str, Baseline]:
        """The named baseline of every cell that has one."""
        return self.open_store().baselines(self._settings.baseline, hosts=self._settings.only_hosts or None)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """A store that can't be opened ends the session before the first request, not after the last."""
        if not session.config.option.collectonly and any(cell_of(item) is not None for item in session.items):
            self.open_store()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the facts off a cell's reports: the record comes with the set-up, the verdicts with the call."""
        facts: Mapping[str, Any] = getattr(report, "boobench", {})
        if "record" in facts:
            self._take_record(report, from_plain(facts["record"]))
        row = self._rows.get(report.nodeid)
        if row is None or report.when in ("teardown", "progress"):
            return
        if report.when == "call":
            row.outcome = "xfailed" if hasattr(report, "wasxfail") and report.skipped else report.outcome
            verdicts = tuple(Verdict(**plain) for plain in facts.get("verdicts", ()))
            self._take_verdicts(row, verdicts)
        if report.when == "call" or row.outcome == "error":
            self._config.hook.pytest_boobench_cell_finished(
                config=self._config, record=row.record, verdicts=row.verdicts
            )

    def _take_record(self, report: pytest.TestReport, record: CellRecord) -> None:
        self._rows[report.nodeid] = Row(record, "error" if report.failed else "passed")
        try:
            store = self.open_store()
            _, run_id = self._run_of(record)
            self._cell_ids[report.nodeid] = store.record(run_id, record)
        except StoreError as error:
            self._spool.keep(record, error)

    def _take_verdicts(self, row: Row, verdicts: tuple[Verdict, ...]) -> None:
        row.verdicts = verdicts
        cell_id = self._cell_ids.get(row.record.node_id)
        if cell_id is None:
            return  # its record went to the spool
        save = self._saving() if row.outcome == "passed" and row.record.clean else None
        try:
            self.open_store().record_verdicts(cell_id, verdicts, save_as=save)
        except StoreError as error:
            self._spool.trouble = str(error)
        else:
            row.saved = save is not None

    def _saving(self) -> BaselineSave | None:
        from pytest_boobench.store import BaselineSave

        mode = self._settings.save_baseline
        return None if mode is None else BaselineSave(name=self._settings.baseline, add=mode == "add")

    def _run_of(self, record: CellRecord) -> tuple[RunFacts, int]:
        """The run that a cell belongs to, begun with its first cell."""
        key = (record.suite, record.host)
        if key not in self._runs:
            around = self.surroundings
            facts = RunFacts(
                uid=uuid.uuid4().hex,
                session=self.session_uid,
                suite=record.suite,
                host=record.host,
                started_at=time.time(),
                user=around.user,
                machine=around.machine,
                git_commit=around.git_commit,
                git_dirty=around.git_dirty,
                ci=around.ci,
                workers=self.workers,
                plugin_version=plugin_version(),
            )
            self._runs[key] = (facts, self.open_store().start_run(facts))
        return self._runs[key]

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Close the runs and tell JUnit about them, while its file is not written yet."""
        for facts, run_id in self._runs.values():
            self._tell_junit(facts)
            try:
                interrupted = exitstatus == pytest.ExitCode.INTERRUPTED
                self.open_store().finish_run(run_id, "interrupted" if interrupted else "finished")
            except StoreError as error:
                self._spool.trouble = str(error)
        if self._store is not None:
            self._store.close()
        if self._spool.trouble and exitstatus == pytest.ExitCode.OK:
            # A green job whose numbers are not in the store would leave the next one without a baseline.
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _tell_junit(self, facts: RunFacts) -> None:
        builds = [
            row.record.server.engine_build
            for row in self._rows.values()
            if row.record.server is not None and (row.record.suite, row.record.host) == (facts.suite, facts.host)
        ]
        # record_testsuite_property is lost under xdist, so the property goes to whoever writes the file.
        for plugin in self._config.pluginmanager.get_plugins():
            if hasattr(plugin, "add_global_property"):
                for name, value in junit.properties_of_run(facts, builds[-1] if builds else None):
                    plugin.add_global_property(name, value)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The table, and what to know or do next."""
        rows = list(self._rows.values())
        if not rows or self._store is None:
            return
        verbosity = self._config.get_verbosity()
        lines = list(terminal.render_tables(rows, verbosity=verbosity)) if verbosity >= 0 else []
        lines += terminal.render_closing(
            rows,
            baseline=self._settings.baseline,
            store=self._store.address,
            saving=self._settings.save_baseline is not None,
        )
        terminalreporter.section("boobench")
        for line in lines:
            markup = {line.colour: True} if line.colour else {}
            terminalreporter.write_line(line.text, **markup)
        if self._spool.trouble:
            terminalreporter.write_line(self._spool.describe(), red=True)


def plugin_version() -> str:
    """The installed version."""
    from importlib.metadata import version

    return version("pytest-boobench")
