"""The second pass: cells that were left in doubt run again once all others of their host are through.

So all doubtful cells of a host share the wait between two blocks. It is the same item each time, set up and torn down
by pytest itself; only its last run has an outcome.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Self

import pytest

from pytest_boobench.plugin.bench import Bench
from pytest_boobench.plugin.ordering import cell_of


def is_rerun(report: pytest.TestReport) -> bool:
    """Whether a report is of an attempt that failed and is no outcome: pytest-rerunfailures runs the item again."""
    outcome: str = report.outcome
    return outcome == "rerun"


def explain(report: pytest.TestReport) -> str:
    """What a report says of its end, without a traceback."""
    told = report.longrepr
    if isinstance(told, tuple):
        return str(told[2]).removeprefix("Skipped: ")
    crash = getattr(told, "reprcrash", None)
    # Not longreprtext: with pytest-xdist it begins with the worker.
    return str(crash.message if crash else told).removeprefix("Failed: ")


class Stay(pytest.Item):
    """What comes next while nobody knows what comes next: keeps the fixtures of an item's class and above alive."""

    @classmethod
    def after(cls, item: pytest.Item) -> Self:
        """A neighbour of the item, with its name."""
        made: Self = cls.from_parent(item.parent or item.session, name=item.name)
        return made

    def runtest(self) -> None:
        """Nothing."""


class SecondPass:
    """Without pytest-xdist: the last cell of each machine is followed by the doubtful ones, until none is left."""

    def __init__(self, bench: Bench, machine_of: Callable[[str], str]) -> None:
        self._bench = bench
        self._machine_of = machine_of
        self._last: dict[str, pytest.Item] = {}
        """Machine -> the last of its cells."""
        self._nested = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Only now it is known which items run, and in which order."""
        if session.config.option.collectonly:
            return
        for item in session.items:
            if (cell := cell_of(item)) is not None:
                self._last[self._machine_of(cell.host)] = item

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Run a last cell and what follows from it; leave all other items to pytest."""
        cell = cell_of(item)
        if self._nested or cell is None or self._last.get(self._machine_of(cell.host)) is not item:
            return None
        self._nested = True
        try:
            self._run_all(item, nextitem)
        finally:
            self._nested = False
        return True

    def _run_all(self, last: pytest.Item, nextitem: pytest.Item | None) -> None:
        queue = deque(item for item in last.session.items if self._bench.is_in_doubt(item))
        item = last
        while True:
            run(item, queue[0] if queue else Stay.after(item))
            if self._bench.is_in_doubt(item):
                queue.append(item)
            if not queue or is_stopped(item.session):
                break
            item = queue.popleft()
        close(item, nextitem)


class ScheduledPass:
    """In a worker of pytest-xdist, where the controller sends doubtful cells again.

    It sends the last cell of a host twice in a row: should the first run leave no doubt, the second one only ends what
    the first kept alive.
    """

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._kept_open: pytest.Item | None = None
        self._nested = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Run an item that may come again at once, or end it; leave all others to pytest."""
        if self._nested or cell_of(item) is None:
            return None
        if item is self._kept_open and not self._bench.is_in_doubt(item):
            self._kept_open = None
            close(item, nextitem)
            return True
        self._kept_open = item if nextitem is item else None
        if self._kept_open is None:
            return None
        self._nested = True
        try:
            run(item, Stay.after(item))
        finally:
            self._nested = False
        return True


def run(item: pytest.Item, nextitem: pytest.Item) -> None:
    """Run an item as pytest does."""
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=nextitem)


def close(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End the fixtures that were kept alive for another run of the item and that the next one doesn't share."""
    stay = Stay.after(item)
    # Reported to nobody; but plugins prepare with an item's first report what they look up at its last.
    begun = pytest.CallInfo.from_call(
        lambda: stay.ihook.pytest_runtest_setup(item=stay),
        when="setup",
        reraise=(pytest.exit.Exception, KeyboardInterrupt),
    )
    stay.ihook.pytest_runtest_makereport(item=stay, call=begun)
    call = pytest.CallInfo.from_call(
        lambda: stay.ihook.pytest_runtest_teardown(item=stay, nextitem=nextitem),
        when="teardown",
        reraise=(pytest.exit.Exception, KeyboardInterrupt),
    )
    report = stay.ihook.pytest_runtest_makereport(item=stay, call=call)
    if report.failed:
        stay.ihook.pytest_runtest_logreport(report=report)


def is_stopped(session: pytest.Session) -> bool:
    """Whether pytest is about to end the session."""
    return bool(session.shouldstop or session.shouldfail)
