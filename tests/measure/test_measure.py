"""Room 3: lanes, phases and what a dead host does to them; the load is a scripted one, no HTTP is known here."""

from __future__ import annotations

import asyncio
import gc
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import pytest

from pytest_boobench.measure import ClosedLoop, PhaseResult, Ticket, run_phase
from pytest_boobench.metrics import Phase


@dataclass(frozen=True)
class Reply:
    unanswered: bool = False


class Script:
    """A load that counts what is in flight and answers as it is told."""

    def __init__(self, *, broken: frozenset[int] = frozenset(), alive: bool = True) -> None:
        self.broken = broken
        self.is_alive = alive
        self.tickets: list[Ticket] = []
        self.in_flight: dict[int, int] = defaultdict(int)
        self.most = 0
        self.asked_alive = 0

    async def send(self, ticket: Ticket) -> Reply:
        self.tickets.append(ticket)
        self.in_flight[ticket.lane] += 1
        self.most = max(self.most, sum(self.in_flight.values()))
        assert self.in_flight[ticket.lane] == 1, "a lane has one request at a time"
        await asyncio.sleep(0)
        self.in_flight[ticket.lane] -= 1
        return Reply(unanswered=ticket.index in self.broken)

    async def alive(self) -> bool:
        self.asked_alive += 1
        return self.is_alive

    async def run(self, phase: Phase = "measure", *, lanes: int, **said: Any) -> PhaseResult:
        return await run_phase(self.send, self.alive, phase, ClosedLoop(lanes), **said)  # type: ignore[arg-type]


@pytest.mark.parametrize(("lanes", "count", "most"), [(1, 5, 1), (4, 10, 4), (8, 3, 3), (3, 0, 0)])
def test_samples_are_a_closed_loop_of_lanes(lanes: int, count: int, most: int) -> None:
    script = Script()
    result = asyncio.run(script.run(lanes=lanes, count=count))
    assert [ticket.index for ticket, _ in result.answers] == list(range(count))
    assert {ticket.phase for ticket in script.tickets} <= {"measure"}
    assert script.most == most
    assert not result.gone
    assert script.asked_alive == 0


def test_warm_up_uses_all_lanes() -> None:
    script = Script()
    result = asyncio.run(script.run("warmup", lanes=4, count=8))
    assert len(result.answers) == 8
    assert {ticket.phase for ticket, _ in result.answers} == {"warmup"}
    assert {ticket.lane for ticket, _ in result.answers} == {0, 1, 2, 3}


def test_a_failed_request_never_ends_the_others() -> None:
    script = Script(broken=frozenset({1, 2}))
    result = asyncio.run(script.run(lanes=2, count=8))
    assert len(result.answers) == 8
    assert not result.gone
    assert script.asked_alive == 2


def test_a_dead_host_ends_them_all_and_keeps_what_came() -> None:
    script = Script(broken=frozenset({3}), alive=False)
    result: PhaseResult = asyncio.run(script.run(lanes=2, count=100))
    assert result.gone
    assert 4 <= len(result.answers) <= 6
    assert [ticket.index for ticket, _ in result.answers] == sorted(ticket.index for ticket, _ in result.answers)


def test_no_collector_runs_while_requests_do() -> None:
    seen = []

    class Watched(Script):
        async def send(self, ticket: Ticket) -> Reply:
            seen.append(gc.isenabled())
            return await super().send(ticket)

    assert gc.isenabled()
    asyncio.run(Watched().run(lanes=2, count=4))
    assert seen == [False] * 4
    assert gc.isenabled()
    gc.disable()
    try:
        asyncio.run(Watched().run(lanes=1, count=1))
        assert not gc.isenabled(), "it stays as it was found"
    finally:
        gc.enable()
