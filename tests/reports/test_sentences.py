"""Room 7: what the gate found, in the words that people read, from real verdicts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pytest_boobench import gate
from pytest_boobench.facts import ForeignRequest, Traffic
from pytest_boobench.record import Baseline, Verdict
from pytest_boobench.reports.sentences import failure_text, provenance, sentence
from tests.gate.test_gate import DECODE, MIXED, QUIET, duet_of, record_of, run_of, sessions_of, spread_around
from tests.making import make_record, make_sample


def line(values: list[float], baseline: Baseline | None = QUIET, **rules: Any) -> str:
    (verdict,) = gate.judge(record_of(values), baseline, DECODE, gate.Rules(**rules))
    return sentence(verdict)


def test_a_regression_says_what_it_rests_on() -> None:
    assert line(spread_around(83.7)) == (
        "decode 83.7 tok/s, 16.3 % below baseline main (100), 10 % allowed; "
        "fastest tenth 16.3 % below; noise 4 %; 10 samples"
    )


def test_an_improvement_too() -> None:
    assert line(spread_around(120.0)) == (
        "decode 120 tok/s, 20 % above baseline main (100); fastest tenth 20 % above; noise 4 %; 10 samples"
    )


def test_a_pass_says_whether_it_is_proven() -> None:
    assert line(spread_around(98.0)) == "decode 98.0 tok/s, 2 % below baseline main (100); a drop of 10 % is ruled out"
    assert (
        line(spread_around(91.0)) == "decode 91.0 tok/s, 9 % below baseline main (100); a drop of 10 % is not ruled out"
    )


def test_a_time_rises() -> None:
    record, baseline = record_of(spread_around(98.0), metric="ttft_ms"), sessions_of(100.0, metric="ttft_ms")
    (verdict,) = gate.judge(record, baseline, {"ttft_ms": 0.5})
    assert sentence(verdict) == (
        "TTFT 98.0 ms, 2 % below baseline main (100); a rise of 50 % is not ruled out; noise assumed: 1 of 3 sessions"
    )


def test_what_is_assumed_or_has_changed_stands_at_the_end() -> None:
    assert line(spread_around(98.0), sessions_of(100.0, engine_build="b11000")) == (
        "decode 98.0 tok/s, 2 % below baseline main (100); a drop of 10 % is not ruled out; "
        "engine b11549, was b11000; noise assumed: 1 of 3 sessions"
    )


def test_doubt_begins_with_its_name() -> None:
    assert line(MIXED) == (
        "inconclusive: decode 29.8 % below baseline main, but the fastest tenth only 3 %: the samples scatter too much "
        "to judge (20 samples); quieter host, longer outputs, or --boobench-duet"
    )
    assert line(spread_around(85.0, width=0.12), sessions_of(100.0, width=0.12)) == (
        "inconclusive: decode 15 % below baseline main, within the noise of 24.2 %; "
        "more sessions with --boobench-save-baseline=add, or --boobench-duet; noise assumed: 1 of 3 sessions"
    )


def test_literal_says_the_same_as_a_regression() -> None:
    assert line(MIXED, policy="literal") == (
        "decode 70.2 tok/s, 29.8 % below baseline main (100), 10 % allowed; "
        "fastest tenth 3 % below; noise 4 %; 20 samples"
    )


def test_what_cannot_be_judged() -> None:
    assert line(spread_around(98.0), None) == "decode 98.0 tok/s, no baseline"
    (verdict,) = gate.judge(make_record(), QUIET, DECODE)
    assert sentence(verdict) == "decode –, inconclusive: no sample gives this metric"


def duet_line(ratios: list[float]) -> str:
    (verdict,) = gate.judge_duet(duet_of(ratios), DECODE)
    return sentence(verdict)


def test_a_duet_counts_its_pairs() -> None:
    assert duet_line([0.8] * 19 + [1.1]) == (
        "decode 47.6 tok/s, 20 % below duet with rack-2 (59.5), 10 % allowed; "
        "change −20.00 % [−20.00, −20.00]; 19 of 20 pairs slower"
    )
    assert duet_line([0.99, 1.01] * 10) == (
        "decode 59.5 tok/s, 0 % below duet with rack-2 (59.5); change −0.0 % [−1.0, +1.0]; "
        "a drop of 10 % is ruled out; 10 of 20 pairs slower"
    )
    assert duet_line([1.2] * 20) == (
        "decode 71.4 tok/s, 20 % above duet with rack-2 (59.5); change +20.00 % [+20.00, +20.00]; 0 of 20 pairs slower"
    )
    assert duet_line([0.85] * 14 + [1.1] * 6) == (
        "inconclusive: decode 15 % below duet with rack-2, but only 14 of 20 pairs are slower: chance may do that; "
        "change −15.0 % [−15.0, +10.0]"
    )
    assert duet_line([0.85] * 5) == (
        "inconclusive: decode 15 % below duet with rack-2, but 5 pairs are too few to judge: 20 at least"
    )


def test_a_verdict_of_an_older_store_has_less_to_say() -> None:
    old = Verdict(
        metric="ttft_ms", outcome="regression", now=90.0, baseline=50.0, change=0.8, allowed=0.5, baseline_name="main"
    )
    assert sentence(old) == "TTFT 90.0 ms, 80 % above baseline main (50.0), 50 % allowed"


def test_provenance_counts_sessions() -> None:
    runs = tuple(run_of([1.0], 7200.0 * number, engine_build="b1", git_commit="a" * 40) for number in range(2))
    assert provenance(replace(QUIET, runs=(runs[0],))) == (
        "measured 1970-01-01 00:00 UTC, commit aaaaaaaaaa, engine b1"
    )
    assert provenance(replace(QUIET, runs=(*runs, replace(runs[1], measured_at=7201.0)))) == (
        "measured 1970-01-01 02:00 UTC, commit aaaaaaaaaa, engine b1, newest of 3 runs in 2 sessions"
    )


def test_a_disturbed_cell_fails_where_that_is_asked() -> None:
    traffic = Traffic(foreign_tokens=5, requests=(ForeignRequest(id="1", model="qwen", age_s=2.0, queued=False),))
    record = make_record(samples=[make_sample(decode_tok_s=41.2)], traffic=traffic)
    verdicts = gate.judge(record, QUIET, DECODE)
    assert failure_text(record, verdicts, None, max_failed=0) == ""
    assert failure_text(record, verdicts, None, max_failed=0, fail_disturbed=True).splitlines() == [
        "disturbed: 5 foreign tokens",
        "decode 41.2 tok/s, inconclusive: disturbed: 5 foreign tokens",
        "host rack-1, engine b11549; 1 sample",
        "foreign: qwen (running for 2 s)",
    ]
