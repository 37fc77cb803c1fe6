"""Room 3: warm-up, lanes, samples. It runs requests as a closed loop and knows nothing of how one is made or read."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from pytest_boobench.metrics import Phase


@dataclass(frozen=True, slots=True)
class Ticket:
    """The place of one request in its cell: handed to ``send``, kept beside the answer."""

    phase: Phase
    lane: int
    index: int
    """Number in the phase, from 0, in the order of starting."""
    phase_began_ns: int
    """Monotonic clock when the phase began."""


class Answered(Protocol):
    """What ``send`` brings back, unread: reading waits until the phase is over, so that it disturbs no clock."""

    @property
    def unanswered(self) -> bool:
        """Whether the host gave no sign of life at all: then it is asked whether it still lives."""
        ...


A = TypeVar("A", bound=Answered)
Observe = Callable[[Phase, int, int], None]
"""Told how a phase comes along: its name, requests ended, requests in all. Called between the requests of a lane, so it
must be quick: other lanes may have theirs in flight."""


def ignore_progress(phase: Phase, done: int, total: int) -> None:
    """The observer of those who do not watch."""


@contextmanager
def collector_held() -> Iterator[None]:
    """Hold Python's garbage collector off: a pass of it takes 10 ms and more, and no byte is read meanwhile."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@dataclass(frozen=True, slots=True)
class Load(Generic[A]):
    """How to put load on a host: ``send`` makes one request, ``alive`` says whether the host still answers at all."""

    send: Callable[[Ticket], Awaitable[A]]
    alive: Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class PhaseResult(Generic[A]):
    """All answers of a phase in the order of starting; ``gone`` when the host died under it."""

    answers: tuple[tuple[Ticket, A], ...]
    gone: bool = False


async def warm_up(load: Load[A], *, lanes: int, per_lane: int, observe: Observe = ignore_progress) -> PhaseResult[A]:
    """Send ``per_lane`` requests down each lane, all lanes at once."""
    return await _run(load, "warmup", lanes, lanes * per_lane, observe)


async def take_samples(load: Load[A], *, lanes: int, count: int, observe: Observe = ignore_progress) -> PhaseResult[A]:
    """Send ``count`` requests in all: each lane starts its next one as soon as its last one has ended."""
    return await _run(load, "measure", lanes, count, observe)


async def _run(load: Load[A], phase: Phase, lanes: int, count: int, observe: Observe) -> PhaseResult[A]:
    """A failed request never ends the others; a dead host ends them all: each would only wait for its time-out."""
    observe(phase, 0, count)
    began_ns = time.monotonic_ns()
    numbers = iter(range(count))
    answers: list[tuple[Ticket, A]] = []
    gone = False

    async def run_lane(lane: int) -> None:
        nonlocal gone
        for index in numbers:
            if gone:
                return
            ticket = Ticket(phase, lane, index, began_ns)
            answer = await load.send(ticket)
            answers.append((ticket, answer))
            observe(phase, len(answers), count)
            if answer.unanswered and not await load.alive():
                gone = True

    with collector_held():
        async with asyncio.TaskGroup() as group:
            for lane in range(min(lanes, count)):
                group.create_task(run_lane(lane))
    return PhaseResult(tuple(sorted(answers, key=lambda pair: pair[0].index)), gone)
