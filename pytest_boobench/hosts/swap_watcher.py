"""Room 2: watching a llama-swap: its event stream shows requests in flight, its log counts the finished ones."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace

from pytest_boobench.facts import ForeignRequest, OwnTraffic, Sighting, Traffic
from pytest_boobench.hosts.swap_events import EventStream, HostState, InFlight
from pytest_boobench.hosts.swap_log import (
    Evidence,
    LoggedRequest,
    fetch_recent,
    fetch_rows,
    find_newest_id,
    leave_ours_out,
    weigh,
)
from pytest_boobench.hosts.swap_machine import Samples, fetch_samples, summarize_samples
from pytest_boobench.hosts.watcher import RUN_HEADER, OwnMarks, Watcher
from pytest_boobench.servers.clients import Clients

_LOG_TRIES = 10
_LOG_WAIT_S = 0.1


class SwapWatcher(Watcher):
    """Watches all models of one llama-swap by one event stream, open from the first `look` or `begin` to `close`."""

    def __init__(self, clients: Clients, model: str) -> None:
        super().__init__(model)
        self._client = clients.control
        self._run_uid = clients.control.headers.get(RUN_HEADER, "")
        self._state = HostState()
        self._stream = EventStream(self._client, self._state.take, self._lose)
        self._window = Evidence()
        self._newest_id: int | None = None
        """The last id in the log when the window opened."""
        self._known_id = 0
        """Requests up to this id were in a window: looks do not show them."""
        self._samples: Samples = {}
        """Of its machine, when the window opened."""

    async def look(self) -> Sighting:
        """Return what is in flight now; unknown before v192, which has no such events."""
        await self._catch_up()
        recent = tuple(map(str, await fetch_recent(self._client, self._known_id)))
        if not self._sees():
            return Sighting(known=False, recent=recent)
        if self._state.detail == "totals":
            foreign = tuple(ForeignRequest(id=str(number)) for number in range(1, self._state.total + 1))
        else:
            foreign = tuple(entry.describe() for entry in self._find_present())
        return Sighting(known=True, in_flight=foreign, recent=recent)

    async def begin(self, marks: OwnMarks) -> None:
        """Open a window: count all foreign requests in flight now or later."""
        self._run_uid = marks.run_uid
        await self._catch_up()
        self._newest_id = await find_newest_id(self._client)
        self.hardware, self._samples = None, await fetch_samples(self._client)
        self._state.mark()
        present = self._find_present()
        total = self._state.total if self._state.detail == "totals" else len(present)
        self._window = Evidence(present=present, total_at_start=total if self._sees() else None)

    async def end(self, own: OwnTraffic) -> Traffic:
        """Close the window."""
        await self._catch_up()
        state = self._state
        if state.states.get(self.model) == "ready":  # a peer's model runs on another machine
            self.hardware = summarize_samples(self._samples, await fetch_samples(self._client))
        ended = _count_posted(state.seen.values()) - _count_posted(state.live.values())
        rows = await self._fetch_rows(max(own.requests, ended))
        self._known_id = max((row.id for row in rows or ()), default=self._known_id)
        return weigh(
            replace(
                self._window,
                detail=state.detail,
                run_uid=self._run_uid,
                seen=tuple(state.seen.values()),
                live_at_end=state.total,
                rows=rows,
                model_swaps=state.left_ready[self.model],
                trouble=self._stream.trouble,
            ),
            own,
        )

    async def close(self) -> None:
        """Stop watching."""
        await self._stream.close()

    async def _catch_up(self) -> None:
        await self._stream.open()
        await self._stream.settle()

    def _sees(self) -> bool:
        return self._stream.trouble is None and self._state.detail != "nothing"

    def _find_present(self) -> tuple[InFlight, ...]:
        return leave_ours_out(self._state.live.values(), self._run_uid)

    def _lose(self, in_order: bool) -> None:
        """A stream ends in order when llama-swap reloads its configuration, and breaks off for all other reasons."""
        self._state.forget_live()
        if in_order:
            self._window.reloads += 1
        else:
            self._window.breaks += 1

    async def _fetch_rows(self, expected: int) -> list[LoggedRequest] | None:
        """The requests that ended in the window. Waits for the expected ones, because each is logged a little later."""
        if self._newest_id is None:
            return None
        for _ in range(_LOG_TRIES):
            rows = await fetch_rows(self._client, self._newest_id)
            if rows is None or len(rows) >= expected:
                break
            await asyncio.sleep(_LOG_WAIT_S)
        return rows


def _count_posted(entries: Iterable[InFlight]) -> int:
    """How many of them the log will have: it holds only POST requests."""
    return sum(entry.method == "POST" for entry in entries)
