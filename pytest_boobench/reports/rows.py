"""One finished cell, as the reports are handed it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pytest_boobench.record import CellRecord, Verdict

ItemOutcome = Literal["passed", "failed", "skipped", "xfailed", "error", "in doubt"]
"""An item is in doubt until it is judged; it stays so where the session ends before."""


@dataclass(slots=True)
class Row:
    """A cell's record with what became of it; filled as its reports come in."""

    record: CellRecord
    outcome: ItemOutcome
    verdicts: tuple[Verdict, ...] = ()
    saved: bool = False
    """Whether this session made it a baseline."""
    reruns: tuple[str, ...] = ()
    """Why another plugin ran the item again, attempt by attempt; what is here is the last one."""


def is_savable(row: Row) -> bool:
    """Whether a cell may become a baseline: measured alone and steadily, with a number that is judged, and not found
    slower than the one there is."""
    return (
        row.outcome in ("passed", "skipped")
        and row.record.clean
        and row.record.reference_host is None
        and any(verdict.now is not None for verdict in row.verdicts)
        and not any(verdict.outcome == "regression" for verdict in row.verdicts)
    )
