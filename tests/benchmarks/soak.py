"""How often a soak finds a drift that is there, and one that is not: ``python -m tests.benchmarks.soak [COURSES]``.

Six hours of 360 looks, as `boobench soak` takes them: made noise of several kinds, and the recorded noise of the real
embedded server, drawn in pieces of ten blocks that were measured one after the other. The bars: 0.5 % an hour is found,
and at most 1 % of the courses without a drift are called one.

``python -m tests.benchmarks.soak --real`` takes real looks, each a session of pytest, at scripted servers: one that
becomes 0.5 % slower an hour, and a steady one. Only the hours between the looks are skipped; some minutes for each.

``python -m tests.benchmarks.soak --memory`` tells how much each look adds to the memory of the command itself. The bar:
0.2 MB, from the 11th to the 60th.
"""

from __future__ import annotations

import json
import math
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from pytest_boobench.cli.project import Project
from pytest_boobench.cli.soak_command import render_soak
from pytest_boobench.cli.soak_session import SoakSettings, run_soak
from pytest_boobench.gate.drift import MAX_DRIFT, find_drift
from tests.benchmarks.recordings import FOLDER
from tests.kinds_stand_in import KindServer
from tests.tiring_server import Skipped, Tiring, make_side

HOURS, LOOKS = 6.0, 360
PIECE = 10
WORTH = math.log1p(MAX_DRIFT)
"""A smaller drift is not called one, as by `boobench soak` unless --max-drift says otherwise."""
Noise = Callable[[random.Random], list[float]]


def white(sd: float) -> Noise:
    return lambda chance: [chance.gauss(0, sd) for _ in range(LOOKS)]


def wandering(sd: float, minutes: float) -> Noise:
    """White noise of 1 %, and a level that wanders around its mean with this time constant."""

    def make(chance: random.Random) -> list[float]:
        keep = math.exp(-HOURS * 60 / LOOKS / minutes)
        level, found = chance.gauss(0, sd), []
        for _ in range(LOOKS):
            level = keep * level + chance.gauss(0, sd * math.sqrt(1 - keep * keep))
            found.append(level + chance.gauss(0, 0.01))
        return found

    return make


def bursts(chance: random.Random) -> list[float]:
    """1 %, and four times half an hour in which others slow the host by 5 to 30 %."""
    found = [chance.gauss(0, 0.01) for _ in range(LOOKS)]
    for _ in range(4):
        begin, depth = chance.randrange(LOOKS), chance.uniform(0.05, 0.3)
        for at in range(begin, min(LOOKS, begin + chance.randrange(2, 30))):
            found[at] -= depth
    return found


def recorded(name: str, host: str, cell: str) -> Noise:
    """Pieces of a recording, each shifted nowhere: what happens within minutes, and what from round to round."""
    lines = [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    medians = [
        math.log(statistics.median(line["decode_tok_s"]))
        for line in lines
        if line["host"] == host and line["cell"] == cell and any(line["decode_tok_s"])
    ]

    piece = min(PIECE, len(medians) // 2)

    def make(chance: random.Random) -> list[float]:
        found: list[float] = []
        while len(found) < LOOKS:
            begin = chance.randrange(len(medians) - piece + 1)
            found += medians[begin : begin + piece]
        return found[:LOOKS]

    return make


NOISES: Mapping[str, Noise] = {
    "white 0.5 %": white(0.005),
    "white 3 %": white(0.03),
    "wanders 1 %, 5 minutes": wandering(0.01, 5),
    "wanders 1 %, 30 minutes": wandering(0.01, 30),
    "wanders 1 %, 2 hours": wandering(0.01, 120),
    "bursts": bursts,
    **{f"recorded {name}, {host}": recorded(name, host, "pp256-tg72-c1")
       for name in ("calm-2", "calm-3", "calm-4", "calm-5", "hogs-1") for host in ("tiny", "larger")},
}  # fmt: skip


def count_found(noise: Noise, an_hour: float, courses: int, seed: int = 1) -> tuple[float, float]:
    """Shares of courses called slower, and called either."""
    hours = [HOURS * look / LOOKS for look in range(LOOKS)]
    slower = either = 0
    for number in range(courses):
        rests = noise(random.Random(f"{seed} {number}"))
        drift = find_drift(hours, [rest + math.log1p(an_hour) * hour for rest, hour in zip(rests, hours, strict=True)])
        assert drift is not None
        slower += drift.falls and drift.slope < -WORTH
        either += (drift.falls or drift.rises) and abs(drift.slope) > WORTH
    return slower / courses, either / courses


def main(courses: int = 2000) -> None:
    """Print a line for each kind of noise."""
    print(f"{'noise':32} {'false, both sides':>18} {'0.25 %/h found':>15} {'0.5 %/h found':>14} {'1 %/h':>8}")
    for name, noise in NOISES.items():
        false = count_found(noise, 0.0, courses)[1]
        found = [count_found(noise, -an_hour, courses)[0] for an_hour in (0.0025, 0.005, 0.01)]
        print(f"{name:32} {false:>18.2%} {found[0]:>15.1%} {found[1]:>14.1%} {found[2]:>8.1%}")


def look_for_real(an_hour: float) -> None:
    """A soak of six hours with 90 looks at a server that becomes so much slower each hour."""
    skipped = Skipped(least_s=HOURS * 3600 / 90)
    with KindServer(Tiring(an_hour, skipped, gap_s=0.01)) as server, tempfile.TemporaryDirectory() as name:
        asked = SoakSettings(
            model="m", prompt_tokens=32, output_tokens=32, hours=HOURS, store_url=str(Path(name) / "store.db")
        )
        project = Project(Path(name), {})
        found = run_soak(make_side(server.url), asked, project, lambda _: None, skipped.clock)
    print(f"{an_hour:.2%} slower an hour: exit code {found.exit_code}", *render_soak(found), sep="\n  ")


def weigh_looks(looks: int = 60) -> None:
    """Resident memory of this process after the 10th look and after the last one; the scripted server is in it, too."""
    skipped = Skipped(least_s=HOURS * 3600 / looks)
    sizes_mb: list[float] = []

    def weigh(_: object) -> None:
        sizes_mb.append(psutil.Process().memory_info().rss / 1e6)

    with KindServer(Tiring(0.0, skipped, gap_s=0.0)) as server, tempfile.TemporaryDirectory() as name:
        asked = SoakSettings(
            model="m", prompt_tokens=32, output_tokens=8, hours=HOURS, store_url=str(Path(name) / "store.db")
        )
        run_soak(make_side(server.url), asked, Project(Path(name), {}), weigh, skipped.clock)
    added_mb = (sizes_mb[-1] - sizes_mb[9]) / (len(sizes_mb) - 10)
    print(f"{sizes_mb[9]:.1f} MB after 10 looks, {sizes_mb[-1]:.1f} MB after {len(sizes_mb)}: {added_mb:.3f} MB a look")


if __name__ == "__main__":
    if sys.argv[1:] == ["--memory"]:
        weigh_looks()
    elif sys.argv[1:] == ["--real"]:
        look_for_real(0.005)
        look_for_real(0.0)
    else:
        main(*map(int, sys.argv[1:]))
