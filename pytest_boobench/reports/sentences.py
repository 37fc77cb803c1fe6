"""Verdicts and failures in words. The first line is the finding: it is all that a short summary shows."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_boobench.aggregate import describe_failures
from pytest_boobench.gate import group_sessions
from pytest_boobench.metrics import METRICS
from pytest_boobench.record import Baseline, CellRecord, Verdict
from pytest_boobench.reports.session import FinishedCell
from pytest_boobench.units import count, moment, number, percent, quantity


def sentence(verdict: Verdict) -> str:
    """One verdict, as in ``decode 41.9 tok/s, 16.3 % below baseline main (50.1), 10 % allowed; noise 3.9 %; …``."""
    metric = METRICS[verdict.metric]
    note = f"; {verdict.note}" if verdict.note else ""
    if verdict.outcome == "inconclusive" and verdict.change is not None:
        return f"inconclusive: {metric.title} {verdict.reason}{note}"
    now = f"{metric.title} {quantity(verdict.now, metric.unit)}"
    if verdict.outcome in {"regression", "improvement", "pass"}:
        allowed = f", {percent(verdict.allowed)} allowed" if verdict.outcome == "regression" else ""
        return f"{now}, {_distance(verdict.change)} {_reference(verdict)}{allowed}{_evidence(verdict)}{note}"
    reason = f": {verdict.reason}" if verdict.reason else ""
    return f"{now}, {verdict.outcome}{reason}"


def explain_blanks(row: FinishedCell) -> list[str]:
    """Why metrics are blank that such a cell would have, a line for each reason; those of verdicts are theirs."""
    judged = {verdict.metric for verdict in row.verdicts}
    reasons: dict[str, list[str]] = {}
    for key, reason in row.record.blanks.items():
        if key not in judged:
            reasons.setdefault(reason, []).append(METRICS[key].title)
    return [f"{', '.join(titles)} blank: {reason}" for reason, titles in reasons.items()]


def _distance(change: float | None) -> str:
    return f"{percent(change)} {'below' if (change or 0) < 0 else 'above'}"


def _reference(verdict: Verdict) -> str:
    name = verdict.baseline_name or ""
    kind = "" if name.startswith("duet ") else "baseline "
    return f"{kind}{name} ({number(verdict.baseline)})"


def _evidence(verdict: Verdict) -> str:
    """What the verdict rests on; of a pass, whether the worsening that would fail can be ruled out."""
    if verdict.samples is None:
        return ""
    if verdict.outcome == "pass":
        word = "drop" if METRICS[verdict.metric].better == "higher" else "rise"
        return f"; a {word} of {percent(verdict.allowed)} is {'' if verdict.proven else 'not '}ruled out"
    if verdict.fast_change is None:
        return ""
    fast = f"; fastest tenth {_distance(verdict.fast_change)}"
    return f"{fast}; noise {percent(verdict.noise)}; {count(verdict.samples, 'sample')}"


def failure_text(
    record: CellRecord,
    verdicts: Sequence[Verdict],
    baseline: Baseline | None,
    *,
    max_failed: int,
    fail_disturbed: bool = False,
    strict: bool = False,
) -> str:
    """Why the item fails, empty where it does not: regressions first, then failed requests, then the circumstances.

    ``strict`` fails what could not be decided too.
    """
    failing = {"regression", "inconclusive", "not comparable"} if strict else {"regression"}
    findings = [sentence(verdict) for verdict in verdicts if verdict.outcome in failing]
    if len(record.failed) > max_failed:
        allowed = f", {max_failed} allowed" if max_failed else ""
        findings.append(
            f"{len(record.failed)} of {record.measured} requests failed{allowed}: {describe_failures(record.failed)}"
        )
    if fail_disturbed and record.disturbed:
        findings.append(record.disturbed)
    if not findings:
        return ""
    others = [sentence(verdict) for verdict in verdicts if verdict.outcome not in failing]
    return "\n".join([*findings, *others, *_circumstances(record, baseline)])


def _circumstances(record: CellRecord, baseline: Baseline | None) -> list[str]:
    """What was measured on what, then and now."""
    ttft = record.aggregates.get("ttft_ms")
    spread = f", TTFT median {quantity(ttft.median, 'ms')}, p95 {quantity(ttft.p95, 'ms')}" if ttft else ""
    build = f", engine {record.server.engine_build}" if record.server and record.server.engine_build else ""
    lines = [f"host {record.host}{build}; {count(record.measured, 'sample')}{spread}"]
    if record.traffic is not None and record.traffic.requests:
        lines.append(f"foreign: {'; '.join(map(str, record.traffic.requests))}")
    if baseline is not None:
        lines.append(f"baseline {baseline.name}: {provenance(baseline)}")
    return lines


def provenance(baseline: Baseline) -> str:
    """Where a baseline comes from: when measured, at which commit, on which engine build, in how many sessions."""
    newest = baseline.runs[-1]
    parts = [f"measured {moment(newest.measured_at)} UTC"]
    if newest.git_commit:
        parts.append(f"commit {newest.git_commit[:10]}")
    if newest.engine_build:
        parts.append(f"engine {newest.engine_build}")
    if len(baseline.runs) > 1:
        parts.append(f"newest of {len(baseline.runs)} runs in {count(len(group_sessions(baseline.runs)), 'session')}")
    return ", ".join(parts)
