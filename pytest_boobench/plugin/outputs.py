"""The files that a session leaves: checked before it begins, written at its end."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_boobench import find_version
from pytest_boobench.errors import MissingExtra, StoreError
from pytest_boobench.plugin.options import Settings
from pytest_boobench.plugin.recorder import Recorder
from pytest_boobench.plugin.second_pass import explain
from pytest_boobench.record import Measurement
from pytest_boobench.reports import html
from pytest_boobench.reports.session import SessionReport, Unmeasured

if TYPE_CHECKING:
    from pytest_boobench.store import Store


def require_page() -> None:
    """UsageError where the page could not be made, before anything is measured."""
    try:
        html.require_template_engine()
    except MissingExtra as error:
        raise pytest.UsageError(f"--boobench-report: {error}") from error


def render_page(recorder: Recorder, unmeasured: Sequence[Unmeasured]) -> str:
    """The page of the session's cells: what it measured with what was before, and what it did not come to measure.

    StoreError where the cells can't be read.
    """
    history = replace(_gather(recorder), unmeasured=unmeasured)
    return html.render(history, made_at=time.time())


def _gather(recorder: Recorder) -> html.History:
    cell_keys = {row.record.cell_key for row in recorder.rows}
    if not cell_keys:
        return html.History(measurements=())
    with recorder.open_store() as store:
        return _gather_from(store, recorder.session_uid, cell_keys)


def _gather_from(store: Store, session_uid: str, cell_keys: Collection[str]) -> html.History:
    from pytest_boobench.store import Selection

    def ask(*, last: int | None = None, baselines: Collection[str] = ()) -> Sequence[Measurement]:
        return store.measurements(Selection(cell_keys=cell_keys, last=last, baselines=baselines))

    return html.gather(ask, store.samples, store=store.address, session=session_uid)


@dataclass(frozen=True, slots=True)
class Files:
    """Where to write what; None: not asked for."""

    report: Path | None
    summary: Path | None
    metrics: Path | None
    json: Path | None
    json_samples: bool
    step_summary: Path | None
    """GitHub's own file, which is appended to."""

    @classmethod
    def of(cls, config: pytest.Config) -> Files:
        """What was typed, relative to where it was; and what GitHub Actions offers, unless the ini declines."""
        offered = os.environ.get("GITHUB_STEP_SUMMARY") if config.getini("boobench_step_summary") else None
        report = _typed(config, "report")
        if report:
            require_page()
        return cls(
            report=report,
            summary=_typed(config, "summary"),
            metrics=_typed(config, "metrics"),
            json=_typed(config, "json"),
            json_samples=config.getoption("boobench_json_samples"),
            step_summary=Path(offered) if offered else None,
        )


def _typed(config: pytest.Config, name: str) -> Path | None:
    """The file of an option. UsageError where it can't be written, before anything is measured."""
    typed: str | None = config.getoption(f"boobench_{name}")
    if not typed:
        return None
    path = config.invocation_params.dir / typed
    if not config.option.collectonly:
        require_writable(f"--boobench-{name}", path)
    return path


def require_writable(option: str, path: Path) -> None:
    """Make the file's folder, as ``--junitxml`` does; UsageError where the file can't be written."""
    there = path.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("a").close()
        if not there:
            path.unlink()
    except OSError as error:
        raise pytest.UsageError(f"{option}: cannot write {path}: {error.strerror}") from error


class Outputs:
    """Listens for what the recorder has no record of, and writes the files."""

    def __init__(self, config: pytest.Config, settings: Settings, recorder: Recorder) -> None:
        self._files = Files.of(config)
        self._settings = settings
        self._recorder = recorder
        self._failures: dict[str, str] = {}
        self._skips: dict[str, str] = {}
        self._written: list[str] = []
        self._troubles: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep why cells failed or were skipped; the last run of a cell counts."""
        if report.when == "teardown" or not self._is_cell(report.nodeid):
            return
        self._failures.pop(report.nodeid, None)
        if report.failed:
            self._failures[report.nodeid] = explain(report)
        elif report.skipped:
            self._skips[report.nodeid] = explain(report)

    def _is_cell(self, node_id: str) -> bool:
        name = Path(node_id.partition("::")[0]).name
        return any(fnmatch(name, pattern) for pattern in self._settings.patterns)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write all that was asked for; where one can't be written, the session is not green."""
        files = self._files
        if session.config.option.collectonly:
            return
        found = self._gather(int(session.exitstatus))
        if files.report:
            self._write_page(files.report, found.unmeasured)
        if files.summary:
            from pytest_boobench.reports import markdown

            self._write(files.summary, markdown.render(found))
        if files.metrics:
            from pytest_boobench.reports import openmetrics

            self._write(files.metrics, openmetrics.render(found.rows))
        if files.json:
            from pytest_boobench.reports.session_json import render_json

            self._write(files.json, render_json(found, samples=files.json_samples))
        if self._troubles and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if files.step_summary and (found.rows or found.unmeasured):
            self._append(files.step_summary, found)

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

    def _write_page(self, path: Path, unmeasured: Sequence[Unmeasured]) -> None:

        try:
            self._write(path, render_page(self._recorder, unmeasured))
        except StoreError as error:
            self._troubles.append(f"cannot write {path}: {error}")

    def _write(self, path: Path, text: str) -> None:
        try:
            path.write_text(text, encoding="utf-8", newline="\n")
        except OSError as error:
            self._troubles.append(f"cannot write {path}: {error.strerror}")
        else:
            self._written.append(str(path))

    def _append(self, path: Path, found: SessionReport) -> None:
        """To what other tools have written in the same step; nobody asked us to, so trouble is only told."""
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
