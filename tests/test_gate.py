"""Room 6: the owner's rule, to the digit."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_boobench import gate
from pytest_boobench.facts import Traffic
from pytest_boobench.record import Verdict
from tests.making import aggregate_of, make_baseline, make_model, make_record, make_sample


def judge_one(now: float, *baseline: float, metric: str = "decode_tok_s", allowed: float = 0.1) -> Verdict:
    record = make_record(aggregates={metric: aggregate_of(now)})
    (verdict,) = gate.judge(record, make_baseline(*baseline, metric=metric), {metric: allowed})
    return verdict


@pytest.mark.parametrize(
    ("metric", "now", "was", "outcome"),
    [
        ("decode_tok_s", 100.0, 100.0, "pass"),
        ("decode_tok_s", 90.1, 100.0, "pass"),
        ("decode_tok_s", 90.0, 100.0, "pass"),
        ("decode_tok_s", 89.9, 100.0, "regression"),
        ("decode_tok_s", 104.9, 100.0, "pass"),
        ("decode_tok_s", 105.1, 100.0, "improvement"),
        ("ttft_ms", 109.9, 100.0, "pass"),
        ("ttft_ms", 110.1, 100.0, "regression"),
        ("ttft_ms", 94.9, 100.0, "improvement"),
        ("ttft_ms", 95.1, 100.0, "pass"),
    ],
)
def test_the_rule(metric: str, now: float, was: float, outcome: str) -> None:
    verdict = judge_one(now, was, metric=metric)
    assert verdict.outcome == outcome
    assert verdict.change == pytest.approx(now / was - 1)
    assert (verdict.now, verdict.baseline, verdict.baseline_name) == (now, was, "main")


@given(st.floats(min_value=0.01, max_value=1e6), st.floats(min_value=0.5, max_value=0.8999))
def test_more_than_ten_per_cent_below_always_fails(was: float, ratio: float) -> None:
    assert judge_one(was * ratio, was).outcome == "regression"


@given(st.floats(min_value=0.01, max_value=1e6), st.floats(min_value=0.9, max_value=1.0))
def test_up_to_ten_per_cent_below_never_does(was: float, ratio: float) -> None:
    assert judge_one(was * ratio, was).outcome == "pass"


def test_level_is_the_median_over_the_runs() -> None:
    assert judge_one(85.0, 100.0, 80.0, 90.0).baseline == 90.0


@pytest.mark.parametrize("was", [0.0, -1.0])
def test_a_baseline_that_cannot_divide_is_none(was: float) -> None:
    verdict = judge_one(50.0, was)
    assert (verdict.outcome, verdict.baseline, verdict.change) == ("no baseline", None, None)
    assert verdict.reason == "the stored baseline has no usable number for this metric"


def test_usable() -> None:
    assert gate.usable(0.1)
    assert not any(map(gate.usable, (0.0, -1.0, math.nan, math.inf)))


def test_without_a_baseline_nothing_is_judged() -> None:
    record = make_record(aggregates={"decode_tok_s": aggregate_of(10.0)})
    (verdict,) = gate.judge(record, None, {"decode_tok_s": 0.1})
    assert (verdict.outcome, verdict.now, verdict.baseline_name) == ("no baseline", 10.0, None)


def test_a_metric_without_samples_is_inconclusive() -> None:
    (verdict,) = gate.judge(make_record(), make_baseline(100.0), {"decode_tok_s": 0.1})
    assert (verdict.outcome, verdict.reason) == ("inconclusive", "no sample gives this metric")


def test_what_a_late_client_measured_is_not_judged() -> None:
    blurred = [make_sample(chunk_ms=(1.0, 1.0), blurred_chunks=1, client_lag_ms=9.0, decode_tok_s=50.0)]
    (verdict,) = gate.judge(make_record(samples=blurred), make_baseline(100.0), {"decode_tok_s": 0.1})
    assert verdict.outcome == "inconclusive"
    assert verdict.reason.startswith("the client was the bottleneck: 50 % of the tokens")


def test_another_model_file_is_not_comparable() -> None:
    record = make_record(
        aggregates={"decode_tok_s": aggregate_of(50.0)}, model=make_model(quantisation="Q4_0", size_bytes=9)
    )
    (verdict,) = gate.judge(record, make_baseline(100.0), {"decode_tok_s": 0.1})
    assert verdict.outcome == "not comparable"
    assert verdict.reason == "another model file: file size 9, was 16000000; quantisation Q4_0, was Q8_0"


def test_unknown_model_facts_differ_from_nothing() -> None:
    record = make_record(aggregates={"decode_tok_s": aggregate_of(50.0)}, model=None)
    (verdict,) = gate.judge(record, make_baseline(100.0), {"decode_tok_s": 0.1})
    assert verdict.outcome == "regression"
    assert gate.judge(
        make_record(aggregates=record.aggregates), make_baseline(100.0, model=None), {"decode_tok_s": 0.1}
    )


def test_limits() -> None:
    some = gate.Rules(default_max_drop=0.2)
    assert gate.limits("chat", None, gate.Rules()) == {"decode_tok_s": 0.1, "prefill_tok_s": 0.1}
    assert gate.limits("embedding", None, some) == {"embed_tok_s": 0.2}
    assert gate.limits("chat", {"ttft_ms": 0.5, "decode_tok_s": None}, some) == {"ttft_ms": 0.5, "decode_tok_s": 0.2}
    assert gate.limits("chat", {"ttft_ms": 0.5}, gate.Rules(max_drop=0.05)) == {"ttft_ms": 0.05}
    assert gate.limits("chat", {}, gate.Rules()) == {}


def test_a_disturbed_cell_is_judged_only_where_asked() -> None:
    traffic = Traffic(concurrent_foreign_requests=2, foreign_tokens=530, model_swaps=1)
    record = make_record(aggregates={"decode_tok_s": aggregate_of(50.0)}, traffic=traffic)
    for disturbed, outcome in (("inconclusive", "inconclusive"), ("fail", "inconclusive"), ("judge", "regression")):
        (verdict,) = gate.judge(record, make_baseline(100.0), {"decode_tok_s": 0.1}, disturbed)  # type: ignore[arg-type]
        assert verdict.outcome == outcome
    (verdict,) = gate.judge(record, make_baseline(100.0), {"decode_tok_s": 0.1})
    assert verdict.reason == "disturbed: 2 foreign requests, 530 foreign tokens, 1 model swap"
    assert not record.clean
    alone = make_record(traffic=Traffic(in_flight_at_start=0, concurrent_foreign_requests=0, foreign_tokens=0))
    assert alone.clean
    assert str(alone.traffic) == "nothing foreign"
