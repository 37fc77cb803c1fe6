"""Room 6: one turn against another inside one measurement, and a share of the cache that fell to nothing."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from pytest_boobench import gate
from pytest_boobench.aggregate import summarize
from pytest_boobench.metrics import Sample
from pytest_boobench.record import Baseline, CellRecord
from pytest_boobench.reports.sentences import sentence
from pytest_boobench.suite.cell import Plan
from pytest_boobench.suite.thresholds import TurnRatio
from tests.gate.test_gate import HOUR_S, run_of
from tests.making import make_cell, make_record, make_sample

KEY = "ttft_ms.turn[3]"
LIMIT = TurnRatio(1.3, 2)


def talks_of(*ttft_ms: tuple[float, float, float], blocks: int = 1, cached: tuple[int, int] = (90, 190)) -> CellRecord:
    samples = []
    for number, times in enumerate(ttft_ms):
        for turn, (time_ms, known, prompt) in enumerate(
            zip(times, (0, *cached), (100, 200, 300), strict=True), start=1
        ):
            one = make_sample(
                index=len(samples), block=1 + number * blocks // len(ttft_ms), turn=turn, ttft_ms=time_ms, e2e_ms=500.0,
                prompt_tokens=prompt, cached_tokens=known,
            )  # fmt: skip
            samples.append(one)
    return replace(make_record(), samples=tuple(samples), aggregates=summarize(samples, "chat"))


def judge(record: CellRecord, limit: Any = LIMIT, key: str = KEY, **rules: Any) -> Any:
    cell = make_cell(turns=3, plan=Plan(gate={key: limit}))
    (verdict,) = gate.judge_cell(cell, record, None, gate.Rules(**rules), {})
    return verdict, gate.find_cell_doubts(cell, record, None, gate.Rules(**rules), {})


@pytest.mark.parametrize(
    ("ratio", "conversations", "outcome", "doubts"),
    [
        (1.0, 1, "pass", ()),
        (1.3, 5, "pass", ()),  # equal is allowed
        (2.0, 5, "inconclusive", (KEY,)),  # one in 32 by chance alone
        (2.0, 8, "inconclusive", (KEY,)),
        (2.0, 9, "regression", ()),
        (1.31, 10, "regression", ()),
    ],
)
def test_one_turn_against_another(ratio: float, conversations: int, outcome: str, doubts: tuple[str, ...]) -> None:
    record = talks_of(*[(400.0, 100.0 + number, ratio * (100.0 + number)) for number in range(conversations)])
    verdict, found = judge(record)
    assert (verdict.metric, verdict.outcome, verdict.samples) == (KEY, outcome, conversations)
    assert found == doubts


def test_its_sentence_says_both_turns_and_the_limit() -> None:
    slow, _ = judge(talks_of(*[(400.0, 100.0, 210.0)] * 10))
    assert sentence(slow) == (
        "TTFT turn 3 210 ms, 2.10 × that of turn 2 (100 ms), at most 1.30 × allowed; 10 conversations"
    )
    few, _ = judge(talks_of((400.0, 100.0, 160.0), (400.0, 100.0, 140.0)))
    assert sentence(few) == (
        "TTFT turn 3 150 ms, inconclusive: 1.50 × that of turn 2 (100 ms), at most 1.30 × allowed; 2 conversations "
        "from 1.40 to 1.60 ×, too few or too scattered to tell; more samples"
    )


def test_a_broken_cache_is_the_note_of_the_red_turn() -> None:
    verdict, _ = judge(talks_of(*[(400.0, 100.0, 210.0)] * 10, cached=(90, 0)))
    assert verdict.note.startswith(
        "the prefix cache breaks at turn 3: 0 of 300 tokens were cached, turn 2 had 90 of 200"
    )
    assert "TTFT rose from 100 ms to 210 ms" in verdict.note


def test_in_doubt_literal_decides() -> None:
    verdict, _ = judge(talks_of((400.0, 100.0, 200.0)), policy="literal")
    assert verdict.outcome == "regression"


def test_a_higher_metric_has_a_least_share() -> None:
    record = talks_of(*[(400.0, 100.0, 100.0)] * 10, cached=(180, 90))
    verdict, _ = judge(record, TurnRatio(0.8, 2), "cached_share.turn[3]")
    assert (verdict.outcome, verdict.now) == ("regression", 0.3)
    assert "0.333 × that of turn 2 (0.900), at least 0.800 × allowed" in sentence(verdict)


def test_conversations_that_lack_a_turn_do_not_count() -> None:
    record = talks_of((400.0, 100.0, 200.0))
    record = replace(record, samples=record.samples[:2], aggregates=summarize(record.samples[:2], "chat"))
    verdict, doubts = judge(record)
    assert (verdict.outcome, verdict.reason) == ("inconclusive", "no conversation has both turns")
    assert doubts == ()


@pytest.mark.parametrize(("truth", "most_red", "least_red"), [(1.0, 0, 0), (1.3, 4, 0), (2.0, 200, 196)])
def test_how_often_it_is_red(truth: float, most_red: int, least_red: int) -> None:
    """Scatter of 10 % in each turn, 20 conversations: a ratio at its limit is rarely red, one far beyond it always."""
    luck = random.Random(14)
    red = 0
    for _ in range(200):
        times = [
            (400.0, 100 * luck.lognormvariate(0, 0.1), truth * 100 * luck.lognormvariate(0, 0.1)) for _ in range(20)
        ]
        red += judge(talks_of(*times, blocks=2))[0].outcome == "regression"
    assert least_red <= red <= most_red


def test_a_share_that_fell_to_nothing_is_red() -> None:
    runs = [run_of([0.9] * 5, number * HOUR_S, metric="cached_share.turn[3]") for number in range(3)]
    baseline = Baseline(name="main", cell_key=make_cell().key, suite="smoke", runs=tuple(runs))
    record = talks_of(*[(400.0, 100.0, 300.0)] * 10, blocks=2, cached=(90, 0))
    record = replace(record, model=runs[0].model)
    cell = make_cell(turns=3, plan=Plan(gate={"cached_share.turn[3]": 0.1}))
    (verdict,) = gate.judge_cell(cell, record, baseline, gate.Rules(), {})
    assert (verdict.outcome, verdict.now, verdict.change) == ("regression", 0.0, -1.0)
    assert "the prefix cache breaks at turn 3" in verdict.note
    assert sentence(verdict).startswith("cached turn 3 0.00, 100 % below baseline main (0.900), 10 % allowed")


def test_samples_without_turns_have_no_ratio() -> None:
    one = Sample(phase="measure", lane=0, index=0, started_at=0.0, offset_ms=0.0, ttft_ms=5.0)
    record = replace(make_record(), samples=(one,), aggregates=summarize([one], "chat"))
    assert judge(record)[0].outcome == "inconclusive"
