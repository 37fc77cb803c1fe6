"""Room 6: now against the baseline -> Verdicts. Arithmetic only: no I/O, no clock, no chance.

The rule: a cell fails when the median of a gated metric is worse than the baseline's by more than what is
allowed (10 % where nobody says otherwise). More than 5 % better is marked as an improvement.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping

from pytest_boobench.metrics import METRICS, Kind, Metric, metrics_of
from pytest_boobench.record import Baseline, BaselineRun, CellRecord, Outcome, Verdict

MAX_DROP = 0.10
"""Allowed worsening where neither suite nor session says otherwise: the owner's rule."""
IMPROVEMENT = 0.05
"""Above this a better number is worth a word."""


def limits(
    kind: Kind, gate: Mapping[str, float | None] | None, default: float = MAX_DROP, override: float | None = None
) -> dict[str, float]:
    """Metric key -> allowed worsening as a ratio, for the metrics that are judged in a cell of this kind."""
    asked = gate if gate is not None else {metric.key: None for metric in metrics_of(kind) if metric.gated}
    if override is not None:
        return dict.fromkeys(asked, override)
    return {key: default if allowed is None else allowed for key, allowed in asked.items()}


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


def judge(record: CellRecord, baseline: Baseline | None, allowed: Mapping[str, float]) -> tuple[Verdict, ...]:
    """One verdict for each metric in ``allowed``, in its order."""
    return tuple(_judge_metric(METRICS[key], record, baseline, allowed[key]) for key in allowed)


def _judge_metric(metric: Metric, record: CellRecord, baseline: Baseline | None, allowed: float) -> Verdict:
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
    if record.client_limit:
        return verdict("inconclusive", reason=record.client_limit)
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


def fails(verdicts: tuple[Verdict, ...]) -> bool:
    """Whether these verdicts turn the item red."""
    return any(verdict.outcome == "regression" for verdict in verdicts)
