"""Room 2: what foreign requests are called where a server tells little of them."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_boobench.facts import ForeignRequest
from pytest_boobench.hosts.watching.stock import Slot

_MOST = 10_000
"""Requests that are told apart; a server that says more makes no sense."""


def name_slots(slots: Iterable[Slot], model: str) -> tuple[ForeignRequest, ...]:
    """Requests that have a slot."""
    return tuple(ForeignRequest(id=f"task {slot.task}", model=model, queued=False) for slot in slots)


def number_requests(running: int, waiting: int, model: str) -> tuple[ForeignRequest, ...]:
    """Requests of which the server only says how many there are."""
    return tuple(
        ForeignRequest(id=f"request {number}", model=model, queued=number > running)
        for number in range(1, min(running + waiting, _MOST) + 1)
    )
