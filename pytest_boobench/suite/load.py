"""Room 1: a suite file -> Suite, or all that is wrong with it. Collection and command line both come through here."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from pytest_boobench import MAX_CELLS
from pytest_boobench.documents.problems import Problems
from pytest_boobench.documents.source import read
from pytest_boobench.errors import DocumentError, Problem
from pytest_boobench.suite.cell import Cell, Suite
from pytest_boobench.suite.checks import check_hosts, check_kind, check_overrides, check_plans, check_size
from pytest_boobench.suite.grid import list_points
from pytest_boobench.suite.overrides import Treatments
from pytest_boobench.suite.spec import SUITE, SuiteFields


def load(
    path: Path,
    *,
    display: str,
    known_hosts: Collection[str] | None,
    hosts_file: str | None = None,
    max_cells: int = MAX_CELLS,
) -> Suite:
    """Read a suite file; raises DocumentError with every problem of the file.

    ``display`` is how messages call the file. ``known_hosts`` None leaves the hosts unchecked; ``hosts_file`` is how
    messages call the file that names them.
    """
    problems = Problems(display)
    root = read(path, problems)
    written = SUITE.read(root, problems) or SuiteFields(node=root)
    if known_hosts is not None:
        check_hosts(written, known_hosts, hosts_file, problems)
    check_kind(written, problems)
    check_size(written, max_cells, problems)
    check_overrides(written, problems)
    check_plans(written, problems)
    problems.raise_any()
    return Suite(
        name=written.suite,
        path=path,
        description=written.description,
        hosts=written.hosts,
        models=written.models,
        fixtures=written.usefixtures,
        cells=_make_cells(written),
    )


class SuiteNames:
    """The names of all suites of a session: the store knows a suite by its name, so each is one file's."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[Path, str]] = {}

    def claim(self, suite: Suite, display: str) -> None:
        """Note a suite's name; DocumentError where another file has it. The same file may come again."""
        path, first = self._files.setdefault(suite.name, (suite.path, display))
        if path != suite.path:
            node = read(suite.path, Problems(display)).child("suite")
            text = f"{suite.name!r} is the name of {first} too; the store needs two names"
            raise DocumentError((Problem(display, node.line, node.path, text),))


def _make_cells(written: SuiteFields) -> tuple[Cell, ...]:
    """Grouped by host, then model, then the axes, all in the file's order."""
    treatments = Treatments(written)
    points = tuple(list_points(written))
    lines = [node.line for node in written.node.child("models").listed]
    cells = []
    for host in written.hosts:
        for model, line in zip(written.models, lines, strict=True):
            for point in points:
                treatment = treatments.choose({**point.at, **point.sampling, "host": host, "model": model})
                cells.append(
                    Cell(
                        suite=written.suite,
                        host=host,
                        model=model,
                        kind=written.kind,
                        prompt_tokens=point.at["prompt_tokens"],
                        output_tokens=point.at.get("output_tokens"),
                        concurrency=point.at["concurrency"],
                        sampling=point.sampling,
                        request=written.request,
                        cache=written.cache,
                        length=written.length,
                        plan=treatment.plan,
                        id=point.id,
                        line=line,
                        marks=treatment.marks,
                    )
                )
    return tuple(cells)
