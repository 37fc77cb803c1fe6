"""What the user should know about the numbers themselves: requests too short to judge, baselines that prove little."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pytest_boobench.gate import measure_spread, provable_drop, remedy
from pytest_boobench.metrics import METRICS
from pytest_boobench.record import Baseline, CellRecord
from pytest_boobench.reports.session import FinishedCell, name_cell, name_model
from pytest_boobench.reports.text import cut_names, flatten
from pytest_boobench.units import count, percent

SHORT_PROMPT_MS = 100
SHORT_DECODE_MS = 200
"""Shorter ones scatter by 6 to 46 % on a calm machine, where those of 90 ms and more scatter by 0.2 to 2.8 %."""
_NAMED = 2
"""How many cells a line names beside the first."""
_NAME_WIDTH = 28
"""Columns of the terminal that a name has in a line."""
_ROOM = 60
"""So many characters of reasons stand in one line, and always the first reason."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something to know of one cell."""

    host: str
    node_id: str
    name: str
    text: str

    @classmethod
    def of(cls, row: FinishedCell, text: str) -> Note:
        """A note on that cell."""
        return cls(row.record.host, row.record.node_id, name_cell(row), text)


def gather(
    notes: Iterable[Note], rows: Iterable[FinishedCell], finding: str, *, remedy: str = "", verbosity: int = 0
) -> Iterator[str]:
    """A line for each host that has notes: how many of its cells among ``rows``, the first of them with its reason.

    With ``-v`` every note has a line of its own below.
    """
    of_host: dict[str, list[Note]] = {}
    for note in notes:
        of_host.setdefault(note.host, []).append(note)
    totals = Counter(row.record.host for row in rows)
    for host, found in of_host.items():
        many = len({note.node_id for note in found})
        start = f"{host}: {many} of {count(totals[host], 'cell')} {finding}"
        if verbosity > 0:
            yield f"{start}; {remedy}" if remedy else start
            yield from (f"  {note.name}: {note.text}" for note in found)
        else:
            names = cut_names([note.name for note in found], _NAME_WIDTH)
            short = [replace(note, name=name) for note, name in zip(found, names, strict=True)]
            yield "; ".join(filter(None, (f"{start}: {_tell_first(short)}", remedy)))


def _tell_first(notes: Sequence[Note]) -> str:
    """``a, b: disturbed; c: regressed``; of long reasons only the first, and the other cells by name."""
    by_text: dict[str, dict[str, str]] = {}
    for note in notes:
        by_text.setdefault(note.text, {})[note.node_id] = note.name
    parts: list[str] = []
    told: set[str] = set()
    room = _ROOM
    for text, names in by_text.items():
        room -= len(text)
        if parts and room < 0:
            break
        parts.append(f"{_name_some(list(names.values()))}: {text}")
        told |= names.keys()
    others = {note.node_id: note.name for note in notes if note.node_id not in told}
    return "; ".join([*parts, f"also {_name_some(list(others.values()))}"] if others else parts)


def _name_some(names: Sequence[str]) -> str:
    """``a, b and 3 more``; a single one more is named."""
    if len(names) <= _NAMED + 1:
        return ", ".join(names)
    return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"


def explain_unsaved(row: FinishedCell) -> str:
    """Why a cell did not become a baseline, where cells were to be saved."""
    record = row.record
    reasons = (
        (row.outcome == "error" or record.error is not None, "not measured"),
        (row.outcome == "in doubt", "left in doubt"),
        (any(verdict.outcome == "regression" for verdict in row.verdicts), "regressed"),
        (record.disturbed is not None, "disturbed by others"),
        (record.still_warming is not None, "still warming up"),
        (row.outcome == "failed", "failed"),
        (row.outcome == "xfailed", "expected to fail"),
        (record.reference_host is not None, "compared with another host, not with a baseline"),
        (all(verdict.now is None for verdict in row.verdicts), "no number to judge"),
    )
    return next((reason for holds, reason in reasons if holds), "the store did not take it yet")


def find_inconclusive(rows: Iterable[FinishedCell]) -> Iterator[Note]:
    """Why metrics could not be judged; a reason that is about one metric begins with its name."""
    for row in rows:
        open_ones = [verdict for verdict in row.verdicts if verdict.outcome == "inconclusive"]
        titles = ["" if verdict.change is None else f"{METRICS[verdict.metric].title} " for verdict in open_ones]
        reasons = dict.fromkeys(f"{title}{verdict.reason}" for title, verdict in zip(titles, open_ones, strict=True))
        yield from (Note.of(row, reason) for reason in reasons)


def find_incomparable(rows: Iterable[FinishedCell]) -> Iterator[Note]:
    """What differs from what the baseline was measured on."""
    for row in rows:
        reasons = dict.fromkeys(verdict.reason for verdict in row.verdicts if verdict.outcome == "not comparable")
        yield from (Note.of(row, reason) for reason in reasons)


def find_other_clocks(rows: Iterable[FinishedCell]) -> Iterator[Note]:
    """Where the server's timings contradict the stream."""
    for row in rows:
        if row.record.contradiction:
            yield Note.of(row, f"rates: {row.record.rates}: {row.record.contradiction}")


def find_short_requests(rows: Iterable[FinishedCell]) -> Iterator[Note]:
    """Cells whose judged requests are too short, with the tokens that would be enough."""
    for row in rows:
        if short := find_short(row.record, [verdict.metric for verdict in row.verdicts]):
            yield Note.of(row, ", ".join(short))


def find_short(record: CellRecord, judged: Iterable[str]) -> list[str]:
    """Which judged parts of the requests are too short, and what would be enough: ``decode takes only 98 ms (…``."""
    lengths = (
        ("decode_tok_s", "output_tokens", SHORT_DECODE_MS),
        ("prefill_tok_s", "prompt_tokens", SHORT_PROMPT_MS),
        ("embed_tok_s", "prompt_tokens", SHORT_PROMPT_MS),
    )
    found = []
    for metric, axis, least_ms in lengths:
        rate, tokens = record.aggregates.get(metric), record.identity[axis]
        if metric not in judged or rate is None or rate.median <= 0 or not tokens:
            continue
        takes_ms = tokens / rate.median * 1000
        if takes_ms < least_ms:
            enough = math.ceil(least_ms / 1000 * rate.median)
            found.append(f"{METRICS[metric].title} takes only {takes_ms:.0f} ms ({axis}: {enough} would be enough)")
    return found


def find_weak(rows: Iterable[FinishedCell], baselines: Mapping[str, Baseline]) -> list[Note]:
    """The judged metrics whose baselines cannot show a change as small as is allowed, the weakest first."""
    spread = measure_spread(baselines.values())
    found: list[tuple[float, Note]] = []
    for row in rows:
        baseline = baselines.get(row.record.cell_key)
        for verdict in row.verdicts if baseline is not None else ():
            if baseline is None or verdict.allowed is None:
                continue
            of_suite = spread.get(baseline.suite, {})
            least = provable_drop(baseline, verdict.metric, verdict.allowed, of_suite)
            if least is not None and least > verdict.allowed:
                advice = remedy(baseline, verdict.metric, verdict.allowed, of_suite)
                found.append((least, Note.of(row, _explain_weak(verdict.metric, least, verdict.allowed, advice))))
    return [note for _, note in sorted(found, key=lambda pair: -pair[0])]


def _explain_weak(metric: str, least: float, allowed: float, advice: str) -> str:
    change = "drop" if METRICS[metric].better == "higher" else "rise"
    title = METRICS[metric].title
    shows = f"shows only {change}s over {percent(least)}" if math.isfinite(least) else f"shows no {change}"
    return f"{title} {shows}, {percent(allowed)} is allowed{f'; {advice}' if advice else ''}"


def find_waiting_lanes(rows: Iterable[FinishedCell]) -> list[Note]:
    """Cells with more lanes than their server has slots, those with most lanes first."""
    found = [row for row in rows if explain_slots(row.record)]
    return [Note.of(row, explain_slots(row.record)) for row in sorted(found, key=lambda row: -_lanes(row.record))]


def advise_slots(rows: Iterable[FinishedCell]) -> Iterator[str]:
    """A line for each host and model whose server works on fewer requests at once than a cell has lanes."""
    most: dict[tuple[str, str], FinishedCell] = {}
    for row in rows:
        place = (row.record.host, row.record.identity["model"])
        if explain_slots(row.record) and (place not in most or _lanes(row.record) > _lanes(most[place].record)):
            most[place] = row
    for (host, _), row in most.items():
        yield f"more lanes than slots: {host} {name_model(row)}: {explain_slots(row.record)}"


def explain_slots(record: CellRecord) -> str:
    """What a cell's numbers mean where its lanes wait for each other, and what helps; empty where they do not."""
    slots, lanes = record.model.slots if record.model is not None else None, _lanes(record)
    if not slots or lanes <= slots:
        return ""
    raised = f"slots: {lanes} in the hosts file" if record.host == "embedded" else f"start it with -np {lanes}"
    embeds = record.identity["kind"] == "embedding"
    effect = "the end-to-end time" if embeds else f"decode is the speed of {count(slots, 'lane')}, and TTFT"
    waiting = lanes - slots
    return (
        f"the server has {count(slots, 'slot')} for {count(lanes, 'lane')}, so {count(waiting, 'lane')} at a time "
        f"{'waits' if waiting == 1 else 'wait'} in its queue: {effect} includes the wait; {raised}, "
        f"or lower grid.concurrency to {slots}"
    )


def find_reruns(rows: Iterable[FinishedCell]) -> Iterator[Note]:
    """Cells that another plugin ran again, and why: each has one verdict, by what was measured last."""
    for row in rows:
        if row.reruns:
            yield Note.of(row, f"{count(len(row.reruns), 'time')}: {flatten(row.reruns[-1])}")


def advise_reruns(rows: Iterable[FinishedCell]) -> Iterator[str]:
    """A line for each cell that another plugin ran again."""
    for row in rows:
        if row.reruns:
            cell = f"{row.record.host} {name_cell(row)}"
            yield f"run again {count(len(row.reruns), 'time')}: {cell}: {flatten(row.reruns[-1])}"


def notes_of(row: FinishedCell) -> list[str]:
    """What the reader should know of one cell's numbers, for reports that show it beside the cell."""
    return [
        *filter(None, [explain_slots(row.record), explain_rates(row.record)]),
        *(f"run again: {flatten(why)}" for why in row.reruns),
    ]


def explain_rates(record: CellRecord) -> str:
    """Why the server's timings are not used; empty where they are."""
    if not record.contradiction:
        return ""
    return f"rates: {record.rates}: {record.contradiction}; the server's timings are not used"


def _lanes(record: CellRecord) -> int:
    lanes: int = record.identity["concurrency"]
    return lanes
