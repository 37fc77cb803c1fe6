"""The table after the run: one block per host, one line per cell. Plain text; the caller colours and prints it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pytest_boobench.aggregate import counted, median_of
from pytest_boobench.metrics import METRICS
from pytest_boobench.record import Baseline
from pytest_boobench.reports.advice import (
    advise_lengths,
    advise_power,
    advise_reruns,
    advise_slots,
    explain_rates,
    find_weak,
)
from pytest_boobench.reports.sentences import explain_blanks, sentence
from pytest_boobench.reports.session import STANDINGS, FinishedCell, name_cell
from pytest_boobench.reports.text import render_table
from pytest_boobench.units import BLANK, change, count, number

Colour = Literal["red", "green", "yellow", ""]


@dataclass(frozen=True, slots=True)
class TerminalLine:
    """A line of the report and the colour it may be shown in."""

    text: str
    colour: Colour = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of numbers; shown from ``verbosity`` on, where any cell has a value."""

    head: str
    value: Callable[[FinishedCell], float | None]
    verbosity: int = 0


def _median_of(key: str, verbosity: int = 0) -> Column:
    metric = METRICS[key]

    return Column(f"{metric.title} {metric.unit}", lambda row: median_of(row.record.aggregates, key), verbosity)


def _foreign(head: str, fact: str) -> Column:
    """What others did on the host; shown where they did anything."""

    def value(row: FinishedCell) -> float | None:
        return getattr(row.record.traffic, fact, None) or None

    return Column(head, value)


def _first_seen(row: FinishedCell) -> float | None:
    """TTFO, where there is no TTFT since reasoning came unseen before it."""
    aggregates = row.record.aggregates
    return None if "ttft_ms" in aggregates else median_of(aggregates, "ttfo_ms")


def _natural_tokens(row: FinishedCell) -> float | None:
    """Generated tokens, where each answer has its own number of them."""
    if row.record.identity.get("length") != "natural":
        return None
    counts = [sample.output_tokens for sample in counted(row.record.samples) if sample.output_tokens is not None]
    return statistics.median(counts) if counts else None


_COLUMNS = (
    Column("tokens", _natural_tokens),
    _median_of("connect_ms", verbosity=1),
    _median_of("queue_ms", verbosity=1),
    _median_of("prompt_ms", verbosity=1),
    _median_of("ttft_ms"),
    Column("TTFO ms", _first_seen),
    _median_of("prefill_tok_s"),
    _median_of("decode_tok_s"),
    _median_of("embed_tok_s"),
    _median_of("itl_ms", verbosity=1),
    Column("ITL p99 ms", lambda row: itl.p99 if (itl := row.record.aggregates.get("itl_ms")) else None, 1),
    Column("stalls", lambda row: row.record.stalls or None, 1),
    _median_of("e2e_ms", verbosity=1),
    Column("all lanes tok/s", lambda row: row.record.total_tok_s),
    _foreign("in flight at start", "in_flight_at_start"),
    _foreign("foreign requests", "concurrent_foreign_requests"),
    _foreign("foreign tokens", "foreign_tokens"),
)


def render_tables(rows: Sequence[FinishedCell], *, verbosity: int) -> Iterator[TerminalLine]:
    """A table per host, its cells by suite, all in the order they came in; with ``-v`` every verdict's sentence too."""
    for host in dict.fromkeys(row.record.host for row in rows):
        of_host = [row for row in rows if row.record.host == host]
        yield TerminalLine(f"{host}{_describe_server(of_host)}")
        for suite in dict.fromkeys(row.record.suite for row in of_host):
            yield from _render_suite(suite, [row for row in of_host if row.record.suite == suite], verbosity)
        yield TerminalLine("")


def _render_suite(suite: str, rows: Sequence[FinishedCell], verbosity: int) -> Iterator[TerminalLine]:
    columns = [column for column in _COLUMNS if column.verbosity <= verbosity and any(map(column.value, rows))]
    head = [suite, *(column.head for column in columns), "change", "verdict"]
    body = [[_name(row), *(number(column.value(row)) for column in columns), *_judgement(row)] for row in rows]
    top, *lines = render_table(head, body, left=(0, len(head) - 1))
    yield TerminalLine(f"  {top}")
    for row, line in zip(rows, lines, strict=True):
        yield TerminalLine(f"  {line}", _colour(row))
        if verbosity > 0:
            yield from (TerminalLine(f"      {sentence(verdict)}") for verdict in row.verdicts)
            yield from (TerminalLine(f"      {text}") for text in explain_blanks(row))


def _describe_server(rows: Iterable[FinishedCell]) -> str:
    """Kind, build and address of the host's server, as its newest cell that knows them says."""
    servers = [row.record.server for row in rows if row.record.server is not None]
    if not servers:
        return ""
    newest = servers[-1]
    return f"  ({' '.join(part for part in (newest.kind, newest.engine_build, newest.url) if part)})"


def _name(row: FinishedCell) -> str:
    """Set in: host and suite stand above."""
    return f"  {name_cell(row)}"


def _judgement(row: FinishedCell) -> tuple[str, str]:
    """(change of the metric that the verdict is about, verdict)."""
    if row.outcome == "error" or not row.verdicts:
        return BLANK, row.outcome
    decisive = min(row.verdicts, key=lambda verdict: STANDINGS.index(verdict.outcome))
    word: str = decisive.outcome
    if decisive.outcome in {"regression", "improvement"}:
        word = f"{word} {METRICS[decisive.metric].title}"
    if row.outcome == "failed" and decisive.outcome != "regression":
        word = f"failed: {len(row.record.failed)} of {row.record.measured} requests"
    if row.record.contradiction:
        word = f"{word}, rates: {row.record.rates}"
    return change(decisive.change), f"{word}, saved" if row.saved else word


def _colour(row: FinishedCell) -> Colour:
    if row.outcome in {"error", "failed"}:
        return "red"
    outcomes = {verdict.outcome for verdict in row.verdicts}
    if outcomes & {"not comparable", "inconclusive"}:
        return "yellow"
    return "green" if "improvement" in outcomes else ""


def render_closing(
    rows: Sequence[FinishedCell], *, baseline: str, store: str, saving: bool, baselines: Mapping[str, Baseline]
) -> Iterator[TerminalLine]:
    """What the user should know or do next, one line each."""
    judged = [verdict for row in rows for verdict in row.verdicts]
    without = sum(any(verdict.outcome == "no baseline" for verdict in row.verdicts) for row in rows)
    saved = sum(row.saved for row in rows)
    if saved:
        yield TerminalLine(f"{count(saved, 'cell')} saved as baseline {baseline}")
    if saving and (left := [row for row in rows if not row.saved]):
        yield TerminalLine(
            f"{count(len(left), 'cell')} not saved: only a cell that was measured alone and steadily, and did not "
            "regress, becomes a baseline",
            "yellow",
        )
    if without and not saving:
        yield TerminalLine(
            f"{count(without, 'cell')} without a baseline {baseline}: passed unjudged; "
            "store one with --boobench-save-baseline"
        )
    if in_doubt := sum(row.outcome == "in doubt" for row in rows):
        yield TerminalLine(f"{count(in_doubt, 'cell')} left in doubt: the session ended before another block", "yellow")
    for row in rows:
        reasons = {verdict.reason for verdict in row.verdicts if verdict.outcome == "inconclusive"}
        yield from (
            TerminalLine(f"not judged: {row.record.host} {name_cell(row)}: {reason}", "yellow") for reason in reasons
        )
    for row in rows:
        if told := explain_rates(row.record):
            yield TerminalLine(f"{row.record.host} {name_cell(row)}: {told}", "yellow")
    for verdict in {verdict.reason: verdict for verdict in judged if verdict.outcome == "not comparable"}.values():
        yield TerminalLine(
            f"NOT COMPARABLE with baseline {baseline}, so not judged: {verdict.reason}; "
            "if that is meant, store a new one with --boobench-save-baseline",
            "yellow",
        )
    yield from (TerminalLine(text, "yellow") for text in (*advise_reruns(rows), *advise_slots(rows)))
    yield from (TerminalLine(text, "yellow") for text in advise_lengths(rows))
    weak = find_weak(rows, baselines)
    yield from (TerminalLine(text, "yellow") for text in advise_power(weak, baseline=baseline, judged=len(judged)))
    yield TerminalLine(f"store: {store}")
