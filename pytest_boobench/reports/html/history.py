"""Room 7: what a page is made from, and how it is asked for: no more of a store than a page shows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pytest_boobench.metrics import Sample
from pytest_boobench.record import Measurement
from pytest_boobench.reports.html.courses import follow
from pytest_boobench.reports.session import Unmeasured

RUNS = 50
"""Measurements of a cell that are shown where nobody says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What a page is made from."""

    measurements: Sequence[Measurement]
    """Of all cells, in any order."""
    samples: Mapping[int, Sequence[Sample]] = field(default_factory=dict)
    """By the measurement's id: of each cell's newest, and of its baseline's newest."""
    store: str = ""
    """Where the measurements are from, fit for people to read: no password in it."""
    unmeasured: Sequence[Unmeasured] = ()
    """Cells of the session without a measurement: the store knows nothing of them."""
    session: str | None = None
    """The pytest session that the page is about; None for whatever is the newest of each cell."""


class Ask(Protocol):
    """Measurements of the cells that the page is about: the newest so many of each, or those in force as baselines."""

    def __call__(self, *, last: int | None = None, baselines: Collection[str] = ()) -> Sequence[Measurement]: ...


def gather(
    ask: Ask,
    ask_samples: Callable[[Collection[int]], Mapping[int, Sequence[Sample]]],
    *,
    last: int = RUNS,
    **said: Any,
) -> History:
    """The history of the cells; ``said`` are further fields of it.

    A baseline may be older than the runs that are shown: it is asked for apart.
    """
    measurements = list(ask(last=last))
    session = said.get("session")
    newest = [course.newest for course in follow(measurements, session)]
    if names := {verdict.baseline_name for one in newest for verdict in one.verdicts if verdict.baseline_name}:
        known = {one.cell_key for one in newest}
        measurements += [one for one in ask(baselines=sorted(names)) if one.cell_key in known]
    courses = follow(measurements, session)
    drawn = [one for course in courses for one in (course.newest, course.baseline) if one is not None]
    return History(measurements=measurements, samples=ask_samples([one.id for one in drawn]), **said)
