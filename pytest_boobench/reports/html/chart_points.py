"""Room 7: when a cell became slower or faster, in words: between which runs, commits and engine builds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

from pytest_boobench.aggregate import median_of
from pytest_boobench.gate.change_points import Change, find_changes
from pytest_boobench.metrics import METRICS
from pytest_boobench.record import Measurement, Verdict
from pytest_boobench.reports.html.series import ALL_LANES, Series
from pytest_boobench.reports.html.states import RANKS, find_state
from pytest_boobench.reports.text import clean, show_time
from pytest_boobench.units import change as show_change

_REASON_LONGEST = 120
"""Of each point but the newest, whose reasons stand elsewhere in full."""

Number = int | float | None


class Pool:
    """Values that many points share, each kept once; points name them by their place."""

    def __init__(self) -> None:
        self.entries: list[Any] = []
        self._places: dict[str, int] = {}

    def place(self, name: str | None, entry: Any = None) -> int:
        """The place of a text, or of the entry of that name; -1 for a blank."""
        if name is None:
            return -1
        if name not in self._places:
            self._places[name] = len(self.entries)
            self.entries.append(clean(name) if entry is None else entry)
        return self._places[name]


def plot_metric(course: Series, key: str) -> dict[str, Any]:
    """One metric over a course: medians, p10 and p90, baseline level and allowed worsening as they were then, change
    points. What seldom changes is kept as (from which point on, value)."""
    found = [measurement.aggregates.get(key) for measurement in course.measurements]
    verdicts = [_verdict_of(measurement, key) for measurement in course.measurements]
    columns: dict[str, Any] = {
        "values": [shorten(_value_of(measurement, key)) for measurement in course.measurements],
        "level": _merge_equal(shorten(verdict.baseline) if verdict else None for verdict in verdicts),
        "allowed": _merge_equal(shorten(verdict.allowed) if verdict else None for verdict in verdicts),
        "changes": [_list_change(change) for change in find_course_changes(course, key)],
    }
    if any(verdicts):  # the width of the runs is worth its bytes where it is judged
        columns["low"] = [shorten(aggregate.p10, digits=3) if aggregate else None for aggregate in found]
        columns["high"] = [shorten(aggregate.p90, digits=3) if aggregate else None for aggregate in found]
    return columns


def plot_runs(course: Series, runs: Pool, texts: Pool) -> dict[str, Any]:
    """What is known of each point beside its numbers. ``after`` is seconds since its run began.

    A cell is mostly in one run after the other: kept is by how much its runs are ahead of its own count.
    """
    measurements = course.measurements
    places = [runs.place(one.run.uid, _describe_run(one, texts)) for one in measurements]
    reasons = {
        place: texts.place(clean(reason, _REASON_LONGEST))
        for place, measurement in enumerate(measurements)
        if (reason := measurement.error or measurement.spoiled)
    }
    return {
        "runs": _merge_equal(run - place for place, run in enumerate(places)),
        "after": [round(one.started_at - one.run.started_at) for one in measurements],
        "builds": _merge_equal(texts.place(one.engine_build) for one in measurements),
        "states": _merge_equal(RANKS[find_state(one).word] for one in measurements),
        "reasons": reasons,
        "saved": {place: clean(", ".join(one.baselines)) for place, one in enumerate(measurements) if one.baselines},
    }


def find_course_changes(course: Series, key: str) -> tuple[Change, ...]:
    """Where the course of a metric's medians changed; places are those of the measurements."""
    return find_changes([_value_of(measurement, key) for measurement in course.measurements])


def shorten(value: float | None, digits: int = 4) -> Number:
    """So many significant digits, more than a chart shows; blank where it is no number."""
    if value is None or not math.isfinite(value):
        return None
    short = float(f"{value:.{digits}g}")
    return int(short) if short.is_integer() else short


def _describe_run(measurement: Measurement, texts: Pool) -> Mapping[str, Any]:
    run = measurement.run
    commit = f"{run.git_commit[:10]}{' and changes' if run.git_dirty else ''}" if run.git_commit else None
    return {
        "at": round(run.started_at),
        "commit": texts.place(commit),
        "machine": texts.place(run.machine),
        "session": texts.place(run.session[:8]),
    }


def _value_of(measurement: Measurement, key: str) -> float | None:
    if key == ALL_LANES:
        return measurement.total_tok_s
    return median_of(measurement.aggregates, key)


def _verdict_of(measurement: Measurement, key: str) -> Verdict | None:
    return next((verdict for verdict in measurement.verdicts if verdict.metric == key), None)


def _merge_equal(values: Iterable[Number]) -> list[tuple[int, Number]]:
    """Equal neighbours as one: (first place, value)."""
    grouped = groupby(enumerate(values), key=lambda pair: pair[1])
    return [(next(group)[0], value) for value, group in grouped]


def _list_change(change: Change) -> tuple[Number, ...]:
    """(first place, last place, before, after)."""
    return change.index, change.last, shorten(change.before), shorten(change.after)


def tell_turn(course: Series) -> str | None:
    """The newest change of the decisive metric that goes its verdict's way; None where there is none."""
    verdict = course.decisive
    if verdict is None or verdict.outcome not in ("regression", "improvement") or not verdict.change:
        return None
    fitting = [change for change in find_course_changes(course, verdict.metric) if change.ratio * verdict.change > 0]
    return _tell(course, METRICS[verdict.metric].title, fitting[-1]) if fitting else None


def _tell(course: Series, title: str, change: Change) -> str:
    first = course.measurements[change.index if change.gradual else max(0, change.index - 1)]
    last = course.measurements[change.last]
    way = "slid" if change.gradual else "stepped"
    return f"{title} {way} by {show_change(change.ratio)} between {_name(first)} and {_name(last)}"


def _name(measurement: Measurement) -> str:
    commit = f"commit {measurement.run.git_commit[:10]}" if measurement.run.git_commit else None
    engine = f"engine {measurement.engine_build}" if measurement.engine_build else None
    known = ", ".join(part for part in (commit, engine) if part)
    return f"{show_time(measurement.started_at)}{f' ({known})' if known else ''}"
