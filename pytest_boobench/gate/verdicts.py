"""Room 6: a cell against its baseline -> Verdicts, or the metrics that another block of samples could decide.

pass          the median and the fastest tenth are both no worse than allowed
regression    both are worse, by more than the noise, with samples that scatter little, in two blocks or more
inconclusive  anything else
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pytest_boobench.aggregate import find_own_prompts
from pytest_boobench.gate.circumstances import (
    Difference,
    SlowMachine,
    describe_differences,
    describe_sameness,
    find_other_sensor,
    find_slow_machine,
    keep_comparable,
    list_differences,
)
from pytest_boobench.gate.comparison import Comparison, Rules, compare, find_spoiled, limits, to_change
from pytest_boobench.gate.decode_cause import explain_decode
from pytest_boobench.gate.divergence import judge_quality
from pytest_boobench.gate.duet import find_cause_in_cache, judge_duet
from pytest_boobench.gate.floors import find_floor_doubts, judge_floors
from pytest_boobench.gate.host_drift import HostDrift, divide_out
from pytest_boobench.gate.power import explain
from pytest_boobench.gate.reference import ENOUGH_SESSIONS, consult, usable
from pytest_boobench.gate.turn_ratios import find_ratio_doubts, judge_ratios
from pytest_boobench.metrics import Metric, find_metric
from pytest_boobench.record import Baseline, CellRecord, Outcome, Verdict
from pytest_boobench.suite.cell import Cell, Policy
from pytest_boobench.units import count

PROMPTS_CHANGED = "the suite's own prompts are not those of the baseline: their file has changed"
_DEFAULTS = Rules()
_ENERGY = "joule_per_token"
_UNTIMED = frozenset({"J", "MB"})
"""Units of metrics that no slow machine explains."""
_NO_SPREAD: Mapping[str, float] = {}


def judge(
    record: CellRecord,
    baseline: Baseline | None,
    allowed: Mapping[str, float],
    rules: Rules = _DEFAULTS,
    spread: Mapping[str, float] = _NO_SPREAD,
) -> tuple[Verdict, ...]:
    """Return one verdict for each metric in ``allowed``, in its order, from the samples so far.

    ``spread`` is metric -> noise between sessions of the record's suite, from `measure_spread`.
    """
    case = replace(_open(record, baseline, rules), spread=spread)
    found = [(_compare(case, key, limit, spread.get(key, 0.0)), limit) for key, limit in allowed.items()]
    return tuple(what if isinstance(what, Verdict) else _judge(case, what, limit) for what, limit in found)


def find_doubts(
    record: CellRecord,
    baseline: Baseline | None,
    allowed: Mapping[str, float],
    rules: Rules = _DEFAULTS,
    spread: Mapping[str, float] = _NO_SPREAD,
) -> tuple[str, ...]:
    """Return the metrics for which another block could change the cell's outcome; parameters as in `judge`.

    Empty if one is a regression: the cell fails anyway.
    """
    case = _open(record, baseline, rules)
    compared = [_compare(case, key, limit, spread.get(key, 0.0)) for key, limit in allowed.items()]
    doubts = [(found, _doubt(case, found)) for found in compared if isinstance(found, Comparison)]
    if any(found.slower and not doubt for found, doubt in doubts):
        return ()
    open_ = [
        found for found, doubt in doubts if doubt and not case.drift.decides(found.metric, found.gain, found.limit)
    ]
    return tuple(found.metric.key for found in open_ if not found.metric.of_start)


def judge_cell(
    cell: Cell, record: CellRecord, baseline: Baseline | None, rules: Rules, spread: Mapping[str, float]
) -> tuple[Verdict, ...]:
    """Return the record's verdicts by the cell's own gate, and by the session's rules for the rest."""
    allowed, own = _find_limits(cell, record, baseline, rules), _merge(rules, cell)
    if record.reference_host is not None:
        return judge_duet(record, allowed)
    return (
        *judge(record, baseline, allowed, own, spread),
        *judge_quality(cell.plan, record, baseline),
        *judge_floors(cell, record, own),
        *judge_ratios(record, cell.plan.gate, find_spoiled(record, own), own.policy),
    )


def find_cell_doubts(
    cell: Cell, record: CellRecord, baseline: Baseline | None, rules: Rules, spread: Mapping[str, float]
) -> tuple[str, ...]:
    """Return the metrics whose verdict another block could change; empty if the cell has all its blocks."""
    if record.reference_host is not None or record.blocks >= cell.plan.blocks:
        return ()
    allowed, own = _find_limits(cell, record, baseline, rules), _merge(rules, cell)
    return (
        *find_doubts(record, baseline, allowed, own, spread),
        *find_floor_doubts(cell, record, own),
        *find_ratio_doubts(record, cell.plan.gate, find_spoiled(record, own), own.policy),
    )


def _merge(rules: Rules, cell: Cell) -> Rules:
    plan = cell.plan
    return replace(rules, disturbed=plan.disturbed or rules.disturbed, policy=plan.policy or rules.policy)


def _find_limits(cell: Cell, record: CellRecord, baseline: Baseline | None, rules: Rules) -> Mapping[str, float]:
    """The limits of what is judged. Omits a metric that the suite does not name if neither side has it."""
    allowed = limits(
        cell.kind,
        cell.plan.gate,
        rules,
        lanes=cell.concurrency,
        length=cell.length,
        turns=cell.turns,
        load=cell.load,
    )
    given = record.aggregates.keys() | {key for run in (baseline.runs if baseline else ()) for key in run.aggregates}
    if cell.plan.gate is not None or not given & allowed.keys():
        return allowed
    return {key: limit for key, limit in allowed.items() if key in given}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """A record, the runs it may be compared with, and what holds for all its metrics."""

    record: CellRecord
    baseline: Baseline | None
    policy: Policy
    obstacle: tuple[Outcome, str] | None = None
    """The outcome of all metrics and its reason, if none can be compared."""
    slow_machine: SlowMachine | None = None
    drift: HostDrift = field(default_factory=HostDrift)
    """What the reference of the host's machine says; it is divided out of the baseline."""
    changes: tuple[Difference, ...] = ()
    spread: Mapping[str, float] = field(default_factory=dict)
    """Metric -> the suite's noise between sessions."""


def _open(record: CellRecord, baseline: Baseline | None, rules: Rules) -> _Case:
    case = _Case(record=record, baseline=baseline, policy=rules.policy)
    if spoiled := find_spoiled(record, rules):
        return replace(case, obstacle=("inconclusive", spoiled))
    if baseline is None:
        return case
    if baseline.prompts and baseline.prompts != record.identity.get("prompts"):
        return replace(case, obstacle=("not comparable", PROMPTS_CHANGED))
    kept, reason = keep_comparable(record, baseline)
    moved, drift = divide_out(record, kept)
    return replace(
        case,
        baseline=moved,
        drift=drift,
        obstacle=("not comparable", reason) if reason else None,
        slow_machine=find_slow_machine(record, kept.runs),
        changes=tuple(list_differences(record, kept.runs)),
    )


def _may_be_zero(metric: Metric) -> bool:
    """Whether a median of zero is a number like others: no request was good, or nothing came from the cache."""
    return metric.binomial or metric.base == "cached_share"


def _compare(case: _Case, key: str, allowed: float, spread: float) -> Comparison | Verdict:
    """Compare the metric with the baseline, or return its verdict if there is nothing to compare."""
    now, baseline = case.record.aggregates.get(key), case.baseline
    outcome: Outcome = "inconclusive"
    if now is None:
        reason = case.record.blanks.get(find_metric(key).base) or "no sample gives this metric"
    elif case.obstacle is not None:
        outcome, reason = case.obstacle
    elif baseline is None:
        outcome, reason = "no baseline", ""
    elif not usable(now.median) and not (now.median == 0 and _may_be_zero(find_metric(key))):
        reason = "no ratio can be taken of its median"
    elif key == _ENERGY and (other := find_other_sensor(case.record, baseline.runs)):
        outcome, reason = "not comparable", other
    elif (was := consult(find_metric(key), baseline, spread)) is None:
        outcome, reason = "no baseline", "the stored baseline has no usable number for this metric"
    else:
        metric = find_metric(key)
        own = find_own_prompts(case.record.samples, metric)
        found = compare(metric, case.record.aggregates, was, allowed, own)
        return replace(found, deviation=math.hypot(found.deviation, case.drift.find_error(metric)))
    return Verdict(
        metric=key,
        outcome=outcome,
        now=now.median if now is not None else None,
        allowed=allowed,
        baseline_name=baseline.name if baseline is not None else None,
        reason=reason,
        note="; ".join(describe_differences(case.changes, comparable=False)) if outcome == "not comparable" else "",
    )


def _doubt(case: _Case, comparison: Comparison) -> str:
    """Why a metric is neither within its limit nor a regression; empty if it is one of them."""
    if not comparison.slower and (case.policy == "literal" or not comparison.fast_slower):
        return ""
    slow = _find_excuse(case, comparison)
    name = case.baseline.name if case.baseline is not None else ""
    excuse = slow.words if slow is not None and -comparison.gain <= slow.explains else ""
    blocks = case.record.blocks
    return explain(comparison, decided=blocks > 1 or case.record.closed, slow_machine=excuse, name=name)


def _find_excuse(case: _Case, comparison: Comparison) -> SlowMachine | None:
    """What of the machine explains a loss of the metric. Where the reference's drift is divided out, only what may
    pass by within seconds: the rest is in the drift. A cell as fast as then is not red because the host is faster."""
    slow, metric = case.slow_machine, comparison.metric
    if case.drift.decides(metric, comparison.gain, comparison.limit):
        return SlowMachine(
            f"only against the reference {case.drift.name}: the host is faster than then, the cell is not"
        )
    if slow is None or metric.unit in _UNTIMED:
        return None
    return None if case.drift.covers(metric) and math.isfinite(slow.explains) else slow


def _judge(case: _Case, found: Comparison, allowed: float) -> Verdict:
    record, was, key = case.record, found.was, found.metric.key
    doubt = _doubt(case, found)
    outcome: Outcome = "improvement" if found.improved else "pass"
    if doubt and case.policy != "literal":
        outcome = "inconclusive"
    elif found.slower:
        outcome = "regression"
    notes = describe_differences(case.changes)
    if case.slow_machine is not None and case.slow_machine.words in doubt:  # it names the clock already
        notes = [note for note in notes if not note.startswith(("GPU clock", "memory clock"))]
    if outcome == "regression" and not notes and case.baseline is not None:
        notes = [*filter(None, [describe_sameness(record, case.baseline.runs)])]
    if outcome == "regression" and key == "decode_tok_s" and case.baseline is not None:
        cause = explain_decode(record.aggregates, case.baseline, case.spread)
        notes = [*filter(None, [cause]), *notes]
    if record.contradiction and key in ("decode_tok_s", "prefill_tok_s"):
        notes.append("by the client's clock: the server's timings contradict it")
    if outcome == "regression" and (text := find_cause_in_cache(record, found.metric)):
        notes.append(text)
    if outcome == "regression" and record.closed and record.blocks < 2:
        notes.append("imported: no second block could confirm it")
    if text := case.drift.describe(found.metric, was.level):
        notes.append(text)
    if was.assumed:
        few = f"{was.known_sessions} of {ENOUGH_SESSIONS} sessions"
        learnt = f"noise of this host, from {count(was.host_sessions, 'session')}; of this cell {few}"
        notes.append(learnt if was.host_sessions else f"noise assumed: {few}")
    return Verdict(
        metric=key,
        outcome=outcome,
        now=found.now.median,
        baseline=was.level,
        change=found.change,
        allowed=allowed,
        baseline_name=case.baseline.name if case.baseline is not None else None,
        reason=doubt if outcome == "inconclusive" else "",
        fast_change=None if found.metric.of_block else found.fast_change,
        noise=abs(to_change(-found.noise, found.metric)),
        run_noise=found.run_noise,
        sessions=was.sessions,
        samples=found.requests,
        blocks=record.blocks,
        proven=outcome == "pass" and found.proven,
        note="; ".join(notes),
    )
