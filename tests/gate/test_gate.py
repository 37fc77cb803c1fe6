"""Room 6: the owner's rule to the digit, and what it takes to believe it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_boobench import gate
from pytest_boobench.facts import Canary, ClientFacts, Traffic
from pytest_boobench.gate import gains
from pytest_boobench.gate.comparison import find_limit, median_error, median_variance, to_change
from pytest_boobench.gate.duet import P_BELIEVED
from pytest_boobench.gate.reference import usable
from pytest_boobench.metrics import METRICS, Sample
from pytest_boobench.plain import rebuild
from pytest_boobench.record import Baseline, BaselineRun, CellRecord, Verdict
from pytest_boobench.suite.cell import Disturbed
from tests.making import aggregate_of, make_baseline, make_cell, make_model, make_record, make_sample

DECODE = {"decode_tok_s": 0.1}
HOUR_S = 3600.0


def spread_around(median: float, width: float = 0.01, count: int = 10) -> list[float]:
    """So many values, evenly apart, from ``median`` less ``width`` of it to as much more."""
    return [median * (1 + width * (2 * number / (count - 1) - 1)) for number in range(count)]


def record_of(values: Sequence[float], *, metric: str = "decode_tok_s", blocks: int = 2, **changed: Any) -> CellRecord:
    samples = (make_sample(block=blocks),)
    return replace(make_record(**changed), samples=samples, aggregates={metric: aggregate_of(*values)})


def run_of(values: Sequence[float], at_s: float, *, metric: str = "decode_tok_s", **changed: Any) -> BaselineRun:
    fields: dict[str, Any] = {"run_uid": f"run-{at_s}", "session": f"session-{at_s}", "model": make_model(), **changed}
    return BaselineRun(measured_at=at_s, saved_at=at_s, aggregates={metric: aggregate_of(*values)}, **fields)


def sessions_of(*medians: float, width: float = 0.01, **changed: Any) -> Baseline:
    """A baseline of one run of ten samples in each session, the sessions an hour apart."""
    runs = [run_of(spread_around(m, width), number * HOUR_S, **changed) for number, m in enumerate(medians)]
    return Baseline(name="main", cell_key=make_cell().key, suite="smoke", runs=tuple(runs))


def judge_one(
    record: CellRecord,
    baseline: Baseline | None,
    allowed: float = 0.1,
    spread: Mapping[str, float] = {},
    **rules: Any,
) -> Verdict:
    (metric,) = record.aggregates
    (verdict,) = gate.judge(record, baseline, {metric: allowed}, gate.Rules(**rules), spread)
    return verdict


def doubts(
    record: CellRecord,
    baseline: Baseline | None,
    allowed: float = 0.1,
    spread: Mapping[str, float] = {},
    **rules: Any,
) -> bool:
    (metric,) = record.aggregates
    return gate.find_doubts(record, baseline, {metric: allowed}, gate.Rules(**rules), spread) == (metric,)


QUIET = sessions_of(100.0, 100.0, 100.0)


@pytest.mark.parametrize(
    ("metric", "sessions", "now", "outcome"),
    [
        ("load_ms", 1, 1400.0, "pass"),
        ("load_ms", 1, 1550.0, "inconclusive"),
        ("load_ms", 1, 1700.0, "regression"),
        ("load_ms", 3, 1550.0, "regression"),
        ("load_ms", 3, 500.0, "improvement"),
        ("rss_peak_mb", 1, 1600.0, "regression"),
    ],
)
def test_a_number_of_the_start_is_judged_alone(metric: str, sessions: int, now: float, outcome: str) -> None:
    """There is one for each start: no second block is asked for, and what a load time varies by is assumed at first."""
    runs = [run_of([1000.0], number * HOUR_S, metric=metric) for number in range(sessions)]
    baseline = Baseline(name="main", cell_key=make_cell().key, suite="smoke", runs=tuple(runs))
    record = record_of([now], metric=metric, blocks=1)
    assert judge_one(record, baseline, 0.5).outcome == outcome
    assert not doubts(record, baseline, 0.5)


@pytest.mark.parametrize(
    ("metric", "now", "allowed", "outcome"),
    [
        ("decode_tok_s", 100.0, 0.1, "pass"),
        ("decode_tok_s", 90.1, 0.1, "pass"),
        ("decode_tok_s", 90.0, 0.1, "pass"),
        ("decode_tok_s", 89.9, 0.1, "regression"),
        ("decode_tok_s", 104.9, 0.1, "pass"),
        ("decode_tok_s", 105.0, 0.1, "pass"),
        ("decode_tok_s", 105.1, 0.1, "improvement"),
        ("decode_tok_s", 94.9, 0.05, "regression"),
        ("decode_tok_s", 70.0, 0.3, "pass"),
        ("decode_tok_s", 69.9, 0.3, "regression"),
        ("decode_tok_s", 1.0, 1.0, "pass"),
        ("ttft_ms", 109.9, 0.1, "pass"),
        ("ttft_ms", 110.0, 0.1, "pass"),
        ("ttft_ms", 110.1, 0.1, "regression"),
        ("ttft_ms", 94.9, 0.1, "improvement"),
        ("ttft_ms", 95.0, 0.1, "pass"),
        ("ttft_ms", 300.0, 2.0, "pass"),
        ("ttft_ms", 300.1, 2.0, "regression"),
    ],
)
def test_the_rule(metric: str, now: float, allowed: float, outcome: str) -> None:
    baseline = sessions_of(100.0, 100.0, 100.0, metric=metric)
    verdict = judge_one(record_of(spread_around(now), metric=metric), baseline, allowed)
    assert verdict.outcome == outcome
    assert verdict.change == pytest.approx(now / 100 - 1)
    assert verdict.fast_change == pytest.approx(now / 100 - 1)
    assert (verdict.now, verdict.baseline) == (pytest.approx(now), pytest.approx(100.0))
    assert (verdict.baseline_name, verdict.sessions, verdict.samples, verdict.blocks) == ("main", 3, 10, 2)
    assert (verdict.note, verdict.reason) == ("", "")


@settings(deadline=None)
@given(st.floats(min_value=0.01, max_value=1e6), st.floats(min_value=0.1, max_value=0.8999))
def test_more_than_ten_per_cent_below_always_fails(was: float, ratio: float) -> None:
    assert judge_one(record_of(spread_around(was * ratio)), sessions_of(was, was, was)).outcome == "regression"


@settings(deadline=None)
@given(st.floats(min_value=0.01, max_value=1e6), st.floats(min_value=0.9, max_value=1.0))
def test_up_to_ten_per_cent_below_never_does(was: float, ratio: float) -> None:
    assert judge_one(record_of(spread_around(was * ratio)), sessions_of(was, was, was)).outcome == "pass"


def test_a_regression_takes_two_blocks() -> None:
    once = record_of(spread_around(80.0), blocks=1)
    assert doubts(once, QUIET)
    verdict = judge_one(once, QUIET)
    assert verdict.outcome == "inconclusive"
    assert verdict.reason == "20 % below baseline main in one block: a second one would decide"
    assert not doubts(record_of(spread_around(80.0)), QUIET)
    assert not doubts(record_of(spread_around(90.0), blocks=1), QUIET)
    assert not doubts(record_of(spread_around(110.0), blocks=1), QUIET)


MIXED = [*spread_around(70.0, count=16), *spread_around(98.0, count=4)]
"""The median 30 % below 100, the fastest tenth hardly."""


@pytest.mark.parametrize(
    ("values", "baseline", "reason"),
    [
        (
            MIXED,
            QUIET,
            "29.8 % below baseline main, but the fastest tenth only 3 %: the samples scatter too much to judge "
            "(20 samples); quieter host, longer outputs, or --boobench-duet",
        ),
        (
            [value * 1.05 for value in MIXED],
            QUIET,
            "26.3 % below baseline main, but the fastest tenth 1.8 % above: the samples scatter too much to judge "
            "(20 samples); quieter host, longer outputs, or --boobench-duet",
        ),
        (
            spread_around(94.0),
            sessions_of(100.0, 100.0, 100.0, width=0.2),
            "6 % below baseline main, but the fastest tenth 18.3 % below: the two disagree (10 samples); "
            "quieter host, longer outputs, or --boobench-duet",
        ),
        (
            spread_around(60.0, width=0.3),
            QUIET,
            "40 % below baseline main, but the samples scatter by 35.3 %, over 29.1 %; "
            "quieter host, longer outputs, or --boobench-duet",
        ),
        (
            spread_around(85.0),
            sessions_of(100.0, 100.0, width=0.2),
            "15 % below baseline main, but the baseline's samples scatter by 22.2 %, over 15 %; "
            "more sessions with --boobench-save-baseline=add, or --boobench-duet",
        ),
        (
            spread_around(70.0, width=0.3),
            sessions_of(100.0, 100.0, 100.0, width=0.2),
            "30 % below baseline main, but the samples scatter by 35.3 %, over 28.5 %; "
            "quieter host, longer outputs, or --boobench-duet",
        ),
        (
            spread_around(70.0, width=0.3),
            sessions_of(100.0),
            "30 % below baseline main, but the samples scatter by 35.3 %, over 19.5 %; "
            "quieter host, longer outputs, or --boobench-duet",
        ),
        (
            [60.0] * 3,
            QUIET,
            "40 % below baseline main, but 3 samples are too few to judge; more samples or more blocks",
        ),
        (
            spread_around(80.0),
            sessions_of(100.0, 90.0, 110.0),
            "20 % below baseline main, within the noise of 32.7 %; quieter host, longer outputs, or --boobench-duet",
        ),
        (
            spread_around(85.0, width=0.12),
            sessions_of(100.0, width=0.12),
            "15 % below baseline main, within the noise of 24.2 %; "
            "more sessions with --boobench-save-baseline=add, or --boobench-duet",
        ),
    ],
)
def test_what_is_not_believed_says_why(values: Sequence[float], baseline: Baseline, reason: str) -> None:
    record = record_of(values)
    verdict = judge_one(record, baseline)
    assert verdict.outcome == "inconclusive"
    assert verdict.reason == reason
    assert doubts(record, baseline)


@pytest.mark.parametrize(("now", "outcome"), [(62.0, "inconclusive"), (52.0, "regression")])
@pytest.mark.parametrize("widths", [(0.01, 0.28), (0.28, 0.01), (0.28, 0.28)])
def test_a_clear_loss_may_scatter(now: float, outcome: str, widths: tuple[float, float]) -> None:
    """Samples of which the upper quartile is 33 % above the lower one: half the loss has to be more, in logarithms."""
    then, now_width = widths
    verdict = judge_one(record_of(spread_around(now, width=now_width)), sessions_of(100.0, width=then))
    assert verdict.outcome == outcome


def test_no_block_is_spent_on_a_cell_that_is_red() -> None:
    metrics = {"decode_tok_s": 0.1, "prefill_tok_s": 0.1}
    wide = aggregate_of(*spread_around(60.0, width=0.3))
    run = replace(run_of(spread_around(100.0), 0.0), aggregates=dict.fromkeys(metrics, aggregate_of(100.0, 100.0)))
    baseline = replace(QUIET, runs=tuple(replace(run, measured_at=number * HOUR_S) for number in range(3)))
    for decode, blocks, doubtful in [
        (60.0, 1, ("decode_tok_s", "prefill_tok_s")),
        (60.0, 2, ()),
        (100.0, 2, ("prefill_tok_s",)),
    ]:
        record = record_of([1.0], blocks=blocks)
        record = replace(
            record, aggregates={"decode_tok_s": aggregate_of(*spread_around(decode)), "prefill_tok_s": wide}
        )
        assert gate.find_doubts(record, baseline, metrics) == doubtful


def test_latencies_are_mirrored() -> None:
    slow_median = [*spread_around(140.0, count=16), *spread_around(102.0, count=4)]
    baseline = sessions_of(100.0, 100.0, 100.0, metric="ttft_ms")
    verdict = judge_one(record_of(slow_median, metric="ttft_ms"), baseline)
    assert verdict.reason.startswith("39.6 % above baseline main, but the fastest tenth only 3.1 %: ")
    noisy = sessions_of(100.0, 90.0, 110.0, metric="ttft_ms")
    verdict = judge_one(record_of(spread_around(130.0), metric="ttft_ms"), noisy)
    assert verdict.reason.startswith("30 % above baseline main, within the noise of 48.6 %")
    assert verdict.noise == pytest.approx(0.486, abs=0.001)


@pytest.mark.parametrize(
    ("policy", "values", "outcome", "doubtful"),
    [
        ("default", MIXED, "inconclusive", True),
        ("strict", MIXED, "inconclusive", True),
        ("literal", MIXED, "regression", True),
        ("literal", spread_around(90.0), "pass", False),
        ("literal", spread_around(89.0), "regression", False),
        ("literal", spread_around(110.0), "improvement", False),
    ],
)
def test_policies(policy: str, values: Sequence[float], outcome: str, doubtful: bool) -> None:
    record = record_of(values)
    verdict = judge_one(record, QUIET, policy=policy)
    assert verdict.outcome == outcome
    assert (verdict.reason != "") == (outcome == "inconclusive")
    assert doubts(record, QUIET, policy=policy) == doubtful


def test_literal_asks_the_median_alone() -> None:
    wide = sessions_of(100.0, 100.0, 100.0, width=0.2)
    record = record_of(spread_around(94.0))
    assert judge_one(record, wide).outcome == "inconclusive"
    assert judge_one(record, wide, policy="literal").outcome == "pass"
    assert not doubts(record, wide, policy="literal")


def test_measured_noise_lets_samples_scatter_as_they_did() -> None:
    baseline = sessions_of(100.0, 100.0, 100.0, width=0.2)
    assert judge_one(record_of(spread_around(60.0, width=0.2)), baseline).outcome == "regression"
    assert judge_one(record_of(spread_around(99.0, width=0.1, count=40)), baseline).proven


def test_assumed_noise_grows_with_the_scatter() -> None:
    verdict = judge_one(record_of(spread_around(80.0, width=0.1)), sessions_of(100.0))
    assert verdict.run_noise == pytest.approx(0.4 * math.log(1.05 / 0.95))


def test_only_a_measured_noise_proves_a_pass() -> None:
    once = judge_one(record_of(spread_around(100.0)), sessions_of(100.0))
    assert (once.outcome, once.proven, once.run_noise) == ("pass", False, 0.02)
    assert once.note == "noise assumed: 1 of 3 sessions"
    thrice = judge_one(record_of(spread_around(100.0)), QUIET)
    assert (thrice.outcome, thrice.proven, thrice.run_noise) == ("pass", True, 0.01)
    assert not judge_one(record_of(spread_around(91.0)), QUIET).proven
    assert not judge_one(record_of(spread_around(100.0)), sessions_of(100.0, 90.0, 110.0)).proven
    assert not judge_one(record_of(spread_around(100.0, width=0.3)), QUIET).proven
    assert not judge_one(record_of(spread_around(120.0)), QUIET).proven


def test_an_improvement_has_to_be_believed_too() -> None:
    assert judge_one(record_of(spread_around(107.0)), QUIET).outcome == "improvement"
    assert judge_one(record_of(spread_around(107.0)), sessions_of(100.0)).outcome == "pass"
    assert judge_one(record_of(spread_around(120.0)), sessions_of(100.0)).outcome == "improvement"
    assert judge_one(record_of(spread_around(120.0, width=0.3)), QUIET).outcome == "pass"


def test_later_runs_teach_the_noise_and_never_the_level() -> None:
    later = tuple(run_of(spread_around(median), (5 + number) * HOUR_S) for number, median in enumerate((104.0, 96.0)))
    taught = replace(sessions_of(100.0), later=later)
    verdict = judge_one(record_of(spread_around(84.0)), taught)
    assert verdict.baseline == 100.0
    assert verdict.sessions == 1
    assert verdict.note == ""
    assert verdict.run_noise == pytest.approx(0.04, abs=0.001)
    assert verdict.outcome == "inconclusive"
    assert judge_one(record_of(spread_around(84.0)), sessions_of(100.0)).outcome == "regression"


def test_two_sessions_that_differ_raise_what_is_assumed() -> None:
    verdict = judge_one(record_of(spread_around(84.0)), sessions_of(95.0, 105.0))
    assert verdict.note == "noise assumed: 2 of 3 sessions"
    own = math.log(105 / 95) / math.sqrt(2)
    assert verdict.run_noise == pytest.approx(math.sqrt((own**2 + 4 * 0.02**2) / 5))
    assert judge_one(record_of(spread_around(84.0)), sessions_of(99.0, 101.0)).run_noise == 0.02


def test_the_noise_of_the_suite_counts() -> None:
    record = record_of(spread_around(85.0))
    assert judge_one(record, QUIET).outcome == "regression"
    noisy = judge_one(record, QUIET, spread={"decode_tok_s": 0.05})
    assert (noisy.outcome, noisy.run_noise) == ("inconclusive", 0.05)
    assert doubts(record, QUIET, spread={"decode_tok_s": 0.05})
    assert judge_one(record, QUIET, spread={"ttft_ms": 0.05}).outcome == "regression"
    drawn = judge_one(record, sessions_of(100.0, 97.0, 103.0), spread={"decode_tok_s": 0.02})
    assert drawn.run_noise == pytest.approx(math.sqrt((2 * 0.03001**2 + 4 * 0.02**2) / 6), rel=1e-3)


def looks_of(*runs: tuple[float, str]) -> list[list[float]]:
    saved = tuple(run_of([100.0], at_s, session=session, run_uid=f"{at_s}") for at_s, session in runs)
    baseline = Baseline(name="main", cell_key="", suite="smoke", runs=saved)
    return [[run.measured_at for run in look] for look in gate.group_sessions(baseline.runs)]


def test_looks() -> None:
    assert looks_of((0.0, "a"), (1800.0, "b")) == [[0.0], [1800.0]]
    assert looks_of((0.0, "a"), (1799.0, "b")) == [[0.0, 1799.0]]
    assert looks_of((0.0, "a"), (9000.0, "a")) == [[0.0, 9000.0]]
    assert looks_of((0.0, "a"), (1000.0, "b"), (2000.0, "c"), (4000.0, "d")) == [[0.0, 1000.0, 2000.0], [4000.0]]
    assert looks_of((0.0, "a"), (3000.0, "b"), (6000.0, "a")) == [[0.0, 6000.0, 3000.0]]


def test_level_is_the_median_over_the_looks() -> None:
    assert gate.level("decode_tok_s", make_baseline(100.0, 80.0, 90.0)) == 90.0
    many = (*(run_of([50.0], number, session="one") for number in range(5)), run_of([100.0], 9000.0))
    often = replace(QUIET, runs=(*many, run_of([110.0], 19000.0)))
    assert gate.level("decode_tok_s", often) == 100.0
    assert gate.level("ttft_ms", often) is None


def test_measure_spread() -> None:
    """Of three variances the middle one, and as much more as the median of such variances is too small by."""
    cells = [sessions_of(100.0, 95.0, 105.0), sessions_of(100.0, 100.0, 100.0), sessions_of(100.0, 50.0, 200.0)]
    later = (run_of([96.0], 9 * HOUR_S), run_of([104.0], 10 * HOUR_S))
    other = replace(sessions_of(100.0), suite="other", later=later)
    spread = gate.measure_spread([*cells, sessions_of(100.0, 50.0), other])
    assert spread["smoke"]["decode_tok_s"] == pytest.approx(0.0500470 / math.sqrt(math.log(2)), rel=0.01)
    assert spread["other"]["decode_tok_s"] == pytest.approx(0.04 / math.sqrt(math.log(2)), rel=0.01)
    assert gate.measure_spread([sessions_of(100.0, 50.0)]) == {}


def test_a_cell_that_is_noisier_than_its_suite_counts_alone() -> None:
    steady = {"decode_tok_s": 0.02}
    assert judge_one(record_of(spread_around(85.0)), QUIET, spread=steady).run_noise == 0.02
    noisy = judge_one(record_of(spread_around(85.0)), sessions_of(100.0, 95.0, 105.0), spread=steady)
    assert noisy.run_noise == pytest.approx(0.0500470, rel=1e-5)


@pytest.mark.parametrize("was", [0.0, -1.0])
def test_a_baseline_that_cannot_divide_is_none(was: float) -> None:
    baseline = make_baseline(was)
    verdict = judge_one(record_of([50.0]), baseline)
    assert (verdict.outcome, verdict.baseline, verdict.change) == ("no baseline", None, None)
    assert verdict.reason == "the stored baseline has no usable number for this metric"
    assert gate.provable_drop(baseline, "decode_tok_s", 0.1, {}) is None
    assert gate.remedy(baseline, "decode_tok_s", 0.1, {}) == ""


def test_usable() -> None:
    assert usable(0.1)
    assert not any(map(usable, (0.0, 1e-300, -1.0, math.nan, math.inf)))


def test_without_a_baseline_nothing_is_judged() -> None:
    verdict = judge_one(record_of([10.0]), None)
    assert (verdict.outcome, verdict.now, verdict.baseline_name) == ("no baseline", 10.0, None)
    assert not doubts(record_of([10.0]), None)


def test_a_metric_without_samples_is_inconclusive() -> None:
    (verdict,) = gate.judge(make_record(), QUIET, DECODE)
    assert (verdict.outcome, verdict.now, verdict.reason) == ("inconclusive", None, "no sample gives this metric")
    assert gate.find_doubts(make_record(), QUIET, DECODE) == ()


def test_a_median_of_nothing_is_inconclusive() -> None:
    verdict = judge_one(record_of([0.0] * 5, metric="queue_ms"), sessions_of(3.0, 3.0, 3.0, metric="queue_ms"))
    assert (verdict.outcome, verdict.reason) == ("inconclusive", "no ratio can be taken of its median")


def test_times_that_reach_zero_are_still_judged() -> None:
    touching = [-1.0, 0.0, *[3.0] * 8]
    was = sessions_of(3.0, 3.0, 3.0, metric="queue_ms")
    lighter = judge_one(record_of(touching, metric="queue_ms"), was)
    assert (lighter.outcome, lighter.change, lighter.fast_change) == ("pass", 0.0, -1.0)
    runs = tuple(run_of(touching, number * HOUR_S, metric="queue_ms") for number in range(3))
    without_fast = judge_one(record_of([4.0] * 10, metric="queue_ms"), replace(was, runs=runs))
    assert (without_fast.outcome, without_fast.fast_change) == ("regression", pytest.approx(1 / 3))
    scattered = [0.0, 0.0, 0.0, 0.0, *[9.0] * 7]
    verdict = judge_one(record_of(scattered, metric="queue_ms"), was)
    assert (verdict.outcome, verdict.noise) == ("inconclusive", pytest.approx(math.exp(700) - 1))


def test_gaps_of_one_request_are_no_samples_of_their_own() -> None:
    gaps, whole = aggregate_of(*spread_around(9.0, count=200)), aggregate_of(*spread_around(400.0))
    record = replace(record_of([1.0]), aggregates={"itl_ms": gaps, "e2e_ms": whole})
    run = replace(run_of([1.0], 0.0), aggregates={"itl_ms": gaps, "e2e_ms": whole})
    (verdict,) = gate.judge(record, replace(QUIET, runs=(run,)), {"itl_ms": 0.1})
    assert (verdict.outcome, verdict.samples) == ("pass", 10)


def test_what_a_late_client_measured_is_not_judged() -> None:
    late = make_record(aggregates={}, blanks={"decode_tok_s": "the client was the bottleneck: it read late"})
    (verdict,) = gate.judge(late, QUIET, DECODE, gate.Rules(policy="literal"))
    assert (verdict.outcome, verdict.now) == ("inconclusive", None)
    assert verdict.reason == "the client was the bottleneck: it read late"
    assert gate.find_doubts(late, QUIET, DECODE) == ()


def test_what_still_warms_up_is_not_judged() -> None:
    rising = [make_sample(index=number, e2e_ms=200.0 - 9 * number, decode_tok_s=50.0) for number in range(10)]
    (verdict,) = gate.judge(make_record(samples=rising), QUIET, DECODE)
    assert verdict.outcome == "inconclusive"
    assert verdict.reason.startswith("still warming up: the last requests of the block were ")


@pytest.mark.parametrize(
    ("disturbed", "outcome"), [("inconclusive", "inconclusive"), ("fail", "inconclusive"), ("judge", "regression")]
)
def test_a_disturbed_cell_is_judged_only_where_asked(disturbed: Disturbed, outcome: str) -> None:
    traffic = Traffic(concurrent_foreign_requests=2, foreign_tokens=530, model_swaps=1)
    record = record_of(spread_around(50.0), traffic=traffic)
    verdict = judge_one(record, QUIET, disturbed=disturbed)
    assert verdict.outcome == outcome
    if outcome == "inconclusive":
        assert verdict.reason == "disturbed: 2 foreign requests, 530 foreign tokens, 1 model swap"
    assert not record.clean
    assert str(Traffic(in_flight_at_start=0, concurrent_foreign_requests=0)) == "nothing foreign"


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        ({"quantisation": "Q4_0", "size_bytes": 9}, "file size 9, was 16000000; quantisation Q4_0, was Q8_0"),
        ({"n_ctx": 4096}, "context 4096, was 8192"),
        ({"slots": 1}, "slots 1, was 4"),
    ],
)
def test_another_model_is_not_comparable(now: dict[str, Any], reason: str) -> None:
    baseline = sessions_of(100.0, model=make_model(n_ctx=8192, slots=4))
    verdict = judge_one(record_of([50.0], model=make_model(**now)), baseline)
    assert (verdict.outcome, verdict.reason) == ("not comparable", f"another model: {reason}")
    assert not doubts(record_of([50.0], model=make_model(**now)), baseline)


def test_unknown_model_facts_differ_from_nothing() -> None:
    record = record_of(spread_around(50.0), model=None)
    assert judge_one(record, QUIET).outcome == "regression"
    assert judge_one(record_of(spread_around(50.0)), sessions_of(100.0, model=None)).outcome == "regression"


def test_only_comparable_runs_are_compared_with() -> None:
    old = run_of(spread_around(10.0), 0.0, model=make_model(slots=1))
    new = run_of(spread_around(100.0), HOUR_S, model=make_model(slots=4))
    mixed = replace(QUIET, runs=(old, new), later=(replace(old, measured_at=9 * HOUR_S),))
    verdict = judge_one(record_of(spread_around(80.0), model=make_model(slots=4)), mixed)
    assert (verdict.outcome, verdict.baseline, verdict.sessions) == ("regression", pytest.approx(100.0), 1)
    assert verdict.note == "noise assumed: 1 of 3 sessions"
    none = judge_one(record_of(spread_around(80.0), model=make_model(slots=2)), mixed)
    assert none.reason == "another model: slots 2, was 4"


def test_what_changed_is_said() -> None:
    then = {
        "engine_build": "b11000",
        "client": ClientFacts(machine="desk", cpu="Zen 3", workers=1),
        "clock": "kernel",
    }
    client = ClientFacts(machine="lab", cpu="Zen 4", workers=4)
    record = record_of(spread_around(80.0), client=client)
    record = replace(record, samples=(make_sample(block=2, clock="user"),))
    verdict = judge_one(record, sessions_of(100.0, **then))
    assert verdict.outcome == "regression"
    assert verdict.note == (
        "engine b11549, was b11000; client lab, was desk; workers 4, was 1; clock user, was kernel; "
        "noise assumed: 1 of 3 sessions"
    )
    assert judge_one(replace(record, server=None), sessions_of(100.0, 100.0, 100.0)).note == "workers 4, was 1"


@pytest.mark.parametrize(
    ("then", "now", "said"), [("a", "b", True), ("a", "a", False), (None, "b", False), ("a", None, False)]
)
def test_another_text_is_said(then: str | None, now: str | None, said: bool) -> None:
    record = record_of(spread_around(100.0), text_digest=now)
    verdict = judge_one(record, sessions_of(100.0, 100.0, 100.0, text_digest=then))
    assert verdict.note == ("the model says something else to the same prompt" if said else "")


def test_another_processor_is_not_comparable_where_the_host_is_this_machine() -> None:
    baseline = sessions_of(100.0, client=ClientFacts(cpu="Zen 3"))
    local = record_of([50.0], client=ClientFacts(cpu="Zen 4"), canaries=(Canary(copy_mb_s=9000.0, hash_mb_s=1.0),))
    verdict = judge_one(local, baseline)
    assert (verdict.outcome, verdict.reason) == ("not comparable", "another processor: Zen 4, was Zen 3")
    remote = record_of(spread_around(50.0), client=ClientFacts(cpu="Zen 4"))
    assert judge_one(remote, baseline).outcome == "regression"


def canaries(*copy_mb_s: float) -> tuple[Canary, ...]:
    return tuple(Canary(copy_mb_s=copy, hash_mb_s=2000.0) for copy in copy_mb_s)


@pytest.mark.parametrize(
    ("heard", "outcome"),
    [
        ((9500.0,), "regression"),
        ((9400.0,), "inconclusive"),
        ((9400.0, 9900.0), "regression"),
        ((9900.0, 9400.0, 9300.0), "inconclusive"),
        ((), "regression"),
    ],
)
def test_a_slow_machine_takes_a_regression_away(heard: Sequence[float], outcome: str) -> None:
    (canary,) = canaries(10_000.0)
    baseline = sessions_of(100.0, 100.0, 100.0, canary=canary)
    record = record_of(spread_around(80.0), canaries=canaries(*heard))
    verdict = judge_one(record, baseline)
    assert verdict.outcome == outcome
    assert doubts(record, baseline) == (outcome == "inconclusive")
    if outcome == "inconclusive":
        assert verdict.reason == (
            "20 % below baseline main, but this machine copies memory 6 % slower than then (9400 MB/s, was 10000)"
        )
    assert judge_one(record, baseline, policy="literal").outcome == "regression"
    passing = record_of(spread_around(100.0), canaries=canaries(*heard))
    assert judge_one(passing, baseline).outcome == "pass"


@pytest.mark.parametrize(
    ("then", "now", "outcome"),
    [
        (0.0, (0.02, 0.09), "regression"),
        (0.0, (0.02, 0.66), "inconclusive"),
        (0.3, (0.35, 0.35), "regression"),  # as busy as ever
        (0.0, (None, 0.5), "inconclusive"),
        (0.0, (None, None), "regression"),
        (None, (0.6, 0.6), "regression"),  # nobody knows how busy it was
    ],
)
def test_a_machine_that_others_keep_busy_takes_it_away_too(
    then: float | None, now: Sequence[float | None], outcome: str
) -> None:
    was = Canary(copy_mb_s=10_000.0, hash_mb_s=2000.0, busy_share=then)
    baseline = sessions_of(100.0, 100.0, 100.0, canary=was)
    record = record_of(spread_around(80.0), canaries=tuple(replace(was, busy_share=share) for share in now))
    verdict = judge_one(record, baseline)
    assert verdict.outcome == outcome
    if now == (0.02, 0.66):
        assert verdict.reason == (
            "20 % below baseline main, but other programs take 34 % of this machine's processors (then 0 %)"
        )


def test_a_slow_processor_too() -> None:
    baseline = sessions_of(100.0, 100.0, 100.0, canary=Canary(copy_mb_s=10_000.0, hash_mb_s=2500.0))
    verdict = judge_one(record_of(spread_around(80.0), canaries=canaries(10_000.0)), baseline)
    assert verdict.reason == (
        "20 % below baseline main, but this machine hashes 20 % slower than then (2000 MB/s, was 2500)"
    )


@pytest.mark.parametrize(("now", "outcome"), [(66.0, "inconclusive"), (64.0, "regression")])
def test_a_slightly_slower_machine_does_not_explain_half_the_speed(now: float, outcome: str) -> None:
    """Copying at 94 % explains 65 % of the speed, the seventh power."""
    (canary,) = canaries(10_000.0)
    record = record_of(spread_around(now), canaries=canaries(9400.0))
    assert judge_one(record, sessions_of(100.0, 100.0, 100.0, canary=canary)).outcome == outcome


def test_what_explains_most_is_told() -> None:
    baseline = sessions_of(100.0, 100.0, 100.0, canary=Canary(copy_mb_s=10_000.0, hash_mb_s=2500.0))
    verdict = judge_one(record_of(spread_around(60.0), canaries=canaries(9400.0)), baseline)
    assert verdict.reason.endswith("but this machine hashes 20 % slower than then (2000 MB/s, was 2500)")


def test_a_canary_without_another_says_nothing() -> None:
    record = record_of(spread_around(80.0), canaries=canaries(1.0))
    assert judge_one(record, QUIET).outcome == "regression"


numbers = st.lists(st.floats(min_value=-1e3, max_value=1e6), min_size=1, max_size=12)


@settings(deadline=None)
@given(
    numbers, st.lists(numbers, min_size=1, max_size=5), st.floats(0, 3), st.sampled_from(["decode_tok_s", "queue_ms"])
)
def test_whatever_was_measured_is_judged(
    values: list[float], runs: list[list[float]], allowed: float, metric: str
) -> None:
    record = record_of(values, metric=metric)
    saved = tuple(run_of(found, number * HOUR_S, metric=metric) for number, found in enumerate(runs))
    baseline = replace(QUIET, runs=saved)
    verdict = judge_one(record, baseline, allowed)
    worse = {"decode_tok_s": -1, "queue_ms": 1}[metric] * (verdict.change or 0.0)
    if verdict.outcome == "regression":
        assert worse > allowed
        assert abs(verdict.change or 0.0) > (verdict.noise or 0.0)
    if verdict.outcome in {"pass", "improvement"}:
        assert worse <= allowed + 1e-6
    floats = [value for value in (verdict.change, verdict.fast_change, verdict.noise) if value is not None]
    assert all(map(math.isfinite, floats))
    assert (gate.provable_drop(baseline, metric, allowed, {}) or allowed) >= allowed
    if doubts(record, baseline, allowed):
        assert verdict.outcome == "inconclusive"


@settings(deadline=None)
@given(numbers, st.lists(numbers, min_size=1, max_size=4))
def test_plain_data_give_the_same_verdict(values: list[float], runs: list[list[float]]) -> None:
    record = record_of(values)
    saved = tuple(run_of(found, number * HOUR_S) for number, found in enumerate(runs))
    baseline = replace(QUIET, runs=saved, later=saved[1:])
    record_again = rebuild(CellRecord, json.loads(json.dumps(asdict(record))))
    baseline_again = rebuild(Baseline, json.loads(json.dumps(asdict(baseline))))
    assert judge_one(record_again, baseline_again) == judge_one(record, baseline)


def test_limits() -> None:
    some = gate.Rules(default_max_drop=0.2)
    assert gate.limits("chat", None, gate.Rules()) == {"decode_tok_s": 0.1, "prefill_tok_s": 0.1}
    assert gate.limits("embedding", None, some, lanes=4) == {"embed_tok_s": 0.2}
    assert gate.limits("chat", None, some, lanes=4) == {"decode_tok_s": 0.2, "e2e_ms": 0.25}
    assert gate.limits("completion", None, gate.Rules(max_drop=0.2), lanes=2) == {"decode_tok_s": 0.2, "e2e_ms": 0.25}
    assert gate.limits("chat", None, gate.Rules(max_drop=1.0), lanes=4) == {"decode_tok_s": 1.0}
    assert gate.limits("chat", {"decode_tok_s": None}, some, lanes=4) == {"decode_tok_s": 0.2}
    assert gate.limits("chat", {"ttft_ms": 0.5, "decode_tok_s": None}, some) == {"ttft_ms": 0.5, "decode_tok_s": 0.2}
    assert gate.limits("chat", {"ttft_ms": 0.5}, gate.Rules(max_drop=0.05)) == {"ttft_ms": 0.05}
    assert gate.limits("chat", {}, gate.Rules()) == {}


def test_formulas() -> None:
    decode, ttft = METRICS["decode_tok_s"], METRICS["ttft_ms"]
    assert find_limit(decode, 0.1) == pytest.approx(math.log(0.9))
    assert find_limit(ttft, 2.0) == pytest.approx(-math.log(3))
    assert find_limit(decode, 1.0) == -math.inf
    assert to_change(find_limit(decode, 0.1), decode) == pytest.approx(-0.1)
    assert to_change(find_limit(ttft, 2.0), ttft) == pytest.approx(2.0)
    assert median_variance(1) == 1.0
    assert median_variance(5) == pytest.approx(0.287, rel=0.03)
    assert median_error(1.349, 100) == pytest.approx(0.1253, rel=0.001)


@pytest.mark.parametrize(
    ("baseline", "drop", "advice"),
    [
        (QUIET, 0.1, ""),
        (sessions_of(100.0), 0.1, ""),
        (
            sessions_of(100.0, width=0.05),
            0.109,
            "2 more sessions with --boobench-save-baseline=add, half an hour apart",
        ),
        (
            sessions_of(100.0, width=0.2),
            0.371,
            "samples scatter by 22.2 %: 2 more sessions with --boobench-save-baseline=add, half an hour apart, "
            "longer outputs, quieter host, or --boobench-duet",
        ),
        (
            sessions_of(100.0, width=0.13),
            0.260,
            "samples scatter by 13.9 %: longer outputs, quieter host, or --boobench-duet",
        ),
        (
            sessions_of(100.0, 102.9, 97.1),
            0.109,
            "4 more sessions with --boobench-save-baseline=add, half an hour apart",
        ),
        (
            sessions_of(100.0, 105.0, 95.0),
            0.179,
            "sessions differ by 5.1 %: quieter host, or --boobench-duet",
        ),
        (
            sessions_of(*[100.0, 104.0, 96.0] * 4, width=0.12),
            0.153,
            "40 samples a cell instead of 10, or longer outputs",
        ),
    ],
)
def test_what_a_baseline_can_prove(baseline: Baseline, drop: float, advice: str) -> None:
    assert gate.provable_drop(baseline, "decode_tok_s", 0.1, {}) == pytest.approx(drop, abs=0.001)
    assert gate.remedy(baseline, "decode_tok_s", 0.1, {}) == advice
    assert gate.provable_drop(baseline, "decode_tok_s", 0.5, {}) == 0.5


def test_times_that_reach_zero_prove_nothing() -> None:
    baseline = sessions_of(100.0, metric="queue_ms")
    run = replace(baseline.runs[0], aggregates={"queue_ms": aggregate_of(0.0, 0.0, 0.0, 9.0, 9.0, 9.0, 9.0)})
    assert gate.provable_drop(replace(baseline, runs=(run,)), "queue_ms", 0.1, {}) == math.inf


def test_what_a_baseline_of_times_can_prove() -> None:
    baseline = sessions_of(100.0, 105.0, 95.0, metric="ttft_ms")
    assert gate.provable_drop(baseline, "ttft_ms", 0.1, {}) == pytest.approx(0.218, abs=0.001)
    assert gate.provable_drop(baseline, "ttft_ms", 0.1, {"ttft_ms": 0.1}) == pytest.approx(0.484, abs=0.001)


def pair(number: int, ours: float, theirs: float, **changed: Any) -> list[Sample]:
    return [
        make_sample(index=number, decode_tok_s=ours, **changed),
        make_sample(index=number, decode_tok_s=theirs, reference=True, **changed),
    ]


def duet_of(ratios: Sequence[float], **changed: Any) -> CellRecord:
    """Pairs on hosts that become faster and faster together."""
    samples = [
        sample
        for number, ratio in enumerate(ratios)
        for sample in pair(number, ratio * (50 + number), 50 + number, e2e_ms=100.0)
    ]
    return make_record(samples=samples, reference_host="rack-2", **changed)


def judge_duet(record: CellRecord, allowed: float = 0.1) -> Verdict:
    (verdict,) = gate.judge_duet(record, {"decode_tok_s": allowed})
    return verdict


@pytest.mark.parametrize(
    ("ratios", "outcome", "proven", "note"),
    [
        ([1.0] * 20, "pass", True, "0 of 20 pairs slower"),
        ([0.9] * 20, "pass", False, "20 of 20 pairs slower"),
        ([0.899] * 20, "regression", False, "20 of 20 pairs slower"),
        ([0.85] * 19 + [1.1], "regression", False, "19 of 20 pairs slower"),
        ([1.06] * 20, "improvement", False, "0 of 20 pairs slower"),
        ([1.06] * 10, "pass", True, "0 of 10 pairs slower"),
        ([0.8, 1.2] * 10, "pass", False, "10 of 20 pairs slower"),
        ([1.0] * 4, "pass", False, "0 of 4 pairs slower"),
    ],
)
def test_duet(ratios: Sequence[float], outcome: str, proven: bool, note: str) -> None:
    record = duet_of(ratios)
    verdict = judge_duet(record)
    assert (verdict.outcome, verdict.proven, verdict.note) == (outcome, proven, note)
    assert verdict.baseline_name == "duet with rack-2"
    assert verdict.samples == len(ratios)
    doubtful = outcome == "pass" and not proven
    assert gate.find_duet_doubts(record, DECODE) == (("decode_tok_s",) if doubtful else ())


@pytest.mark.parametrize(
    ("ratios", "reason"),
    [
        ([0.85] * 19, "15 % below duet with rack-2, but 19 pairs are too few to judge: 20 at least"),
        (
            [0.85] * 14 + [1.1] * 6,
            "15 % below duet with rack-2, but only 14 of 20 pairs are slower: chance may do that",
        ),
    ],
)
def test_a_duet_in_doubt(ratios: Sequence[float], reason: str) -> None:
    verdict = judge_duet(duet_of(ratios))
    assert (verdict.outcome, verdict.reason, verdict.note) == ("inconclusive", reason, "")
    assert gate.find_duet_doubts(duet_of(ratios), DECODE) == ("decode_tok_s",)


@pytest.mark.parametrize(
    ("number", "rank"),
    [(8, 0), (9, 1), (10, 1), (11, 1), (12, 1), (20, 4), (40, 11), (60, 19), (100, 36), (1080, 493)],
)
def test_the_interval_of_a_duet_is_two_order_statistics(number: int, rank: int) -> None:
    """With fewer pairs below one end than any 0.2 % of coins would allow; checked against the sums themselves."""
    assert gains.find_rank(number, 0.002) == rank
    ways = [math.comb(number, below) for below in range(rank + 1)]
    assert sum(ways[:rank]) / 2**number <= 0.002 < sum(ways) / 2**number
    ratios = [math.exp(0.001 * place) for place in range(number)]
    verdict = judge_duet(duet_of(ratios), allowed=0.9)
    found = (verdict.change_low, verdict.change_high)
    if rank:
        assert found == pytest.approx((ratios[rank - 1] - 1, ratios[-rank] - 1))
    else:
        assert found == (None, None)


def test_all_looks_together_miss_in_four_percent() -> None:
    assert len(gains.LOOKS) * gains.P_LOOK == pytest.approx(0.04)
    assert gains.find_rank(gains.FEWEST["starts"], gains.P_LOOK / 2) == 1
    assert 2 ** -gains.FEWEST["starts"] < P_BELIEVED <= 2 ** (1 - gains.FEWEST["starts"])


def test_the_interval_of_a_time_is_mirrored() -> None:
    samples = [
        make_sample(index=number, ttft_ms=ms, reference=reference)
        for number in range(20)
        for ms, reference in ((110.0 + number, False), (100.0, True))
    ]
    (verdict,) = gate.judge_duet(make_record(samples=samples, reference_host="rack-2"), {"ttft_ms": 0.5})
    assert (verdict.change_low, verdict.change_high) == pytest.approx((0.13, 0.26))


def test_a_duet_with_more_than_two_looks_proves_by_its_interval() -> None:
    """At the level of two looks 38 of 40 would do, and 57 of 60 too; the interval wants more."""
    ratios = [1.0] * 36 + [0.8] * 24
    assert judge_duet(duet_of(ratios[:40])).proven
    few = judge_duet(duet_of([1.0] * 37 + [0.8] * 23))
    assert (few.outcome, few.proven) == ("pass", False)
    assert few.change_low == pytest.approx(-0.2)


def turns_of(ratios: Sequence[float], requests: int = 4) -> CellRecord:
    """A pair of turns for each ratio; one request of each turn is far off."""
    samples = []
    for block, ratio in enumerate(ratios, 1):
        for index in range(requests):
            off = 0.1 if index == 0 else 1.0
            samples += pair(index, ratio * 50 * off, 50 * off, block=block)
    return make_record(samples=samples, reference_host="rack-2", pairing="starts")


def test_a_pair_of_starts_is_two_turns_with_their_medians() -> None:
    verdict = judge_duet(turns_of([0.8] * 10))
    assert (verdict.outcome, verdict.samples, verdict.change) == ("regression", 10, pytest.approx(-0.2))
    assert verdict.note == "10 of 10 pairs of starts slower"
    assert verdict.change_low == verdict.change_high == pytest.approx(-0.2)
    verdicts = gate.judge_duet(turns_of([0.8] * 10), {"load_ms": 0.1, "decode_tok_s": 0.1})
    assert [verdict.metric for verdict in verdicts] == ["decode_tok_s"], "no pair has a number of the start"
    few = judge_duet(turns_of([0.8] * 9))
    assert few.reason == "20 % below duet with rack-2, but 9 pairs of starts are too few to judge: 10 at least"


@pytest.mark.parametrize(
    ("ratios", "until", "wider"),
    [
        ([1.0] * 20, 0.001, False),
        ([0.98, 1.02] * 10, 0.021, False),
        ([0.98, 1.02] * 10, 0.019, True),
        ([1.0] * 8, 0.5, True),
        ([], 0.01, False),
    ],
)
def test_a_duet_goes_on_where_an_interval_is_wide(ratios: Sequence[float], until: float, wider: bool) -> None:
    assert gate.is_wider(duet_of(ratios), DECODE, until) is wider


def test_a_duet_of_times_is_mirrored() -> None:
    samples = [
        make_sample(index=number, ttft_ms=ms, reference=reference)
        for number in range(20)
        for ms, reference in ((120.0, False), (100.0, True))
    ]
    (verdict,) = gate.judge_duet(make_record(samples=samples, reference_host="rack-2"), {"ttft_ms": 0.1})
    assert (verdict.outcome, verdict.change) == ("regression", pytest.approx(0.2))


def test_a_duet_pairs_whole_rounds_of_lanes() -> None:
    cell = make_cell(concurrency=4)
    samples = [sample for number in range(40) for sample in pair(number, 40.0, 50.0)]
    verdict = judge_duet(make_record(cell, samples=samples, reference_host="rack-2"))
    assert (verdict.outcome, verdict.samples) == ("inconclusive", 10)
    assert verdict.reason == "20 % below duet with rack-2, but 10 pairs are too few to judge: 20 at least"


def test_a_duet_leaves_halves_without_a_partner_out() -> None:
    samples = [sample for number in range(20) for sample in pair(number, 40.0, 50.0)]
    lost = replace(samples[0], failure="status")
    stray = [make_sample(phase="warmup", index=99, decode_tok_s=1.0, reference=True)]
    verdict = judge_duet(make_record(samples=[lost, *samples[1:], *stray], reference_host="rack-2"))
    assert (verdict.samples, verdict.now, verdict.baseline) == (19, 40.0, 50.0)
    alone = make_record(samples=samples[::2], reference_host="rack-2")
    assert judge_duet(alone).reason == "no pair of requests gives this metric"
    assert gate.find_duet_doubts(alone, DECODE) == ()


def test_a_spoiled_duet_is_not_judged() -> None:
    record = duet_of([0.8] * 20, traffic=Traffic(foreign_tokens=5))
    assert (judge_duet(record).outcome, judge_duet(record).reason) == ("inconclusive", "disturbed: 5 foreign tokens")
    assert gate.find_duet_doubts(record, DECODE) == ()


@settings(deadline=None)
@given(st.lists(st.floats(min_value=0.5, max_value=2.0), min_size=1, max_size=60))
def test_a_duet_of_equals_turned_round_is_the_mirror(ratios: list[float]) -> None:
    one = judge_duet(duet_of(ratios))
    other = judge_duet(duet_of([1 / ratio for ratio in ratios]))
    assert (1 + (one.change or 0.0)) * (1 + (other.change or 0.0)) == pytest.approx(1.0)
    assert {one.outcome, other.outcome} != {"regression"}
