"""Room 6: now against the baseline -> Verdicts. Arithmetic only: no I/O, no clock, no chance.

The rule: a cell fails when the median of a gated metric is worse than the baseline's by more than what is
allowed (10 % where nobody says otherwise). More than 5 % better is marked as an improvement.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_boobench.metrics import METRICS, Kind, Metric, metrics_of
from pytest_boobench.record import Baseline, BaselineRun, CellRecord, Outcome, Verdict
from pytest_boobench.suite.cell import Disturbed

MAX_DROP = 0.10
"""Allowed worsening where neither suite nor session says otherwise: the owner's rule."""
IMPROVEMENT = 0.05
"""Above this a better number is worth a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a session says of judging; a suite may say otherwise, but for ``max_drop``."""

    max_drop: float | None = None
    """Allowed worsening of every gated metric, whatever the suites say."""
    default_max_drop: float = MAX_DROP
    """Allowed worsening where a suite does not say."""
    disturbed: Disturbed = "inconclusive"
    """What becomes of a cell that others disturbed, where its suite does not say."""


def limits(kind: Kind, gate: Mapping[str, float | None] | None, rules: Rules) -> dict[str, float]:
    """Metric key -> allowed worsening as a ratio, for the metrics that are judged in a cell of this kind."""
    asked = gate if gate is not None else {metric.key: None for metric in metrics_of(kind) if metric.gated}
    if rules.max_drop is not None:
        return dict.fromkeys(asked, rules.max_drop)
    return {key: rules.default_max_drop if allowed is None else allowed for key, allowed in asked.items()}


def level(metric: str, baseline: Baseline) -> float | None:
    """The baseline's level: median over its runs of each run's median; blank where no run has a usable number."""
    medians = [
        run.aggregates[metric].median
        for run in baseline.runs
        if metric in run.aggregates and usable(run.aggregates[metric].median)
    ]
    return statistics.median(medians) if medians else None


def usable(value: float) -> bool:
    """Whether a number can stand under a division: finite and above zero."""
    return math.isfinite(value) and value > 0


def judge(
    record: CellRecord, baseline: Baseline | None, allowed: Mapping[str, float], disturbed: Disturbed = "inconclusive"
) -> tuple[Verdict, ...]:
    """One verdict for each metric in ``allowed``, in its order.

    ``disturbed`` says whether a cell that others disturbed is judged all the same.
    """
    spoiled = record.client_limit or (record.disturbed if disturbed != "judge" else None)
    return tuple(_judge_metric(METRICS[key], record, baseline, allowed[key], spoiled) for key in allowed)


def _judge_metric(
    metric: Metric, record: CellRecord, baseline: Baseline | None, allowed: float, spoiled: str | None
) -> Verdict:
    now = record.aggregates.get(metric.key)

    def verdict(
        outcome: Outcome, *, was: float | None = None, change: float | None = None, reason: str = ""
    ) -> Verdict:
        return Verdict(
            metric=metric.key,
            outcome=outcome,
            now=now.median if now else None,
            baseline=was,
            change=change,
            allowed=allowed,
            baseline_name=baseline.name if baseline else None,
            reason=reason,
        )

    if now is None or not math.isfinite(now.median):
        return verdict("inconclusive", reason="no sample gives this metric")
    if spoiled:
        return verdict("inconclusive", reason=spoiled)
    if baseline is None:
        return verdict("no baseline")
    if differing := _differences(record, baseline.runs):
        return verdict("not comparable", reason=f"another model file: {'; '.join(differing)}")
    was = level(metric.key, baseline)
    if was is None:
        return verdict("no baseline", reason="the stored baseline has no usable number for this metric")
    change = now.median / was - 1
    return verdict(_outcome(metric, change, allowed), was=was, change=change)


def _outcome(metric: Metric, change: float, allowed: float) -> Outcome:
    gain = change if metric.better == "higher" else -change
    # Exactly 10 % below is allowed: "more than", and 90/100 - 1 must not fail for its last binary digit.
    if gain < -allowed and not math.isclose(gain, -allowed, rel_tol=1e-9):
        return "regression"
    return "improvement" if gain > IMPROVEMENT else "pass"


def _differences(record: CellRecord, runs: tuple[BaselineRun, ...]) -> tuple[str, ...]:
    """How the model file differs from the baseline's newest run that knows its own."""
    known = [run.model for run in runs if run.model is not None]
    return record.model.differences(known[-1]) if record.model is not None and known else ()
