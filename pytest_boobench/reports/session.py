"""Room 7: a session as the reports are handed it, and what became of each cell in a word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from pytest_boobench.record import CellRecord, RunFacts, Verdict

ItemOutcome = Literal["passed", "failed", "skipped", "xfailed", "error", "in doubt"]
"""An item is in doubt until it is judged; it stays so where the session ends before."""


@dataclass(slots=True)
class FinishedCell:
    """A cell's record with what became of it; filled as its reports come in."""

    record: CellRecord
    outcome: ItemOutcome
    verdicts: tuple[Verdict, ...] = ()
    saved: bool = False
    """Whether this session made it a baseline."""
    reruns: tuple[str, ...] = ()
    """Why another plugin ran the item again, attempt by attempt; what is here is the last one."""


def is_savable(row: FinishedCell) -> bool:
    """Whether a cell may become a baseline: measured alone and steadily, with a number that is judged, and not found
    slower than the one there is."""
    return (
        row.outcome in ("passed", "skipped")
        and row.record.clean
        and row.record.reference_host is None
        and any(verdict.now is not None for verdict in row.verdicts)
        and not any(verdict.outcome == "regression" for verdict in row.verdicts)
    )


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
"""What became of a measured cell; the first ones ask most of the reader."""
STANDINGS: tuple[Standing, ...] = get_args(Standing)


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
    """Title and plain text of what others want to say."""
    plugin_version: str | None = None


def stand(row: FinishedCell) -> Standing:
    """What became of a cell: how pytest saw it, then the verdict that asks most of the reader."""
    if row.outcome in ("error", "in doubt", "xfailed"):
        return row.outcome
    outcomes = {verdict.outcome for verdict in row.verdicts}
    if row.outcome == "failed" and "regression" not in outcomes:
        return "failed"
    return next((standing for standing in STANDINGS if standing in outcomes), "pass")


def decisive(row: FinishedCell) -> Verdict | None:
    """The verdict that a cell's standing rests on; None where it rests on none."""
    standing = stand(row)
    return next((verdict for verdict in row.verdicts if verdict.outcome == standing), None)


def count_standings(rows: Sequence[FinishedCell]) -> dict[Standing, int]:
    """How many cells stand how, all standings in their order."""
    counts = Counter(map(stand, rows))
    return {standing: counts[standing] for standing in STANDINGS}


def name_cell(row: FinishedCell) -> str:
    """``qwen3-8b[pp512-tg32-c4]``, the last part of the node id."""
    return row.record.node_id.rpartition("::")[2]


def name_model(row: FinishedCell) -> str:
    """``qwen3-8b``, as the node id has it: of a path the last part only."""
    return name_cell(row).partition("[")[0]


def name_parameters(row: FinishedCell) -> str:
    """``pp512-tg32-c4``, what stands in the brackets of the node id."""
    return name_cell(row).partition("[")[2].removesuffix("]")
