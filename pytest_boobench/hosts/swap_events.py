"""Room 2: llama-swap's event stream, reopened whenever it ends, and the requests and model states in it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import httpx

from pytest_boobench import wire
from pytest_boobench.facts import ForeignRequest
from pytest_boobench.hosts.watcher import RUN_HEADER
from pytest_boobench.servers.control import list_names
from pytest_boobench.servers.refusals import explain_silence
from pytest_boobench.untrusted import (
    Fault,
    get_count,
    get_list,
    get_object,
    get_text,
    parse_json,
    show,
    to_number,
    to_object,
    to_text,
)

Detail = Literal["nothing", "totals", "requests", "callers"]
"""How much a llama-swap tells about requests in flight."""
_PRIMED_S = 2.0
"""How long to wait for the first event about requests: versions before v192 never send one."""
_AFTER_LOSS_S = 0.05
_AFTER_REFUSAL_S = 1.0
_SILENT_S = 0.05
_SETTLE_TRIES = 10


@dataclass(frozen=True, slots=True)
class InFlight:
    """A request that llama-swap has in flight; None for facts that its version does not give."""

    request: ForeignRequest
    method: str | None = None
    run_uid: str | None = None
    """Value of our header, from any run of ours."""
    began_at: float | None = None
    """Seconds of our monotonic clock."""

    def describe(self) -> ForeignRequest:
        """Return the request in general form, with its age."""
        return replace(
            self.request,
            user_agent=self.request.user_agent if self.run_uid is None else "another boobench run",
            age_s=None if self.began_at is None else time.monotonic() - self.began_at,
        )


@dataclass(slots=True)
class HostState:
    """The host's requests and models by its events, and what happened since `mark`."""

    detail: Detail = "nothing"
    live: dict[str, InFlight] = field(default_factory=dict)
    """In flight now, by id; empty if the host tells only a total."""
    total: int = 0
    """How many are in flight now."""
    seen: dict[str, InFlight] = field(default_factory=dict)
    """All since the mark. Each stream may use the same ids again, so the keys hold the stream's number."""
    states: dict[str, str] = field(default_factory=dict)
    """Model or alias -> its state, such as ``ready``."""
    left_ready: Counter[str] = field(default_factory=Counter)
    """Model or alias -> how often it left the state ``ready`` since the mark."""
    streams: int = 1

    def mark(self) -> None:
        """Begin a window; requests that are in flight now belong to it."""
        self.left_ready.clear()
        self.seen.clear()
        self._remember()

    def forget_live(self) -> None:
        """Drop the requests of the last stream, because a new stream begins."""
        self.live, self.total = {}, 0
        self.streams += 1

    def take(self, message: str) -> str | None:
        """Process one event's data. Returns the event's type, None if the data is not as expected."""
        try:
            envelope = to_object(parse_json(message))
            kind = get_text(envelope, "type")
            payload = parse_json(get_text(envelope, "data") or "")
            if kind == "inflight":
                self._take_inflight(_require(payload, Mapping))
            elif kind == "modelStatus":
                self._take_states([_require(model, Mapping) for model in _require(payload, list)])
        except Fault:
            return None
        return kind

    def _take_inflight(self, payload: Mapping[str, Any]) -> None:
        operation, total = payload.get("operation"), get_count(payload, "total")
        if operation == "upsert":
            entry = _read(get_object(payload, "request"))
            self.live[entry.request.id] = entry
        elif operation == "remove":
            self.live.pop(show(payload.get("id")), None)
        else:
            # A snapshot; without requests it has no list. Lists without headers, and totals, are always snapshots.
            entries = [_read(_require(request, Mapping)) for request in get_list(payload, "requests")]
            self.live = {entry.request.id: entry for entry in entries}
        if total is not None:
            self.detail, self.total = "totals", total
        else:
            self.detail, self.total = "callers" if operation else "requests", len(self.live)
        self._remember()

    def _remember(self) -> None:
        self.seen |= {f"{self.streams}/{id}": entry for id, entry in self.live.items()}

    def _take_states(self, models: list[Mapping[str, Any]]) -> None:
        for model in models:
            state = str(model.get("state"))
            for name in list_names(model):
                if self.states.get(name) == "ready" and state != "ready":
                    self.left_ready[name] += 1
                self.states[name] = state


def _require(value: Any, of: type) -> Any:
    if not isinstance(value, of):
        raise Fault(f"data is {show(value)}")
    return value


def _read(request: Mapping[str, Any]) -> InFlight:
    """Parse one entry of an ``inflight`` event; header names come in any case."""
    headers = {name.lower(): value for name, value in to_object(request.get("req_headers")).items()}
    elapsed_ms = to_number(request.get("elapsed_ms"))
    answered = request.get("resp_headers")
    if request.get("id") is None:
        raise Fault("request.id is missing")
    return InFlight(
        ForeignRequest(
            id=show(request["id"]),
            model=to_text(request.get("model")),
            path=to_text(request.get("req_path")),
            user_agent=to_text(headers.get("user-agent")),
            address=to_text(request.get("remote_ip")),
            queued=None if answered is None else not answered,
        ),
        method=to_text(request.get("method")),
        run_uid=to_text(headers.get(RUN_HEADER.lower())),
        began_at=None if elapsed_ms is None else time.monotonic() - elapsed_ms / 1000,
    )


class EventStream:
    """Reads ``/api/events`` in the background from `open` to `close`; raises nothing for what the host does."""

    def __init__(
        self, client: httpx.AsyncClient, take: Callable[[str], str | None], lost: Callable[[bool], None]
    ) -> None:
        """``take``: an event's data -> its type. ``lost``: called at each end of the stream, with "in order" or not."""
        self._client = client
        self._take = take
        self._lost = lost
        self._task: asyncio.Task[None] | None = None
        self._primed = asyncio.Event()
        self._events = 0
        self.trouble: str | None = None
        """Why there is no stream now."""

    async def open(self) -> None:
        """Start the stream. Wait for its first event about requests in flight, up to two seconds."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        try:
            async with asyncio.timeout(_PRIMED_S):
                await self._primed.wait()
        except TimeoutError:
            if self.trouble is None and self._events:
                self._primed.set()

    async def settle(self) -> None:
        """Wait until all sent data is read: until the host sends nothing for a moment, at most half a second."""
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
                self.trouble, in_order = "it is not compressed as its header says", False
            except httpx.TransportError as error:
                self.trouble, in_order = explain_silence(error), False
            self._primed.clear()
            if self._events > began:
                self._lost(in_order)
            await asyncio.sleep(_AFTER_LOSS_S if self._events > began else _AFTER_REFUSAL_S)

    async def _read(self) -> None:
        """Read one stream to its end, without a timeout, because an idle one sends nothing."""
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
