"""How far the interval of a duet can be trusted: ``python -m tests.benchmarks.ab [parts]``.

Comparisons are played with the real gate, its looks and its arithmetic. Their noise is that of the recordings (the
embedded server on the machine that made them) and of the simulated hosts of ``gate_power``.

- ``interval``   order statistics beside Hodges and Lehmann's, by coverage and width at fixed numbers of pairs
- ``aa``         unchanged servers: coverage and false winners, in duets of today and in ones that go on until narrow
- ``narrow``     how many pairs a quiet host needs
- ``found``      how often a true loss is found, and after how many pairs
- ``real``       sessions of the real embedded server against itself beside two CPU hogs; an hour

A recorded pair of requests is two neighbours of a block, whichever came first; a pair of starts is two neighbouring
rounds, each on a server of its own. Whole blocks are drawn, so that what neighbours share stays in them. Seeded.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from pytest_boobench import gate
from pytest_boobench.gate import duet
from pytest_boobench.gate.comparison import to_change
from pytest_boobench.gate.gains import FEWEST, LOOKS, P_LOOK, Pairs
from pytest_boobench.metrics import METRICS
from pytest_boobench.record import Pairing
from tests.benchmarks.gate_power.duets import TWIN
from tests.benchmarks.gate_power.hosts import HOSTS, Host, draw_outlier
from tests.benchmarks.gate_power.replay import FOLDER, count_lanes, list_names
from tests.benchmarks.gate_power.tables import share, table
from tests.benchmarks.stage import hogs

DECODE = METRICS["decode_tok_s"]
ALLOWED = gate.MAX_DROP
PAIRINGS: tuple[Pairing, ...] = ("requests", "starts")
"""Recorded and simulated noise is of these; conversations and windows are as many as starts."""
TUNED = ("calm-1", "hogs-1")
"""Constants were chosen with these in view, and the second is short; figures are from the others."""
_SIMULATED = "simulated: "
_HOGS = int(os.environ.get("AB_HOGS", "2"))
"""Fewer where the machine is busy anyway."""
_SUITE = """\
suite: ab
hosts: [new]
models: [tiny-chat]
grid: {prompt_tokens: 64, output_tokens: 32}
samples: 6
"""
Draw = Callable[[random.Random], list[float]]
"""Gains of some neighbouring pairs of equal servers, in their order."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Where the pairs of one number come from."""

    name: str
    pairing: Pairing
    draw: Draw
    quiet: bool = False
    """Whether half of its pairs differ by less than 1 %: what is said of quiet hosts is meant for it."""

    @property
    def simulated(self) -> bool:
        """Whether it is a host of `gate_power`, and not recorded."""
        return self.name.startswith(_SIMULATED)


@dataclass(slots=True)
class Played:
    """One comparison at its end."""

    pairs: Pairs
    outcome: str


@dataclass(slots=True)
class Count:
    """What became of the comparisons of one kind."""

    played: list[Played] = field(default_factory=list)

    def covered(self, truth: float) -> int:
        return sum(holds(one.pairs.interval, truth) for one in self.played)

    def winners(self) -> int:
        """Intervals without 0, and verdicts that name a winner."""
        return sum(
            not holds(one.pairs.interval, 0.0) or one.outcome in ("regression", "improvement") for one in self.played
        )


def holds(interval: tuple[float, float] | None, truth: float) -> bool:
    """Whether an interval holds the truth; one that is not there does."""
    return interval is None or interval[0] <= truth <= interval[1]


def list_recorded() -> Iterator[Noise]:
    """Of each number that is gated where a suite says nothing, both kinds of pairs."""
    requests: dict[str, list[list[float]]] = defaultdict(list)
    starts: dict[str, list[list[float]]] = defaultdict(list)
    for name in list_names():
        if name not in TUNED:
            _read(name, requests, starts)
    for pairing, found in (("requests", requests), ("starts", starts)):
        for number, blocks in found.items():
            yield Noise(number, pairing, _draw_from(blocks), quiet=_is_quiet(blocks))  # type: ignore[arg-type]


def _read(name: str, requests: dict[str, list[list[float]]], starts: dict[str, list[list[float]]]) -> None:
    before: dict[str, float] = {}
    for line in (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
        block = json.loads(line)
        lanes = count_lanes(block["cell"])
        for metric in gate.limits("chat", None, gate.Rules(), lanes=lanes):
            number, values = f"{block['host']} {block['cell']} {metric}", block[metric]
            rounds = [statistics.median(values[at : at + lanes]) for at in range(0, len(values) - lanes + 1, lanes)]
            pairs = list(zip(rounds[::2], rounds[1::2], strict=False))
            requests[number].append([_gain(*pair) * (-1) ** place for place, pair in enumerate(pairs)])  # A B B A
            level = statistics.median(values)
            if number in before:
                starts[number].append([_gain(before.pop(number), level)])
            else:
                before[number] = level


def _gain(first: float, second: float) -> float:
    return math.log(first / second)


def _is_quiet(blocks: Sequence[Sequence[float]]) -> bool:
    return statistics.median(abs(gain) for block in blocks for gain in block) < 0.01


def _draw_from(blocks: Sequence[Sequence[float]]) -> Draw:
    def draw(chance: random.Random) -> list[float]:
        sign = chance.choice((1, -1))  # which of two equal servers is ours
        return [sign * gain for gain in chance.choice(blocks)]

    return draw


def list_simulated() -> Iterator[Noise]:
    """Requests differ by what is each one's own; starts by what a server keeps, too, and by a median of requests."""
    for host in HOSTS:
        yield Noise(f"{_SIMULATED}{host.name}", "requests", _simulate(host), quiet=host.name == "quiet")
        yield Noise(f"{_SIMULATED}{host.name}", "starts", _simulate_starts(host), quiet=host.name == "quiet")


def _simulate(host: Host) -> Draw:
    return lambda chance: [_rate(host, chance) - _rate(host, chance)]


def _simulate_starts(host: Host) -> Draw:
    def level(chance: random.Random) -> float:
        return chance.gauss(0, TWIN) + statistics.median(_rate(host, chance) for _ in range(10))

    return lambda chance: [level(chance) - level(chance)]


def _rate(host: Host, chance: random.Random) -> float:
    return chance.gauss(0, host.within) + math.log(draw_outlier(host, chance))


def take(noise: Noise, pairs: int, chance: random.Random) -> list[float]:
    """So many gains of equal servers."""
    gains: list[float] = []
    while len(gains) < pairs:
        gains += noise.draw(chance)
    return gains[:pairs]


def play(noise: Noise, chance: random.Random, *, until: float | None, true_gain: float = 0.0) -> Played:
    """A duet as `walk.run_duet` has it: two looks that end where there is no doubt, or as many as it takes."""
    fewest, gains = FEWEST[noise.pairing], list[float]()
    for look in LOOKS if until is not None else LOOKS[:2]:
        gains += [gain + true_gain for gain in take(noise, look * fewest - len(gains), chance)]
        pairs = Pairs(gains=tuple(sorted(gains)), now=1.0, other=1.0, fewest=fewest)
        outcome = duet.decide(pairs, DECODE, ALLOWED)
        if until is not None:
            enough = half_width(pairs) <= until
        else:
            enough = outcome in ("regression", "improvement") or (
                outcome == "pass" and pairs.bound > math.log1p(-ALLOWED)
            )
        if enough:
            break
    return Played(pairs, outcome)


def half_width(pairs: Pairs) -> float:
    """Of the interval of the change, as a ratio."""
    if pairs.interval is None:
        return math.inf
    low, high = (to_change(end, DECODE) for end in pairs.interval)
    return (high - low) / 2


def find_by_ranks(gains: Sequence[float], level: float) -> tuple[float, float] | None:
    """Hodges and Lehmann's interval by Wilcoxon's signed ranks (Hollander, Wolfe and Chicken 2014, chapter 3.3; normal
    approximation): it believes that gains are symmetrical around the true one."""
    count = len(gains)
    z = statistics.NormalDist().inv_cdf(1 - level / 2)
    rank = int(count * (count + 1) / 4 - z * math.sqrt(count * (count + 1) * (2 * count + 1) / 24))
    means = sorted((gains[one] + gains[other]) / 2 for one in range(count) for other in range(one, count))
    return (means[rank], means[-1 - rank]) if rank >= 0 else None


def print_interval(noises: Sequence[Noise], comparisons: int, chance: random.Random) -> None:
    """Both intervals at the level of one look."""
    rows = []
    for pairing, pairs in (("requests", 20), ("requests", 100), ("starts", 20), ("starts", 50)):
        some = [noise for noise in noises if noise.pairing == pairing]
        each = max(1, comparisons // len(some) // (4 if pairs > 20 else 1))
        for name, find in (("order statistics", _find_by_order), ("Hodges-Lehmann", find_by_ranks)):
            missed, widths = 0, dict[Noise, float]()
            for noise in some:
                found = [find(sorted(take(noise, pairs, chance)), P_LOOK) for _ in range(each)]
                missed += sum(not holds(interval, 0.0) for interval in found)
                widths[noise] = statistics.median((high - low) / 2 for low, high in filter(None, found))
            quiet, other = (
                f"± {statistics.median(width for noise, width in widths.items() if noise.quiet == wanted):.2%}"
                for wanted in (True, False)
            )
            rows.append([f"{pairs} pairs of {pairing}", name, share(missed, each * len(some)), quiet, other])
    _print(["pairs", "interval", "misses", "width, quiet numbers", "width, others"], rows)


def _find_by_order(gains: Sequence[float], _: float) -> tuple[float, float] | None:
    return Pairs(gains=tuple(gains), now=1.0, other=1.0).interval


def print_aa(noises: Sequence[Noise], comparisons: int, chance: random.Random) -> None:
    """Unchanged servers."""
    rows = []
    for simulated, pairing in product((False, True), PAIRINGS):
        some = [noise for noise in noises if (noise.pairing, noise.simulated) == (pairing, simulated)]
        for until in (None, 0.02, 0.01, 0.005):
            count = Count([play(some[number % len(some)], chance, until=until) for number in range(comparisons)])
            reds = sum(one.outcome == "regression" for one in count.played)
            rows.append(
                [
                    f"{'simulated' if simulated else 'recorded'}, pairs of {pairing}",
                    "as usual" if until is None else f"± {until:.1%}",
                    str(comparisons),
                    f"{count.covered(0.0) / comparisons:.2%}",
                    share(count.winners(), comparisons),
                    share(reds, comparisons),
                    f"{statistics.median(len(one.pairs.gains) for one in count.played):.0f}",
                ]
            )
    _print(["unchanged servers", "until", "comparisons", "coverage", "false winners", "red", "pairs, median"], rows)


def print_narrow(noises: Sequence[Noise], comparisons: int, chance: random.Random) -> None:
    """Quiet numbers, until plus and minus half a per cent."""
    rows = []
    for noise in noises:
        if noise.quiet:
            played = [play(noise, chance, until=0.005) for _ in range(max(50, comparisons // 10))]
            pairs = sorted(len(one.pairs.gains) for one in played)
            within = sum(len(one.pairs.gains) <= 100 and half_width(one.pairs) <= 0.005 for one in played)
            rows.append(
                [noise.name, noise.pairing, f"{within / len(played):.1%}", str(pairs[len(pairs) // 2]), str(pairs[-1])]
            )
    _print(["quiet number", "pairs of", "± 0.5 % within 100", "median", "most"], rows)


def print_found(noises: Sequence[Noise], comparisons: int, chance: random.Random) -> None:
    """Slower servers, 10 % allowed, with the recorded noise."""
    rows = []
    courses = ((0.15, None), (0.15, 0.01), (0.03, None), (0.03, 0.01), (0.03, 0.005))
    for (drop, until), pairing, quiet in product(courses, PAIRINGS, (True, False)):
        some = [n for n in noises if (n.pairing, n.quiet, n.simulated) == (pairing, quiet, False)]
        true_gain = math.log1p(-drop)
        count = Count(
            [play(some[place % len(some)], chance, until=until, true_gain=true_gain) for place in range(comparisons)]
        )
        intervals = [one.pairs.interval for one in count.played]
        slower = sum(interval is not None and interval[1] < 0 for interval in intervals)
        red = sum(one.outcome == "regression" for one in count.played)
        rows.append(
            [
                f"−{drop:.0%}",
                "as usual" if until is None else f"± {until:.1%}",
                f"{'quiet' if quiet else 'other'} numbers, pairs of {pairing}",
                f"{slower / comparisons:.1%}",
                f"{red / comparisons:.1%}",
                f"{count.covered(true_gain) / comparisons:.2%}",
                f"{statistics.median(len(one.pairs.gains) for one in count.played):.0f}",
            ]
        )
    _print(["true change", "until", "noise", "interval below 0", "red", "coverage", "pairs, median"], rows)


def print_real(_: Sequence[Noise], sessions: int, __: random.Random) -> None:
    """Whole sessions of the embedded server against itself, beside two processes that burn the cores."""
    rows = []
    for pairing in PAIRINGS:
        cells = [cell for _ in range(sessions) for cell in _run_real(pairing)]
        verdicts = [verdict for cell in cells for verdict in cell["verdicts"]]
        known = [(one["change_low"], one["change_high"]) for one in verdicts if one["change_low"] is not None]
        rows.append(
            [
                f"pairs of {pairing}",
                str(sessions),
                str(sum(cell["standing"] == "regression" for cell in cells)),
                str(sum(cell["standing"] == "improvement" for cell in cells)),
                str(sum(cell["standing"] == "inconclusive" for cell in cells)),
                f"{sum(holds(ends, 0.0) for ends in known)} of {len(known)}",
            ]
        )
    _print(["one binary against itself", "sessions", "red", "improved", "undecided", "intervals with 0"], rows)


def _run_real(pairing: Pairing) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="boobench-ab-") as name, hogs(_HOGS):
        folder = Path(name)
        hosts = {host: {"server": "embedded"} for host in ("new", "old")}
        (folder / "boobench.hosts.yaml").write_text(json.dumps({"hosts": hosts}))
        (folder / "ab.boobench.yaml").write_text(_SUITE)
        (folder / "pytest.ini").write_text("[pytest]\n")
        command = [
            sys.executable,
            "-m",
            "pytest",
            "--boobench",
            "-q",
            "-p",
            "no:cacheprovider",
            "--boobench-duet",
            "old",
        ]
        subprocess.run(
            [*command, "--boobench-json", "ab.json"],
            cwd=folder,
            env={
                **os.environ,
                "BOOBENCH_DUET_PAIRS": pairing,
                "XDG_CACHE_HOME": name,
            },  # others wait for no lock of ours
            capture_output=True,
            check=False,
        )
        cells: list[dict[str, Any]] = json.loads((folder / "ab.json").read_text())["cells"]
        for cell in cells:
            print("  ", pairing, cell["standing"], *(verdict["sentence"] for verdict in cell["verdicts"]), flush=True)
        return cells


def _print(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    rows = [[re.sub(r"(\.\d*?)0*%", r"\1 %", text).replace(". %", " %") for text in row] for row in rows]
    print("\n".join(table(head, rows)), flush=True)


PARTS: Mapping[str, Callable[[Sequence[Noise], int, random.Random], None]] = {
    "interval": print_interval,
    "aa": print_aa,
    "narrow": print_narrow,
    "found": print_found,
    "real": print_real,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """All parts, or those that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"{', '.join(PARTS)}; all but real where none is named")
    parser.add_argument("--comparisons", type=int, default=1000, help="of each kind")
    parser.add_argument("--sessions", type=int, default=20, help="real ones of each kind of pair")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(arguments)
    print(f"`python -m tests.benchmarks.ab`, {time.strftime('%d %B %Y')}, seed {asked.seed}\n")
    noises = [*list_recorded(), *list_simulated()]
    for name in asked.parts or [part for part in PARTS if part != "real"]:
        many = asked.sessions if name == "real" else asked.comparisons
        PARTS[name](noises, many, random.Random(f"{asked.seed} {name}"))


if __name__ == "__main__":
    main()
