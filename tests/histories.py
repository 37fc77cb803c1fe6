"""Stored measurements as a team's store would have them after weeks, made up: for the tests of reports."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import Any
from unittest.mock import patch

from pytest_boobench.aggregate import Aggregate
from pytest_boobench.facts import Canary, ModelFacts, Traffic
from pytest_boobench.metrics import Sample
from pytest_boobench.record import Measurement, Outcome, RunFacts, Verdict
from pytest_boobench.reports import html
from pytest_boobench.reports.html import chart_data
from pytest_boobench.suite.cell import Cell
from tests.making import make_cell, make_sample

BEGAN_AT = 1_791_000_000.0
DAY_S = 86_400.0
CELL = make_cell(output_tokens=128, id="pp64-tg128-c1")
LEVELS = {"decode_tok_s": 50.0, "prefill_tok_s": 2200.0, "ttft_ms": 180.0, "queue_ms": 12.0, "prompt_ms": 160.0}
LEVELS |= {"connect_ms": 0.6, "itl_ms": 20.0, "e2e_ms": 2700.0}


@dataclass(frozen=True, kw_only=True)
class Fate:
    """What is to happen to a cell over its runs."""

    runs: int = 30
    drop: float = 0.0
    """Of the speed in the last runs."""
    dropped_runs: int = 4
    saved: int = 0
    """Which run is the baseline; -1 for none."""
    noise: float = 0.015
    factor: float = 1.0
    ends: Mapping[str, Any] | None = None
    """Fields of the newest measurement."""


def make_aggregate(median: float, spread: float = 0.02, n: int = 10) -> Aggregate:
    low, high = median * (1 - 2 * spread), median * (1 + 2 * spread)
    quarter = median * spread
    return Aggregate(
        n=n,
        mean=median,
        median=median,
        stdev=quarter if n > 1 else None,
        min=low,
        max=high,
        p10=low,
        p25=median - quarter,
        p50=median,
        p75=median + quarter,
        p90=high,
        p95=high,
        p99=high,
    )


def make_run(cell: Cell, number: int, **changed: Any) -> RunFacts:
    fields: dict[str, Any] = {
        "uid": f"{number:04x}-{cell.suite}-{cell.host}",
        "session": f"{number:08x}{'0' * 24}",
        "suite": cell.suite,
        "host": cell.host,
        "started_at": BEGAN_AT + number * DAY_S,
        "machine": "bench-client",
        "cpu": "AMD EPYC 9354",
        "git_commit": f"{number * 7919 + 0xA11CE:010x}{'0' * 30}",
        "git_dirty": number % 9 == 4,
        "plugin_version": "0.1.0",
    }
    return RunFacts(**{**fields, **changed})


def make_measurement(cell: Cell, number: int = 0, **changed: Any) -> Measurement:
    """The cell's measurement in run ``number``."""
    run = changed.pop("run", None) or make_run(cell, number)
    fields: dict[str, Any] = {
        "id": int(cell.key[:10], 16) * 1000 + number,
        "run": run,
        "node_id": f"suites/{cell.suite}.boobench.yaml::{cell.host}::{cell.model}[{cell.id}]",
        "cell_key": cell.key,
        "identity": cell.identity,
        "started_at": run.started_at + 30.0,
        "aggregates": {key: make_aggregate(level) for key, level in LEVELS.items()},
        "total_tok_s": 50.0,
        "model": ModelFacts(
            name=cell.model, n_params=8_000_000_000, size_bytes=4_900_000_000, quantisation="Q4_K - Medium", n_ctx=8192
        ),
        "engine_build": f"b{11000 + number // 12 * 137}",
        "samples": 10,
        "clock": "kernel",
    }
    return Measurement(**{**fields, **changed})


def judge_as(outcome: Outcome, metric: str = "decode_tok_s", **changed: Any) -> Verdict:
    fields: dict[str, Any] = {"now": 41.2, "baseline": 50.0, "change": 41.2 / 50 - 1, "allowed": 0.1}
    fields |= {"baseline_name": "main"} if outcome != "no baseline" else {"baseline": None, "change": None}
    return Verdict(metric=metric, outcome=outcome, **{**fields, **changed})


def judge_decode(outcome: Outcome, change: float = 0.0, **said: Any) -> tuple[Verdict, ...]:
    """The verdicts on a cell that is judged by its decode alone, against 50 tok/s."""
    fields: dict[str, Any] = {"now": 50 * (1 + change), "baseline": 50.0, "change": change, "baseline_name": "main"}
    return (judge_as(outcome, **{**fields, **said}),)


def follow_cell(cell: Cell, fate: Fate, seed: int = 0) -> list[Measurement]:
    """A cell over its runs, oldest first."""
    chance = random.Random(f"{seed}{cell.key}")
    lanes = cell.concurrency
    levels = {
        key: level * fate.factor * (lanes**-0.35 if key.endswith("_s") else lanes**0.6 / fate.factor**2)
        for key, level in LEVELS.items()
    }
    found = [_measure_once(cell, fate, number, levels, chance) for number in range(fate.runs)]
    if fate.ends:
        found[-1] = replace(found[-1], **fate.ends)
    return found


def _measure_once(
    cell: Cell, fate: Fate, number: int, levels: Mapping[str, float], chance: random.Random
) -> Measurement:
    slow = fate.drop if number >= fate.runs - fate.dropped_runs else 0.0
    medians = {
        key: level * chance.gauss(1, fate.noise) * ((1 - slow) if key.endswith("_s") else 1 / (1 - slow))
        for key, level in levels.items()
    }
    aggregates = {key: make_aggregate(median, abs(chance.gauss(0.012, 0.006))) for key, median in medians.items()}
    judged = fate.saved >= 0 and number > fate.saved
    verdicts = [_judge(key, medians[key], levels[key] if judged else None) for key in ("decode_tok_s", "prefill_tok_s")]
    return make_measurement(
        cell,
        number,
        aggregates=aggregates,
        total_tok_s=medians["decode_tok_s"] * cell.concurrency * 0.92,
        verdicts=tuple(verdicts),
        baselines=("main",) if number == fate.saved else (),
    )


def _judge(key: str, now: float, baseline: float | None) -> Verdict:
    if baseline is None:
        return judge_as("no baseline", key, now=now)
    change = now / baseline - 1
    outcome: Outcome = "regression" if change < -0.1 else "improvement" if change > 0.05 else "pass"
    return judge_as(outcome, key, now=now, baseline=baseline, change=change)


def make_samples(measurement: Measurement, n: int = 10, seed: int = 0) -> tuple[Sample, ...]:
    """Samples that lie around the measurement's medians."""
    chance = random.Random(f"{seed}{measurement.id}")
    keys = [key for key in measurement.aggregates if key not in ("itl_ms", "queue_ms")]
    return tuple(
        make_sample(
            index=number,
            **{key: measurement.aggregates[key].median * abs(chance.gauss(1, 0.02)) for key in keys},
        )
        for number in range(n)
    )


def list_cells(
    suites: Sequence[str], hosts: Sequence[str], models: Sequence[str], prompts: Sequence[int], lanes: Sequence[int]
) -> Iterator[Cell]:
    for suite, host, model, prompt, many in product(suites, hosts, models, prompts, lanes):
        yield make_cell(
            suite=suite,
            host=host,
            model=model,
            prompt_tokens=prompt,
            output_tokens=128,
            concurrency=many,
            id=f"pp{prompt}-tg128-c{many}",
        )


def make_team(hosts: Sequence[str] = ("rack-1", "rack-2", "tower"), runs: int = 30) -> list[Measurement]:
    """A dozen or more cells of a team, among them one of each thing that can happen."""
    cells = list(list_cells(["chat-throughput"], hosts, ["qwen3-8b"], [64, 512], [1, 4, 16]))
    special = {
        0: Fate(runs=runs, drop=0.17),
        1: Fate(runs=runs, drop=0.13, dropped_runs=7),
        4: Fate(runs=runs, ends=NOT_MEASURED),
        5: Fate(runs=runs, ends=DISTURBED),
        7: Fate(runs=runs, ends=FAILED_REQUESTS),
        8: Fate(runs=runs, drop=-0.08),
        9: Fate(runs=runs, saved=-1),
        10: Fate(runs=runs, ends=OTHER_MODEL),
    }
    speeds = {host: 1.25**place for place, host in enumerate(hosts)}
    found: list[Measurement] = []
    for place, cell in enumerate(cells):
        fate = special.get(place, Fate(runs=runs, saved=runs // 4))
        found += follow_cell(cell, replace(fate, factor=speeds[cell.host]))
    return found


NOT_MEASURED = {
    "error": "rack-1: no answer from http://10.0.0.5:8080; is the server running?",
    "aggregates": {},
    "verdicts": (),
    "total_tok_s": None,
    "samples": 0,
}
_DISTURBED_BY = Traffic(in_flight_at_start=1, concurrent_foreign_requests=3, foreign_tokens=530)
DISTURBED = {
    "spoiled": f"disturbed: {_DISTURBED_BY}",
    "traffic": _DISTURBED_BY,
    "attempts": 2,
    "verdicts": tuple(
        judge_as("inconclusive", key, change=None, reason=f"disturbed: {_DISTURBED_BY}")
        for key in ("decode_tok_s", "prefill_tok_s")
    ),
}
FAILED_REQUESTS = {
    "failed": 2,
    "stalls": 3,
    "load_ms": 4210.0,
    "canary": Canary(copy_mb_s=9120.0, hash_mb_s=411.0),
    "blocks": 2,
    "extended": "decode 9.1 % below, too close to the limit to tell",
}
OTHER_MODEL = {
    "verdicts": (
        judge_as("not comparable", change=None, reason="another model file: quantisation Q4_0, was Q4_K - Medium"),
    )
}


MADE_AT = 1_795_500_000.0


def gather(measurements: Sequence[Measurement], samples: int = 10, **said: Any) -> html.History:
    """The page's history, as the doors gather it from a store that has these measurements."""

    def ask(*, last: int | None = None, baselines: Collection[str] = ()) -> Sequence[Measurement]:
        return [one for one in measurements if not baselines or set(baselines) & set(one.baselines)]

    known = {one.id: one for one in measurements}
    return html.gather(ask, lambda ids: {id_: make_samples(known[id_], samples) for id_ in ids}, **said)


def render(measurements: Sequence[Measurement], **said: Any) -> str:
    return html.render(gather(measurements, **said), MADE_AT)


@cache
def render_large(runs: int = 50) -> str:
    """500 cells of so many runs, none easy: three judged metrics, 40 samples a cell, every fifth run disturbed."""
    models = ("qwen3-8b", "llama3-70b-instruct", "gemma-27b", "mistral-small", "tiny-chat")
    hosts = ("rack-1", "rack-2", "tower", "h100-a", "h100-b")
    cells = list_cells(("chat-throughput", "nightly"), hosts, models, (64, 512), (1, 2, 4, 8, 16))
    fates = [Fate(runs=runs, saved=2), Fate(runs=runs, drop=0.15, saved=2, dropped_runs=6), Fate(runs=runs, saved=-1)]
    courses = [follow_cell(CELL, fate, seed) for seed, fate in enumerate([fates[0]] * 7 + fates)]
    for course in courses:
        course[:] = [
            replace(
                one,
                verdicts=(*one.verdicts, replace(one.verdicts[0], metric="ttft_ms", outcome="pass")),
                spoiled=DISTURBED["spoiled"] if number % 5 == 4 else None,
            )
            for number, one in enumerate(course)
        ]
    measured = []
    for place, cell in enumerate(cells):
        first = make_measurement(cell)
        its = {"node_id": first.node_id, "cell_key": first.cell_key, "identity": first.identity, "model": first.model}
        measured += [
            replace(one, id=first.id + number, run=make_run(cell, number), **its)
            for number, one in enumerate(courses[place % len(courses)])
        ]
    find_once = cache(chart_data.find_changes)  # the courses are ten, however many cells have them
    with patch.object(chart_data, "find_changes", lambda values: find_once(tuple(values))):
        return html.render(gather(measured, samples=40), MADE_AT)
