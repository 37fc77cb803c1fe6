"""Signals that end a session: SIGTERM and SIGHUP interrupt it as Ctrl-C does, so that all that was measured is told.

CI systems end a job that way, and a terminal that is closed. The second signal of a kind ends the process at once.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType

import pytest

_NAMES = ("SIGTERM", "SIGHUP")
"""Windows has no SIGHUP."""


class Signals:
    """Takes the signals as long as the session is configured, where nobody else takes or ignores them."""

    def __init__(self) -> None:
        self._taken: list[signal.Signals] = []
        self._came = ""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.Signals[name] for name in _NAMES if hasattr(signal, name)):
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, self._interrupt)
                self._taken.append(number)

    def _interrupt(self, number: int, _: FrameType | None) -> None:
        self._came = signal.Signals(number).name
        self.pytest_unconfigure()
        if signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, None):  # as in the background jobs of a shell
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say why the session ended."""
        if self._came:
            terminalreporter.write_line(f"boobench: interrupted by {self._came}; all cells that ended are stored")

    def pytest_unconfigure(self) -> None:
        """Leave them to the system again."""
        while self._taken:
            signal.signal(self._taken.pop(), signal.SIG_DFL)
