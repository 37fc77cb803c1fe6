"""The hooks that a conftest or another plugin may implement; implementations may take fewer arguments.

With pytest-xdist, hooks of the reporting side are called in the controller: implement them in a plugin, the rootdir's
conftest or that of a folder given as an argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_boobench.hosts.access import Grant
    from pytest_boobench.hosts.inventory import Host
    from pytest_boobench.plugin.progress import Progress
    from pytest_boobench.record import Baseline, CellRecord, Verdict
    from pytest_boobench.reports.session import FinishedCell
    from pytest_boobench.servers.clients import Clients, Server
    from pytest_boobench.suite.cell import Cell, Suite


@pytest.hookspec(firstresult=True)
def pytest_boobench_modify_suite(config: pytest.Config, suite: Suite) -> Suite | None:
    """Return another suite of the same name in place of one that was read, or None to leave it.

    Called in every process that collects: with pytest-xdist all of them must come to the same cells.
    """


@pytest.hookspec
def pytest_boobench_modify_cells(config: pytest.Config, suite: Suite, cells: list[Cell]) -> None:
    """Add, remove, replace or reorder a suite's cells, in place, after `pytest_boobench_modify_suite`; as that in every
    process. The cells of a host and model must stay together, and each must have a name of its own."""


@pytest.hookspec(firstresult=True)
def pytest_boobench_make_server(config: pytest.Config, host: Host, clients: Clients) -> Server | None:
    """Return a client for a host's server of a kind that is not built in; None lets the plugin find out the kind.

    Called once for each host in the process that measures, before anything is asked of it.
    """


@pytest.hookspec(firstresult=True)
def pytest_boobench_select_baseline(
    config: pytest.Config, cell: Cell, record: CellRecord, baseline: Baseline | None
) -> Baseline | None:
    """Return the baseline to judge a cell by; None leaves it at the store's, under the name asked for. Called where the
    cell is measured, possibly several times for a cell."""


@pytest.hookspec(firstresult=True)
def pytest_boobench_judge(
    config: pytest.Config, cell: Cell, record: CellRecord, baseline: Baseline | None, verdicts: Sequence[Verdict]
) -> Sequence[Verdict] | None:
    """Return other verdicts than the gate's; None leaves them. Called where the cell is measured, once for each cell
    that could be measured, after its last block."""


@pytest.hookspec
def pytest_boobench_run_metadata(config: pytest.Config, suite: str, host: str, metadata: dict[str, Any]) -> None:
    """Add facts of your own to a run, plain JSON: driver, power limit, temperature. They are stored and reported.
    Called in the reporting process when the first cell of the run comes in."""


@pytest.hookspec
def pytest_boobench_report_section(config: pytest.Config, rows: Sequence[FinishedCell]) -> tuple[str, str] | None:
    """Return (title, plain text) to add a section after the tables, in the terminal and in every report for people.
    Called in the reporting process at the end."""


@pytest.hookspec(firstresult=True)
def pytest_boobench_acquire_host_access(config: pytest.Config, host: str, purpose: str) -> Grant | None:
    """Return a Grant for ``host``, or None to let the next plugin answer; raise HostError to refuse.

    Called for each cell in the process that measures it. This plugin answers last: it waits until no other session on
    this machine uses the host.
    """


@pytest.hookspec
def pytest_boobench_cell_finished(config: pytest.Config, record: CellRecord, verdicts: Sequence[Verdict]) -> None:
    """A cell is stored and judged. Called in the reporting process, once for each cell; ``verdicts`` is empty where
    the cell could not be measured."""


@pytest.hookspec
def pytest_boobench_progress(config: pytest.Config, progress: Progress) -> None:
    """Called in the reporting process at each change of a cell's state, and a few times a second between.

    Without pytest-xdist that is the process that measures: a slow implementation delays the cell's next request.
    """
