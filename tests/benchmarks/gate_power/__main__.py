"""Prints the tables of the manual's page how-far-to-trust-it."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations

from pytest_boobench import gate
from tests.benchmarks.gate_power import tables
from tests.benchmarks.gate_power.campaign import DROPS, GATE, Tally, count_suites
from tests.benchmarks.gate_power.cells import make_baseline, make_run
from tests.benchmarks.gate_power.duets import count_duets
from tests.benchmarks.gate_power.hosts import HOSTS, Host, find_host
from tests.benchmarks.gate_power.replay import Count, Scene, count_scene, list_names
from tests.making import make_record, make_sample

MAIN = ("quiet", "typical", "run-noise", "noisy")
TUNED = ("calm-1", "hogs-1")
"""The gate's constants were chosen with these recordings in view; figures are quoted from the others."""
_MORE = {"typical": 4, "run-noise": 2, "noisy": 2}
"""How many times as many suites for the hosts of which most is promised."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Everything, or the parts that are asked for."""
    parts: dict[str, Callable[[int, int], None]] = {
        "simulated": print_simulated,
        "duet": print_duets,
        "recorded": print_recorded,
        "speed": print_speed,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"{', '.join(parts)}; all where none is named")
    parser.add_argument("--suites", type=int, default=500, help="unchanged suites of a host; some have more")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(arguments)
    print(f"`python -m tests.benchmarks.gate_power`, {time.strftime('%d %B %Y')}, seed {asked.seed}\n")
    for name in asked.parts or parts:
        parts[name](asked.suites, asked.seed)


def print_simulated(suites: int, seed: int) -> None:
    """The gate on each simulated host with baselines of one, three and five sessions; with five, others beside it."""
    rows: list[list[str]] = []
    others: list[list[str]] = []
    for host in HOSTS:
        for sessions in (1, 3, 5) if host.name in MAIN else (1, 5):
            factor = _MORE.get(host.name, 1)
            counts = count_suites(host, sessions, suites=suites * factor, powered=suites * factor // 5, seed=seed)
            rows.append(tables.row_of_gate(host, sessions, counts[GATE]))
            if host.name in MAIN and sessions == 5:
                others += tables.rows_of_others(host, counts)
    _print(tables.table(tables.HEAD, rows))
    _print(tables.table(tables.HEAD_OF_OTHERS, others))


def print_duets(suites: int, seed: int) -> None:
    """The duet on hosts that share a machine."""
    found: list[tuple[Host, dict[float, Tally]]] = [
        (host, count_duets(host, duets=suites * 8, seed=seed)) for host in map(find_host, ("typical", "noisy"))
    ]
    _print(tables.table(tables.HEAD_OF_DUETS, [tables.row_of_duets(host, by_drop) for host, by_drop in found]))


def print_recorded(*_: int) -> None:
    """The real embedded server, hours apart and under two processes that burn its cores."""
    rows: list[list[str]] = []
    for title, scenes in list_scenes(list_names()).items():
        counts: Count = {}
        for scene in scenes:
            count_scene(scene, counts)
        shown = dict.fromkeys((kind, rule) for kind, rule, _ in counts)
        for kind, rule in sorted(shown, key=lambda row: row[1] != GATE):
            by_drop = {drop: counts[kind, rule, drop] for drop in DROPS}
            rows.append(tables.row_of_replay(title, kind, rule, by_drop))
    _print(tables.table(tables.HEAD_OF_REPLAY, rows))


def list_scenes(names: Sequence[str]) -> dict[str, list[Scene]]:
    """Title -> what is judged by what; recordings that constants were chosen with only where there are no others."""
    calm = [name for name in names if name.startswith("calm")]
    hogs = [name for name in names if name.startswith("hogs")]
    fresh = [name for name in calm if name not in TUNED]
    found = {f"{name}, itself": [Scene(baseline=(name,), now=name)] for name in [*calm, *hogs]}
    for canary in (True, False):
        told = "" if canary else " without the canary"
        found[f"one session, another calm hour{told}"] = list(_pairs(calm, fresh, 1, canary))
        found[f"three sessions, another calm hour{told}"] = list(_pairs(calm, fresh, 3, canary))
        found[f"one calm session, under hogs{told}"] = list(_pairs(calm, hogs, 1, canary))
        found[f"three calm sessions, under hogs{told}"] = list(_pairs(calm, hogs, 3, canary))
    for sessions, word in ((1, "one session"), (3, "three sessions")):
        scenes = [replace(scene, learnt=_others(calm, scene)) for scene in _pairs(calm, fresh, sessions, canary=False)]
        found[f"{word}, another calm hour without the canary, the host's noise learnt"] = scenes
        itself = [
            Scene(baseline=(name, *_others(calm, name)[: sessions - 1]), now=name, canary=False) for name in fresh
        ]
        found[f"{word}, the same calm hour without the canary, the host's noise learnt"] = [
            replace(scene, learnt=_others(calm, scene)) for scene in itself
        ]
    return {title: scenes for title, scenes in found.items() if scenes}


def _others(names: Sequence[str], but: Scene | str) -> tuple[str, ...]:
    """The recordings that a scene does not judge."""
    now = but if isinstance(but, str) else but.now
    return tuple(name for name in names if name != now)


def _pairs(then: Sequence[str], now: Sequence[str], sessions: int, canary: bool) -> Iterator[Scene]:
    for name in now:
        for baseline in combinations([other for other in then if other != name], sessions):
            yield Scene(baseline=baseline, now=name, canary=canary)


def print_speed(*_: int) -> None:
    """How many verdicts the gate gives in a second: cells of twenty requests, two numbers each, five sessions."""
    chunk_ms = tuple(map(float, range(64)))
    sent = [make_sample(index=index, decode_tok_s=100.0, e2e_ms=900.0, chunk_ms=chunk_ms) for index in range(20)]
    record = make_record(samples=sent)
    record = replace(record, aggregates={**record.aggregates, "prefill_tok_s": record.aggregates["decode_tok_s"]})
    both = {"decode_tok_s": gate.MAX_DROP, "prefill_tok_s": gate.MAX_DROP}
    runs = (make_run(3600.0 * number, str(number), range(100, 110)) for number in range(5))
    baseline = make_baseline(replace(run, aggregates=record.aggregates) for run in runs)
    began = time.perf_counter()
    for _number in range(5_000):
        gate.judge(record, baseline, both)
    print(f"10,000 verdicts in {time.perf_counter() - began:.2f} s\n")


def _print(lines: Iterable[str]) -> None:
    print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main()
