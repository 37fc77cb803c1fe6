"""Recordings of the real embedded server, played to the gate as if they were measured now.

A recording is one look at the machine: blocks of each cell, taken one after the other for some minutes. A baseline has
one run, a block, of each of some recordings; the blocks of another one are judged by it.
"""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_boobench import gate
from pytest_boobench.facts import Canary
from pytest_boobench.metrics import METRICS
from pytest_boobench.record import Baseline, HostLook, HostNoise
from pytest_boobench.suite.cell import BLOCKS
from tests.benchmarks.gate_power.campaign import DROPS, GATE, Tally
from tests.benchmarks.gate_power.cells import METRIC, make_baseline, make_run, play, pool
from tests.benchmarks.gate_power.others import RULES

FOLDER = Path(__file__).parent.parent / "recordings"
Key = tuple[str, str, str]
"""Host, cell, metric: one gated number."""


@dataclass(frozen=True, slots=True)
class Block:
    """Ten samples of one number, when they were taken, and what the machine was like right before."""

    at_s: float
    values: tuple[float, ...]
    canary: Canary


Recording = Mapping[Key, Sequence[Block]]


def read(name: str) -> Recording:
    """A recording by its name: the blocks of each number that is gated where a suite names no gate, in the order they
    were taken. Times are read as requests a second, so that less is worse."""
    found: dict[Key, list[Block]] = defaultdict(list)
    for line in (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
        block = json.loads(line)
        host, cell = block["host"], block["cell"]
        for metric in gate.limits("chat", None, gate.Rules(), lanes=count_lanes(cell)):
            values = (
                block[metric] if METRICS[metric].better == "higher" else [1000.0 / value for value in block[metric]]
            )
            found[host, cell, metric].append(Block(block["at"], tuple(values), Canary(**block["canary"])))
    return found


def list_names() -> list[str]:
    """The recordings there are."""
    return sorted(path.stem for path in FOLDER.glob("*.jsonl"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Which recordings make the baselines, which one is judged by them, and how."""

    baseline: tuple[str, ...]
    now: str
    canary: bool = True
    """Whether the gate is told of the machine."""
    learnt: tuple[str, ...] = ()
    """Recordings that the host made before, of other suites: they show its noise."""


@dataclass(frozen=True, slots=True)
class Case:
    """One number of one scene: its baseline, and the blocks of an unchanged server after it."""

    key: Key
    baseline: Baseline
    runs: Sequence[Sequence[float]]
    blocks: Sequence[Block]
    spread: Mapping[str, float]
    session: tuple[int, int]
    """The rounds of the baseline and of the judged blocks: the same for all numbers of one session."""


APART = 2
"""Rounds from one block of a cell to its next: they are half a minute long."""
_STARTS = 7
"""Of how many rounds of a recording baselines are made, about."""


def list_cases(scene: Scene) -> Iterator[Case]:
    """Rounds of the baseline's recordings against every four blocks, a minute apart, of the judged one."""
    then, now = [read(name) for name in scene.baseline], read(scene.now)
    noise = learn(scene.learnt)
    rounds = min(min(map(len, recording.values())) for recording in [*then, now])
    firsts = range(min(map(len, now.values())) - APART * (BLOCKS - 1))
    for start in range(0, rounds, max(1, rounds // _STARTS)):
        baselines = {key: _make_baseline(scene, then, key, start, noise) for key in now}
        spreads = {metric: _measure_spread(baselines, metric) for metric in {metric for _, _, metric in now}}
        for first in firsts:
            judged = range(first, first + APART * BLOCKS, APART)
            if scene.now in scene.baseline and start in judged:
                continue
            for key, blocks in now.items():
                runs = [recording[key][start].values for recording in then]
                taken = [blocks[number] for number in judged]
                yield Case(key, baselines[key], runs, taken, spreads[key[2]], (start, first))


def learn(names: Sequence[str]) -> Mapping[str, HostNoise]:
    """Host -> its noise, from the middle round of each recording."""
    return gate.measure_hosts(
        HostLook(
            host=host,
            series=cell,
            session=name,
            measured_at=(block := blocks[len(blocks) // 2]).at_s,
            medians={metric: statistics.median(block.values)},
        )
        for name in names
        for (host, cell, metric), blocks in read(name).items()
    )


def _make_baseline(
    scene: Scene, recordings: Sequence[Recording], key: Key, round_number: int, noise: Mapping[str, HostNoise]
) -> Baseline:
    host, _, metric = key
    taken = [recording[key][round_number] for recording in recordings]
    made = make_baseline(
        make_run(block.at_s, name, block.values, block.canary)
        for name, block in zip(scene.baseline, taken, strict=True)
    )
    if host not in noise:
        return made
    known = noise[host]  # each number is played as if it were the same metric
    return replace(made, host_noise=HostNoise(sessions=known.sessions, by_metric={METRIC: known.by_metric[metric]}))


def _measure_spread(baselines: Mapping[Key, Baseline], metric: str) -> Mapping[str, float]:
    """Each number is played as if it were the same metric: only the spread has to know which it is."""
    return gate.measure_spread(baseline for key, baseline in baselines.items() if key[2] == metric).get("suite", {})


Count = dict[tuple[str, str, float], Tally]
"""(kind of cell, rule, drop) -> verdicts."""


ALL = "all"
SUITES = "a host's whole suite"
"""Red if one of its numbers is."""


def count_scene(scene: Scene, counts: Count) -> None:
    """Add a scene's verdicts, under their kind of cell and under ``ALL``; each host's session counts as a suite."""
    red: dict[tuple[tuple[int, int], str, float], bool] = defaultdict(bool)
    for case in list_cases(scene):
        pooled = pool([block.values for block in case.blocks])
        canaries = [block.canary for block in case.blocks] if scene.canary else ()
        for drop in DROPS:
            played = play(pooled, case.baseline, case.spread, drop=drop, canaries=canaries)
            for kind in (ALL, describe_kind(case.key)):
                tally = counts.setdefault((kind, GATE, drop), Tally())
                tally.add(played.outcome, proven=played.proven, samples=played.samples)
            red[case.session, case.key[0], drop] |= played.outcome == "regression"
            slowed = [[value * (1 - drop) for value in block.values] for block in case.blocks]
            for name, rule in RULES.items():
                if (slower := rule(case.runs, slowed)) is not None:
                    counts.setdefault((ALL, name, drop), Tally()).add("regression" if slower else "pass")
    for (_, host, drop), any_red in red.items():
        kind = f"{SUITES}, {'2 threads' if host == 'two-threads' else '1 thread'}"
        counts.setdefault((kind, GATE, drop), Tally()).add("regression" if any_red else "pass")


def describe_kind(key: Key) -> str:
    """What sort of cell it is: how the requests are, on how many threads the server runs on two cores."""
    host, cell, _ = key
    lanes = count_lanes(cell)
    requests = f"{lanes} lanes" if lanes > 1 else "short requests" if cell.endswith("tg8-c1") else "one lane"
    return f"{requests}, {'2 threads' if host == 'two-threads' else '1 thread'}"


def count_lanes(cell: str) -> int:
    """By its name, as in ``pp256-tg72-c4``."""
    return int(cell.rpartition("-c")[2])
