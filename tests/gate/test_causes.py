"""Room 6: what the red cells of a host have in common: planted causes, and evidence that fits none."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from pytest_boobench import gate
from pytest_boobench.facts import Canary, ModelFacts, ServerFacts
from pytest_boobench.gate.causes import Cause, JudgedCell, explain_red, find_cause
from pytest_boobench.record import Baseline, BaselineRun, CellRecord, RunFacts, Verdict, make_baseline_run
from pytest_boobench.suite.cell import Cell
from tests.making import aggregate_of, make_cell, make_record, make_sample

MODELS = ("qwen", "gemma")
SERVER = ServerFacts(kind="llama-server", url="http://10.0.0.5:8080", engine_build="b10434")
LEVELS = {"decode_tok_s": 50.0, "prefill_tok_s": 2000.0}
Slow = Callable[[Cell, str], float]
"""(cell, metric) -> how much of its speed is left."""


@dataclass(frozen=True, kw_only=True)
class Plant:
    """A cause that is planted: what is slower, and what else is different."""

    slow: Slow
    now: dict[str, Any] = field(default_factory=dict)
    """Facts of the cells that are slower."""
    expected: str
    """How the cause begins; empty where none may be named."""


class BrokenCache(CellRecord):
    """A record whose conversations lost their prefix."""

    @property
    def cache_break(self) -> str:
        return "the prefix cache breaks at turn 3"


def make_cells(models: Sequence[str] = MODELS) -> list[Cell]:
    """Two models, prompts of two lengths, one lane and four, at two depths."""
    axes = itertools.product(models, (512, 2048), (1, 4), (0, 4096))
    return [
        make_cell(
            model=model, prompt_tokens=prompt, concurrency=lanes, depth_tokens=depth, id=f"{prompt}-{lanes}-{depth}"
        )
        for model, prompt, lanes, depth in axes
    ]


def facts_of(cell: Cell, **changed: Any) -> dict[str, Any]:
    model = ModelFacts(name=cell.model, path=f"/models/{cell.model}.gguf", n_params=8)
    return {"server": SERVER, "model": model, "command": "llama-server -ngl 99", "driver": "550", **changed}


def measure(cell: Cell, left: dict[str, float], chance: random.Random, **changed: Any) -> CellRecord:
    """Ten samples in each of two blocks, of a host whose sessions differ by 1.5 %."""
    broken = changed.pop("cache_break", False)
    record = make_record(cell, **facts_of(cell, **changed))
    if broken:
        record = BrokenCache(**{name: getattr(record, name) for name in record.__dataclass_fields__})
    record = replace(record, node_id=f"{cell.model}[{cell.id}]", samples=(make_sample(block=2),))
    found = {}
    for metric, level in LEVELS.items():
        session = level * left[metric] * math.exp(chance.gauss(0, 0.015))
        found[metric] = aggregate_of(*(session * math.exp(chance.gauss(0, 0.01)) for _ in range(20)))
    return replace(record, aggregates=found)


def judge(plant: Plant, seed: int, models: Sequence[str] = MODELS) -> list[JudgedCell]:
    """All cells of the host, judged by the real gate against three sessions."""
    chance = random.Random(seed)
    cells = make_cells(models)
    found = []
    for cell in cells:
        runs = tuple(gate_run(measure(cell, dict.fromkeys(LEVELS, 1.0), chance), day) for day in range(3))
        baseline = Baseline(name="main", cell_key=cell.key, suite=cell.suite, runs=runs)
        left = {metric: plant.slow(cell, metric) for metric in LEVELS}
        changed = plant.now if min(left.values()) < 1 else {}
        record = measure(cell, left, chance, **changed)
        found.append(
            JudgedCell(record, gate.judge(record, baseline, gate.limits("chat", None, gate.Rules())), baseline)
        )
    return found


def gate_run(record: CellRecord, day: int) -> BaselineRun:
    at_s = day * 86_400.0
    run = RunFacts(uid=f"run-{day}", session=f"day-{day}", suite=record.suite, host=record.host, started_at=at_s)
    return make_baseline_run(run, replace(record, started_at=at_s), saved_at=0.0)


def all_of_it(cell: Cell, metric: str) -> float:
    return 0.82


PLANTS = {
    "host": Plant(slow=all_of_it, expected="the host is 1"),
    "build": Plant(
        slow=all_of_it, now={"server": replace(SERVER, engine_build="b10500")}, expected="engine b10500, was b10434"
    ),
    "flags": Plant(slow=all_of_it, now={"command": "llama-server -ngl 20"}, expected="flags: -ngl 20, was 99"),
    "driver": Plant(slow=all_of_it, now={"driver": "560"}, expected="driver 560, was 550"),
    "model file": Plant(
        slow=lambda cell, metric: 0.8 if cell.model == "qwen" else 1.0,
        now={"model": ModelFacts(name="qwen", path="/models/qwen-new.gguf", n_params=8)},
        expected="model file /models/qwen-new.gguf",
    ),
    "one model": Plant(
        slow=lambda cell, metric: 0.8 if cell.model == "qwen" else 1.0,
        expected="only qwen fell, the other model is as fast as before",
    ),
    "prefill": Plant(
        slow=lambda cell, metric: 0.78 if metric == "prefill_tok_s" else 1.0,
        expected="prefill only, decode is as fast as before",
    ),
    "decode": Plant(
        slow=lambda cell, metric: 0.78 if metric == "decode_tok_s" else 1.0,
        expected="decode only, prefill is as fast as before",
    ),
    "lanes": Plant(
        slow=lambda cell, metric: 0.75 if cell.concurrency > 1 else 1.0, expected="only cells with 4 lanes or more fell"
    ),
    "depth": Plant(
        slow=lambda cell, metric: 0.75 if cell.depth_tokens else 1.0,
        expected="only cells at a depth of 4096 tokens or more fell",
    ),
    "long prompts": Plant(
        slow=lambda cell, metric: 0.75 if cell.prompt_tokens > 1000 else 1.0,
        expected="only cells with prompts of 2048 tokens or more fell",
    ),
    "one cell": Plant(
        slow=lambda cell, metric: 0.7 if (cell.model, cell.id) == ("qwen", "512-4-0") else 1.0,
        expected="only this cell of 16 fell",
    ),
    "cache": Plant(
        slow=lambda cell, metric: 0.7 if metric == "prefill_tok_s" else 1.0,
        now={"cache_break": True},
        expected="the prefix cache breaks",
    ),
    # evidence that fits nothing: no name is better than a wrong one
    "patchwork": Plant(
        slow=lambda cell, metric: 0.75 if (cell.prompt_tokens > 1000) != (cell.concurrency > 1) else 1.0, expected=""
    ),
    "halfway": Plant(
        slow=lambda cell, metric: {512: 0.9, 2048: 0.75}[cell.prompt_tokens] if cell.concurrency > 1 else 0.88,
        expected="",
    ),
}


@pytest.mark.parametrize("name", PLANTS)
def test_planted_causes_are_named(name: str) -> None:
    cause = find_cause(judge(PLANTS[name], seed=1))
    assert (cause.words if cause is not None else "").startswith(PLANTS[name].expected)
    if not PLANTS[name].expected:
        assert cause is None


def test_nothing_is_named_where_nothing_is_red() -> None:
    assert find_cause(judge(Plant(slow=lambda cell, metric: 1.0, expected=""), seed=2)) is None
    assert find_cause([]) is None


def test_two_causes_that_fit_alike_are_not_told_apart() -> None:
    plant = Plant(slow=lambda cell, metric: 0.75 if cell.concurrency > 1 else 1.0, expected="")
    cells = [
        one
        for one in judge(plant, seed=3)
        if (one.record.identity["concurrency"] > 1) == (one.record.identity["prompt_tokens"] > 1000)
    ]
    assert find_cause(cells) is None


def outcomes(cells: Iterable[JudgedCell], policy: Any = "default") -> list[Verdict]:
    cells = list(cells)
    cause = find_cause(cells)
    return [verdict for one in cells for verdict in explain_red(one.verdicts, one.record.node_id, cause, policy)]


def test_a_host_that_is_slower_as_a_whole_is_not_called_a_regression() -> None:
    cells = judge(PLANTS["host"], seed=1)
    found = outcomes(cells)
    assert {verdict.outcome for verdict in found} == {"inconclusive"}
    assert "but the host is 1" in found[0].reason
    assert found[0].reason.endswith("slower today, not the build: same build b10434 as the baseline")
    assert {verdict.outcome for verdict in outcomes(cells, "literal")} == {"regression"}


@pytest.mark.parametrize("name", ["build", "flags", "driver", "one model", "lanes"])
def test_all_others_stay_red(name: str) -> None:
    cells = judge(PLANTS[name], seed=1)
    before = [verdict.outcome for one in cells for verdict in one.verdicts]
    found = outcomes(cells)
    assert [verdict.outcome for verdict in found] == before
    assert all(verdict.cause.startswith(PLANTS[name].expected) for verdict in found if verdict.outcome == "regression")


@pytest.mark.parametrize(
    "changed",
    [
        {"server": ServerFacts(kind="openai", url="http://x")},  # the build is not known
        {"canaries": (Canary(copy_mb_s=9000.0, hash_mb_s=400.0),)},  # this machine, and it is not slower
    ],
)
def test_what_may_be_the_build_stays_red(changed: dict[str, Any]) -> None:
    found = outcomes(judge(Plant(slow=all_of_it, now=changed, expected=""), seed=1))
    assert {verdict.outcome for verdict in found} == {"regression"}


def test_two_cells_are_no_evidence_of_a_whole_host() -> None:
    cells = judge(PLANTS["host"], seed=1)[:2]
    assert find_cause(cells) is None


def test_a_cell_outside_of_a_cause_is_left_alone() -> None:
    verdicts = (Verdict(metric="decode_tok_s", outcome="regression", change=-0.2, baseline_name="main"),)
    cause = Cause("host", "the host is slower", frozenset({"a"}), excuses=True)
    assert explain_red(verdicts, "b", cause, "default") == verdicts
    assert explain_red(verdicts, "a", None, "default") == verdicts
