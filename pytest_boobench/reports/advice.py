"""What the user should know about the numbers themselves: requests too short to judge, baselines that prove little."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pytest_boobench.gate import measure_spread, provable_drop, remedy
from pytest_boobench.metrics import METRICS
from pytest_boobench.record import Baseline, CellRecord
from pytest_boobench.reports.session import FinishedCell, name_cell
from pytest_boobench.reports.text import flatten
from pytest_boobench.units import count, percent

SHORT_PROMPT_MS = 100
SHORT_DECODE_MS = 200
"""Shorter ones scatter by 6 to 46 % on a calm machine, where those of 90 ms and more scatter by 0.2 to 2.8 %."""
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Weakness:
    """A baseline that cannot prove as little as is allowed."""

    name: str
    metric: str
    drop: float
    """The smallest worsening that it can prove, a ratio; infinite where none."""
    remedy: str


def advise_lengths(rows: Iterable[FinishedCell]) -> Iterator[str]:
    """A line for each of the first cells whose judged requests are too short, with the tokens that would do."""
    found = [(row, short) for row in rows if (short := find_short(row.record, [v.metric for v in row.verdicts]))]
    for row, short in found[:_SHOWN]:
        yield f"too short to judge steadily: {_name(row)}: {'; '.join(short)}"
    if len(found) > _SHOWN:
        yield f"too short to judge steadily: {count(len(found) - _SHOWN, 'more cell')}"


def find_short(record: CellRecord, judged: Iterable[str]) -> list[str]:
    """Which judged parts of the requests are too short, and what would do: ``decode takes 98 ms, …``."""
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
            found.append(f"{METRICS[metric].title} takes {takes_ms:.0f} ms, {axis}: {enough} would do")
    return found


def find_weak(rows: Iterable[FinishedCell], baselines: Mapping[str, Baseline]) -> list[Weakness]:
    """The judged metrics whose baselines cannot prove the worsening that is allowed, the weakest first."""
    spread = measure_spread(baselines.values())
    found = []
    for row in rows:
        baseline = baselines.get(row.record.cell_key)
        for verdict in row.verdicts if baseline is not None else ():
            if baseline is None or verdict.allowed is None:
                continue
            of_suite = spread.get(baseline.suite, {})
            drop = provable_drop(baseline, verdict.metric, verdict.allowed, of_suite)
            if drop is not None and drop > verdict.allowed:
                remedied = remedy(baseline, verdict.metric, verdict.allowed, of_suite)
                found.append(Weakness(_name(row), verdict.metric, drop, remedied))
    return sorted(found, key=lambda weakness: -weakness.drop)


def advise_power(weak: Sequence[Weakness], *, baseline: str, judged: int) -> Iterator[str]:
    """One line where baselines are weak: how many, the weakest, and its remedy."""
    if not weak:
        return
    worst = weak[0]
    proves = f"only drops over {percent(worst.drop)}" if math.isfinite(worst.drop) else "nothing"
    title = METRICS[worst.metric].title
    yield (
        f"baseline {baseline} is weak for {count(len(weak), 'number')} of {judged}: {worst.name} {title} can prove "
        f"{proves}; {worst.remedy} (all of them: boobench power)"
    )


def advise_slots(rows: Iterable[FinishedCell]) -> Iterator[str]:
    """A line for each host and model whose server works on fewer requests at once than a cell has lanes."""
    most: dict[tuple[str, str], FinishedCell] = {}
    for row in rows:
        place = (row.record.host, row.record.identity["model"])
        if explain_slots(row.record) and (place not in most or _lanes(row.record) > _lanes(most[place].record)):
            most[place] = row
    for (host, model), row in most.items():
        yield f"more lanes than slots: {host} {model}: {explain_slots(row.record)}"


def explain_slots(record: CellRecord) -> str:
    """What a cell's numbers mean where its lanes wait for each other, and what helps; empty where they do not."""
    slots, lanes = record.model.slots if record.model is not None else None, _lanes(record)
    if not slots or lanes <= slots:
        return ""
    raised = f"slots: {lanes} in the hosts file" if record.host == "embedded" else f"start it with -np {lanes}"
    embeds = record.identity["kind"] == "embedding"
    effect = "end to end" if embeds else f"decode is that of {count(slots, 'lane')}, TTFT"
    waiting = lanes - slots
    return (
        f"the server has {count(slots, 'slot')} for {count(lanes, 'lane')}, so {count(waiting, 'lane')} at a time "
        f"{'waits' if waiting == 1 else 'wait'} in its queue: {effect} holds the wait; {raised}, "
        f"or lower grid.concurrency to {slots}"
    )


def advise_reruns(rows: Iterable[FinishedCell]) -> Iterator[str]:
    """A line for each cell that another plugin ran again: it has one verdict, by what was measured last."""
    for row in rows:
        if row.reruns:
            yield f"run again {count(len(row.reruns), 'time')}: {_name(row)}: {flatten(row.reruns[-1])}"


def notes_of(row: FinishedCell) -> list[str]:
    """What is to be known of one cell's numbers, for reports that tell it beside the cell."""
    return [
        *filter(None, [explain_slots(row.record), explain_rates(row.record)]),
        *(f"run again: {flatten(why)}" for why in row.reruns),
    ]


def explain_rates(record: CellRecord) -> str:
    """That the server's timings are not used, and why; empty where they are."""
    if not record.contradiction:
        return ""
    return f"rates: {record.rates}: {record.contradiction}; the server's timings are not used"


def _lanes(record: CellRecord) -> int:
    lanes: int = record.identity["concurrency"]
    return lanes


def _name(row: FinishedCell) -> str:
    return f"{row.record.host} {name_cell(row)}"
