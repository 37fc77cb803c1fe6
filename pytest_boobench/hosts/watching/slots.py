"""Room 2: watching llama-server by its slots and counters, and behind a router each of the models that are loaded.

A look at ``/slots`` costs a decode about 0.2 ms (``python -m tests.benchmarks.watching``): it is a task in the server's
queue, between two decodes. ``/metrics`` is read at the ends of a window only, since reading it resets gauges.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from pytest_boobench.facts import ForeignRequest, OwnTraffic, Sighting, Traffic
from pytest_boobench.hosts.watching.ended import Ended
from pytest_boobench.hosts.watching.interface import OwnMarks
from pytest_boobench.hosts.watching.naming import name_slots, number_requests
from pytest_boobench.hosts.watching.ours import Ours
from pytest_boobench.hosts.watching.processes import Processes
from pytest_boobench.hosts.watching.stock import CannotTell, LlamaProcess
from pytest_boobench.hosts.watching.window import Window
from pytest_boobench.servers.clients import Clients

_BLIND = (
    "its /slots and /metrics are both off, so it cannot tell whether others use it: start it without --no-slots, or "
    "with --metrics"
)
LOOK_EVERY_S = 0.1
"""Foreign requests that last as long are all found; decode loses 0.2 % by it."""


class SlotsWatcher:
    """Knows ours by the seeds they carry; embeddings carry none, so foreign ones among ours leave only their tokens."""

    def __init__(
        self, clients: Clients, model: str, *, look_every_s: float = LOOK_EVERY_S, patience_s: float = 3.0
    ) -> None:
        self.model = model
        self._processes = Processes(clients.control)
        self._look_every_s = look_every_s
        self._patience_s = patience_s
        self._ours = Ours()
        self._window: Window | None = None
        self._looking: asyncio.Task[None] | None = None
        self._ended = Ended()

    async def look(self) -> Sighting:
        """What is in flight now; neither loads a model nor wakes one that sleeps."""
        try:
            if await self._processes.asleep():
                return Sighting(known=True)
            found = await self._processes.find(self.model)
            in_flight = [request for name in found for request in await self._look_at(name, found[name])]
        except CannotTell as note:
            return Sighting(known=False, why=_BLIND if "is off" in str(note) else "")
        return Sighting(known=True, in_flight=tuple(in_flight), recent=self._ended.tell(time.time()))

    async def _look_at(self, name: str, process: LlamaProcess) -> tuple[ForeignRequest, ...]:
        try:
            slots = [slot for slot in await process.ask_slots() if not self._ours.has(slot)]
        except CannotTell:
            counters = await process.ask_counters()
            self._ended.see_total(name, counters.prompt_tokens + counters.predicted_tokens, "token", time.time())
            return number_requests(counters.processing, counters.queued, name)
        self._ended.see_slots(name, slots, time.time())
        return name_slots((slot for slot in slots if slot.processing), name)

    async def begin(self, marks: OwnMarks) -> None:
        """Open a window: take stock, then look ten times a second."""
        await self.close()
        self._ours = Ours.by(marks.seeds, known=self._ours.seeds)
        self._window = Window(self._processes, self._ours, self.model, patience_s=self._patience_s)
        await self._window.open()
        self._looking = asyncio.create_task(self._keep_looking(self._window))

    async def _keep_looking(self, window: Window) -> None:
        while True:
            await asyncio.sleep(self._look_every_s)
            await window.look()

    async def end(self, own: OwnTraffic) -> Traffic:
        """Close the window. Tokens are exact or blank, requests too short for any look are at least 1."""
        window = self._window
        await self.close()
        return await window.close(own) if window is not None else Traffic()

    async def close(self) -> None:
        """Stop looking; a window that is open is forgotten."""
        self._ended.forget()
        self._window = None
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking
            self._looking = None
