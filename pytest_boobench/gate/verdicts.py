"""Room 6: a cell against its baseline -> Verdicts, or the metrics that another block of samples could decide.

pass          the median and the fastest tenth are both no worse than allowed
regression    both are worse, by more than the noise, with samples that lie close together, in two blocks or more
inconclusive  anything else
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_boobench.gate.circumstances import (
    SlowMachine,
    describe_assumption,
    describe_changes,
    find_slow_machine,
    keep_comparable,
)
from pytest_boobench.gate.comparison import Comparison, Rules, compare, limits, to_change
from pytest_boobench.gate.duet import judge_duet
from pytest_boobench.gate.power import explain
from pytest_boobench.gate.reference import consult, usable
from pytest_boobench.metrics import METRICS
from pytest_boobench.record import Baseline, CellRecord, Outcome, Verdict
from pytest_boobench.suite.cell import Cell, Disturbed, Policy

_NO_SPREAD: Mapping[str, float] = {}


def judge(
    record: CellRecord,
    baseline: Baseline | None,
    allowed: Mapping[str, float],
    *,
    disturbed: Disturbed = "inconclusive",
    policy: Policy = "default",
    spread: Mapping[str, float] = _NO_SPREAD,
) -> tuple[Verdict, ...]:
    """One verdict for each metric in ``allowed``, in its order, by the samples there are.

    ``disturbed`` says whether a cell that others disturbed is judged all the same. ``literal``: where there is doubt,
    the median alone decides; ``strict`` judges as the default does, and who asks for it fails what is inconclusive.
    ``spread`` is metric -> noise between looks of the record's suite, from `measure_spread`.
    """
    case = _open(record, baseline, disturbed)
    return tuple(_judge(case, key, _compare(case, key, allowed[key], spread), allowed[key], policy) for key in allowed)


def find_doubts(
    record: CellRecord,
    baseline: Baseline | None,
    allowed: Mapping[str, float],
    *,
    disturbed: Disturbed = "inconclusive",
    policy: Policy = "default",
    spread: Mapping[str, float] = _NO_SPREAD,
) -> tuple[str, ...]:
    """The metrics for which another block could change what becomes of the cell; parameters as in `judge`.

    None where one is a regression: the cell is red, whatever the others are.
    """
    case = _open(record, baseline, disturbed)
    compared = {key: _compare(case, key, allowed[key], spread) for key in allowed}
    found = {key: what for key, what in compared.items() if isinstance(what, Comparison)}
    doubts = {key: _doubt(case, what, policy) for key, what in found.items()}
    red = any(what.slower and not doubts[key] for key, what in found.items())
    return () if red else tuple(key for key, doubt in doubts.items() if doubt)


def judge_cell(
    cell: Cell, record: CellRecord, baseline: Baseline | None, rules: Rules, spread: Mapping[str, float]
) -> tuple[Verdict, ...]:
    """The record's verdicts by the cell's own gate, and by the session's rules where the suite says nothing."""
    allowed = _find_limits(cell, record, baseline, rules)
    if record.reference_host is not None:
        return judge_duet(record, allowed)
    disturbed, policy = cell.plan.disturbed or rules.disturbed, cell.plan.policy or rules.policy
    return judge(record, baseline, allowed, disturbed=disturbed, policy=policy, spread=spread)


def find_cell_doubts(
    cell: Cell, record: CellRecord, baseline: Baseline | None, rules: Rules, spread: Mapping[str, float]
) -> tuple[str, ...]:
    """The metrics whose verdict another block could change; empty where there is room for none."""
    if record.reference_host is not None or record.blocks >= cell.plan.blocks:
        return ()
    allowed = _find_limits(cell, record, baseline, rules)
    disturbed, policy = cell.plan.disturbed or rules.disturbed, cell.plan.policy or rules.policy
    return find_doubts(record, baseline, allowed, disturbed=disturbed, policy=policy, spread=spread)


def _find_limits(cell: Cell, record: CellRecord, baseline: Baseline | None, rules: Rules) -> Mapping[str, float]:
    """What is judged. A metric that the suite does not name, and that such a server never gives, is left out."""
    allowed = limits(cell.kind, cell.plan.gate, rules, lanes=cell.concurrency, length=cell.length)
    given = record.aggregates.keys() | {key for run in (baseline.runs if baseline else ()) for key in run.aggregates}
    if cell.plan.gate is not None or not given & allowed.keys():
        return allowed
    return {key: limit for key, limit in allowed.items() if key in given}


@dataclass(frozen=True, slots=True)
class _Obstacle:
    """Why there is nothing to compare."""

    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """A record, the runs it may be compared with, and what holds for all its metrics."""

    record: CellRecord
    baseline: Baseline | None
    obstacle: _Obstacle | None
    slow_machine: SlowMachine | None = None
    changes: tuple[str, ...] = ()


def _open(record: CellRecord, baseline: Baseline | None, disturbed: Disturbed) -> _Case:
    spoiled = record.still_warming or (record.disturbed if disturbed != "judge" else None)
    if spoiled:
        return _Case(record=record, baseline=baseline, obstacle=_Obstacle("inconclusive", spoiled))
    if baseline is None:
        return _Case(record=record, baseline=None, obstacle=_Obstacle("no baseline"))
    kept, reason = keep_comparable(record, baseline)
    return _Case(
        record=record,
        baseline=kept,
        obstacle=_Obstacle("not comparable", reason) if reason else None,
        slow_machine=find_slow_machine(record, kept.runs),
        changes=tuple(describe_changes(record, kept.runs)),
    )


def _compare(case: _Case, key: str, allowed: float, spread: Mapping[str, float]) -> Comparison | _Obstacle:
    now = case.record.aggregates.get(key)
    if now is None:
        return _Obstacle("inconclusive", case.record.blanks.get(key) or "no sample gives this metric")
    if case.obstacle is not None or case.baseline is None:
        return case.obstacle or _Obstacle("no baseline")
    if not usable(now.median):
        return _Obstacle("inconclusive", "no ratio can be taken of its median")
    was = consult(METRICS[key], case.baseline, spread.get(key, 0.0))
    if was is None:
        return _Obstacle("no baseline", "the stored baseline has no usable number for this metric")
    return compare(METRICS[key], case.record.aggregates, was, allowed)


def _doubt(case: _Case, comparison: Comparison, policy: Policy) -> str:
    """Why a metric is neither within its limit nor a regression; empty where it is one of them."""
    if not comparison.slower and (policy == "literal" or not comparison.fast_slower):
        return ""
    slow, name = case.slow_machine, case.baseline.name if case.baseline is not None else ""
    excuse = slow.words if slow is not None and -comparison.gain <= slow.explains else ""
    return explain(comparison, blocks=case.record.blocks, slow_machine=excuse, name=name)


def _judge(case: _Case, key: str, found: Comparison | _Obstacle, allowed: float, policy: Policy) -> Verdict:
    name = case.baseline.name if case.baseline is not None else None
    if isinstance(found, _Obstacle):
        return _refuse(case.record, key, found, allowed, name)
    doubt = _doubt(case, found, policy)
    outcome = _decide(found, doubt, policy)
    return Verdict(
        metric=key,
        outcome=outcome,
        now=found.now.median,
        baseline=found.was.level,
        change=found.change,
        allowed=allowed,
        baseline_name=name,
        reason=doubt if outcome == "inconclusive" else "",
        fast_change=found.fast_change,
        noise=abs(to_change(-found.noise, found.metric)),
        run_noise=found.run_noise,
        sessions=found.was.looks,
        samples=found.requests,
        blocks=case.record.blocks,
        proven=outcome == "pass" and found.proven,
        note="; ".join([*case.changes, *_describe_rates(case.record, key), *describe_assumption(found.was)]),
    )


def _describe_rates(record: CellRecord, metric: str) -> list[str]:
    """That a rate is not the server's, where its own is contradicted."""
    is_rate = metric in ("decode_tok_s", "prefill_tok_s")
    return ["by the client's clock: the server's timings contradict it"] if is_rate and record.contradiction else []


def _refuse(record: CellRecord, key: str, obstacle: _Obstacle, allowed: float, name: str | None) -> Verdict:
    now = record.aggregates.get(key)
    return Verdict(
        metric=key,
        outcome=obstacle.outcome,
        now=now.median if now is not None else None,
        allowed=allowed,
        baseline_name=name,
        reason=obstacle.reason,
    )


def _decide(comparison: Comparison, doubt: str, policy: Policy) -> Outcome:
    if doubt and policy != "literal":
        return "inconclusive"
    if comparison.slower:
        return "regression"
    return "improvement" if comparison.improved else "pass"
