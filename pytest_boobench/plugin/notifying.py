"""Sends what the session changed to a webhook, where the user asks for it. It never changes how the session ends."""

from __future__ import annotations

import os
from typing import Any, cast, get_args

import pytest

from pytest_boobench.errors import BoobenchError
from pytest_boobench.plugin.recorder import Recorder
from pytest_boobench.record import Measurement
from pytest_boobench.reports.alert_post import TOKEN, Receiver, Shape, read_receiver, send
from pytest_boobench.reports.alert_steps import gather_alerts
from pytest_boobench.units import count


def register(config: pytest.Config, url: str, baseline: str, recorder: Recorder) -> None:
    """Register the sender; UsageError for a URL that is none."""
    where = "BOOBENCH_NOTIFY" if config.getoption("boobench_notify") is None else "--boobench-notify"
    shape = config.getini("boobench_notify_as") or None
    if shape is not None and shape not in get_args(Shape):
        raise pytest.UsageError(f"boobench_notify_as: expected one of {', '.join(get_args(Shape))}, got {shape!r}")
    try:
        receiver = read_receiver(url, cast("Shape | None", shape), os.environ.get(TOKEN))
    except ValueError as error:
        raise pytest.UsageError(f"{where}: {error}") from None  # the cause may have the URL
    config.pluginmanager.register(Notifying(config, baseline, recorder, receiver), "boobench-notifying")


class Notifying:
    """Sends the alerts of the session after everything is stored."""

    def __init__(self, config: pytest.Config, baseline: str, recorder: Recorder, receiver: Receiver) -> None:
        self._confirmed: bool = config.getini("boobench_notify_confirmed")
        self._baseline = baseline
        self._recorder = recorder
        self._receiver = receiver
        self._said = ""
        self._failed = False

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Send; what goes wrong is said, and changes nothing else."""
        if session.config.option.collectonly or not self._recorder.rows:
            return
        try:
            self._said = self._send()
        except BoobenchError as error:
            self._said, self._failed = f"alerts: {error}", True

    def _send(self) -> str:
        from pytest_boobench.store import Selection

        with self._recorder.open_store() as store:

            def ask(**wanted: Any) -> list[Measurement]:
                return store.measurements(Selection(**wanted), metrics=("decode_tok_s",))

            report = gather_alerts(ask, self._recorder.session_uid, self._baseline)
        told = report.list_told(confirmed=self._confirmed)
        send(self._receiver, told, report.session)
        return f"sent: {count(len(told), 'alert')}" if told else ""

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say whether something was sent."""
        if self._said:
            terminalreporter.write_line(f"boobench {self._said}", red=self._failed)
