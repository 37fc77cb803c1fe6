"""Room 7: the table after the run, as plain text that the caller colours and prints."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pytest_boobench.aggregate import counted, median_of
from pytest_boobench.metrics import METRICS
from pytest_boobench.reports.sentences import describe_hardware, explain_blanks, sentence
from pytest_boobench.reports.session import ALL_LANES, SHOWN, FinishedCell, find_value, find_worst, name_cell
from pytest_boobench.reports.text import cut_names, cut_right, measure_width, render_table
from pytest_boobench.units import BLANK, change, number
from pytest_boobench.untrusted import clean_lines

Colour = Literal["red", "green", "yellow", ""]
_INDENT = 2
_GOOD_NAME = 26
"""Least terminal columns of a name, with its indent, beside two numbers or more."""
_LEAST_NAME = 20
"""Least terminal columns of a name beside one number: ``…chat[pp256-tg72-c4]``."""


@dataclass(frozen=True, slots=True)
class TerminalLine:
    """A line of the report and the colour it may be shown in."""

    text: str
    colour: Colour = ""
    wraps: bool = True
    """Whether it may go on in a second line; a table's may not."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of numbers; shown where any cell has a value."""

    title: str
    unit: str
    value: Callable[[FinishedCell], float | None]
    rank: int = 0
    """In a narrow terminal the columns of low rank stay."""
    verbosity: int = 0
    """Least verbosity that shows it."""
    hides_zero: bool = False
    """Whether it is shown only where any cell has more than zero."""


def _median_of(key: str, rank: int = 0, verbosity: int = 0) -> Column:
    return Column(SHOWN[key].title, SHOWN[key].unit, lambda row: find_value(row.record, key), rank, verbosity)


def _foreign(title: str, unit: str, fact: str) -> Column:
    """What others did on the host."""
    return Column(title, unit, lambda row: getattr(row.record.traffic, fact, None), rank=9, hides_zero=True)


def _find_ttfo(row: FinishedCell) -> float | None:
    """TTFO, where there is no TTFT since hidden reasoning came before it."""
    aggregates = row.record.aggregates
    return None if "ttft_ms" in aggregates else median_of(aggregates, "ttfo_ms")


def _count_natural_tokens(row: FinishedCell) -> float | None:
    """Median of the generated tokens, where the model ends each answer itself."""
    if row.record.identity.get("length") != "natural":
        return None
    counts = [sample.output_tokens for sample in counted(row.record.samples) if sample.output_tokens is not None]
    return statistics.median(counts) if counts else None


_COLUMNS = (
    Column("tokens", "", _count_natural_tokens, rank=6),
    _median_of("connect_ms", verbosity=1),
    _median_of("queue_ms", verbosity=1),
    _median_of("prompt_ms", verbosity=1),
    _median_of("ttft_ms", rank=3),
    Column("TTFO", "ms", _find_ttfo, rank=4),
    _median_of("prefill_tok_s", rank=2),
    _median_of("decode_tok_s", rank=1),
    _median_of("embed_tok_s", rank=1),
    _median_of("itl_ms", verbosity=1),
    Column("ITL p99", "ms", lambda row: getattr(row.record.aggregates.get("itl_ms"), "p99", None), verbosity=1),
    Column("stalls", "", lambda row: row.record.stalls, verbosity=1, hides_zero=True),
    _median_of("e2e_ms", verbosity=1),
    _median_of(ALL_LANES, rank=5),
    _median_of("joule_per_token", rank=7),
    _foreign("in flight", "at start", "in_flight_at_start"),
    _foreign("foreign", "requests", "concurrent_foreign_requests"),
    _foreign("foreign", "tokens", "foreign_tokens"),
)


def render_tables(rows: Sequence[FinishedCell], *, verbosity: int, width: int) -> Iterator[TerminalLine]:
    """A table per host, its cells by suite, all in the order they came in.

    It fits in ``width`` terminal columns: columns that have no room are left out, and long names lose their beginning.
    With ``-v`` nothing is left out, and every verdict's sentence is there too.
    """
    for host in dict.fromkeys(row.record.host for row in rows):
        of_host = [row for row in rows if row.record.host == host]
        yield TerminalLine(f"{host}{_describe_server(of_host)}")
        for suite in dict.fromkeys(row.record.suite for row in of_host):
            yield from _render_suite(suite, [row for row in of_host if row.record.suite == suite], verbosity, width)
        yield TerminalLine("")


def _describe_server(rows: Sequence[FinishedCell]) -> str:
    """Kind, build and address of the host's server, from the newest cell that knows them."""
    server = next((row.record.server for row in reversed(rows) if row.record.server is not None), None)
    return f"  ({' '.join(filter(None, (server.kind, server.engine_build, server.url)))})" if server else ""


def _render_suite(suite: str, rows: Sequence[FinishedCell], verbosity: int, width: int) -> Iterator[TerminalLine]:
    values = {column: [column.value(row) for row in rows] for column in _COLUMNS if column.verbosity <= verbosity}
    numbers = {
        column: list(map(number, of))
        for column, of in values.items()
        if any(value is not None and (value > 0 or not column.hides_zero) for value in of)
    }
    names = [f"  {clean_lines(name_cell(row))}" for row in rows]
    table = _Table(clean_lines(suite), names, numbers, list(map(_judge, rows)))
    top, *lines = (table if verbosity > 0 else table.fit(width - _INDENT)).render()
    units = [] if len(lines) == len(rows) else [lines.pop(0)]
    yield from (TerminalLine(f"{' ' * _INDENT}{line}", wraps=False) for line in (top, *units))
    for row, line in zip(rows, lines, strict=True):
        yield TerminalLine(f"{' ' * _INDENT}{line}", _colour(row), wraps=False)
        if verbosity > 0:
            hardware = describe_hardware(row.record.hardware)
            texts = [*map(sentence, row.verdicts), *explain_blanks(row), *filter(None, [hardware])]
            yield from (TerminalLine(f"      {text}") for text in texts)


@dataclass(frozen=True, slots=True)
class _Table:
    """The table of a suite's cells."""

    suite: str
    names: Sequence[str]
    numbers: Mapping[Column, Sequence[str]]
    judgements: Sequence[tuple[str, str]]
    """Change and verdict of each cell."""

    def render(self) -> Iterator[str]:
        """Titles, units where a column has any, and a line for each cell."""
        titles = [self.suite, *(column.title for column in self.numbers), "change", "verdict"]
        units = ["", *(column.unit for column in self.numbers), "", ""]
        body = [
            [name, *numbers, *judgement]
            for name, judgement, *numbers in zip(self.names, self.judgements, *self.numbers.values(), strict=True)
        ]
        return render_table(titles, [units, *body] if any(units) else body, left=(0, len(titles) - 1))

    def fit(self, width: int) -> _Table:
        """The same table in ``width`` terminal columns; change and verdict stay."""
        changes, verdicts = zip(*self.judgements, strict=True)
        change_width = _widest("change", *changes)
        verdict_width = min(_widest("verdict", *verdicts), max(7, width - _LEAST_NAME - change_width - 4))
        full = _widest(self.suite, *self.names)
        room = width - change_width - verdict_width - 4
        kept: set[Column] = set()
        for column in sorted(self.numbers, key=lambda column: column.rank):
            left = room - 2 - _widest(column.title, column.unit, *self.numbers[column])
            if left < min(full, _GOOD_NAME if kept else _LEAST_NAME):
                break
            kept.add(column)
            room = left
        name_width = max(min(full, room), 8)
        return _Table(
            cut_right(self.suite, name_width),
            [f"  {name}" for name in cut_names([name.strip() for name in self.names], name_width - 2)],
            {column: numbers for column, numbers in self.numbers.items() if column in kept},
            [(changed, cut_right(verdict, verdict_width)) for changed, verdict in self.judgements],
        )


def _widest(*texts: str) -> int:
    return max(map(measure_width, texts))


def _judge(row: FinishedCell) -> tuple[str, str]:
    """(change of the metric that the verdict is about, verdict)."""
    worst = find_worst(row)
    if row.outcome == "error" or worst is None:
        return BLANK, row.outcome
    word: str = worst.outcome
    if worst.outcome in {"regression", "improvement"}:
        word = f"{word} {METRICS[worst.metric].title}"
    if row.outcome == "failed" and worst.outcome != "regression":
        word = f"failed: {len(row.record.failed)} of {row.record.measured} requests"
    if row.record.contradiction:
        word = f"{word}, rates: {row.record.rates}"
    return change(worst.change, worst.change_low, worst.change_high), f"{word}, saved" if row.saved else word


def _colour(row: FinishedCell) -> Colour:
    if row.outcome in {"error", "failed"}:
        return "red"
    outcomes = {verdict.outcome for verdict in row.verdicts}
    if outcomes & {"not comparable", "inconclusive"}:
        return "yellow"
    return "green" if "improvement" in outcomes else ""
