"""Signals that end a session: SIGTERM and SIGHUP interrupt it as Ctrl-C does, so that all that was measured is told.

CI systems end a job that way, and a terminal that is closed. The second signal of a kind ends the process at once.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from types import FrameType

import pytest

_NAMES = ("SIGTERM", "SIGHUP")
"""Windows has no SIGHUP."""
WORK = "boobench-work"
"""Name of the task that a signal cancels. Whoever runs it raises KeyboardInterrupt then."""


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
        if signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, None):
            signal.raise_signal(signal.SIGINT)
        elif not _cancel_work():  # SIGINT is ignored in the background jobs of a shell, and asyncio leaves it so
            raise KeyboardInterrupt

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say why the session ended."""
        if self._came:
            terminalreporter.write_line(f"boobench: interrupted by {self._came}; all cells that ended are stored")

    def pytest_unconfigure(self) -> None:
        """Leave them to the system again."""
        while self._taken:
            signal.signal(self._taken.pop(), signal.SIG_DFL)


def _cancel_work() -> bool:
    """Whether work is under way in this thread; it then ends in good order, as asyncio ends it at Ctrl-C."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return False
    tasks = [task for task in asyncio.all_tasks(loop) if task.get_name() == WORK]
    for task in tasks:
        task.cancel()
    loop.call_soon_threadsafe(lambda: None)  # it may be asleep
    return bool(tasks)
