"""Room 6: how far a model's probabilities are from the baseline's: Kullback-Leibler divergence, and its verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from statistics import fmean

from pytest_boobench.facts import Logprobs
from pytest_boobench.gate.circumstances import describe_differences, describe_sameness, list_differences
from pytest_boobench.gate.comparison import ROUNDING
from pytest_boobench.record import Baseline, CellRecord, Verdict
from pytest_boobench.suite.cell import Plan

KLD = "kld"
AT_MOST = 0.01
"""Allowed mean divergence if the suite sets none, nat."""
LEAST = 1e-6
"""A smaller probability counts as this one: servers' sums of rounded numbers are no better."""


def diverge(was: Logprobs, now: Logprobs) -> float:
    """Return the mean over the prefixes of the divergence of ``now`` from ``was``, nat; both are of the same text."""
    sides = ((dict(zip(*place, strict=True)) for place in zip(it.tokens, it.logs, strict=True)) for it in (was, now))
    return fmean(diverge_at(before, after) for before, after in zip(*sides, strict=True))


def diverge_at(was: Mapping[int, float], now: Mapping[int, float]) -> float:
    """Return a lower bound of the divergence after one prefix, KL(was || now) = sum of p ln(p / q), nat.

    Only the likeliest tokens of both sides are known. So tokens are put into bins: one for each token that both sides
    name, one for those that only ``was`` names, one for all others. Divergence never grows when outcomes are put
    together (data-processing inequality; Cover and Thomas 2006, section 2.8). ``now`` does not tell the probability of
    the second bin, but none of its tokens is likelier than the last one that ``now`` names. Of the values that are
    possible, the one with the smallest divergence is taken.
    """
    shared = [(math.exp(log), math.exp(now[token])) for token, log in was.items() if token in now]
    lost = [math.exp(log) for token, log in was.items() if token not in now]
    p_lost, p_rest = math.fsum(lost), _rest(was)
    q_left = max(0.0, 1 - math.fsum(q for _, q in shared))
    most = min(len(lost) * math.exp(min(now.values())), _rest(now))
    q_lost = min(most, q_left * p_lost / (p_lost + p_rest)) if p_lost else 0.0
    bins = (*shared, (p_lost, q_lost), (p_rest, q_left - q_lost))
    return max(0.0, math.fsum(p * math.log(p / max(q, LEAST)) for p, q in bins if p > LEAST))


def _rest(logs: Mapping[int, float]) -> float:
    """The probability of all tokens that are not named."""
    return max(0.0, 1 - math.fsum(map(math.exp, logs.values())))


def judge_quality(plan: Plan, record: CellRecord, baseline: Baseline | None) -> tuple[Verdict, ...]:
    """Return the verdict on the divergence; none if the suite does not ask for it, or if two hosts are compared.

    It needs no comparable speed: another model file under the same name is what it is for. The oldest run of the
    baseline that has probabilities is the reference, so that runs added to it cannot move it step by step.
    """
    if plan.quality is None or record.reference_host is not None:
        return ()
    given = (plan.gate or {}).get(KLD)
    limit = given if isinstance(given, float) else AT_MOST
    name = baseline.name if baseline is not None else None
    verdict = Verdict(metric=KLD, outcome="inconclusive", allowed=limit, baseline_name=name)
    now = record.logprobs
    if now is None:
        return (replace(verdict, reason=record.blanks.get(KLD) or "the model's probabilities were not asked for"),)
    if baseline is None:
        return (replace(verdict, outcome="no baseline"),)
    was = next((run.logprobs for run in baseline.runs if run.logprobs is not None), None)
    if was is None:
        reason = "the baseline has no probabilities; save it anew, now that quality: kld is set"
        return (replace(verdict, outcome="no baseline", reason=reason),)
    if obstacle := _find_other_text(was, now):
        return (replace(verdict, outcome="not comparable", reason=obstacle),)
    kld = diverge(was, now)
    worse = kld > limit + ROUNDING
    notes = describe_differences(list_differences(record, baseline.runs))
    if worse and not notes:
        notes = [*filter(None, [describe_sameness(record, baseline.runs)])]
    return (replace(verdict, outcome="regression" if worse else "pass", now=kld, note="; ".join(notes)),)


def _find_other_text(was: Logprobs, now: Logprobs) -> str:
    """Why the probabilities are not of the same prefixes; empty if they are."""
    if now.text != was.text:
        return f"another text: {now.text}, was {was.text}; save the baseline anew"
    if now.ids != was.ids or len(now.tokens) != len(was.tokens):
        return "another tokenizer: it makes other tokens of the same text"
    return ""
