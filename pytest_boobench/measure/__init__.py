"""Room 3: the phases of a cell. A workload decides when requests are sent; their answers are read afterwards."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from pytest_boobench.metrics import Phase
from pytest_boobench.servers.clients import ServerAnswer


@dataclass(frozen=True, slots=True)
class Ticket:
    """The place of one request in its cell."""

    phase: Phase
    lane: int
    index: int
    """Number in the phase, from 0, in the order of starting."""
    phase_began_ns: int
    """Monotonic clock when the phase began."""
    turn: int = 0
    """Number of the turn in its conversation, from 1; 0: no conversation."""
    planned_ns: int | None = None
    """Monotonic clock when it should be sent, in an open loop."""
    chosen: int | None = None
    """Number of its request in the list of the phase, if that is not the order of starting."""

    @property
    def number(self) -> int:
        """Number of its request in the list of the phase, from 0."""
        return self.index if self.chosen is None else self.chosen


Send = Callable[[Ticket], Awaitable[ServerAnswer]]
Observe = Callable[[Phase, int, int], None]
"""Receives the progress of a phase: its name, requests ended, requests in all. It is called between the requests of a
lane while other lanes may have theirs in flight, so it must be quick."""


def ignore_progress(phase: Phase, done: int, total: int) -> None:
    """The default observer."""


@contextmanager
def collector_held() -> Iterator[None]:
    """Turn Python's garbage collector off: a pass of it takes 10 ms and more, during which no byte is read."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@dataclass(frozen=True, slots=True)
class PhaseResult:
    """All answers of a phase, unread, in the order of starting."""

    answers: tuple[tuple[Ticket, ServerAnswer], ...]
    gone: bool = False
    """Whether the host died during the phase."""


@dataclass(slots=True)
class PhaseRun:
    """A phase that is going on: the way of a workload to send requests."""

    send: Send
    alive: Callable[[], Awaitable[bool]]
    phase: Phase
    count: int
    """How many requests there are at most."""
    observe: Observe = ignore_progress
    began_ns: int = field(default_factory=time.monotonic_ns)
    started: int = 0
    gone: bool = False
    """Whether the host died. Then no further request is sent: each would only wait for its time-out."""
    answers: list[tuple[Ticket, ServerAnswer]] = field(default_factory=list)

    async def request(
        self, lane: int, *, turn: int = 0, planned_ns: int | None = None, chosen: int | None = None
    ) -> ServerAnswer | None:
        """Send the next request, or the chosen one, and wait for its answer; None if there is none left, or the host
        is gone.

        A failed request does not end the phase.
        """
        if self.gone or self.started >= self.count:
            return None
        ticket = Ticket(self.phase, lane, self.started, self.began_ns, turn, planned_ns, chosen)
        self.started += 1
        answer = await self.send(ticket)
        self.answers.append((ticket, answer))
        self.observe(self.phase, len(self.answers), self.count)
        if answer.unanswered and not await self.alive():
            self.gone = True
        return answer


class Workload(Protocol):
    """When requests are sent."""

    async def run(self, phase: PhaseRun) -> None:
        """Send the requests of a phase."""
        ...


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """Each lane starts its next request as soon as its last one has ended."""

    lanes: int

    async def run(self, phase: PhaseRun) -> None:
        """Send requests down all lanes until none is left."""

        async def run_lane(lane: int) -> None:
            while await phase.request(lane) is not None:
                pass

        async with asyncio.TaskGroup() as group:
            for lane in range(min(self.lanes, phase.count)):
                group.create_task(run_lane(lane))


@dataclass(frozen=True, slots=True)
class EqualShares:
    """A closed loop in which it is fixed which lane sends a request: number i is lane i modulo the lanes."""

    lanes: int

    async def run(self, phase: PhaseRun) -> None:
        """Send each lane's requests, one after the other."""

        async def run_lane(lane: int) -> None:
            for number in range(lane, phase.count, self.lanes):
                if await phase.request(lane, chosen=number) is None:
                    return

        async with asyncio.TaskGroup() as group:
            for lane in range(min(self.lanes, phase.count)):
                group.create_task(run_lane(lane))


@dataclass(frozen=True, slots=True)
class Groups:
    """A closed loop in which a lane sends a whole group of requests, one after the other, before it takes the next."""

    lanes: int
    groups: tuple[tuple[int, ...], ...]
    """Numbers of requests, in the order in which the groups begin."""

    async def run(self, phase: PhaseRun) -> None:
        """Send all groups."""
        left = iter(self.groups)

        async def run_lane(lane: int) -> None:
            for group in left:
                for number in group:
                    if await phase.request(lane, chosen=number) is None:
                        return

        async with asyncio.TaskGroup() as tasks:
            for lane in range(min(self.lanes, len(self.groups))):
                tasks.create_task(run_lane(lane))


async def run_phase(
    send: Send,
    alive: Callable[[], Awaitable[bool]],
    phase: Phase,
    workload: Workload,
    *,
    count: int,
    observe: Observe = ignore_progress,
) -> PhaseResult:
    """Send ``count`` requests in all, when the workload says."""
    observe(phase, 0, count)
    run = PhaseRun(send, alive, phase, count, observe)
    with collector_held():
        await workload.run(run)
    return PhaseResult(tuple(sorted(run.answers, key=lambda pair: pair[0].index)), run.gone)
