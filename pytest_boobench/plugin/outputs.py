"""The files that a session leaves: checked before it begins, written at its end."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_boobench import find_version
from pytest_boobench.errors import MissingExtra, StoreError
from pytest_boobench.plugin.options import is_suite
from pytest_boobench.plugin.progress import explain
from pytest_boobench.plugin.recorder import Recorder
from pytest_boobench.plugin.settings import Settings
from pytest_boobench.record import Measurement
from pytest_boobench.reports import html
from pytest_boobench.reports.session import SessionReport, Unmeasured


def render_page(recorder: Recorder, unmeasured: Sequence[Unmeasured]) -> str:
    """The page of the session's cells, measured ones with their history; StoreError where they can't be read."""
    cell_keys = {row.record.cell_key for row in recorder.rows}
    history = html.History(measurements=())
    if cell_keys:
        from pytest_boobench.store import Selection

        with recorder.open_store() as store:

            def ask(*, last: int | None = None, baselines: Collection[str] = ()) -> Sequence[Measurement]:
                return store.measurements(Selection(cell_keys=cell_keys, last=last, baselines=baselines))

            history = html.gather(ask, store.samples, store=store.address, session=recorder.session_uid)
    return html.render(replace(history, unmeasured=unmeasured), made_at=time.time())


class Outputs:
    """Keeps what the recorder has no record of, and writes the files; they are relative to where pytest was started."""

    def __init__(self, config: pytest.Config, settings: Settings, recorder: Recorder) -> None:
        # GitHub's own file, which is appended to.
        offered = os.environ.get("GITHUB_STEP_SUMMARY") if config.getini("boobench_step_summary") else None
        self._step_summary = Path(offered) if offered else None
        self._page = _find_output(config, "report")
        if self._page:
            try:
                html.require_template_engine()
            except MissingExtra as error:
                raise pytest.UsageError(f"--boobench-report: {error}") from error
        self._summary = _find_output(config, "summary")
        self._metrics = _find_output(config, "metrics")
        self._json = _find_output(config, "json")
        self._settings = settings
        self._recorder = recorder
        self._failures: dict[str, str] = {}
        self._skips: dict[str, str] = {}
        self._written: list[str] = []
        self._troubles: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep why cells failed or were skipped; the last run of a cell counts."""
        file = Path(report.nodeid.partition("::")[0]).name
        if report.when == "teardown" or not is_suite(file, self._settings.patterns):
            return
        self._failures.pop(report.nodeid, None)
        if report.failed:
            self._failures[report.nodeid] = explain(report)
        elif report.skipped:
            self._skips[report.nodeid] = explain(report)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write all that was asked for; where one can't be written, the session is not green."""
        if session.config.option.collectonly:
            return
        found = self._gather(int(session.exitstatus))
        if self._page:
            try:
                self._write(self._page, render_page(self._recorder, found.unmeasured))
            except StoreError as error:
                self._troubles.append(f"cannot write {self._page}: {error}")
        if self._summary:
            from pytest_boobench.reports import markdown

            self._write(self._summary, markdown.render(found))
        if self._metrics:
            from pytest_boobench.reports import openmetrics

            self._write(self._metrics, openmetrics.render(found.rows))
        if self._json:
            from pytest_boobench.reports.session_json import render_json

            samples: bool = session.config.getoption("boobench_json_samples")
            self._write(self._json, render_json(found, samples=samples))
        if self._troubles and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if self._step_summary and (found.rows or found.unmeasured):
            self._append(self._step_summary, found)

    def _gather(self, exit_status: int) -> SessionReport:
        rows = self._recorder.rows
        recorded = {row.record.node_id for row in rows}
        lost = [Unmeasured(node_id=node_id, outcome="failed", reason=why) for node_id, why in self._failures.items()]
        skipped = [Unmeasured(node_id=node_id, outcome="skipped", reason=why) for node_id, why in self._skips.items()]
        return SessionReport(
            uid=self._recorder.session_uid,
            baseline=self._settings.baseline,
            finished_at=time.time(),
            exit_status=exit_status,
            rows=rows,
            runs=self._recorder.runs,
            unmeasured=[cell for cell in (*lost, *skipped) if cell.node_id not in recorded],
            failures=self._failures,
            sections=self._recorder.sections,
            plugin_version=find_version(),
        )

    def _write(self, path: Path, text: str) -> None:
        try:
            path.write_text(text, encoding="utf-8", newline="\n")
        except OSError as error:
            self._troubles.append(f"cannot write {path}: {error.strerror}")
        else:
            self._written.append(str(path))

    def _append(self, path: Path, found: SessionReport) -> None:
        """Append to what other tools wrote in the same step; trouble fails nothing, since nobody asked for the file."""
        from pytest_boobench.reports import markdown

        try:
            before = path.stat().st_size if path.exists() else 0
            room = markdown.STEP_SUMMARY_BYTES - before - 1
            if room < markdown.LEAST_BYTES:
                self._troubles.append(f"GITHUB_STEP_SUMMARY: no room left in {path}")
                return
            with path.open("a", encoding="utf-8", newline="\n") as file:
                file.write("\n" * bool(before) + markdown.render(found, max_bytes=room))
        except OSError as error:
            self._troubles.append(f"GITHUB_STEP_SUMMARY: cannot append to {path}: {error.strerror}")

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say which files there are, and which there are not."""
        if self._written:
            terminalreporter.write_line(f"boobench wrote {', '.join(self._written)}")
        for trouble in self._troubles:
            terminalreporter.write_line(f"boobench: {trouble}", red=True)


def _find_output(config: pytest.Config, name: str) -> Path | None:
    """The file of an option, its folder made as ``--junitxml`` does. UsageError where it can't be written."""
    typed: str | None = config.getoption(f"boobench_{name}")
    if not typed:
        return None
    path = config.invocation_params.dir / typed
    if config.option.collectonly:
        return path
    there = path.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("a").close()
        if not there:
            path.unlink()
    except OSError as error:
        raise pytest.UsageError(f"--boobench-{name}: cannot write {path}: {error.strerror}") from error
    return path
