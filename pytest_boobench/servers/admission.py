"""A host that lets only so many requests in at once: wait as it says, ask again, and say so where a cell needs more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import httpx

from pytest_boobench.metrics import Sample
from pytest_boobench.servers.clients import Answer
from pytest_boobench.suite.cell import Cell

DEFAULT_WAIT_S = 1.0
"""Where the host does not say how long to wait."""


@dataclass(slots=True)
class Door:
    """Sends measured requests through a host's limit, and knows how many of them it ever let in at once."""

    _stays: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """Model -> from when to when each request was inside, monotonic nanoseconds."""

    async def send(self, attempt: Callable[[], Awaitable[Answer]], cell: Cell) -> Answer:
        """The first answer that is no 429, or the last 429 when the request's time is up.

        Each try is a request with a clock of its own: waiting is in no sample's times.
        """
        began = time.monotonic()
        turned_away = 0
        while True:
            answer = await attempt()
            wait_s = DEFAULT_WAIT_S if answer.retry_after_s is None else answer.retry_after_s
            refused = answer.status == httpx.codes.TOO_MANY_REQUESTS
            if not refused or time.monotonic() - began + wait_s > cell.plan.timeouts.request_s:
                break
            turned_away += 1
            await asyncio.sleep(wait_s)
        if answer.exchange is not None and not refused:
            stay = (answer.exchange.sent_ns, answer.exchange.end_ns)
            self._stays.setdefault(cell.model, []).append(stay)
        return replace(answer, turned_away=turned_away)

    def count_at_once(self, model: str) -> int:
        """The most requests for a model that were ever inside together."""
        turns = [turn for began, ended in self._stays.get(model, ()) for turn in ((began, 1), (ended, -1))]
        inside = most = 0
        for _, step in sorted(turns):
            inside += step
            most = max(most, inside)
        return most

    def check(self, sample: Sample, answer: Answer, cell: Cell) -> Sample:
        """The sample, failed where it was turned away and the host never had as many at once as the cell has lanes."""
        refused = answer.turned_away or answer.status == httpx.codes.TOO_MANY_REQUESTS
        at_once = self.count_at_once(cell.model)
        if not refused or not 0 < at_once < cell.concurrency:
            return sample
        text = (
            f"429: the host lets {at_once} requests for {cell.model} in at once, the cell sends {cell.concurrency}; "
            "raise its concurrencyLimit (10 where its configuration does not say), or lower grid.concurrency"
        )
        return replace(sample, failure="status", failure_text=text)
