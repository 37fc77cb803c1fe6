"""Room 6: shares of requests: against the least that is asked, and against a baseline by their binomial noise."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import pytest

from pytest_boobench import gate
from pytest_boobench.gate.floors import chance_of_fewer
from pytest_boobench.record import Baseline, BaselineRun, CellRecord, Verdict
from pytest_boobench.reports.sentences import sentence
from pytest_boobench.suite.cell import Cell, Plan
from pytest_boobench.suite.thresholds import Floor
from tests.making import aggregate_of, make_cell, make_model, make_record, make_sample


def cell_of(**plan: Any) -> Cell:
    asked = Plan(samples=120).model_copy(update={"gate": {"slo_share": Floor(0.99)}, **plan})
    return make_cell(rate=4.0, slo={"ttft_ms": 500.0}, plan=asked)


def record_of(cell: Cell, good: int, requests: int, blocks: int = 2) -> CellRecord:
    samples = [make_sample(index=n, block=1 + n * blocks // requests) for n in range(requests)]
    share = good / requests
    aggregates = {
        "slo_share": aggregate_of(*[share] * blocks),
        "goodput_rps": aggregate_of(*[4.0 * share] * blocks),
        "e2e_ms": aggregate_of(*[100.0] * requests),
    }
    return replace(make_record(cell), samples=tuple(samples), aggregates=aggregates)


def baseline_of(cell: Cell, *goods: int, requests: int = 240) -> Baseline:
    runs = [
        BaselineRun(
            run_uid=str(number),
            session=str(number),
            model=make_model(),
            measured_at=3600.0 * number,
            saved_at=3600.0 * number,
            aggregates=record_of(cell, good, requests).aggregates,
        )
        for number, good in enumerate(goods)
    ]
    return Baseline(name="main", cell_key=cell.key, suite=cell.suite, runs=tuple(runs))


def judge(cell: Cell, record: CellRecord, baseline: Baseline | None = None, **rules: Any) -> Verdict:
    (verdict,) = gate.judge_cell(cell, record, baseline, gate.Rules(**rules), {})
    return verdict


@pytest.mark.parametrize(
    ("good", "blocks", "outcome", "proven", "said"),
    [
        (240, 2, "pass", False, "within SLO: 100 % of 240 requests, at least 99 % are asked"),
        (238, 2, "pass", False, "within SLO: 99.2 % of 240 requests, at least 99 % are asked"),
        (
            236,
            2,
            "inconclusive",
            False,
            "within SLO 0.983, inconclusive: 98.3 % of 240 requests, at least 99 % are asked; chance may do that; "
            "more samples would tell",
        ),
        (225, 2, "regression", False, "within SLO: 93.8 % of 240 requests, at least 99 % are asked"),
        (
            225,
            1,
            "inconclusive",
            False,
            "within SLO 0.938, inconclusive: 93.8 % of 240 requests, at least 99 % are asked; in one block: "
            "a second one would decide",
        ),
    ],
)
def test_a_floor_needs_no_baseline(good: int, blocks: int, outcome: str, proven: bool, said: str) -> None:
    verdict = judge(cell_of(), record_of(cell_of(), good, 240, blocks))
    assert (verdict.outcome, verdict.proven, sentence(verdict)) == (outcome, proven, said)


def test_a_pass_is_proven_where_the_true_share_is_hardly_below() -> None:
    assert judge(cell_of(), record_of(cell_of(), 1200, 1200)).proven
    assert judge(cell_of(gate={"slo_share": Floor(1.0)}), record_of(cell_of(), 239, 240)).outcome == "regression"


def test_a_floor_in_doubt_wants_another_block_and_a_lone_block_decides_where_there_is_one() -> None:
    record = record_of(cell_of(), 110, 120, blocks=1)
    assert gate.find_cell_doubts(cell_of(), record, None, gate.Rules(), {}) == ("slo_share",)
    assert judge(cell_of(max_samples=120), record).outcome == "regression"
    assert judge(cell_of(), record, policy="literal").outcome == "regression"


def test_a_disturbed_or_blank_share_is_not_judged() -> None:
    record = replace(record_of(cell_of(), 240, 240), aggregates={}, blanks={"slo_share": "no TTFT"})
    assert (judge(cell_of(), record).outcome, judge(cell_of(), record).reason) == ("inconclusive", "no TTFT")


@pytest.mark.parametrize(
    ("good", "outcome"), [(230, "pass"), (205, "inconclusive"), (150, "regression"), (0, "regression")]
)
def test_goodput_against_a_baseline_knows_its_binomial_noise(good: int, outcome: str) -> None:
    cell = cell_of(gate=None)
    verdict = judge(cell, record_of(cell, good, 240), baseline_of(cell, 232))
    assert (verdict.metric, verdict.outcome) == ("goodput_rps", outcome)
    assert verdict.samples == 240
    if outcome == "regression":
        assert "fastest tenth" not in sentence(verdict)


def test_an_unchanged_server_is_hardly_ever_red() -> None:
    """Independent requests, nine in ten of them good, two blocks of 60."""
    chance, cell = random.Random(1), cell_of(gate=None)
    reds = 0
    for _ in range(400):
        now, *before = (sum(chance.random() < 0.9 for _ in range(120)) for _ in range(4))
        reds += judge(cell, record_of(cell, now, 120), baseline_of(cell, *before, requests=120)).outcome == "regression"
    assert reds == 0


def test_the_binomial_test_is_exact() -> None:
    exact = sum(math.comb(20, number) * 0.9**number * 0.1 ** (20 - number) for number in range(16))
    assert chance_of_fewer(15, 20, 0.9) == pytest.approx(exact)
    assert chance_of_fewer(20, 20, 0.9) == pytest.approx(1.0)
    assert (chance_of_fewer(19, 20, 1.0), chance_of_fewer(20, 20, 1.0)) == (0.0, 1.0)
