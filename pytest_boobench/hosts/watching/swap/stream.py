"""llama-swap's event stream, kept open: opened again whenever it ends, as it does when a configuration is reloaded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx

from pytest_boobench import wire
from pytest_boobench.servers.refusals import explain_silence

_PRIMED_S = 2.0
"""How long to wait for the first word on requests in flight: versions before v192 never say one."""
_AFTER_LOSS_S = 0.05
_AFTER_REFUSAL_S = 1.0
_SILENT_S = 0.05
_SETTLE_TRIES = 10


class EventStream:
    """Reads ``/api/events`` in the background from `open` to `close`; nothing that the host does is raised."""

    def __init__(
        self, client: httpx.AsyncClient, take: Callable[[str], str | None], lost: Callable[[bool], None]
    ) -> None:
        """``take`` gets each event's data and tells its type; ``lost`` hears that a stream is over, and if in order."""
        self._client = client
        self._take = take
        self._lost = lost
        self._task: asyncio.Task[None] | None = None
        self._primed = asyncio.Event()
        self._events = 0
        self.trouble: str | None = None
        """Why there is no stream now."""

    async def open(self) -> None:
        """See to it that the stream runs and has said what is in flight, where it ever does."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        try:
            async with asyncio.timeout(_PRIMED_S):
                await self._primed.wait()
        except TimeoutError:
            if self.trouble is None and self._events:
                self._primed.set()

    async def settle(self) -> None:
        """Wait until all that the host has sent by now is read: until it is silent for a moment, or half a second."""
        for _ in range(_SETTLE_TRIES):
            before = self._events
            await asyncio.sleep(_SILENT_S)
            if self._events == before:
                return

    async def close(self) -> None:
        """Stop reading."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def _run(self) -> None:
        while True:
            began = self._events
            try:
                await self._read()
                in_order = True
            except wire.BadAnswer as error:
                self.trouble, in_order = str(error), False
            except httpx.DecodingError:
                self.trouble, in_order = "it is not packed as its header says", False
            except httpx.TransportError as error:
                self.trouble, in_order = explain_silence(error), False
            self._primed.clear()
            if self._events > began:
                self._lost(in_order)
            await asyncio.sleep(_AFTER_LOSS_S if self._events > began else _AFTER_REFUSAL_S)

    async def _read(self) -> None:
        """One stream to its end. Idle ones send nothing at all, so silence is no reason to give up."""
        timeout = httpx.Timeout(self._client.timeout.connect, read=None)
        async with self._client.stream("GET", "/api/events", timeout=timeout) as response:
            if response.status_code != httpx.codes.OK:
                self.trouble = f"GET /api/events: {response.status_code}"
                return
            self.trouble = None
            decoder = wire.SseDecoder()
            read = 0
            async for piece in response.aiter_bytes():
                read += len(piece)
                messages = decoder.feed(piece)
                if messages:
                    read = 0
                elif read > wire.MOST_BYTES:
                    raise wire.BadAnswer(f"an event is longer than {wire.MOST_BYTES >> 20} MB")
                for message in messages:
                    self._events += 1
                    if self._take(message.data) == "inflight":
                        self._primed.set()
        self.trouble = "the event stream ended"
