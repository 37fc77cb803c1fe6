"""Thousands of suites of unchanged and of slowed cells, counted."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pytest_boobench import gate
from pytest_boobench.record import Baseline
from pytest_boobench.suite.cell import BLOCKS
from tests.benchmarks.gate_power.cells import make_baseline, make_run, play, pool
from tests.benchmarks.gate_power.hosts import Host, take_session
from tests.benchmarks.gate_power.others import RULES

CELLS = 50
DROPS = (0.0, 0.12, 0.15, 0.20, 0.30, 0.50)
HOUR_S = 3600.0


@dataclass(slots=True)
class Tally:
    """Verdicts of cells that are all equally slowed."""

    cells: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    proven: int = 0
    samples: int = 0

    def add(self, outcome: str, *, proven: bool = False, samples: int = 0) -> None:
        """One cell more."""
        self.cells += 1
        self.outcomes[outcome] += 1
        self.proven += proven
        self.samples += samples

    @property
    def red(self) -> int:
        """How many failed."""
        return self.outcomes["regression"]

    @property
    def undecided(self) -> int:
        """How many were inconclusive."""
        return self.outcomes["inconclusive"]

    @property
    def samples_a_cell(self) -> float:
        """How many were needed."""
        return self.samples / self.cells


@dataclass(slots=True)
class Count:
    """What became of a host's suites under one rule."""

    by_drop: dict[float, Tally] = field(default_factory=dict)
    suites: int = 0
    red_suites: int = 0

    def of(self, drop: float) -> Tally:
        """The cells that are slowed by so much."""
        return self.by_drop.setdefault(drop, Tally())


Counts = Mapping[str, Count]
"""Rule -> count; the gate's own is under ``GATE``."""
GATE = "this gate"


@dataclass(frozen=True, slots=True)
class Simulated:
    """A cell: the runs of its baseline, and the blocks of a session after it where nothing changed."""

    runs: Sequence[Sequence[float]]
    blocks: Sequence[Sequence[float]]
    baseline: Baseline


def simulate_suite(host: Host, sessions: int, chance: random.Random) -> Iterator[Simulated]:
    """Its cells, each with a level of its own in each session: a host whose cells rise and fall together would turn
    fewer suites red."""
    for _ in range(CELLS):
        runs = [take_session(host, chance, 1)[0] for _ in range(sessions)]
        saved = (make_run(number * HOUR_S, str(number), run) for number, run in enumerate(runs))
        yield Simulated(runs, take_session(host, chance, BLOCKS), make_baseline(saved))


def count_suites(host: Host, sessions: int, *, suites: int, powered: int, seed: int) -> Counts:
    """Judge ``suites`` unchanged suites, and the first ``powered`` of them also by other rules and slowed."""
    chance = random.Random(f"{seed} {host.name} {sessions}")
    counts = {name: Count() for name in (GATE, *RULES)}
    for number in range(suites):
        cells = list(simulate_suite(host, sessions, chance))
        spread = gate.measure_spread(cell.baseline for cell in cells).get("suite", {})
        drops = DROPS if number < powered else DROPS[:1]
        _judge_suite(cells, spread, drops, counts[GATE])
        if number < powered:
            _judge_otherwise(cells, counts)
    return counts


def _judge_suite(cells: Sequence[Simulated], spread: Mapping[str, float], drops: Sequence[float], count: Count) -> None:
    red_before = count.of(0.0).red
    for cell in cells:
        pooled = pool(cell.blocks)
        for drop in drops:
            played = play(pooled, cell.baseline, spread, drop=drop)
            count.of(drop).add(played.outcome, proven=played.proven, samples=played.samples)
    count.suites += 1
    count.red_suites += count.of(0.0).red > red_before


def _judge_otherwise(cells: Sequence[Simulated], counts: Counts) -> None:
    for name, rule in RULES.items():
        count = counts[name]
        red_before = count.of(0.0).red
        for cell in cells:
            for drop in DROPS:
                slowed = [[value * (1 - drop) for value in block] for block in cell.blocks[:3]]
                if (red := rule(cell.runs, slowed)) is not None:
                    count.of(drop).add("regression" if red else "pass")
        count.suites += 1
        count.red_suites += count.of(0.0).red > red_before
