"""What the user should know about the numbers themselves: requests too short to judge, baselines that prove little."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pytest_boobench.gate import measure_spread, provable_drop, remedy
from pytest_boobench.metrics import METRICS
from pytest_boobench.record import Baseline, CellRecord
from pytest_boobench.reports.rows import Row
from pytest_boobench.reports.session import name_cell
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


def advise_lengths(rows: Iterable[Row]) -> Iterator[str]:
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


def find_weak(rows: Iterable[Row], baselines: Mapping[str, Baseline]) -> list[Weakness]:
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


def _name(row: Row) -> str:
    return f"{row.record.host} {name_cell(row)}"
