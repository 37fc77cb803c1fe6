"""Pairs of requests on two hosts that share a machine: what slows the machine slows both, beside noise of their own."""

from __future__ import annotations

import math
import random

from pytest_boobench import gate
from pytest_boobench.metrics import Sample
from pytest_boobench.record import CellRecord
from tests.benchmarks.gate_power.campaign import DROPS, Tally
from tests.benchmarks.gate_power.cells import ALLOWED
from tests.benchmarks.gate_power.hosts import Host, draw_outlier

PAIRS = 20
"""In a block."""
BLOCKS = 2
TWIN = 0.01
"""Standard deviation between two processes of the same server on one machine."""
_STEADY = 0.95
"""What the machine's state keeps from one request to the next."""


def count_duets(host: Host, *, duets: int, seed: int) -> dict[float, Tally]:
    """Drop -> verdicts of so many duets whose gated host is slower by it."""
    chance = random.Random(f"{seed} duet {host.name}")
    tallies = {drop: Tally() for drop in DROPS}
    for _ in range(duets):
        pairs = _take_pairs(host, chance)
        for drop, tally in tallies.items():
            _play(pairs, drop, tally)
    return tallies


def _take_pairs(host: Host, chance: random.Random) -> list[tuple[float, float]]:
    """The rates of both halves. Half of the host's noise between sessions is the machine's, and wanders from request to
    request; the noise within a run and the outliers are each request's own."""
    level, twin, state = chance.gauss(0, host.between), chance.gauss(0, TWIN), chance.gauss(0, host.between)
    taken = []
    for _ in range(PAIRS * BLOCKS):
        halves = []
        for own in (twin, 0.0):
            state = _STEADY * state + chance.gauss(0, host.between * math.sqrt(1 - _STEADY**2))
            halves.append(math.exp(chance.gauss(level + own + state, host.within)) * draw_outlier(host, chance))
        taken.append((halves[0], halves[1]))
    return taken


def _play(pairs: list[tuple[float, float]], drop: float, tally: Tally) -> None:
    samples: list[Sample] = []
    for block in range(1, BLOCKS + 1):
        for index, (ours, theirs) in enumerate(pairs[(block - 1) * PAIRS : block * PAIRS]):
            samples.append(_sample(block, index, ours * (1 - drop), reference=False))
            samples.append(_sample(block, index, theirs, reference=True))
        record = _record(samples)
        if not gate.find_duet_doubts(record, ALLOWED):
            break
    (verdict,) = gate.judge_duet(record, ALLOWED)
    tally.add(verdict.outcome, proven=verdict.proven, samples=len(samples) // 2)


def _sample(block: int, index: int, rate: float, *, reference: bool) -> Sample:
    return Sample(
        phase="measure",
        lane=0,
        index=index,
        block=block,
        reference=reference,
        started_at=0.0,
        offset_ms=0.0,
        decode_tok_s=rate,
    )


def _record(samples: list[Sample]) -> CellRecord:
    return CellRecord(
        node_id="",
        cell_key="",
        suite="suite",
        host="ours",
        identity={"concurrency": 1},
        started_at=0.0,
        samples=tuple(samples),
        reference_host="theirs",
    )
