"""Room 6: a share of the requests against the least that is asked, which needs no baseline.

pass          the share is no smaller than asked
regression    it is smaller, chance alone hardly gives so few good requests, and a second block confirms it
inconclusive  it is smaller, but chance may give so few
"""

from __future__ import annotations

import math

from pytest_boobench.gate.comparison import ROUNDING, Rules, find_spoiled
from pytest_boobench.gate.duet import P_BELIEVED
from pytest_boobench.gate.gains import P_PROVEN
from pytest_boobench.record import CellRecord, Outcome, Verdict
from pytest_boobench.suite.cell import Cell
from pytest_boobench.suite.thresholds import keep_floors
from pytest_boobench.units import count, percent


def judge_floors(cell: Cell, record: CellRecord, rules: Rules) -> tuple[Verdict, ...]:
    """Return a verdict for each metric of the cell's gate that has a floor. The rules are the cell's own."""
    floors = keep_floors(cell.plan.gate)
    return tuple(_judge(cell, record, rules, key, at_least) for key, at_least in floors.items())


def find_floor_doubts(cell: Cell, record: CellRecord, rules: Rules) -> tuple[str, ...]:
    """Return the metrics with a floor that another block could decide."""
    verdicts = judge_floors(cell, record, rules)
    return tuple(each.metric for each in verdicts if each.outcome == "inconclusive" and each.samples is not None)


def _judge(cell: Cell, record: CellRecord, rules: Rules, key: str, at_least: float) -> Verdict:
    now = record.aggregates.get(key)
    spoiled = find_spoiled(record, rules)
    if now is None or spoiled:
        reason = spoiled or record.blanks.get(key) or "no block gives this metric"
        return Verdict(metric=key, outcome="inconclusive", now=now.median if now else None, reason=reason)
    requests = record.measured
    good = round(now.mean * requests)  # all blocks have as many requests
    finding = f"{percent(good / requests)} of {count(requests, 'request')}, at least {percent(at_least)} are asked"
    outcome: Outcome = "pass"
    if good / requests < at_least - ROUNDING:
        outcome, doubt = "regression", ""
        if chance_of_fewer(good, requests, at_least) >= P_BELIEVED:
            doubt = "chance may do that; more samples would tell"
        elif record.blocks < 2 <= cell.plan.blocks:
            doubt = "in one block: a second one would decide"
        if doubt and rules.policy != "literal":
            outcome, finding = "inconclusive", f"{finding}; {doubt}"
    return Verdict(
        metric=key,
        outcome=outcome,
        now=good / requests,
        reason=finding,
        samples=requests,
        blocks=record.blocks,
        proven=outcome == "pass" and chance_of_fewer(requests - good, requests, 1 - at_least) < P_PROVEN,
    )


def chance_of_fewer(good: int, requests: int, share: float) -> float:
    """The chance of so few good requests or fewer, each good with the chance ``share``: the exact binomial test
    (Clopper and Pearson 1934), which takes requests as independent."""
    if share <= 0 or share >= 1:
        return 1.0 if share <= 0 or good >= requests else 0.0
    return min(1.0, math.fsum(math.exp(_log_chance(number, requests, share)) for number in range(good + 1)))


def _log_chance(good: int, requests: int, share: float) -> float:
    ways = math.lgamma(requests + 1) - math.lgamma(good + 1) - math.lgamma(requests - good + 1)
    return ways + good * math.log(share) + (requests - good) * math.log1p(-share)
