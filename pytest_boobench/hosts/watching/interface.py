"""What every way of watching a host can be asked. A Protocol: kinds of server tell of others in different ways."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pytest_boobench.facts import OwnTraffic, Sighting, Traffic

RUN_HEADER = "X-Boobench-Run"
"""Names the run that a request belongs to: by it our own are told from foreign ones."""


@dataclass(frozen=True, slots=True)
class OwnMarks:
    """By what a watcher knows our requests while they run."""

    run_uid: str
    """Value of the header ``X-Boobench-Run``."""
    seeds: frozenset[int] = frozenset()
    """Seeds that our requests carry."""


class Watcher(Protocol):
    """Watches one host. Windows follow each other and never overlap.

    Methods never raise for what the host does: what cannot be seen is a note in the Traffic, or unknown.
    """

    model: str
    """The one that the next window is of."""

    async def look(self) -> Sighting:
        """What is in flight now. Never loads a model."""
        ...

    async def begin(self, marks: OwnMarks) -> None:
        """Open a window, right before the first request of a cell."""
        ...

    async def end(self, own: OwnTraffic) -> Traffic:
        """Close the window, right after the last answer, and say what was in it that is not ours."""
        ...

    async def close(self) -> None:
        """Stop watching."""
        ...
