"""How often `boobench bisect` is right: scripted walks on recorded noise, or real walks over braked servers.

python -m tests.benchmarks.bisect [--walks 1000] [--candidates 16] [--loss 15]
python -m tests.benchmarks.bisect --real --walks 5 [--hogs 2]
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_boobench.gate.bisection import FINEST, Estimate, Walk
from pytest_boobench.gate.duet import judge_duet
from pytest_boobench.gate.gains import FEWEST, LOOKS, Pairs
from pytest_boobench.metrics import Sample
from pytest_boobench.record import CellRecord
from tests.benchmarks.gate_power.hosts import HOSTS, Host, draw_outlier
from tests.benchmarks.gate_power.replay import count_lanes, list_names, read

METRIC = "decode_tok_s"
MAX_DROP = 0.1
MOST = LOOKS[-1] * FEWEST["requests"]
"""Pairs of a comparison: with requests of half a second, what fits into 18 minutes. Few need so many."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Logarithms of pairs of rates of two servers that are alike."""

    name: str
    pairs: Sequence[float]
    """Gains of neighbours."""

    def draw(self, chance: random.Random, count: int) -> list[float]:
        """So many, in runs of ten as they were recorded, each run turned round as often as not."""
        taken: list[float] = []
        while len(taken) < count:
            start, sign = chance.randrange(max(1, len(self.pairs) - 5)), chance.choice((1, -1))
            taken += [sign * gain for gain in self.pairs[start : start + 5]]
        return taken[:count]


def read_noise(name: str) -> Iterator[Noise]:
    """The noise of each host and cell of a recording: of neighbouring requests, in turns A B B A."""
    for (host, cell, metric), blocks in read(name).items():
        if metric != METRIC:
            continue
        gains: list[float] = []
        for block in blocks:
            lanes = count_lanes(cell)
            rounds = [block.values[first : first + lanes] for first in range(0, len(block.values), lanes)]
            logs = [math.log(statistics.median(values)) for values in rounds]
            for place in range(0, len(logs) - 1, 2):
                sign = 1 if place % 4 == 0 else -1
                gains.append(sign * (logs[place] - logs[place + 1]))
        yield Noise(f"{name} {host} {cell}", gains)


def simulate_noise(host: Host, chance: random.Random) -> Noise:
    """Pairs of a simulated host: the noise within a run, and outliers."""

    def draw() -> float:
        return chance.gauss(0, host.within) + math.log(draw_outlier(host, chance))

    return Noise(f"simulated {host.name}", [draw() - draw() for _ in range(1000)])


def measure(truth: float, noise: Noise, twin: float, chance: random.Random, until: float) -> list[float]:
    """The gains of a comparison as `boobench ab` makes it: until the interval is narrow, or the time is over."""
    gains = [truth + twin + gain for gain in noise.draw(chance, MOST)]
    for look in LOOKS:
        taken = gains[: look * FEWEST["requests"]]
        low, high = pair(taken).interval or (-math.inf, math.inf)
        if (math.exp(high) - math.exp(low)) / 2 <= until or len(taken) >= MOST:
            break
    return taken


def pair(gains: Sequence[float]) -> Pairs:
    """As the gate sees them."""
    return Pairs(gains=tuple(sorted(gains)), now=1.0, other=1.0)


def is_red(gains: Sequence[float]) -> bool:
    """Whether the gate sees a regression."""
    (verdict,) = judge_duet(_record(gains), {METRIC: MAX_DROP})
    return verdict.outcome == "regression"


def _sample(index: int, rate: float, *, reference: bool) -> Sample:
    return Sample(
        phase="measure",
        lane=0,
        index=index,
        reference=reference,
        started_at=0.0,
        offset_ms=0.0,
        decode_tok_s=rate,
    )


def _record(gains: Sequence[float]) -> CellRecord:
    ours = [_sample(index, math.exp(gain), reference=False) for index, gain in enumerate(gains)]
    theirs = [_sample(index, 1.0, reference=True) for index in range(len(gains))]
    return CellRecord(
        node_id="",
        cell_key="",
        suite="suite",
        host="new",
        identity={"concurrency": 1},
        started_at=0.0,
        samples=(*ours, *theirs),
        reference_host="old",
    )


def walk_once(candidates: int, loss: float, noise: Noise, chance: random.Random, twin: float) -> tuple[str, int]:
    """How a walk ends, and after how many comparisons. ``twin`` is the deviation of a start from another."""
    slow = chance.randrange(1, candidates)
    looks: dict[int, Estimate | None] = {}
    while (place := Walk(candidates, looks).choose()) is not None:
        walk = Walk(candidates, looks)
        until = MAX_DROP / 4 if walk.loss is None else -math.expm1(walk.loss / FINEST)
        truth = math.log1p(-loss) if place >= slow else 0.0
        gains = measure(truth, noise, chance.gauss(0, twin), chance, until)
        if place == walk.last and not is_red(gains):
            return "no loss seen", len(looks) + 1
        taken = pair(gains)
        looks[place] = Estimate(taken.gain, *taken.interval) if taken.interval else None
    walk = Walk(candidates, looks)
    if not walk.found.good < slow <= walk.found.bad:
        return "wrongly certain" if walk.certain else "wrong range", len(looks)
    return "right" if walk.certain else "range", len(looks)


ENDS = ("right", "range", "no loss seen", "wrong range", "wrongly certain")


def count_walks(noises: Sequence[Noise], walks: int, candidates: int, loss: float, twin: float) -> Iterator[str]:
    """A line for each kind of noise."""
    yield f"| noise | walks | {' | '.join(ENDS)} | comparisons, mean | most |"
    yield f"|---|{'---:|' * (len(ENDS) + 3)}"
    for noise in noises:
        chance = random.Random(f"bisect {noise.name}")
        ended: Counter[str] = Counter()
        taken = []
        for _ in range(walks):
            end, comparisons = walk_once(candidates, loss, noise, chance, twin)
            ended[end] += 1
            taken.append(comparisons)
        shares = " | ".join(f"{ended[end] / walks:.1%}" for end in ENDS)
        yield f"| {noise.name} | {walks} | {shares} | {sum(taken) / walks:.2f} | {max(taken)} |"


def pool_noise() -> Iterator[Noise]:
    """Recordings, and simulated hosts."""
    for name in list_names():
        yield Noise(name, [gain for noise in read_noise(name) for gain in noise.pairs])
    yield from (simulate_noise(host, random.Random(host.name)) for host in HOSTS[:4])


# --- real servers


def _keep_busy() -> None:
    while True:
        pass


def walk_really(walks: int, candidates: int, loss: float, hogs: int) -> Iterator[str]:
    """Walks of the command over programs that keep a pace by the clock, all from one on slower, a line for each."""
    busy = [multiprocessing.Process(target=_keep_busy, daemon=True) for _ in range(hogs)]
    for each in busy:
        each.start()
    try:
        yield "| planted | answer | certain | comparisons | minutes |"
        yield "|---|---|---|---:|---:|"
        for number in range(walks):
            slow = random.Random(f"real {number}").randrange(1, candidates)
            began = time.monotonic()
            found = _walk_servers(slow, candidates, loss)
            took = (time.monotonic() - began) / 60
            answer = found["first_bad"] if found["certain"] else f"{found['last_good']} … {found['first_bad']}"
            yield f"| b{slow} | {answer} | {found['certain']} | {len(found['steps'])} | {took:.1f} |"
    finally:
        for each in busy:
            each.kill()


def _walk_servers(slow: int, candidates: int, loss: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        brakes = [1 / (1 - loss) if place >= slow else 1.0 for place in range(candidates)]
        for place, brake in enumerate(brakes):
            Path(folder, f"b{place}").write_text(str(brake), encoding="utf-8")
        Path(folder, "pytest.ini").write_text("[pytest]\nboobench_quiet = 0s\n", encoding="utf-8")
        names = ",".join(f"b{place}" for place in range(candidates))
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest_boobench.cli", "bisect", "--candidates", names, "--json", "--together"),
                *("--prompt-tokens", "16", "--output-tokens", "48", "--max-time", "10m", "--metric", METRIC, "--"),
                *(
                    sys.executable,
                    "-m",
                    "tests.braked_server",
                    "--port",
                    "{port}",
                    "--brake-file",
                    f"{folder}/{{candidate}}",
                ),
            ],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        return dict(json.loads(done.stdout))


def main() -> None:
    """Print the table, or walk over real servers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--walks", type=int, default=1000)
    parser.add_argument("--candidates", type=int, default=16)
    parser.add_argument("--loss", type=float, default=15.0, help="per cent")
    parser.add_argument("--twin", type=float, default=0.5, help="deviation of starts, per cent")
    parser.add_argument("--real", action="store_true", help="walk over servers that are braked")
    parser.add_argument("--hogs", type=int, default=0, help="processes that keep the processors busy beside")
    asked = parser.parse_args()
    loss = asked.loss / 100
    lines = (
        walk_really(asked.walks, asked.candidates, loss, asked.hogs)
        if asked.real
        else count_walks(list(pool_noise()), asked.walks, asked.candidates, loss, asked.twin / 100)
    )
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    main()
