"""Room 7: the top of the page: the finding in one line, how many cells are what, and what to look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pytest_boobench.aggregate import median_of
from pytest_boobench.metrics import METRICS
from pytest_boobench.record import Measurement, Verdict
from pytest_boobench.reports.html.page_data import Gap
from pytest_boobench.reports.html.series import ALL_LANES, Series, title_of
from pytest_boobench.reports.html.states import STATES, State, Tone
from pytest_boobench.reports.text import show_time
from pytest_boobench.units import change, count, number


@dataclass(frozen=True, slots=True)
class TableValue:
    """A number of the newest measurement; ``change`` and ``tone`` are empty where it was not judged."""

    text: str
    change: str = ""
    tone: Tone | str = ""


@dataclass(frozen=True, slots=True)
class TableRow:
    """A cell's line; without a measurement it has a reason in place of its numbers."""

    cell: Series | Gap
    entries: tuple[TableValue, ...] = ()
    reason: str | None = None


def list_columns(courses: Sequence[Series]) -> tuple[str, ...]:
    """Keys of the charted metrics that any cell has a number for, in the order of the metrics' table."""
    known = {key for course in courses for key in course.charted}
    return tuple(key for key in (*METRICS, ALL_LANES) if key in known)


def list_heads(columns: Sequence[str]) -> list[tuple[str, str, str]]:
    """(key, title, unit) of each column."""
    return [(key, *title_of(key)) for key in columns]


def list_rows(cells: Sequence[Series | Gap], columns: Sequence[str]) -> list[TableRow]:
    """A row for each cell, with an entry for each column."""
    return [
        TableRow(cell, tuple(_enter(cell.newest, key) for key in columns))
        if isinstance(cell, Series)
        else TableRow(cell, reason=cell.cell.reason)
        for cell in cells
    ]


def _enter(newest: Measurement, key: str) -> TableValue:
    if key == ALL_LANES:
        return TableValue(number(newest.total_tok_s))
    text = number(median_of(newest.aggregates, key))
    verdict = next((verdict for verdict in newest.verdicts if verdict.metric == key), None)
    if verdict is None or verdict.change is None:
        return TableValue(text)
    return TableValue(text, change(verdict.change), _tone(verdict))


def _tone(verdict: Verdict) -> Tone:
    return STATES[verdict.outcome].tone if verdict.outcome != "pass" else "plain"


UNFOLDED = 8
"""So many cells of a finding are listed at once; the others are behind a fold."""
_BAD = {
    "regression": "regressed",
    "not measured": "could not be measured",
    "failed requests": "had failed requests",
}
_NAMED = 4
"""So many names stand in a line before the others are only counted."""


@dataclass(frozen=True, slots=True)
class Finding:
    """All cells that are the same thing; ``cells`` are (place, cell, what is said of it)."""

    state: State
    cells: Sequence[tuple[int, Series | Gap, Sequence[str]]]


def headline(cells: Sequence[Series | Gap]) -> str:
    """The finding in one line, as in ``2 of 12 cells regressed, 1 could not be measured``."""
    if not cells:
        return "Nothing measured yet"
    counts = Counter(cell.state.word for cell in cells)
    bad = [(counts[word], text) for word, text in _BAD.items() if counts[word]]
    if bad:
        (first, text), *others = bad
        return _list_counts([f"{first} of {count(len(cells), 'cell')} {text}"], others)
    judged, skipped = counts["pass"] + counts["improvement"], counts["skipped"]
    measured = len(cells) - skipped
    if not measured:
        return f"{count(skipped, 'cell')} skipped"
    if not judged:
        return _list_counts([f"{count(measured, 'cell')} measured", "none judged"], [(skipped, "skipped")])
    left = [(measured - judged, "not judged"), (skipped, "skipped")]
    return _list_counts([f"None of {count(len(cells), 'cell')} regressed"], left)


def count_states(cells: Iterable[Series | Gap]) -> list[tuple[int, State, int]]:
    """(rank, state, how many cells) for each state that there is, in order of rank."""
    counts = Counter(cell.state.word for cell in cells)
    return [(rank, state, counts[word]) for rank, (word, state) in enumerate(STATES.items()) if counts[word]]


def list_findings(cells: Sequence[Series | Gap], said: Sequence[Sequence[str]]) -> list[Finding]:
    """The cells that something is to be said of, by state; ``said`` has the sentences of each."""
    told = list(zip(range(len(cells)), cells, said, strict=True))
    of_state = [
        Finding(state, [cell for cell in told if cell[1].state is state]) for state in STATES.values() if state.advice
    ]
    return [finding for finding in of_state if finding.cells]


def describe_scope(courses: Sequence[Series]) -> Iterator[tuple[str, str]]:
    """(what, values) of what the newest measurements were made on: suites, hosts, engines, commits, times."""
    newest = [course.newest for course in courses]
    if not newest:
        return
    yield "suites", _name_some(one.run.suite for one in newest)
    yield "hosts", _name_some(one.run.host for one in newest)
    yield "engines", _name_some(one.engine_build for one in newest)
    yield "commits", _name_some(one.run.git_commit and one.run.git_commit[:10] for one in newest)
    first, last = min(one.started_at for one in newest), max(one.started_at for one in newest)
    same_day = show_time(first)[:10] == show_time(last)[:10]
    until = show_time(last)[11:] if same_day else show_time(last)
    yield "measured", show_time(last) if show_time(first) == show_time(last) else f"{show_time(first)[:16]} to {until}"


def find_job_url(courses: Iterable[Series]) -> str | None:
    """The address of the newest CI job, where it is one for a browser."""
    newest = max((course.newest for course in courses), key=lambda one: one.started_at, default=None)
    url = newest.run.ci.get("url") if newest is not None else None
    return url if url is not None and url.startswith(("https://", "http://")) else None


def _list_counts(said: Sequence[str], counts: Iterable[tuple[int, str]]) -> str:
    return ", ".join([*said, *(f"{many} {text}" for many, text in counts if many)])


def _name_some(names: Iterable[str | None]) -> str:
    known = sorted({name for name in names if name})
    more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
    return f"{', '.join(known[:_NAMED])}{more}"
