"""Everything that knows pytest. This module is the entry point and imports only what every session needs.

The rest is imported once ``--boobench`` is given: a session that does not use the plugin pays nothing.

- ``options``     the command line and ini names; ``settings`` what they and the environment say
- ``hookspecs``   the hooks that others may implement
- ``activate``    what ``--boobench`` switches on
- ``collect``     suite file -> test items
- ``ordering``    which cell comes when on a host, and in which process
- ``bench``       the measuring side: fixtures and verdicts, in each process that runs items
- ``judging``     verdicts, and the second pass of cells in doubt
- ``recorder``    the reporting side: store, reports, summary, in the one process that reports
- ``session_store``   the session's way into the store and the baseline file
- ``outputs``     the files that a session leaves, the HTML page among them
- ``signals``     SIGTERM and SIGHUP end a session as Ctrl-C does
- ``benchmark``   the bridge to pytest-benchmark
- ``progress``    the progress of a cell, as the measuring side reports it; ``live`` how the reporting side shows it
- ``workers``     who has which host: leases, and pytest-xdist's controller; ``scheduler`` one machine, one worker
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, cast

import pytest

from pytest_boobench.plugin import hookspecs, options

if TYPE_CHECKING:
    from pytest_boobench.hosts.access import Grant
    from pytest_boobench.plugin.bench import Bench
    from pytest_boobench.record import CellRecord
    from pytest_boobench.suite.cell import Cell


BENCH = "boobench-bench"
"""The name under which the process's measuring side is registered."""


def bench_of(config: pytest.Config) -> Bench:
    """The measuring side of this process."""
    return cast("Bench", config.pluginmanager.get_plugin(BENCH))


@contextmanager
def set_aside() -> Iterator[None]:
    """Turn garbage collection off for imports in the block; later collections ignore what exists at its end.

    A block that imports nothing sets nothing aside: it would keep the garbage of all earlier sessions in the process.
    """
    if "PYTEST_CURRENT_TEST" in os.environ:  # a session inside a test: the process is not ours
        yield
        return
    was_on, known = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > known:
            gc.freeze()
        if was_on:
            gc.enable()


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Always: a conftest may implement our hooks in sessions that do not bench."""
    pluginmanager.add_hookspecs(hookspecs)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Every option starts with ``--boobench``, every ini name with ``boobench_``."""
    options.add(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Everything else is behind the flag."""
    config.addinivalue_line("markers", "boobench(cell): a cell of a bench suite; set by the plugin, select with -m")
    if config.getoption("boobench"):
        with set_aside():
            from pytest_boobench.plugin.activate import activate

            activate(config)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> Iterator[None]:
    """Around those that import what only cells need: the store, and what asks the hosts."""
    with set_aside() if session.config.getoption("boobench") else nullcontext():
        yield


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say why pytest does not find a suite that is named without the flag."""
    return options.header(config)


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """``-n auto``: as many workers as machines. Called before pytest is configured, so it stands here.

    Before pytest-xdist's own answer, whichever plugin was loaded first; after that of a user's conftest.
    """
    answers = config.hook.pytest_xdist_auto_num_workers.get_hookimpls()
    if {answer.function.__module__.partition(".")[0] for answer in answers} - {"pytest_boobench", "xdist"}:
        return None
    wanted = config.getoption("boobench") and config.option.numprocesses == "auto"
    if not wanted or os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS"):
        return None
    from pytest_boobench.plugin import ordering

    return ordering.count_workers(config)


@pytest.fixture
def boobench_host_access(request: pytest.FixtureRequest, boobench_cell: Cell) -> Iterator[Grant]:
    """Permission to use the cell's host while the cell runs. Override it in a conftest to decide that yourself."""
    with bench_of(request.config).access(request.node, boobench_cell, boobench_cell.host) as grant:
        yield grant


@pytest.fixture
def boobench_record(request: pytest.FixtureRequest, boobench_cell: Cell, boobench_host_access: Grant) -> CellRecord:
    """The measured cell: warm-up and samples. A cell that cannot be measured is an error here, before it is judged."""
    return bench_of(request.config).measure(request.node, boobench_cell, boobench_host_access)
