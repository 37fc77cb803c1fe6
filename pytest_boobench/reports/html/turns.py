"""Room 7: when a cell became slower or faster, in words: between which runs, commits and engine builds."""

from __future__ import annotations

from pytest_boobench.changes import Change
from pytest_boobench.metrics import METRICS
from pytest_boobench.record import Measurement
from pytest_boobench.reports.html.courses import Course
from pytest_boobench.reports.html.points import find_course_changes
from pytest_boobench.reports.html.text import show_time
from pytest_boobench.units import change as show_change


def tell_turn(course: Course) -> str | None:
    """The newest change of the decisive metric that goes its verdict's way; None where there is none."""
    verdict = course.decisive
    if verdict is None or verdict.outcome not in ("regression", "improvement") or not verdict.change:
        return None
    fitting = [change for change in find_course_changes(course, verdict.metric) if change.ratio * verdict.change > 0]
    return _tell(course, METRICS[verdict.metric].title, fitting[-1]) if fitting else None


def _tell(course: Course, title: str, change: Change) -> str:
    first = course.measurements[change.index if change.gradual else max(0, change.index - 1)]
    last = course.measurements[change.last]
    way = "slid" if change.gradual else "stepped"
    return f"{title} {way} by {show_change(change.ratio)} between {_name(first)} and {_name(last)}"


def _name(measurement: Measurement) -> str:
    commit = f"commit {measurement.run.git_commit[:10]}" if measurement.run.git_commit else None
    engine = f"engine {measurement.engine_build}" if measurement.engine_build else None
    known = ", ".join(part for part in (commit, engine) if part)
    return f"{show_time(measurement.started_at)}{f' ({known})' if known else ''}"
