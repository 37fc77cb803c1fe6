"""The hooks that a conftest or another plugin may implement; implementations may take fewer arguments.

With pytest-xdist, hooks of the reporting side are called in the controller: implement them in a plugin, the rootdir's
conftest or that of a folder given as an argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_boobench.hosts.access import Grant
    from pytest_boobench.plugin.progress import Progress
    from pytest_boobench.record import CellRecord, Verdict


@pytest.hookspec(firstresult=True)
def pytest_boobench_acquire_host_access(config: pytest.Config, host: str, purpose: str) -> Grant | None:
    """Answer with a Grant for ``host``, or None to let the next one answer; raise HostError to refuse.

    Called for each cell in the process that measures it. The plugin's own answer comes last: it waits until no other
    run of ours on this machine uses the host.
    """


@pytest.hookspec
def pytest_boobench_cell_finished(config: pytest.Config, record: CellRecord, verdicts: Sequence[Verdict]) -> None:
    """A cell is stored and judged. Called in the reporting process, once for each cell; ``verdicts`` is empty where
    the cell could not be measured."""


@pytest.hookspec
def pytest_boobench_progress(config: pytest.Config, progress: Progress) -> None:
    """A cell comes along. Called in the reporting process, at each change of state and a few times a second between.

    Without pytest-xdist that is the process that measures: an answer that takes long delays the cell's next request.
    """
