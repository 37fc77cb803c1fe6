"""What pytest has collected, as a file for the page: loaded with ``-p`` into the page's own child, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from pytest_boobench.plugin.ordering import cell_of


def pytest_addoption(parser: pytest.Parser) -> None:
    """The file."""
    parser.addoption("--boobench-listing", metavar="FILE", help="write the collected cells to FILE, as JSON")


def pytest_configure(config: pytest.Config) -> None:
    """Begin to list."""
    if file := config.getoption("boobench_listing"):
        config.pluginmanager.register(Listing(Path(file)), "boobench-listing")


class Listing:
    """All cells, and which of them are selected."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._all: Sequence[pytest.Item] = ()

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Before anybody deselects."""
        self._all = tuple(items)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Write the file."""
        chosen = set(session.items)
        listed = [
            {
                "node_id": item.nodeid,
                "suite": cell.suite,
                "host": cell.host,
                "model": cell.model,
                "id": cell.id,
                "key": cell.key,
                "marks": [mark.name for mark in cell.marks],
                "lanes": cell.concurrency,
                "requests": cell.plan.samples + cell.plan.warmup * cell.concurrency,
                "selected": item in chosen,
            }
            for item in self._all
            if (cell := cell_of(item)) is not None
        ]
        self._file.write_text(json.dumps(listed), encoding="utf-8")
