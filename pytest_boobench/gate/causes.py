"""Room 6: why cells are red: what the slower cells of one host have in common, and the others do not.

Each throughput of each judged cell is a piece of evidence: it fell with the red ones, or it held. A cause is named only
if all evidence agrees with it, and no other cause fits as well.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from pytest_boobench.gate.circumstances import describe_differences, list_differences
from pytest_boobench.gate.comparison import describe_distance
from pytest_boobench.gate.host_drift import divide_out
from pytest_boobench.metrics import find_metric
from pytest_boobench.record import Baseline, CellRecord, Verdict
from pytest_boobench.suite.cell import Policy
from pytest_boobench.units import count, percent

CauseKind = Literal["changed", "host", "model", "metric", "lanes", "depth", "prompt", "cell", "cache"]
PHASES: Mapping[str, str] = {"decode_tok_s": "decode", "prefill_tok_s": "prefill"}
"""The two phases of a request -> their names."""
FELL = 0.5
"""A number that lost this share of the typical loss, or more, fell with the others."""
HELD = 0.3
"""A number that lost less than this share held. In between nobody can tell."""
ALIKE = 2.0
"""Cells that fell together lost between a half of the typical loss and twice as much (logarithms)."""
FEWEST_CELLS = 3
"""Fewer cells are no evidence that it is the whole host."""
SHOWN_CHANGES = 3
"""How many changed circumstances a cause names."""


@dataclass(frozen=True)
class JudgedCell:
    """A cell of a session with its verdicts and the baseline that they rest on."""

    record: CellRecord
    verdicts: tuple[Verdict, ...]
    baseline: Baseline | None

    @cached_property
    def changes(self) -> list[str]:
        """What is different from the baseline's measurement, in clauses. Each later cell of the host asks again."""
        runs = self.baseline.runs if self.baseline is not None else ()
        found = [change for change in list_differences(self.record, runs) if change.what not in ("answer", "clock")]
        return describe_differences(found)


@dataclass(frozen=True, slots=True)
class Cause:
    """What the slower cells of a host have in common."""

    kind: CauseKind
    words: str
    """A clause that can begin a line."""
    cells: frozenset[str]
    """The node ids of the cells that it explains."""
    excuses: bool = False
    """Whether it is the host and not what is measured on it."""


@dataclass(frozen=True, slots=True)
class _Number:
    """One throughput of one cell."""

    cell: JudgedCell
    metric: str
    gain: float
    """Logarithm of now / baseline, below zero if it is slower."""
    red: bool

    @property
    def node_id(self) -> str:
        return self.cell.record.node_id

    def read(self, axis: str) -> Any:
        return self.metric if axis == "metric" else self.cell.record.identity.get(axis)


def find_cause(cells: Iterable[JudgedCell]) -> Cause | None:
    """Return what the slower cells of one host have in common; None if nothing fits, or several things do."""
    numbers = [number for cell in cells for number in _list_numbers(cell)]
    red = [number.gain for number in numbers if number.red]
    if not red:
        return None
    typical = -statistics.median(red)
    fell = [number for number in numbers if number.gain < -FELL * typical]
    held = [number for number in numbers if number.gain > -HELD * typical]
    certain = len(fell) + len(held) == len(numbers)
    shape = _find_shape(fell, held) if certain else None
    changes = _list_changes(fell, held)
    slower = frozenset(number.node_id for number in fell)
    if changes:
        more = f"; {shape.words}" if shape is not None and shape.kind in ("metric", "lanes", "depth", "prompt") else ""
        return Cause("changed", f"{', '.join(changes)}{more}", slower)
    if all(number.cell.record.cache_break for number in fell):
        return Cause("cache", "the prefix cache breaks, and did not with the baseline", slower)
    if shape is not None:
        return shape
    return _blame_host(fell, typical) if certain and not held else None


def explain_red(
    verdicts: tuple[Verdict, ...], node_id: str, cause: Cause | None, policy: Policy
) -> tuple[Verdict, ...]:
    """Return the verdicts with the cause of the regressions; inconclusive if it is the host, unless the policy is
    ``literal``."""
    if cause is None or node_id not in cause.cells:
        return verdicts
    return tuple(
        _explain(verdict, cause, excused=cause.excuses and policy != "literal")
        if verdict.outcome == "regression" and find_metric(verdict.metric).turn == 0
        else verdict
        for verdict in verdicts
    )


def _explain(verdict: Verdict, cause: Cause, *, excused: bool) -> Verdict:
    if not excused:
        return replace(verdict, cause=cause.words)
    reason = f"{describe_distance(verdict.change)} baseline {verdict.baseline_name}, but {cause.words}"
    return replace(verdict, outcome="inconclusive", reason=reason)


def _list_numbers(cell: JudgedCell) -> list[_Number]:
    """The judged throughputs of a cell; none of a duet."""
    if cell.record.reference_host is not None or cell.baseline is None:
        return []
    return [
        _Number(cell, verdict.metric, math.log1p(verdict.change), verdict.outcome == "regression")
        for verdict in cell.verdicts
        if verdict.metric in PHASES and verdict.change is not None and verdict.change > -1
    ]


def _list_changes(fell: Sequence[_Number], held: Sequence[_Number]) -> list[str]:
    """What changed in all cells that fell: only what did not change in those that held, if there is such a thing."""
    cells = {number.node_id: number.cell for number in [*fell, *held]}
    told = {node_id: cell.changes for node_id, cell in cells.items()}
    slower = {number.node_id for number in fell}
    common = [words for words in told[fell[0].node_id] if all(words in told[node_id] for node_id in slower)]
    elsewhere = {words for node_id in told.keys() - slower for words in told[node_id]}
    telling = [words for words in common if words not in elsewhere]
    return (telling or common)[:SHOWN_CHANGES]


def _find_shape(fell: Sequence[_Number], held: Sequence[_Number]) -> Cause | None:
    """The one thing that separates what fell from what held; None if nothing does, or several things do."""
    if not held:
        return None
    cells = frozenset(number.node_id for number in fell)
    found = [Cause(kind, words, cells) for kind, find in _SHAPES.items() if (words := find(fell, held))]
    if len(found) == 1:
        return found[0]
    others = {number.node_id for number in held} - cells
    if len(cells) == 1 and len(others) >= FEWEST_CELLS - 1:
        return Cause("cell", f"only this cell of {len(cells | others)} fell", cells)
    return None


def _separate(axis: str, fell: Sequence[_Number], held: Sequence[_Number]) -> tuple[set[Any], set[Any]] | None:
    """The values of an axis on both sides; None if one value is on both."""
    both = tuple({number.read(axis) for number in side} for side in (fell, held))
    return None if both[0] & both[1] else (both[0], both[1])


def _tell_model(fell: Sequence[_Number], held: Sequence[_Number]) -> str:
    sides = _separate("model", fell, held)
    if sides is None:
        return ""
    others = "the other model is" if len(sides[1]) == 1 else f"the {len(sides[1])} other models are"
    return f"only {', '.join(sorted(sides[0]))} fell, {others} as fast as before"


def _tell_metric(fell: Sequence[_Number], held: Sequence[_Number]) -> str:
    sides = _separate("metric", fell, held)
    if sides is None:
        return ""
    (slow,), (same,) = sides
    return f"{PHASES[slow]} only, {PHASES[same]} is as fast as before"


def _tell_larger(axis: str, words: str) -> Callable[[Sequence[_Number], Sequence[_Number]], str]:
    """Cells from some value of a numeric axis on."""

    def tell(fell: Sequence[_Number], held: Sequence[_Number]) -> str:
        slow, same = ({number.read(axis) or 0 for number in side} for side in (fell, held))
        if min(slow) <= max(same):
            return ""
        return words.format(min(slow))

    return tell


_SHAPES: Mapping[CauseKind, Callable[[Sequence[_Number], Sequence[_Number]], str]] = {
    "model": _tell_model,
    "metric": _tell_metric,
    "lanes": _tell_larger("concurrency", "only cells with {} lanes or more fell"),
    "depth": _tell_larger("depth_tokens", "only cells at a depth of {} tokens or more fell"),
    "prompt": _tell_larger("prompt_tokens", "only cells with prompts of {} tokens or more fell"),
}


def _blame_host(fell: Sequence[_Number], typical: float) -> Cause | None:
    """All cells of the host fell together, and nothing known has changed. None with fewer than three cells, or if one
    lost far more than the others."""
    cells = {number.node_id: number.cell.record for number in fell}
    alike = all(FELL * typical <= -number.gain <= ALIKE * typical for number in fell)
    if len(cells) < FEWEST_CELLS or not alike or {number.metric for number in fell} != PHASES.keys():
        return None
    loss = percent(-math.expm1(-typical))
    if all(_is_divided_out(number.cell) for number in fell):
        words = f"all {count(len(cells), 'cell')} of the host fell by about {loss} against its reference: not the host"
        return Cause("host", words, frozenset(cells))
    builds = {number.cell.record.server.engine_build if number.cell.record.server else None for number in fell}
    if any(record.canaries for record in cells.values()):
        words = f"all {count(len(cells), 'cell')} of the host fell by about {loss}, and this machine is as fast as then"
        return Cause("host", words, frozenset(cells))
    if len(builds) != 1 or None in builds or not all(_is_known_same(number.cell) for number in fell):
        return None
    (build,) = builds
    words = f"the host is {loss} slower today, not the build: same build {build} as the baseline"
    return Cause("host", words, frozenset(cells), excuses=True)


def _is_divided_out(cell: JudgedCell) -> bool:
    """Whether the verdicts are without the drift of the host, so that it cannot be their cause."""
    return cell.baseline is not None and bool(divide_out(cell.record, cell.baseline)[1].gains)


def _is_known_same(cell: JudgedCell) -> bool:
    """Whether both sides know build and model."""
    runs = cell.baseline.runs if cell.baseline is not None else ()
    return any(run.engine_build for run in runs) and cell.record.model is not None and any(run.model for run in runs)
