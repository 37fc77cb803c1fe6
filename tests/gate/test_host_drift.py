"""The drift of a host, divided out by the reference of its machine."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from pytest_boobench.facts import Canary, ReferenceRates
from pytest_boobench.gate import (
    JudgedCell,
    Rules,
    SuiteNoise,
    find_cause,
    find_doubts,
    judge,
    measure_spread,
    provable_drop,
    remedy,
)
from pytest_boobench.gate.host_drift import HostDrift, expect_drift
from pytest_boobench.record import Baseline, CellRecord, HostNoise, Verdict
from tests.making import aggregate_of, make_baseline, make_cell, make_record, make_sample

THEN = ReferenceRates(name="rack-1::pinned", build="b1", file="parameters 7", measured_at=1.0, decode_tok_s=40.0)


def rates(decode_tok_s: float, **changed: Any) -> ReferenceRates:
    return replace(THEN, measured_at=2.0, decode_tok_s=decode_tok_s, decode_error=0.005, **changed)


def measure(decode_tok_s: float, now: ReferenceRates | None, **facts: Any) -> CellRecord:
    samples = [
        make_sample(block=block, index=index, decode_tok_s=decode_tok_s, e2e_ms=300.0)
        for block in (1, 2)
        for index in range(10)
    ]
    return make_record(samples=samples, reference_rates=now, **facts)


def verdict_of(record: CellRecord, baseline: Baseline) -> Verdict:
    (verdict,) = judge(record, baseline, {"decode_tok_s": 0.1}, Rules())
    return verdict


@pytest.mark.parametrize(
    ("now", "outcome", "change"),
    [
        ((50.0, 40.0), "pass", 0.0),
        ((40.0, 32.0), "pass", 0.0),  # all became slower
        ((40.0, 40.0), "regression", -0.2),  # only the cell
        ((34.0, 32.0), "regression", -0.15),  # the cell more than all
        ((60.0, 48.0), "pass", 0.0),  # all became faster
        ((60.0, 40.0), "improvement", 0.2),
        ((50.0, 50.0), "inconclusive", -0.2),  # a faster host, and a cell as fast as then
        ((40.0, 50.0), "regression", -0.36),
    ],
)
def test_the_drift_is_divided_out(now: tuple[float, float], outcome: str, change: float) -> None:
    found = verdict_of(measure(now[0], rates(now[1])), make_baseline(50.0, reference_rates=THEN))
    assert (found.outcome, found.change) == (outcome, pytest.approx(change, abs=1e-9))
    assert found.baseline == pytest.approx(50.0 * now[1] / 40.0)


def test_the_line_says_what_was_divided_out() -> None:
    found = verdict_of(measure(30.0, rates(35.28)), make_baseline(50.0, reference_rates=THEN))
    said = "the reference rack-1::pinned is 11.8 % slower than with the baseline: divided out of its 50.0"
    assert found.note.startswith(f"engine b11549, was b11000; {said}; noise assumed")


def test_a_faster_host_asks_for_no_further_block() -> None:
    record, baseline = measure(50.0, rates(50.0)), make_baseline(50.0, reference_rates=THEN)
    found = verdict_of(record, baseline)
    assert found.reason.endswith(
        "but only against the reference rack-1::pinned: the host is faster than then, the cell is not"
    )
    assert find_doubts(record, baseline, {"decode_tok_s": 0.1}) == ()


@pytest.mark.parametrize(
    ("now", "then", "said"),
    [
        (None, THEN, ""),
        (rates(32.0), None, "the baseline has a measurement without the reference rack-1::pinned; save it anew"),
        (rates(32.0, build="b2"), THEN, "the reference rack-1::pinned changed: build b2, was b1"),
        (rates(32.0, file="parameters 8"), THEN, "changed: model file parameters 8, was parameters 7"),
        (rates(32.0, name="rack-1::other"), THEN, "the reference is rack-1::other, was rack-1::pinned"),
        (replace(THEN, trouble="busy"), THEN, "judged without the reference rack-1::pinned: busy"),
        (rates(32.0), replace(THEN, trouble="busy"), "a measurement without the reference rack-1::pinned"),
    ],
)  # fmt: skip
def test_without_a_reference_on_both_sides_nothing_is_divided(
    now: ReferenceRates | None, then: ReferenceRates | None, said: str
) -> None:
    found = verdict_of(measure(40.0, now), make_baseline(50.0, reference_rates=then))
    assert (found.outcome, found.baseline) == ("regression", 50.0)
    assert said in found.note
    assert said or "reference" not in found.note


def test_one_unknown_build_is_no_change() -> None:
    record = measure(40.0, rates(32.0, build=None))
    assert verdict_of(record, make_baseline(50.0, reference_rates=THEN)).baseline == 40.0


def test_times_are_divided_by_their_own_rate_and_the_rest_by_none() -> None:
    record = make_record(
        samples=[make_sample(index=index, ttft_ms=125.0, e2e_ms=300.0) for index in range(10)],
        load_ms=100.0,
        reference_rates=replace(rates(20.0), prefill_tok_s=80.0),
    )
    then = replace(THEN, prefill_tok_s=100.0)
    (ttft,) = judge(record, make_baseline(100.0, metric="ttft_ms", reference_rates=then), {"ttft_ms": 0.2})
    assert (ttft.baseline, ttft.change) == (pytest.approx(125.0), pytest.approx(0.0))
    (load,) = judge(
        replace(record, aggregates={"load_ms": record.aggregates["ttft_ms"]}),
        make_baseline(100.0, metric="load_ms", reference_rates=then),
        {"load_ms": 0.5},
    )
    assert load.baseline == 100.0


def test_the_error_of_the_reference_is_noise() -> None:
    baseline = make_baseline(50.0, reference_rates=THEN)
    small, large = (
        verdict_of(measure(40.0, replace(rates(40.0), decode_error=error)), baseline) for error in (0.005, 0.1)
    )
    assert small.noise is not None
    assert large.noise is not None
    assert (small.outcome, large.outcome) == ("regression", "inconclusive")
    assert large.noise > 0.25
    assert small.noise < 0.1


def test_a_slow_canary_explains_nothing_that_is_divided_out() -> None:
    slow, then = Canary(copy_mb_s=900.0, hash_mb_s=900.0), Canary(copy_mb_s=1000.0, hash_mb_s=1000.0)
    baseline = make_baseline(50.0, reference_rates=THEN, canary=then)
    assert verdict_of(measure(40.0, None, canaries=(slow, slow)), baseline).outcome == "inconclusive"
    assert verdict_of(measure(40.0, rates(40.0), canaries=(slow, slow)), baseline).outcome == "regression"
    busy = replace(slow, busy_share=0.9)
    baseline = make_baseline(50.0, reference_rates=THEN, canary=replace(then, busy_share=0.0))
    assert verdict_of(measure(40.0, rates(40.0), canaries=(busy, busy)), baseline).outcome == "inconclusive"


def drifting() -> Baseline:
    """Three sessions whose host differs by a tenth each time, and the cell with it."""
    (first,) = make_baseline(50.0).runs
    runs = tuple(
        replace(
            make_baseline(50.0 * factor).runs[0],
            session=f"s{place}",
            measured_at=first.measured_at + 7200.0 * place,
            reference_rates=rates(40.0 * factor),
        )
        for place, factor in enumerate((1.0, 0.9, 1.1))
    )
    return replace(make_baseline(50.0), runs=runs)


def test_what_the_reference_leaves_of_the_noise_between_sessions() -> None:
    baseline = drifting()
    assert measure_spread([baseline])["smoke"]["decode_tok_s"] > 0.08
    assert SuiteNoise([baseline]).find("smoke", rates(30.0))["decode_tok_s"] == pytest.approx(0.0)
    without = SuiteNoise([baseline]).find("smoke", replace(THEN, trouble="no answer"))
    assert without == SuiteNoise([baseline]).find("smoke", None) == measure_spread([baseline])["smoke"]
    found = verdict_of(measure(37.5, rates(30.0)), baseline)
    assert (found.outcome, found.run_noise, found.baseline) == ("pass", 0.01, pytest.approx(37.5))


def test_a_baseline_without_references_is_left_as_it_is() -> None:
    assert expect_drift(make_baseline(50.0)) == (make_baseline(50.0), HostDrift())


@pytest.mark.parametrize(
    ("error", "drop", "advice"),
    [
        (0.005, 0.10, ""),
        (0.05, 0.18, "the reference of the machine is unsure by 6.1 %: quieter host, longer outputs, or"),
    ],
)
def test_what_a_baseline_with_a_reference_can_prove(error: float, drop: float, advice: str) -> None:
    """Its host drifts by 10 % between sessions: without the reference it could prove nothing of that size."""
    baseline = drifting()
    runs = tuple(
        replace(run, reference_rates=run.reference_rates and replace(run.reference_rates, decode_error=error))
        for run in baseline.runs
    )
    referenced = replace(baseline, runs=runs)
    unknown = replace(baseline, runs=tuple(replace(run, reference_rates=None) for run in runs))
    assert (provable_drop(unknown, "decode_tok_s", 0.1, {}) or 0) > 0.3
    assert "sessions differ by 10" in remedy(unknown, "decode_tok_s", 0.1, {})
    assert provable_drop(referenced, "decode_tok_s", 0.1, {}) == pytest.approx(drop, abs=0.01)
    assert remedy(referenced, "decode_tok_s", 0.1, {}).startswith(advice)
    assert bool(remedy(referenced, "decode_tok_s", 0.1, {})) == bool(advice)


def test_looks_are_joined() -> None:
    first, second = replace(rates(40.0), measured_at=1.0), rates(44.0)
    both = first.join(second)
    assert (both.looks, both.measured_at) == (2, 2.0)
    assert both.decode_tok_s == pytest.approx(math.sqrt(40.0 * 44.0))
    assert both.decode_error == pytest.approx(math.hypot(0.005, math.log(1.1) / 2))
    assert both.prefill_tok_s is None
    assert second.join(first) == second  # the same look is not counted twice
    lost = replace(THEN, measured_at=3.0, trouble="busy")
    assert both.join(lost) == lost


def test_the_host_is_no_cause_where_its_drift_is_divided_out() -> None:
    """Neither is the noise that was learnt of the host while nobody divided."""
    now, then = replace(rates(36.0), prefill_tok_s=90.0), replace(THEN, prefill_tok_s=100.0)
    cells = [make_cell(prompt_tokens=tokens, id=f"pp{tokens}") for tokens in (64, 128, 256)]
    judged = []
    for cell in cells:
        samples = [
            make_sample(block=block, index=index, decode_tok_s=30.0, prefill_tok_s=600.0, e2e_ms=300.0)
            for block in (1, 2)
            for index in range(10)
        ]
        record = make_record(cell, samples=samples, reference_rates=now)
        (run,) = make_baseline(50.0, engine_build="b11549", reference_rates=then).runs
        run = replace(run, aggregates={**run.aggregates, "prefill_tok_s": aggregate_of(1000.0)})
        noise = HostNoise(sessions=9, by_metric={"decode_tok_s": 0.5, "prefill_tok_s": 0.5})
        baseline = replace(make_baseline(50.0), runs=(run,), host_noise=noise)
        verdicts = judge(record, baseline, {"decode_tok_s": 0.1, "prefill_tok_s": 0.1})
        assert {verdict.outcome for verdict in verdicts} == {"regression"}
        judged.append(JudgedCell(record, verdicts, baseline))
    cause = find_cause(judged)
    assert cause is not None
    assert cause.words == "all 3 cells of the host fell by about 33.3 % against its reference: not the host"
    assert not cause.excuses
