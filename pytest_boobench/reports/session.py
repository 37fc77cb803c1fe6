"""Room 7: a session as the reports are handed it, and what became of each cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from pytest_boobench.aggregate import median_of
from pytest_boobench.gate.divergence import KLD
from pytest_boobench.metrics import METRICS, Metric, find_metric
from pytest_boobench.record import CellFacts, CellRecord, Measurement, RunFacts, Verdict

ItemOutcome = Literal["passed", "failed", "skipped", "xfailed", "error", "in doubt"]
"""An item is in doubt until it is judged; it stays so where the session ends before."""
Standing = Literal[
    "regression",
    "failed",  # too many failed requests, disturbed, or in doubt where doubt fails
    "error",  # could not be measured
    "in doubt",  # the session ended before it was settled
    "not comparable",
    "inconclusive",
    "no baseline",
    "xfailed",
    "improvement",
    "pass",
]
"""What became of a measured cell, the most urgent first."""
STANDINGS: tuple[Standing, ...] = get_args(Standing)

ALL_LANES = "total_tok_s"
"""Shown like a metric, though a cell has only one number of it."""
SHOWN: Mapping[str, Metric] = {
    **METRICS,
    ALL_LANES: Metric(ALL_LANES, "all lanes", "tok/s", "higher", "tokens of all lanes together over the wall"),
}
"""The metrics of tables and charts."""


def find_shown(key: str) -> Metric:
    """The metric of tables and charts with this key, of all requests or of one turn."""
    return SHOWN[key] if key in SHOWN else find_metric(key)


def find_value(cell: CellFacts, key: str) -> float | None:
    """The median of a shown metric, or a distance from the baseline as its verdict has it."""
    if find_shown(key).of_baseline and isinstance(cell, Measurement):
        return next((verdict.now for verdict in cell.verdicts if verdict.metric == key), None)
    return cell.total_tok_s if key == ALL_LANES else median_of(cell.aggregates, key)


@dataclass(slots=True)
class FinishedCell:
    """A cell's record with what became of it; filled in as pytest reports its phases."""

    record: CellRecord
    outcome: ItemOutcome
    verdicts: tuple[Verdict, ...] = ()
    saved: bool = False
    """Whether this session made it a baseline."""
    reruns: tuple[str, ...] = ()
    """Why another plugin ran the item again, one text for each earlier run; all else here is from the last run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmeasured:
    """A cell that ended without a record: skipped, or lost with its worker."""

    node_id: str
    outcome: Literal["failed", "skipped"]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionReport:
    """What one pytest session found out, at its end."""

    uid: str
    baseline: str
    """Name of the baseline that was compared with."""
    finished_at: float
    """Seconds since 1970 UTC."""
    exit_status: int
    """pytest's."""
    rows: Sequence[FinishedCell]
    runs: Sequence[RunFacts] = ()
    unmeasured: Sequence[Unmeasured] = ()
    failures: Mapping[str, str] = field(default_factory=dict)
    """Node id -> why the item failed, as pytest shows it."""
    sections: Sequence[tuple[str, str]] = ()
    """Title and plain text of what hooks add to the summary."""
    plugin_version: str | None = None


def explain_unsavable(row: FinishedCell) -> str:
    """Why a cell may not become a baseline; empty where it may."""
    record = row.record
    reasons = (
        (row.outcome == "error" or record.error is not None, "not measured"),
        (row.outcome == "in doubt", "left in doubt"),
        (any(verdict.outcome == "regression" for verdict in row.verdicts), "regressed"),
        (record.disturbed is not None, "disturbed by others"),
        (record.still_warming is not None, "still warming up"),
        (row.outcome == "failed", "failed"),
        (row.outcome == "xfailed", "expected to fail"),
        (record.reference_host is not None, "compared with another host, not with a baseline"),
        (not any(_can_be_compared(verdict, record) for verdict in row.verdicts), "no number to judge"),
    )
    return next((reason for holds, reason in reasons if holds), "")


def _can_be_compared(verdict: Verdict, record: CellRecord) -> bool:
    """Whether a later measurement has something to be compared with: a divergence is a number only from then on."""
    return verdict.now is not None or (verdict.metric == KLD and record.logprobs is not None)


def find_worst(row: FinishedCell) -> Verdict | None:
    """The cell's most urgent verdict; None where it has none."""
    return min(row.verdicts, key=lambda verdict: STANDINGS.index(verdict.outcome), default=None)


def stand(row: FinishedCell) -> Standing:
    """What became of a cell: how pytest saw it, then its most urgent verdict."""
    if row.outcome in ("error", "in doubt", "xfailed"):
        return row.outcome
    worst = find_worst(row)
    standing = worst.outcome if worst is not None else "pass"
    return "failed" if row.outcome == "failed" and standing != "regression" else standing


def count_standings(rows: Sequence[FinishedCell]) -> dict[Standing, int]:
    """How many cells have each standing, all standings in their order."""
    counts = Counter(map(stand, rows))
    return {standing: counts[standing] for standing in STANDINGS}


def name_cell(row: FinishedCell) -> str:
    """``qwen3-8b[pp512-tg32-c4]``, the last part of the node id."""
    return row.record.node_id.rpartition("::")[2]
