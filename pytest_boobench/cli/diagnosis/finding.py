"""Door 2: one line of the diagnosis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how it is, and what to do where it is not as it should be."""

    state: State
    topic: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.state:<4}  {self.topic}: {self.text}{f'; {self.remedy}' if self.remedy else ''}"
