"""The bridge to pytest-benchmark: cells in its tables, JSON, storage, comparison and histogram.

It gets the end-to-end seconds of a cell's counted samples, one round each; the medians of all metrics are in
``extra_info``. Without pytest-xdist they go through its fixture. xdist's controller has no fixture: there its list of
results gets them, and only `make_result` knows how such a result is made.

Its tables show the cells only where a ``--benchmark-*`` option asks for something: they are 190 columns of seconds.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Generator, Iterator, Mapping, Sequence
from itertools import chain
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pytest_boobench.aggregate import counted
from pytest_boobench.plugin.ordering import cell_of
from pytest_boobench.record import CellRecord
from pytest_boobench.untrusted import hide_in

_SESSION = "pytest-benchmark"
"""The name of its session object, which is missing where the plugin is not installed, blocked or replaced."""
_Groups = Sequence[tuple[str | None, Sequence[Mapping[str, Any]]]]
"""Title and results of each of its groups."""


def register(config: pytest.Config) -> None:
    """Register what this process needs; each part finds out later whether pytest-benchmark is there."""
    if hasattr(config, "workerinput"):
        config.pluginmanager.register(SkippedInWorker(), "boobench-benchmark")
        return
    typed = map(str, config.invocation_params.args)
    standing = shlex.split(os.environ.get("PYTEST_ADDOPTS", ""))
    asked = any(arg.startswith("--benchmark-") for arg in (*typed, *config.getini("addopts"), *standing))
    if not asked:
        config.pluginmanager.register(TablesWithoutCells(), "boobench-benchmark-tables")
    parallel = config.getoption("dist", "no") != "no"
    bridge = ResultsInController(config, tells=asked) if parallel else RoundsInProcess()
    config.pluginmanager.register(bridge, "boobench-benchmark")


class PlaybackClock:
    """A timer that shows the next of some durations between two looks at it."""

    def __init__(self) -> None:
        self._readings_s: Iterator[float] = iter(())

    def load(self, durations_s: list[float]) -> None:
        """Set the durations to show; each begins at zero, so that a difference has no rounding error."""
        self._readings_s = chain.from_iterable((0.0, duration_s) for duration_s in durations_s)

    def e2e_s(self) -> float:
        """The time; pytest-benchmark's JSON names its timer by this function."""
        return next(self._readings_s, 0.0)


class RoundsInProcess:
    """Gives cells the ``benchmark`` fixture and plays their samples to it, once they are judged."""

    def __init__(self) -> None:
        self._clock = PlaybackClock()
        self._fixture: Any = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """``--benchmark-skip`` and ``--benchmark-only`` look for the fixture's name right after this."""
        if not config.pluginmanager.hasplugin(_SESSION):
            return
        for item in items:
            if cell_of(item) is not None:
                item.add_marker(pytest.mark.benchmark(timer=self._clock.e2e_s))
                names: list[str] = item.fixturenames  # type: ignore[attr-defined]  # one list for all cells of a model
                if "benchmark" not in names:
                    names.append("benchmark")  # last, so that a cell that can't be measured has none

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> None:
        """Keep the fixture of the cell that is about to be judged."""
        if cell_of(item) is not None:
            self._fixture = item.funcargs.get("benchmark")  # type: ignore[attr-defined]

    def pytest_boobench_cell_finished(self, record: CellRecord) -> None:
        """Play the samples to the fixture."""
        rounds_s = read_rounds_s(record)
        if self._fixture is None or record.error or not rounds_s:
            return
        fixture, self._fixture = self._fixture, None
        for name, value in describe(record).items():
            setattr(fixture, name, value)
        self._clock.load(rounds_s)
        fixture.pedantic(_do_nothing, rounds=len(rounds_s))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self) -> None:
        """A fixture that was not used would warn: where the cell is not judged yet, use it without effect."""
        if self._fixture is not None:
            self._fixture.disabled = True
            self._fixture.pedantic(_do_nothing)
            self._fixture = None


def _do_nothing() -> None:
    """Stand in for the work that `PlaybackClock` times."""


class SkippedInWorker:
    """Skips cells where pytest-benchmark would: in a worker they have no fixture, since that warns of xdist."""

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """``--benchmark-skip``, in pytest-benchmark's words."""
        if config.getoption("benchmark_skip", default=False):
            for item in items:
                if cell_of(item) is not None:
                    item.add_marker(pytest.mark.skip(reason="Skipping benchmark (--benchmark-skip active)."))


class TablesWithoutCells:
    """Leaves cells out of pytest-benchmark's tables; the user's own benchmarks stay in them."""

    def __init__(self) -> None:
        self._cells: set[str] = set()

    def pytest_boobench_cell_finished(self, record: CellRecord) -> None:
        """Note which results are cells."""
        self._cells.add(record.node_id)

    @pytest.hookimpl(wrapper=True, optionalhook=True)
    def pytest_benchmark_group_stats(self) -> Generator[None, _Groups, _Groups]:
        """Take the cells out of the groups, and the groups that are then empty."""
        groups = yield
        kept = [(name, [one for one in group if one["fullname"] not in self._cells]) for name, group in groups]
        return [(name, group) for name, group in kept if group]


class ResultsInController:
    """Adds cells to pytest-benchmark's results, where they are saved and shown from."""

    def __init__(self, config: pytest.Config, *, tells: bool) -> None:
        """``tells``: whether to say that cells are missing there."""
        self._tells = tells
        disabled = config.getoption("benchmark_disable", default=False)
        self._wanted = not disabled or config.getoption("benchmark_enable")
        self._trouble = ""

    def pytest_boobench_cell_finished(self, config: pytest.Config, record: CellRecord) -> None:
        """Add the cell; with a pytest-benchmark of another structure the cell is missing there, and nothing fails."""
        session: Any = config.pluginmanager.get_plugin(_SESSION)
        rounds_s = read_rounds_s(record)
        if session is None or not self._wanted or record.error or not rounds_s:
            return
        try:
            session.benchmarks.append(make_result(record, rounds_s))
        except (ImportError, AttributeError, TypeError) as error:
            self._trouble = f"boobench: cells are missing in the output of pytest-benchmark: {error}"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say what is missing."""
        if self._trouble and self._tells:
            terminalreporter.write_line(self._trouble, yellow=True)


def make_result(record: CellRecord, rounds_s: list[float]) -> Any:
    """A result as pytest-benchmark's own fixture would have made it."""
    from pytest_benchmark.stats import Metadata

    name = record.node_id.rpartition("::")[2]
    fixture = SimpleNamespace(
        name=name,
        fullname=record.node_id,
        param=name.partition("[")[2].removesuffix("]"),
        has_error=False,
        cprofile_stats=None,
        **describe(record),
    )
    result: Any = Metadata(fixture, iterations=1, options={"timer": PlaybackClock.e2e_s})  # type: ignore[no-untyped-call]
    for round_s in rounds_s:
        result.update(round_s)
    return result


def read_rounds_s(record: CellRecord) -> list[float]:
    """The end-to-end seconds of the counted samples, in their order."""
    return [sample.e2e_ms / 1000 for sample in counted(record.samples) if sample.e2e_ms is not None]


def describe(record: CellRecord) -> Mapping[str, Any]:
    """A cell for pytest-benchmark: its group, its parameters, and the other results."""
    axes = {name: value for name, value in record.identity.items() if not isinstance(value, dict)}
    sampling = {f"sampling.{name}": value for name, value in record.identity["sampling"].items()}
    medians = {key: aggregate.median for key, aggregate in record.aggregates.items()}
    server = record.server
    told: dict[str, Any] = {
        "group": f"{record.host} {record.node_id.rpartition('::')[2].partition('[')[0]}",
        "params": {**axes, **sampling},
        "extra_info": {
            **medians,
            "total_tok_s": record.total_tok_s,
            "failed": len(record.failed),
            "server": server.kind if server else None,
            "engine_build": server.engine_build if server else None,
        },
    }
    return cast("Mapping[str, Any]", hide_in(told))
