"""Room 7: the table of all cells, its numbers as text. It can be read without the page's script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_boobench.aggregate import median_of
from pytest_boobench.metrics import METRICS
from pytest_boobench.record import Measurement, Verdict
from pytest_boobench.reports.html.courses import ALL_LANES, Course, title_of
from pytest_boobench.reports.html.states import STATES, Tone
from pytest_boobench.reports.html.unmeasured import Gap
from pytest_boobench.units import change, number


@dataclass(frozen=True, slots=True)
class Entry:
    """A number of the newest measurement; ``change`` and ``tone`` are empty where it was not judged."""

    text: str
    change: str = ""
    tone: Tone | str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A cell's line; without a measurement it has a reason in place of its numbers."""

    cell: Course | Gap
    entries: tuple[Entry, ...] = ()
    reason: str | None = None


def list_columns(courses: Sequence[Course]) -> tuple[str, ...]:
    """Keys of the charted metrics that any cell has a number for, in the order of the metrics' table."""
    known = {key for course in courses for key in course.charted}
    return tuple(key for key in (*METRICS, ALL_LANES) if key in known)


def list_heads(columns: Sequence[str]) -> list[tuple[str, str, str]]:
    """(key, title, unit) of each column."""
    return [(key, *title_of(key)) for key in columns]


def list_rows(cells: Sequence[Course | Gap], columns: Sequence[str]) -> list[Row]:
    """A row for each cell, with an entry for each column."""
    return [
        Row(cell, tuple(_enter(cell.newest, key) for key in columns))
        if isinstance(cell, Course)
        else Row(cell, reason=cell.cell.reason)
        for cell in cells
    ]


def _enter(newest: Measurement, key: str) -> Entry:
    if key == ALL_LANES:
        return Entry(number(newest.total_tok_s))
    text = number(median_of(newest.aggregates, key))
    verdict = next((verdict for verdict in newest.verdicts if verdict.metric == key), None)
    if verdict is None or verdict.change is None:
        return Entry(text)
    return Entry(text, change(verdict.change), _tone(verdict))


def _tone(verdict: Verdict) -> Tone:
    return STATES[verdict.outcome].tone if verdict.outcome != "pass" else "plain"
