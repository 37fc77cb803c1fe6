"""Door 3: the cells as a tree, by a real collection of pytest, each with its last result and the time it will take."""

from __future__ import annotations

import asyncio
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from pytest_boobench.aggregate import median_of
from pytest_boobench.cli.check_command import FileReport, check_files
from pytest_boobench.errors import DocumentError
from pytest_boobench.page.api_types import LastResult, TreeAnswer, TreeCell, TreeHost, TreeModel, TreeProblem, TreeSuite
from pytest_boobench.page.desk import Desk, Fingerprint
from pytest_boobench.page.guard import ApiRefusal
from pytest_boobench.record import Measurement
from pytest_boobench.reports.session import STANDINGS
from pytest_boobench.store import Selection
from pytest_boobench.suite.cell import Suite
from pytest_boobench.untrusted import clean_lines

_WITHIN_S = 180.0
_KEPT = 32
"""Collections by other expressions for ``-k``."""
_LEAST_APART_S = 1.0
METRICS_OF_TREE = ("decode_tok_s", "embed_tok_s", "e2e_ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedCell:
    """A test item of the collection, as the child lists it."""

    node_id: str
    suite: str
    host: str
    model: str
    id: str
    key: str
    marks: tuple[str, ...]
    lanes: int
    requests: int
    """Warm-up and samples of the first block."""
    selected: bool

    @property
    def path(self) -> str:
        """The suite file, from the rootdir."""
        return self.node_id.partition("::")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """One collection."""

    at: float
    cells: tuple[ListedCell, ...]
    errors: str | None
    reports: tuple[FileReport, ...]
    kinds: Mapping[str, str | None]
    """Host -> its kind in the hosts file."""


@dataclass(eq=False)
class SuiteTree:
    """Collects when a file has changed, and keeps what was collected."""

    desk: Desk
    _known: dict[str, tuple[Fingerprint, Collected]] = field(default_factory=dict)
    """Expression -> the files' state and the collection."""
    _newest: tuple[Fingerprint | None, float, dict[str, Measurement]] = (None, 0.0, {})
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def collect(self, k: str = "", *, refresh: bool = False) -> Collected:
        """What pytest collects with ``-k``; anew where a file has changed since."""
        if not k.isprintable():
            raise ApiRefusal(422, "k: expected an expression on one line", "k")
        async with self._lock:
            stamp = await asyncio.to_thread(self.desk.stamp)
            known = self._known.get(k)
            if known is not None and known[0] == stamp and not refresh:
                return known[1]
            collected = await self._collect(k)
            if refresh:
                self._known.clear()
            self._known[k] = (stamp, collected)
            while len(self._known) > _KEPT:
                del self._known[next(iter(self._known))]
            return collected

    async def _collect(self, k: str) -> Collected:
        files = await asyncio.to_thread(self.desk.find_suites)
        reports = await asyncio.to_thread(self._check, files)
        kinds: Mapping[str, str | None] = {}
        try:
            hosts = (await asyncio.to_thread(self.desk.read_inventory)).hosts
            kinds = {name: host.server for name, host in hosts.items()}
        except DocumentError:
            pass  # it is among the reports
        cells, errors = await self._ask_pytest(files, k) if files else ((), None)
        return Collected(at=time.time(), cells=cells, errors=errors, reports=reports, kinds=kinds)

    def _check(self, files: Sequence[Path]) -> tuple[FileReport, ...]:
        return tuple(check_files(files, self.desk.project, self.desk.hosts_file))

    async def _ask_pytest(self, files: Sequence[Path], k: str) -> tuple[tuple[ListedCell, ...], str | None]:
        """The cells that a child lists, and its output where it failed."""
        with tempfile.TemporaryDirectory(dir=self.desk.folder) as folder:
            listing = Path(folder, "cells.json")
            chosen = Path(folder, "files.txt")
            chosen.write_text("\n".join(map(str, files)), encoding="utf-8")
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "pytest", "--boobench", "--collect-only", "-qq", "--color=no"),
                *("-p", "pytest_boobench.plugin.listing", f"--boobench-listing={listing}", "-p", "no:cacheprovider"),
                *([f"-k{k}"] if k else []),
                f"@{chosen}",
                cwd=self.desk.root,
                env=self.desk.environ,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            try:
                async with asyncio.timeout(_WITHIN_S):
                    said, _ = await child.communicate()
            except TimeoutError:
                return (), f"pytest collected for more than {_WITHIN_S:.0f} s"
            finally:
                if child.returncode is None:
                    child.kill()
            listed = json.loads(listing.read_text(encoding="utf-8")) if listing.exists() else []
        errors = None if child.returncode in (0, 5) else clean_lines(said.decode("utf-8", "replace"))[-20_000:]
        return tuple(ListedCell(**{**one, "marks": tuple(one["marks"])}) for one in listed), errors

    def load_newest(self) -> dict[str, Measurement]:
        """Cell key -> its newest stored measurement, read anew where the store has changed."""
        stamp, (known, at, newest) = self.desk.stamp_store(), self._newest
        if at and (stamp == known if stamp is not None else time.monotonic() - at < _LEAST_APART_S):
            return newest
        newest = {one.cell_key: one for one in self.desk.load(Selection(last=1), METRICS_OF_TREE)}
        self._newest = (stamp, time.monotonic(), newest)
        return newest

    async def answer(self, k: str = "", *, refresh: bool = False) -> TreeAnswer:
        """The tree."""
        collected = await self.collect(k, refresh=refresh)
        newest = await asyncio.to_thread(self.load_newest)
        return await asyncio.to_thread(make_tree, collected, newest)


def make_tree(collected: Collected, newest: Mapping[str, Measurement]) -> TreeAnswer:
    """A collection and the newest measurements as the answer has them."""
    loaded = {report.file: report.suite for report in collected.reports if report.suite is not None}
    suites = []
    for path, of_file in groupby(sorted(collected.cells, key=lambda cell: cell.path), key=lambda cell: cell.path):
        suite = loaded.get(path)
        cells = _sort_as_written(list(of_file), suite)
        suites.append(
            TreeSuite(
                name=cells[0].suite,
                path=path,
                description=suite.description if suite is not None else "",
                hosts=tuple(_make_hosts(cells, collected.kinds, newest)),
            )
        )
    problems = [one for report in collected.reports for one in report.problems]
    return TreeAnswer(
        collected_at=collected.at,
        problems=tuple(
            TreeProblem(file=one.file, line=one.line, message=f"{one.field}: {one.text}" if one.field else one.text)
            for one in problems
        ),
        errors=collected.errors,
        suites=tuple(suites),
    )


def _sort_as_written(cells: Sequence[ListedCell], suite: Suite | None) -> Sequence[ListedCell]:
    """In the file's order: other plugins may shuffle what pytest collects."""
    if suite is None:
        return cells
    places = {(cell.host, cell.model, cell.id): place for place, cell in enumerate(suite.cells)}
    return sorted(cells, key=lambda cell: places.get((cell.host, cell.model, cell.id), len(places)))


def _make_hosts(
    cells: Sequence[ListedCell], kinds: Mapping[str, str | None], newest: Mapping[str, Measurement]
) -> Iterable[TreeHost]:
    for host in dict.fromkeys(cell.host for cell in cells):
        of_host = [cell for cell in cells if cell.host == host]
        models = [
            TreeModel(
                name=model,
                cells=tuple(_make_cell(cell, newest.get(cell.key)) for cell in of_host if cell.model == model),
            )
            for model in dict.fromkeys(cell.model for cell in of_host)
        ]
        yield TreeHost(name=host, kind=kinds.get(host), models=tuple(models))


def _make_cell(cell: ListedCell, newest: Measurement | None) -> TreeCell:
    return TreeCell(
        node_id=cell.node_id,
        id=cell.id,
        key=cell.key,
        marks=cell.marks,
        selected=cell.selected,
        last=describe_last(newest) if newest is not None else None,
        estimate_s=estimate(cell, newest) if newest is not None else None,
    )


def find_outcome(measurement: Measurement) -> str | None:
    """The most urgent verdict; ``error`` where it could not be measured, None where nothing was judged."""
    if measurement.error is not None:
        return "error"
    return min((one.outcome for one in measurement.verdicts), key=STANDINGS.index, default=None)


def describe_last(measurement: Measurement) -> LastResult:
    """What the tree says of a cell's newest measurement."""
    outcome: Any = find_outcome(measurement)
    decisive = next((one for one in measurement.verdicts if one.outcome == outcome), None)
    return LastResult(
        outcome=outcome,
        at=measurement.started_at,
        decode_tok_s=median_of(measurement.aggregates, "decode_tok_s"),
        change=decisive.change if decisive is not None else None,
    )


def estimate(cell: ListedCell, newest: Measurement) -> float | None:
    """Seconds of a cell's first block: its requests, one after the other in each lane, each as long as the last time's
    median. Loading and preparing are left out."""
    e2e_ms = median_of(newest.aggregates, "e2e_ms")
    if e2e_ms is None or not math.isfinite(e2e_ms):
        return None
    return cell.requests / cell.lanes * e2e_ms / 1000
