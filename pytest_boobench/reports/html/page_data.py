"""Room 7: all data that the page's script draws from, kept small as JSON."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Protocol

from pytest_boobench.metrics import Sample
from pytest_boobench.plain import take
from pytest_boobench.record import Measurement
from pytest_boobench.reports.html.chart_data import (
    Pool,
    compare_samples,
    explain,
    list_facts,
    plot_metric,
    plot_runs,
    split_ttft,
    tabulate_turns,
)
from pytest_boobench.reports.html.series import RANKS, STATES, Gap, Series, follow
from pytest_boobench.reports.session import Unmeasured, find_shown
from pytest_boobench.reports.text import clean

RUNS = 50
"""Measurements shown of each cell by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What a page is made from."""

    measurements: Sequence[Measurement]
    """Of all cells, in any order."""
    samples: Mapping[int, Sequence[Sample]] = field(default_factory=dict)
    """By the measurement's id: of each cell's newest measurement and of its newest baseline."""
    store: str = ""
    """The store's address without its password."""
    unmeasured: Sequence[Unmeasured] = ()
    """Cells of the session that the store has no measurement of."""
    session: str | None = None
    """The pytest session that the page is about; None for the newest measurements of each cell."""


class Ask(Protocol):
    """Fetches measurements of the page's cells: the newest ``last`` of each, or those in force as baselines."""

    def __call__(self, *, last: int | None = None, baselines: Collection[str] = ()) -> Sequence[Measurement]: ...


def gather(
    ask: Ask,
    ask_samples: Callable[[Collection[int]], Mapping[int, Sequence[Sample]]],
    *,
    last: int = RUNS,
    **said: Any,
) -> History:
    """The history of the cells; ``said`` are further fields of it. Baselines are fetched separately, since they may be
    older than the ``last`` measurements."""
    measurements = list(ask(last=last))
    session = said.get("session")
    newest = [course.newest for course in follow(measurements, session)]
    if names := {verdict.baseline_name for one in newest for verdict in one.verdicts if verdict.baseline_name}:
        known = {one.cell_key for one in newest}
        measurements += [one for one in ask(baselines=sorted(names)) if one.cell_key in known]
    drawn = [one.id for course in follow(measurements, session) for one in course.compared.values()]
    return History(measurements=measurements, samples=ask_samples(drawn), **said)


def encode(cells: Sequence[Series | Gap], samples: Mapping[int, Sequence[Sample]]) -> dict[str, Any]:
    """The page's data, in the order of the cells."""
    runs, texts = Pool(), Pool()
    courses = {place: cell for place, cell in enumerate(cells) if isinstance(cell, Series)}
    charted = dict.fromkeys(key for course in courses.values() for key in course.charted)
    metrics = [find_shown(key) for key in charted]
    return {
        "metrics": {
            metric.key: {**take(("title", "unit", "better"), metric), "is": metric.definition} for metric in metrics
        },
        "states": [take(("word", "sign", "tone"), state) for state in STATES.values()],
        "cells": [_encode_cell(cell, samples, runs, texts) for cell in cells],
        "hosts": group_hosts(courses),
        "lanes": group_lanes(courses),
        "runs": runs.entries,
        "texts": texts.entries,
    }


def _encode_cell(
    cell: Series | Gap, samples: Mapping[int, Sequence[Sample]], runs: Pool, texts: Pool
) -> dict[str, Any]:
    if isinstance(cell, Series):
        facts = list_facts(cell)
        charts = {
            "lanes": cell.newest.identity["concurrency"],
            "said": explain(cell, samples.get(cell.newest.id, ())),
            "points": plot_runs(cell, runs, texts),
            "metrics": {key: plot_metric(cell, key) for key in cell.charted},
            "samples": compare_samples(cell, samples),
            "split": split_ttft(cell),
            "turns": tabulate_turns(cell),
        }
    else:
        facts = [("outcome", cell.cell.outcome), ("test", cell.cell.node_id)]
        said = [clean(cell.cell.reason)] if cell.cell.reason else []
        charts = {"said": said, "metrics": {}, "samples": {}, "split": {}}
    return {
        **{name: texts.place(getattr(cell, name)) for name in ("name", "suite", "host", "model")},
        "state": RANKS[cell.state.word],
        "facts": [(texts.place(what), texts.place(value)) for what, value in facts],
        **charts,
    }


def group_hosts(courses: Mapping[int, Series]) -> list[dict[str, Any]]:
    """Places of cells that differ only in their host, in groups of two or more."""
    groups = _group(courses, "host")
    return [{"name": _name(courses[group[0]]), "cells": group} for group in groups if len(group) > 1]


def group_lanes(courses: Mapping[int, Series]) -> list[dict[str, Any]]:
    """Places of cells that differ only in host and lanes: in each group a line for each host that has several numbers
    of lanes, sorted by them."""

    def host_of(place: int) -> str:
        return courses[place].host

    found = []
    for group in _group(courses, "host", "concurrency"):
        ordered = sorted(group, key=lambda place: (host_of(place), courses[place].newest.identity["concurrency"]))
        lines = [list(of_host) for _, of_host in groupby(ordered, key=host_of)]
        if curves := [line for line in lines if len(line) > 1]:
            found.append({"name": _name(courses[group[0]], without=r"-?\bc\d+\b"), "lines": curves})
    return found


def _group(courses: Mapping[int, Series], *without: str) -> list[list[int]]:
    """Places of the cells whose identities are equal but for some fields, by suite and size."""
    groups: dict[str, list[int]] = defaultdict(list)
    for place in sorted(courses, key=lambda place: (courses[place].suite, *courses[place].size)):
        identity = {key: value for key, value in courses[place].newest.identity.items() if key not in without}
        groups[json.dumps(identity, sort_keys=True)].append(place)
    return list(groups.values())


def _name(course: Series, without: str = "") -> str:
    """``suite: model[pp64-tg32-c1]``, without what a pattern finds first in the bracket."""
    model, bracket, parameters = course.name.partition("[")
    return clean(f"{course.suite}: {model}{bracket}{re.sub(without, '', parameters, count=1)}")
