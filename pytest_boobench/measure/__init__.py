"""Room 3: the phases of a cell. It runs requests as a closed loop of lanes; their answers are read afterwards."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

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


async def run_phase(
    send: Send,
    alive: Callable[[], Awaitable[bool]],
    phase: Phase,
    *,
    lanes: int,
    count: int,
    observe: Observe = ignore_progress,
) -> PhaseResult:
    """Send ``count`` requests in all: each lane starts its next one as soon as its last one has ended.

    A failed request does not end the others, but a host that is no longer ``alive`` ends them all: each would only wait
    for its time-out.
    """
    observe(phase, 0, count)
    began_ns = time.monotonic_ns()
    numbers = iter(range(count))
    answers: list[tuple[Ticket, ServerAnswer]] = []
    gone = False

    async def run_lane(lane: int) -> None:
        nonlocal gone
        for index in numbers:
            if gone:
                return
            ticket = Ticket(phase, lane, index, began_ns)
            answer = await send(ticket)
            answers.append((ticket, answer))
            observe(phase, len(answers), count)
            if answer.unanswered and not await alive():
                gone = True

    with collector_held():
        async with asyncio.TaskGroup() as group:
            for lane in range(min(lanes, count)):
                group.create_task(run_lane(lane))
    return PhaseResult(tuple(sorted(answers, key=lambda pair: pair[0].index)), gone)
