"""Door 3: answers that go on: server-sent events of runs and of exchanges."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

from starlette.responses import StreamingResponse

from pytest_boobench.page.api_types import to_json
from pytest_boobench.page.run_file import RunFile

_ALIVE_EVERY_S = 15.0
"""How often a quiet stream sends a comment, so that both ends notice where the other is gone."""
ALIVE = ": alive\n\n"


class EventAnswer(StreamingResponse):
    """A stream of server-sent events."""

    def __init__(self, events: AsyncIterator[str]) -> None:
        super().__init__(events, media_type="text/event-stream")


def write_event(kind: str, data: Any, name: str | None = None) -> str:
    """One event; its data is on one line."""
    named = "" if name is None else f"id: {name}\n"
    return f"{named}event: {kind}\ndata: {to_json(data)}\n\n"


async def follow_run(run: RunFile, last: str, *, ending: Callable[[], bool]) -> AsyncIterator[str]:
    """A run's events after the one of this name, and those to come until its end, or the server's.

    From the beginning, or after an event that this server never told, it begins with the run itself, as a replay.
    """
    after = run.find_event(last)
    if not after:
        yield write_event("run", replace(run.describe(), replay=True))
    while not ending():
        changed = run.changed
        for number, kind, data in run.list_events(after):
            yield write_event(kind, data, run.name_event(number))
            after = number
            if kind == "end":
                return
        if run.changed is changed:
            try:
                async with asyncio.timeout(_ALIVE_EVERY_S):
                    await changed.wait()
            except TimeoutError:
                yield ALIVE


async def read_queue(queue: asyncio.Queue[tuple[str, Any] | None], stop: Callable[[], None]) -> AsyncIterator[str]:
    """The events of an exchange until None comes; ``stop`` is called where the reader leaves before."""
    event: tuple[str, Any] | None = ("", None)
    try:
        while event is not None:
            try:
                event = await asyncio.wait_for(queue.get(), _ALIVE_EVERY_S)
            except TimeoutError:
                yield ALIVE
            else:
                if event is not None:
                    yield write_event(*event)
    finally:
        if event is not None:
            stop()
