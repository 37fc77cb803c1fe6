"""Room 7: stored measurements -> each cell's series, the most urgent first; and which of them belong together."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_boobench.metrics import METRICS, Kind, metrics_of
from pytest_boobench.record import Measurement, Verdict
from pytest_boobench.reports.html.states import RANKS, State, find_state
from pytest_boobench.reports.text import clean

ALL_LANES = "total_tok_s"
"""Charted like a metric, though it is one number of a measurement and not one of each sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A cell and its measurements, oldest first, at least one."""

    measurements: tuple[Measurement, ...]

    @property
    def newest(self) -> Measurement:
        """The measurement that the page is about."""
        return self.measurements[-1]

    @property
    def state(self) -> State:
        """What became of the newest measurement."""
        return find_state(self.newest)

    @property
    def name(self) -> str:
        """``model[pp64-tg32-c1]``."""
        return self.newest.node_id.rpartition("::")[2]

    @property
    def suite(self) -> str:
        """The suite that it is of."""
        return self.newest.run.suite

    @property
    def host(self) -> str:
        """The host that it runs on."""
        return self.newest.run.host

    @property
    def model(self) -> str:
        """Its short name, as in the cell's."""
        return self.name.partition("[")[0]

    @property
    def size(self) -> tuple[Any, ...]:
        """What sorts cells as people do: model, prompt tokens, output tokens, lanes, the rest by name."""
        identity = self.newest.identity
        numbers = (identity["prompt_tokens"], identity["output_tokens"] or 0, identity["concurrency"])
        return self.model, *numbers, self.newest.node_id

    @property
    def kind(self) -> Kind:
        """Chat, completion or embedding."""
        kind: Kind = self.newest.identity["kind"]
        return kind

    @property
    def decisive(self) -> Verdict | None:
        """Of the newest verdicts the one that asks most of the reader."""
        return min(self.newest.verdicts, key=lambda verdict: RANKS[verdict.outcome], default=None)

    @property
    def baseline(self) -> Measurement | None:
        """The newest measurement in force as the baseline that the newest one was judged by; None where it is itself
        that, or where there is none."""
        name = next((verdict.baseline_name for verdict in self.newest.verdicts if verdict.baseline_name), None)
        saved = [measurement for measurement in self.measurements[:-1] if name in measurement.baselines]
        return saved[-1] if saved else None

    @property
    def charted(self) -> tuple[str, ...]:
        """Keys of the metrics worth a chart, the decisive one first: those judged, those that are by default, a time,
        and all lanes together."""
        usual = [metric.key for metric in metrics_of(self.kind) if metric.gated]
        time_key = "e2e_ms" if self.kind == "embedding" else "ttft_ms"
        judged = sorted(self.newest.verdicts, key=lambda verdict: RANKS[verdict.outcome])
        wanted = [*(verdict.metric for verdict in judged), *usual, time_key]
        found = [key for key in dict.fromkeys(wanted) if any(key in one.aggregates for one in self.measurements)]
        together = any(one.total_tok_s is not None for one in self.measurements)
        return (*found, ALL_LANES) if together else tuple(found)


def follow(measurements: Iterable[Measurement], session: str | None = None) -> list[Series]:
    """The courses of all cells; with ``session``, of those it measured, up to what it measured."""
    of_cell: dict[str, list[Measurement]] = {}
    found_once = {measurement.id: measurement for measurement in measurements}.values()
    for measurement in sorted(found_once, key=lambda one: (one.started_at, one.id)):
        of_cell.setdefault(measurement.cell_key, []).append(measurement)
    cut = [_cut(found, session) for found in of_cell.values()]
    courses = [Series(measurements=tuple(found)) for found in cut if found]
    return sorted(courses, key=_order)


def title_of(key: str) -> tuple[str, str]:
    """(title, unit) of a charted metric."""
    return ("all lanes", "tok/s") if key == ALL_LANES else (METRICS[key].title, METRICS[key].unit)


def _cut(measurements: list[Measurement], session: str | None) -> list[Measurement]:
    if session is None:
        return measurements
    ours = [place for place, one in enumerate(measurements) if one.run.session == session]
    return measurements[: ours[-1] + 1] if ours else []


def _order(course: Series) -> tuple[Any, ...]:
    """By state, the largest worsening first, then by suite, host, model and size."""
    decisive = course.decisive
    change = decisive.change if decisive is not None and decisive.change is not None else 0.0
    better = METRICS[decisive.metric].better if decisive is not None else "higher"
    worst_first = (change if better == "higher" else -change) if course.state.tone == "bad" else 0.0
    return RANKS[course.state.word], worst_first, course.suite, course.host, *course.size


_LANES = re.compile(r"-?\bc\d+\b")


def group_hosts(courses: Mapping[int, Series]) -> list[dict[str, Any]]:
    """Groups of places of cells that are the same but for their host; two of them at least."""
    groups = _group(courses, "host")
    return [{"name": _name(courses[group[0]], ""), "cells": group} for group in groups if len(group) > 1]


def group_lanes(courses: Mapping[int, Series]) -> list[dict[str, Any]]:
    """Groups of places of cells that are the same but for host and lanes: one line a host, its cells by lanes.

    A host with one number of lanes has no curve and is left out.
    """
    found = []
    for group in _group(courses, "host", "concurrency"):
        lines = [_sort_by_lanes(courses, group, host) for host in sorted({courses[place].host for place in group})]
        curves = [line for line in lines if len(line) > 1]
        if curves:
            found.append({"name": _name(courses[group[0]], _LANES), "lines": curves})
    return found


def _group(courses: Mapping[int, Series], *without: str) -> list[list[int]]:
    """Places of the courses whose identities are equal but for some fields, by suite and name."""
    groups: dict[str, list[int]] = {}
    order = sorted(courses, key=lambda place: (courses[place].suite, *courses[place].size))
    for place in order:
        identity = {key: value for key, value in courses[place].newest.identity.items() if key not in without}
        groups.setdefault(json.dumps(identity, sort_keys=True), []).append(place)
    return list(groups.values())


def _sort_by_lanes(courses: Mapping[int, Series], group: Sequence[int], host: str) -> list[int]:
    of_host = [place for place in group if courses[place].host == host]
    return sorted(of_host, key=lambda place: courses[place].newest.identity["concurrency"])


def _name(course: Series, leave_out: str | re.Pattern[str]) -> str:
    """``suite: model[pp64-tg32-c1]``, a part of the bracket left out."""
    model, bracket, point = course.name.partition("[")
    return clean(f"{course.suite}: {model}{bracket}{re.sub(leave_out, '', point, count=1)}")
