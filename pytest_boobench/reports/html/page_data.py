"""Room 7: all that the page's script draws from, as plain data that is small as JSON."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Protocol

from pytest_boobench.metrics import METRICS, Sample
from pytest_boobench.record import Measurement
from pytest_boobench.reports.html.chart_points import Pool, plot_metric, plot_runs
from pytest_boobench.reports.html.details import compare_samples, explain, list_facts, split_ttft
from pytest_boobench.reports.html.series import ALL_LANES, Series, follow, group_hosts, group_lanes, title_of
from pytest_boobench.reports.html.states import RANKS, STATES, State
from pytest_boobench.reports.session import Unmeasured
from pytest_boobench.reports.text import clean

RUNS = 50
"""Measurements of a cell that are shown where nobody says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What a page is made from."""

    measurements: Sequence[Measurement]
    """Of all cells, in any order."""
    samples: Mapping[int, Sequence[Sample]] = field(default_factory=dict)
    """By the measurement's id: of each cell's newest, and of its baseline's newest."""
    store: str = ""
    """Where the measurements are from, fit for people to read: no password in it."""
    unmeasured: Sequence[Unmeasured] = ()
    """Cells of the session without a measurement: the store knows nothing of them."""
    session: str | None = None
    """The pytest session that the page is about; None for whatever is the newest of each cell."""


class Ask(Protocol):
    """Measurements of the cells that the page is about: the newest so many of each, or those in force as baselines."""

    def __call__(self, *, last: int | None = None, baselines: Collection[str] = ()) -> Sequence[Measurement]: ...


def gather(
    ask: Ask,
    ask_samples: Callable[[Collection[int]], Mapping[int, Sequence[Sample]]],
    *,
    last: int = RUNS,
    **said: Any,
) -> History:
    """The history of the cells; ``said`` are further fields of it.

    A baseline may be older than the runs that are shown: it is asked for apart.
    """
    measurements = list(ask(last=last))
    session = said.get("session")
    newest = [course.newest for course in follow(measurements, session)]
    if names := {verdict.baseline_name for one in newest for verdict in one.verdicts if verdict.baseline_name}:
        known = {one.cell_key for one in newest}
        measurements += [one for one in ask(baselines=sorted(names)) if one.cell_key in known]
    courses = follow(measurements, session)
    drawn = [one for course in courses for one in (course.newest, course.baseline) if one is not None]
    return History(measurements=measurements, samples=ask_samples([one.id for one in drawn]), **said)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A cell that stands on the page where its course would."""

    cell: Unmeasured
    suite: str

    @property
    def state(self) -> State:
        """What became of it."""
        return STATES["skipped" if self.cell.outcome == "skipped" else "not measured"]

    @property
    def name(self) -> str:
        """``model[pp64-tg32-c1]``."""
        return self.cell.node_id.rpartition("::")[2]

    @property
    def model(self) -> str:
        """Its name on the host."""
        return self.name.partition("[")[0]

    @property
    def host(self) -> str:
        """The host that it was for."""
        return self.cell.node_id.partition("::")[2].partition("::")[0]


def fill_gaps(courses: Sequence[Series], unmeasured: Iterable[Unmeasured]) -> list[Series | Gap]:
    """The courses and, after those of the same state, the cells without a measurement."""
    suites = _name_suites(course.newest for course in courses)
    gaps = [Gap(cell=cell, suite=_find_suite(suites, cell)) for cell in unmeasured]
    return sorted([*courses, *gaps], key=lambda cell: RANKS[cell.state.word])


def encode_gap(gap: Gap, texts: Pool) -> dict[str, Any]:
    """A cell of the page's data that has no numbers."""
    facts = {"outcome": gap.cell.outcome, "test": gap.cell.node_id}
    return {
        **{field: texts.place(getattr(gap, field)) for field in ("name", "suite", "host", "model")},
        "state": RANKS[gap.state.word],
        "said": [clean(gap.cell.reason)] if gap.cell.reason else [],
        "facts": [(texts.place(what), texts.place(value)) for what, value in facts.items()],
        "metrics": {},
        "samples": {},
        "split": {},
    }


def _name_suites(measurements: Iterable[Measurement]) -> Mapping[str, str]:
    return {_file_of(one.node_id): one.run.suite for one in measurements}


def _find_suite(suites: Mapping[str, str], cell: Unmeasured) -> str:
    """What other cells of the file say of its suite; the file's own name where there are none."""
    file = _file_of(cell.node_id)
    return suites.get(file) or PurePosixPath(file).name


def _file_of(node_id: str) -> str:
    return node_id.partition("::")[0]


def encode(cells: Sequence[Series | Gap], samples: Mapping[int, Sequence[Sample]]) -> dict[str, Any]:
    """The page's data, its cells in the order that they are given in."""
    runs, texts = Pool(), Pool()
    courses = {place: cell for place, cell in enumerate(cells) if isinstance(cell, Series)}
    keys = dict.fromkeys(key for course in courses.values() for key in course.charted)
    return {
        "metrics": {key: _describe_metric(key) for key in keys},
        "states": [{"word": state.word, "sign": state.sign, "tone": state.tone} for state in STATES.values()],
        "cells": [
            _encode_course(cell, samples, runs, texts) if isinstance(cell, Series) else encode_gap(cell, texts)
            for cell in cells
        ],
        "hosts": group_hosts(courses),
        "lanes": group_lanes(courses),
        "runs": runs.entries,
        "texts": texts.entries,
    }


def _encode_course(course: Series, samples: Mapping[int, Sequence[Sample]], runs: Pool, texts: Pool) -> dict[str, Any]:
    newest = course.newest
    return {
        "name": texts.place(course.name),
        "suite": texts.place(course.suite),
        "host": texts.place(course.host),
        "model": texts.place(course.model),
        "state": RANKS[course.state.word],
        "lanes": newest.identity["concurrency"],
        "said": explain(course, samples.get(newest.id, ())),
        "facts": [(texts.place(what), texts.place(value)) for what, value in list_facts(course)],
        "points": plot_runs(course, runs, texts),
        "metrics": {key: plot_metric(course, key) for key in course.charted},
        "samples": compare_samples(course, samples),
        "split": split_ttft(course),
    }


def _describe_metric(key: str) -> dict[str, str]:
    title, unit = title_of(key)
    if key == ALL_LANES:
        return {"title": title, "unit": unit, "better": "higher", "is": "tokens of all lanes together over the wall"}
    return {"title": title, "unit": unit, "better": METRICS[key].better, "is": METRICS[key].definition}
