"""One finished cell, as the reports are handed it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pytest_boobench.record import CellRecord, Verdict

ItemOutcome = Literal["passed", "failed", "skipped", "xfailed", "error"]


@dataclass(slots=True)
class Row:
    """A cell's record with what became of it; filled as its reports come in."""

    record: CellRecord
    outcome: ItemOutcome
    verdicts: tuple[Verdict, ...] = ()
    saved: bool = False
    """Whether this session made it a baseline."""
