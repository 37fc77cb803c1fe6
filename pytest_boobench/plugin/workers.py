"""What pytest-xdist's controller hands to its workers: baselines, the session's name; workers never open the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

from pytest_boobench.record import baseline_to_plain

if TYPE_CHECKING:
    from pytest_boobench.plugin.recorder import Recorder


class Workers:
    """Registered in the controller where pytest-xdist is loaded."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._baselines: dict[str, Any] | None = None

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_setupnodes(self, specs: Sequence[object]) -> None:
        """How many processes measure at once is a fact of the run."""
        self._recorder.workers = len(specs)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Runs once for each worker, also for one that replaces a crashed one."""
        if self._baselines is None:
            self._baselines = {key: baseline_to_plain(baseline) for key, baseline in self._recorder.baselines().items()}
        node.workerinput["boobench_session"] = self._recorder.session_uid
        node.workerinput["boobench_baselines"] = self._baselines
