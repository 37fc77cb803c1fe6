"""Samples -> baselines and records as the gate is given them; one cell played to its verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pytest_boobench import gate
from pytest_boobench.aggregate import Aggregate, percentile
from pytest_boobench.facts import Canary, ReferenceRates
from pytest_boobench.metrics import Sample
from pytest_boobench.record import Baseline, BaselineRun, CellRecord, Outcome
from pytest_boobench.suite.cell import BLOCKS
from tests.benchmarks.gate_power.hosts import BLOCK

METRIC = "decode_tok_s"
ALLOWED = {METRIC: gate.MAX_DROP}
_MARKS = tuple(
    (Sample(phase="measure", lane=0, index=0, block=block, started_at=0.0, offset_ms=0.0),)
    for block in range(1, BLOCKS + 1)
)
"""What tells a record how many blocks it has."""


def condense(values: Iterable[float]) -> Aggregate:
    """What the gate reads of an Aggregate, several times as fast; the rest is filled in with the median."""
    ordered = sorted(values)
    return _make(len(ordered), *(percentile(ordered, q) for q in (0.5, 0.1, 0.25, 0.75, 0.9)))


def scale(aggregate: Aggregate, factor: float) -> Aggregate:
    """The aggregate of samples that are all slower or faster by a factor."""
    was = aggregate
    return _make(was.n, *(factor * value for value in (was.median, was.p10, was.p25, was.p75, was.p90)))


def _make(n: int, median: float, p10: float, p25: float, p75: float, p90: float) -> Aggregate:
    return Aggregate(
        n=n,
        mean=median,
        median=median,
        stdev=None,
        min=p10,
        max=p90,
        p10=p10,
        p25=p25,
        p50=median,
        p75=p75,
        p90=p90,
        p95=p90,
        p99=p90,
    )


def make_run(at_s: float, session: str, values: Iterable[float], canary: Canary | None = None) -> BaselineRun:
    """One measurement of a baseline."""
    return BaselineRun(
        run_uid=session,
        session=session,
        measured_at=at_s,
        saved_at=at_s,
        aggregates={METRIC: condense(values)},
        canary=canary,
    )


def make_baseline(runs: Iterable[BaselineRun]) -> Baseline:
    """Of one cell of the suite ``suite``."""
    return Baseline(name="main", cell_key="", suite="suite", runs=tuple(runs))


def pool(blocks: Sequence[Sequence[float]]) -> list[Aggregate]:
    """The aggregates after one block, two, three…"""
    return [condense(value for block in blocks[:count] for value in block) for count in range(1, len(blocks) + 1)]


@dataclass(frozen=True, slots=True)
class Played:
    """A cell at its end."""

    outcome: Outcome
    proven: bool
    samples: int


def play(
    pooled: Sequence[Aggregate],
    baseline: Baseline,
    spread: Mapping[str, float],
    *,
    drop: float = 0.0,
    canaries: Sequence[Canary] = (),
    references: Sequence[ReferenceRates] = (),
) -> Played:
    """Block after block as long as the gate has doubts, then its verdict. ``pooled`` is what was measured after each
    block, ``canaries`` what the machine was like before each, ``references`` how fast its reference was until then."""
    for count, aggregate in enumerate(pooled, 1):
        record = CellRecord(
            node_id="",
            cell_key="",
            suite="suite",
            host="",
            identity={},
            started_at=0.0,
            samples=_MARKS[count - 1],
            aggregates={METRIC: scale(aggregate, 1 - drop) if drop else aggregate},
            canaries=tuple(canaries[:count]),
            reference_rates=references[count - 1] if references else None,
        )
        if count == len(pooled) or not gate.find_doubts(record, baseline, ALLOWED, spread=spread):
            break
    (verdict,) = gate.judge(record, baseline, ALLOWED, spread=spread)
    return Played(verdict.outcome, verdict.proven, count * BLOCK)
