"""Room 6: how far a model's probabilities are from the baseline's, and what is said of it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_boobench import gate
from pytest_boobench.facts import Logprobs
from pytest_boobench.gate.divergence import LEAST, diverge, diverge_at
from pytest_boobench.record import Baseline, Verdict
from pytest_boobench.reports.sentences import sentence
from pytest_boobench.suite.cell import Plan
from tests.making import make_baseline, make_cell, make_model, make_record


def top(probabilities: list[float], count: int) -> dict[int, float]:
    """The likeliest tokens of a whole distribution, with the logarithms of their probabilities."""
    ranked = sorted(enumerate(probabilities), key=lambda pair: -pair[1])[:count]
    return {token: math.log(probability) for token, probability in ranked}


def make_logprobs(*probabilities: float, **changed: Any) -> Logprobs:
    logs = tuple(map(math.log, probabilities))
    fields = {"text": "mill-1", "ids": "abc", "tokens": (tuple(range(len(logs))),), "logs": (logs,)}
    return Logprobs(**{**fields, **changed})


@pytest.mark.parametrize(
    ("was", "now", "kld"),
    [
        ({1: 0.5, 2: 0.5}, {1: 0.5, 2: 0.5}, 0.0),
        ({1: 0.5, 2: 0.5}, {1: 0.25, 2: 0.75}, 0.5 * math.log(2) + 0.5 * math.log(2 / 3)),
        ({1: 0.8}, {1: 0.4}, 0.8 * math.log(2) + 0.2 * math.log(1 / 3)),  # the rest is a bin too
        # token 2 has at most the 0.1 of the last one that is named now
        ({1: 0.5, 2: 0.4}, {1: 0.5, 3: 0.1}, 0.4 * math.log(0.4 / 0.1) + 0.1 * math.log(0.1 / 0.4)),
        # nothing in common: at most 0.01 each, so the model is another one
        ({1: 0.6, 2: 0.3}, {3: 0.9, 4: 0.01}, 0.9 * math.log(0.9 / 0.02) + 0.1 * math.log(0.1 / 0.98)),
        # what is named now may have any share of the rest, so nothing is known to differ
        ({1: 0.5, 2: 0.25}, {1: 0.5, 3: 0.25}, 0.0),
        ({1: 1.0}, {1: 1 - LEAST, 2: LEAST}, LEAST),
    ],
)
def test_by_hand(was: dict[int, float], now: dict[int, float], kld: float) -> None:
    logs = [{token: math.log(p) for token, p in side.items()} for side in (was, now)]
    assert diverge_at(*logs) == pytest.approx(kld, abs=1e-9)


WEIGHTS = st.lists(st.floats(0.01, 1.0), min_size=12, max_size=12)


@given(WEIGHTS, WEIGHTS, st.integers(1, 12), st.integers(1, 12))
def test_it_is_never_above_the_true_divergence(was: list[float], now: list[float], kept: int, kept_now: int) -> None:
    p, q = ([weight / sum(weights) for weight in weights] for weights in (was, now))
    true = math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    bound = diverge_at(top(p, kept), top(q, kept_now))
    assert 0 <= bound <= true + 1e-9
    if kept == kept_now == 12:
        assert bound == pytest.approx(true, abs=1e-9)


@given(WEIGHTS, st.integers(1, 12))
def test_a_model_does_not_diverge_from_itself(weights: list[float], kept: int) -> None:
    logs = top([weight / sum(weights) for weight in weights], kept)
    rounded = {token: float(f"{log:.5g}") for token, log in logs.items()}
    assert diverge_at(logs, logs) == pytest.approx(0, abs=1e-12)
    assert diverge_at(rounded, rounded) == pytest.approx(0, abs=1e-12)


def test_the_mean_is_over_the_prefixes() -> None:
    was = Logprobs(text="t", ids="i", tokens=((1, 2), (1, 2)), logs=((math.log(0.5),) * 2,) * 2)
    now = replace(was, logs=(was.logs[0], (math.log(0.25), math.log(0.75))))
    assert diverge(was, now) == pytest.approx(0.25 * math.log(2) + 0.25 * math.log(2 / 3))


def judge(record: Any, baseline: Baseline | None, **plan: Any) -> Verdict:
    cell = make_cell(plan=Plan(quality="kld", **plan))
    *_, found = gate.judge_cell(cell, record, baseline, gate.Rules(max_drop=0.5, policy="literal"), {})
    assert found.metric == "kld"
    return found


SAME, NEAR, FAR = make_logprobs(0.7, 0.3), make_logprobs(0.68, 0.32), make_logprobs(0.3, 0.7)


@pytest.mark.parametrize(
    ("then", "now", "said"),
    [
        (SAME, SAME, "KLD 0.00 nat from baseline main, 0.010 allowed; engine b11549, was b11000"),
        (SAME, NEAR, "KLD 0.00093 nat from baseline main, 0.010 allowed; engine b11549, was b11000"),
        (SAME, FAR, "KLD 0.339 nat from baseline main, 0.010 allowed; engine b11549, was b11000"),
        (
            None,
            SAME,
            "KLD –, no baseline: the baseline has no probabilities; save it anew, now that quality: kld is set",
        ),
        (
            replace(SAME, text="mill-0"),
            SAME,
            "KLD –, not comparable: another text: mill-1, was mill-0; save the baseline anew",
        ),
        (
            replace(SAME, ids="other"),
            SAME,
            "KLD –, not comparable: another tokenizer: it makes other tokens of the same text",
        ),
        (SAME, None, "KLD –, inconclusive: the model's probabilities were not asked for"),
    ],
)
def test_what_is_said(then: Logprobs | None, now: Logprobs | None, said: str) -> None:
    found = judge(make_record(logprobs=now), make_baseline(50.0, logprobs=then))
    assert sentence(found) == said
    assert found.outcome == ("regression" if now is FAR else found.outcome)


def test_a_server_that_gives_none_is_quoted() -> None:
    found = judge(make_record(blanks={"kld": "rack-1 gives none"}), make_baseline(50.0, logprobs=SAME))
    assert (found.outcome, found.reason) == ("inconclusive", "rack-1 gives none")


def test_without_a_baseline() -> None:
    assert judge(make_record(logprobs=SAME), None).outcome == "no baseline"


def test_another_model_file_is_judged_though_its_speed_is_not() -> None:
    record = make_record(logprobs=FAR, model=make_model(quantisation="Q4_0"))
    found = judge(record, make_baseline(50.0, logprobs=SAME))
    assert found.outcome == "regression"
    assert "quantisation Q4_0, was Q8_0" in found.note


def test_the_oldest_run_is_the_reference() -> None:
    """Runs that are added cannot move it step by step."""
    baseline = make_baseline(50.0, 50.0, 50.0)
    runs = [replace(run, logprobs=logprobs) for run, logprobs in zip(baseline.runs, (None, SAME, FAR), strict=True)]
    found = judge(make_record(logprobs=FAR), replace(baseline, runs=tuple(runs)))
    assert (found.outcome, found.now) == ("regression", diverge(SAME, FAR))


@pytest.mark.parametrize(("limit", "outcome"), [(0.4, "pass"), (0.3, "regression"), (None, "regression")])
def test_the_limit_is_absolute(limit: float | None, outcome: str) -> None:
    found = judge(make_record(logprobs=FAR), make_baseline(50.0, logprobs=SAME), gate={"kld": limit})
    assert (found.outcome, found.allowed) == (outcome, 0.01 if limit is None else limit)


def test_it_is_judged_only_where_the_suite_asks() -> None:
    cell = make_cell()
    record, baseline = make_record(logprobs=FAR), make_baseline(50.0, logprobs=SAME)
    assert "kld" not in {verdict.metric for verdict in gate.judge_cell(cell, record, baseline, gate.Rules(), {})}
