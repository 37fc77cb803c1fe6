"""Room 3: the open loop: requests at planned times, whatever is still in flight, and which of them count.

A user does not wait for the others' answers. So the clock of a request starts at its planned time: if it is sent late,
or must wait, that is part of its times (Tene 2013, coordinated omission).
"""

from __future__ import annotations

import asyncio
import math
import random
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Self

from pytest_boobench.errors import HostError
from pytest_boobench.measure import PhaseRun, Ticket
from pytest_boobench.metrics import Sample
from pytest_boobench.servers.clients import ServerAnswer
from pytest_boobench.suite.cell import Arrival, Cell

MOST_IN_FLIGHT = 512
"""More would run into the usual limit of 1,024 open files, and a host that has so many to answer does not keep up."""
LEAD_IN = 2.0
"""The lead-in is this many times as long as the last warm-up request: by then as many requests end as begin."""
LEAST_LEAD_IN = 2
"""Requests."""
READY_S = (0.02, 1.0)
"""A connection is open this long before its request, at least and at most."""
_READY_TIMES = 4
"""In between it is this many times as long as the slowest connection of the warm-up took."""
_SWITCH_S = 0.0002
"""How long a thread may keep Python to itself while the sender's waits: 5 ms by default."""


def plan_window(rate: float, arrival: Arrival, count: int, name: str) -> list[float]:
    """Return the offsets of ``count`` requests in a window of ``count / rate`` seconds, ascending.

    ``poisson``: a Poisson process with that many events in the window, which are as many independent uniform times
    (Ross 2014, theorem 5.2): so the mean rate is exact. The same ``name`` gives the same times in every run.
    """
    if arrival == "constant":
        return [number / rate for number in range(count)]
    chance = random.Random(f"{name}/{count}")  # noqa: S311
    return sorted(chance.random() * count / rate for _ in range(count))


@dataclass(frozen=True, slots=True)
class OpenLoop:
    """A lead-in, a window whose requests count, and a run-out while the last of them are still in flight."""

    host: str
    """For messages."""
    rate: float
    """Requests per second."""
    arrival: Arrival
    counted: int
    """Requests planned in the window; they count even if they end after it."""
    aside: int
    """Requests of the lead-in, and at most of the run-out."""
    ready_s: float = READY_S[0]
    """How long before its planned time the connection of a request is opened."""
    recorded_s: tuple[float, ...] = ()
    """When each request is planned, seconds after the first: a replay, which has no rate, no lead-in and no run-out."""
    plan: str = ""
    """Tells one window's random arrivals from those of others; the same text gives the same ones."""

    @classmethod
    def after_warm_up(cls, cell: Cell, warmed: Iterable[Sample]) -> Self:
        """Make the loop of a cell with a rate; ``warmed`` are the samples of its warm-up."""
        good = [sample for sample in warmed if sample.ok and sample.e2e_ms]
        usual_s = (good[-1].e2e_ms or 0.0) / 1000 if good else 0.0
        opening_s = max((sample.connect_ms or 0.0 for sample in good), default=0.0) / 1000
        recorded_s = list_recorded(cell)
        aside = 0 if recorded_s else max(LEAST_LEAD_IN, math.ceil(LEAD_IN * usual_s * cell.rate))
        return cls(
            host=cell.host,
            rate=cell.rate,
            arrival=cell.arrival,
            counted=len(recorded_s) or cell.plan.samples,
            aside=aside,
            ready_s=min(max(READY_S[0], _READY_TIMES * opening_s), READY_S[1]),
            recorded_s=recorded_s,
        )

    @property
    def _named(self) -> str:
        return "the recorded times" if self.recorded_s else f"{self.rate:g} requests per second"

    @property
    def total(self) -> int:
        """The most requests of all three parts."""
        return self.counted + 2 * self.aside

    @property
    def offsets_s(self) -> list[float]:
        """When each request is planned, from the begin of the lead-in, ascending."""
        if self.recorded_s:
            return list(self.recorded_s)
        found, begin_s = [], 0.0
        for name, count in (("lead-in", self.aside), ("window", self.counted), ("run-out", self.aside)):
            found += [
                begin_s + offset_s for offset_s in plan_window(self.rate, self.arrival, count, f"{name}{self.plan}")
            ]
            begin_s += count / self.rate
        return found

    async def run(self, phase: PhaseRun) -> None:
        """Send the requests at their times. The run-out ends with the last answer that counts.

        Raises HostError if more are in flight than the client can hold.
        """
        phase.began_ns = time.monotonic_ns() + round(self.ready_s * 1e9)
        missing = set(range(self.aside + self.counted))
        in_flight: set[asyncio.Task[None]] = set()

        async def request(number: int, planned_ns: int) -> None:
            await phase.request(0, planned_ns=planned_ns)
            missing.discard(number)

        overrun = False
        with _quick_switches():
            async with asyncio.TaskGroup() as group:
                for number, offset_s in enumerate(self.offsets_s):
                    planned_ns = phase.began_ns + round(offset_s * 1e9)
                    await asyncio.sleep((planned_ns - time.monotonic_ns()) / 1e9 - self.ready_s)
                    if phase.gone or not missing:
                        break
                    if overrun := len(in_flight) >= MOST_IN_FLIGHT:
                        for task in in_flight:
                            task.cancel()
                        break
                    task = group.create_task(request(number, planned_ns))
                    in_flight.add(task)
                    task.add_done_callback(in_flight.discard)
        if overrun:
            raise HostError(
                f"{self.host}: it cannot keep up with {self._named}: {MOST_IN_FLIGHT} are in flight, and more would "
                "measure this client; lower the rate, or output_tokens"
            )

    def mark(self, samples: Sequence[Sample]) -> list[Sample]:
        """Return the samples with their parts: those of lead-in and run-out become warm-up, and do not count.

        Offsets of the others are from the begin of the window.
        """
        begin, end = self.aside, self.aside + self.counted
        window_ms = begin / self.rate * 1000 if begin else 0.0
        return [
            replace(sample, index=sample.index - begin, offset_ms=sample.offset_ms - window_ms)
            if begin <= sample.index < end
            else replace(sample, phase="warmup")
            for sample in samples
        ]


def list_recorded(cell: Cell) -> tuple[float, ...]:
    """Return when each request of a replay is planned, seconds after the first; empty if the cell is none."""
    if cell.arrival != "recorded" or cell.own is None:
        return ()
    times = [line.at_s or 0.0 for line in cell.own.lines]
    return tuple(at_s - times[0] for at_s in times)


def find_window_s(cell: Cell, count: int) -> float:
    """Return how long the window is in which ``count`` requests are planned: as many mean gaps; 0: not planned."""
    recorded_s = list_recorded(cell)
    if len(recorded_s) > 1:
        return recorded_s[-1] * len(recorded_s) / (len(recorded_s) - 1)
    return count / cell.rate if cell.rate else 0.0


@contextmanager
def _quick_switches() -> Iterator[None]:
    """Let threads take turns more often: the sender's must not wait for a long step of the event loop."""
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before_s)


def count_from_plan(sample: Sample, ticket: Ticket, answer: ServerAnswer) -> Sample:
    """Return the sample of a planned request with all its times from its planned moment.

    The answer must have been read and checked before: a server's own times are from when it got the request. The lag
    is the client's own; waiting for a connection that opens slowly is the host's.
    """
    if ticket.planned_ns is None:
        return sample
    offset_ms = (ticket.planned_ns - ticket.phase_began_ns) / 1e6
    if answer.exchange is None:
        return replace(sample, offset_ms=offset_ms)
    sent_ns = answer.exchange.sent_ns
    waited_ms = (sent_ns - ticket.planned_ns) / 1e6
    moved = {name: getattr(sample, name) for name in ("headers_ms", "ttft_ms", "ttfo_ms", "e2e_ms")}
    return replace(
        sample,
        offset_ms=offset_ms,
        started_at=sample.started_at - waited_ms / 1000,
        send_lag_ms=(sent_ns - max(ticket.planned_ns, answer.exchange.opened_ns)) / 1e6,
        chunk_ms=tuple(at_ms + waited_ms for at_ms in sample.chunk_ms),
        **{name: at_ms + waited_ms for name, at_ms in moved.items() if at_ms is not None},
    )
