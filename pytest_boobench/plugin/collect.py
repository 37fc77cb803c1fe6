"""Suite file -> test items, which pytest makes of a synthetic module: class = host, function = model, param = cell.

So fixtures, marks, ``-k``, node ids and plugins work as on any Python test. A function has its model's short name.
"""

from __future__ import annotations

import os
import types
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_boobench import suite
from pytest_boobench.errors import DocumentError
from pytest_boobench.hosts.inventory import Inventory
from pytest_boobench.plugin import bench_of
from pytest_boobench.plugin.options import is_suite
from pytest_boobench.plugin.ordering import Loaded, Ready, cell_of, find_choices, locate, order
from pytest_boobench.plugin.settings import Settings
from pytest_boobench.suite.cell import Cell, Mark, Suite
from pytest_boobench.suite.names import shorten

if TYPE_CHECKING:
    from pytest_boobench.record import CellRecord


class Collection:
    """Collects suite files, keeps suite names unique, narrows to the hosts asked for, and puts cells in order.

    ``ready`` is asked before the first cell. In a worker it knows nothing: all workers must collect in one order.
    """

    def __init__(self, config: pytest.Config, settings: Settings, inventory: Inventory, ready: Ready) -> None:
        self._config = config
        self._ready = ready
        self._settings = settings
        self._inventory = inventory
        self._names = suite.SuiteNames()

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> pytest.Module | None:
        """A file whose name fits one of the patterns is a suite."""
        if not is_suite(file_path.name, self._settings.patterns):
            return None
        found: SuiteFile = SuiteFile.from_parent(parent, path=file_path)
        found.read = self.read
        return found

    def read(self, path: Path) -> Suite | None:
        """The suite in a file, None where it has none of the hosts asked for; DocumentError with all its problems."""
        display = os.path.relpath(path, self._config.rootpath)
        known = suite.accept_hosts(path, self._inventory.names, self._settings.only_hosts)
        if known is None:
            return None
        loaded = suite.load(
            path,
            display=display,
            known_hosts=known,
            hosts_file=self._inventory.display,
            starts=self._inventory.starts,
            max_cells=self._settings.max_cells,
        )
        self._names.claim(loaded, display)
        return modify(self._config, loaded, display)

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Let cells report their line of the suite file, and let ``-k`` find them by their model's long name too."""
        if (cell := cell_of(item)) is not None:
            # Not the end of the node id: pytest would write every dot there as "::".
            place = (item.path, cell.line - 1, f"{item.name} on {cell.host}")
            item.reportinfo = lambda: place  # type: ignore[method-assign]
            item.extra_keyword_matches.add(cell.model)

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Deselect the cells of hosts that ``--boobench-host`` does not name; put the others in order."""
        wanted = self._settings.only_hosts
        dropped = {item for item in items if wanted and (cell := cell_of(item)) is not None and cell.host not in wanted}
        if dropped:
            config.hook.pytest_deselected(items=[item for item in items if item in dropped])
            items[:] = [item for item in items if item not in dropped]
        put_in_order(items, {}, self._inventory)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Put models first that are loaded already; only now it is known which cells will run."""
        if session.config.option.collectonly:
            return
        cells = (cell for item in session.items if (cell := cell_of(item)) is not None)
        if hosts := find_choices(locate(cell, self._inventory) for cell in cells):
            put_in_order(session.items, self._ready(hosts), self._inventory)


class SuiteFile(pytest.Module):
    """A suite file, as a module that is built instead of imported."""

    read: Callable[[Path], Suite | None]

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        """Build the module, and let pytest collect its classes and functions."""
        try:
            found = self.read(self.path)
        except DocumentError as error:
            raise self.CollectError(str(error)) from error
        if found is None:
            return []
        self.obj = build_module(found)
        return super().collect()


def put_in_order(items: list[pytest.Item], loaded: Loaded, inventory: Inventory) -> None:
    """Cells change places among themselves, over all files; other items keep theirs."""
    found = [(slot, item, cell) for slot, item in enumerate(items) if (cell := cell_of(item)) is not None]
    slots = [slot for slot, _, _ in found]
    for slot, index in zip(slots, order([locate(cell, inventory) for _, _, cell in found], loaded), strict=True):
        items[slot] = found[index][1]


def modify(config: pytest.Config, loaded: Suite, display: str) -> Suite:
    """Let the hooks change a suite; CollectError where the result cannot be collected."""
    changed: Suite = config.hook.pytest_boobench_modify_suite(config=config, suite=loaded) or loaded
    cells = list(changed.cells)
    config.hook.pytest_boobench_modify_cells(config=config, suite=changed, cells=cells)
    times = Counter((cell.host, cell.model, cell.id) for cell in cells)
    for (host, model, cell_id), number in times.items():
        if number > 1:
            raise pytest.Collector.CollectError(
                f"{display}: pytest_boobench_modify_cells: two cells {host}::{model}[{cell_id}], "
                "expected names of their own"
            )
    groups = [key for key, _ in groupby(cells, key=lambda cell: (cell.host, cell.model))]
    if len(set(groups)) < len(groups):
        raise pytest.Collector.CollectError(
            f"{display}: pytest_boobench_modify_cells: the cells of a host and model must stay together"
        )
    return replace(changed, cells=tuple(cells))


def build_module(loaded: Suite) -> types.ModuleType:
    """A module with a class for each host, and in it a function for each model, parametrized with its cells."""
    module = types.ModuleType(loaded.name, loaded.description)
    short = shorten(cell.model for cell in loaded.cells)
    for host, cells_of_host in groupby(loaded.cells, key=lambda cell: cell.host):
        # Collected whatever python_classes and python_functions say.
        members: dict[str, Any] = {"__test__": True}
        for model, cells in groupby(cells_of_host, key=lambda cell: cell.model):
            members[short[model]] = build_function(list(cells), loaded.fixtures)
        setattr(module, host, type(host, (), members))
    return module


def build_function(cells: list[Cell], fixtures: tuple[str, ...]) -> Callable[..., None]:
    """A fresh test function for one model, with one parameter set for each of its cells."""

    def boobench(
        self: object,  # noqa: ARG001
        request: pytest.FixtureRequest,
        boobench_cell: Cell,
        boobench_record: CellRecord,
    ) -> None:
        # Not hidden: pytest 9 tells where every frame of a failure is hidden.
        bench_of(request.config).judge(request.node, boobench_cell, boobench_record)

    function: Callable[..., None] = boobench
    function.__test__ = True  # type: ignore[attr-defined]
    if fixtures:
        function = pytest.mark.usefixtures(*fixtures)(function)
    params = [
        pytest.param(cell, id=cell.id, marks=[pytest.mark.boobench(cell=cell), *map(real_mark, cell.marks)])
        for cell in cells
    ]
    decorated: Callable[..., None] = pytest.mark.parametrize("boobench_cell", params)(function)
    return decorated


def real_mark(mark: Mark) -> pytest.MarkDecorator:
    """pytest's mark for a suite's; pytest itself refuses an unregistered one where marks are strict."""
    decorator: pytest.MarkDecorator = getattr(pytest.mark, mark.name)
    # with_args, since a call with one callable argument would decorate it.
    return decorator.with_args(*mark.args, **dict(mark.kwargs or {}))
