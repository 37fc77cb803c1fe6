"""Unchanged and slowed cells on remote hosts that drift from session to session, with and without a reference.

``python -m tests.benchmarks.reference_drift`` prints the table of the manual's page how-far-to-trust-it. The drift of
the cell's model is that of the reference times a factor near 1: two models do not feel one cause alike.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pytest_boobench.facts import ReferenceRates
from pytest_boobench.measure.reference_cell import LEAST_ERROR, SAMPLES
from pytest_boobench.suite.cell import BLOCKS
from tests.benchmarks.gate_power.cells import condense, make_baseline, make_run, play, pool
from tests.benchmarks.gate_power.hosts import Host, take_session
from tests.benchmarks.gate_power.tables import share, table

HOST = Host(name="typical", about="3 %, 2 %, outliers", within=0.03, between=0.02, outliers=0.035, slowest=0.5)
"""What a cell's own sessions differ by, beside the drift of its host."""
OWN = 0.01
"""The same for the reference, which nobody restarts with other flags."""
DRIFTS = ((0.0, 0.0), (-0.10, -0.15), (0.10, 0.15), (-0.15, 0.15))
DROPS = (0.0, 0.15, 0.20, 0.30)
UNLIKE = (0.15, 0.3)
"""Standard deviation of the factor between the two models' drifts."""
APART_S = 7200.0


@dataclass(frozen=True, slots=True)
class Kind:
    """Hosts that drift between these bounds, with models that feel it so differently."""

    least: float
    most: float
    unlike: float

    def __str__(self) -> str:
        if not self.most:
            return "no drift"
        return f"{self.least:+.0%} to {self.most:+.0%}".replace("%", " %").replace("-", "−")


def look(chance: random.Random, level: float, at_s: float) -> ReferenceRates:
    """One look at a reference whose logarithm of speed is ``level``."""
    (values, *_) = take_session(replace(HOST, between=0.0), chance, 1)
    found = condense(value * 40.0 * math.exp(level) for value in values[:SAMPLES])
    error = max(LEAST_ERROR, 0.929 * (found.p75 - found.p25) / found.median / SAMPLES**0.5)
    return ReferenceRates(name="rack::pinned", measured_at=at_s, decode_tok_s=found.median, decode_error=error)


def take_looks(chance: random.Random, level: float, at_s: float) -> list[ReferenceRates]:
    """What the looks say together after each block: one comes before the first, one before each further block."""
    level += chance.gauss(0.0, OWN)
    joined = [look(chance, level, at_s)]
    for number in range(1, BLOCKS):
        joined.append(joined[-1].join(look(chance, level, at_s + 60.0 * number)))
    return joined


def play_cells(kind: Kind, drop: float, sessions: int, cells: int, seed: int) -> dict[bool, Counter[str]]:
    """Whether there was a reference -> outcomes of so many cells."""
    chance = random.Random(f"{seed}/{kind}/{kind.unlike}/{drop}/{sessions}")
    outcomes: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    for _ in range(cells):
        unlike = max(0.0, chance.gauss(1.0, kind.unlike))
        runs = []
        for number in range(sessions):
            level = chance.uniform(kind.least, kind.most) if number else 0.0
            ((*values,), *_) = take_session(HOST, chance, 1)
            (rates, *_) = take_looks(chance, level, number * APART_S)
            values = [value * math.exp(level * unlike) for value in values]
            runs.append(replace(make_run(number * APART_S, f"s{number}", values), reference_rates=rates))
        level = chance.uniform(kind.least, kind.most)
        blocks = [[value * math.exp(level * unlike) for value in block] for block in take_session(HOST, chance, BLOCKS)]
        looks = take_looks(chance, level, 1e6)
        baseline = make_baseline(runs)
        for known, counted in outcomes.items():
            played = play(pool(blocks), baseline, {}, drop=drop, references=looks if known else ())
            counted[played.outcome] += 1
    return outcomes


def main(arguments: Sequence[str] | None = None) -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(arguments)
    print(f"`python -m tests.benchmarks.reference_drift`, {time.strftime('%d %B %Y')}, seed {asked.seed}\n")
    rows = []
    for least, most in DRIFTS:
        for unlike in UNLIKE if most or least else (0.0,):
            for sessions in (1, 3):
                kind = Kind(least, most, unlike)
                by_drop = {drop: play_cells(kind, drop, sessions, asked.cells, asked.seed) for drop in DROPS}
                for known in (False, True):
                    shares = [share(by_drop[drop][known]["regression"], asked.cells) for drop in DROPS]
                    undecided = share(by_drop[0.0][known]["inconclusive"], asked.cells)
                    rows.append(
                        [
                            str(kind),
                            f"{unlike:.0%}".replace("%", " %"),
                            str(sessions),
                            "yes" if known else "no",
                            shares[0],
                            undecided,
                            *shares[1:],
                        ]
                    )
    head = [
        "drift between sessions",
        "models differ by",
        "K",
        "reference",
        "red, unchanged",
        "undecided, unchanged",
        *(f"−{drop:.0%}".replace("%", " %") for drop in DROPS[1:]),
    ]
    print("\n".join(table(head, rows)))


if __name__ == "__main__":
    main()
