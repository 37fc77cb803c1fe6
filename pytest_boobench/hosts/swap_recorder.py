"""Room 2: what finishes on a llama-swap, as numbers: its log tells them, its events tell when to look."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

import httpx

from pytest_boobench.hosts.swap_events import EventStream, HostState, InFlight
from pytest_boobench.hosts.swap_log import LoggedRequest, fetch_rows
from pytest_boobench.recording import Spoken
from pytest_boobench.untrusted import Fault, get_count, get_text, parse_json, to_object, to_objects

_LOOK_EVERY_S = 30.0
"""Time between two looks at the log if no event tells of a finished request."""
_LOOK_AGAIN_S = 1.0
"""The same while there are no events."""
_APART_S = 1.0
"""A request of the events and one of the log are the same if their times differ by less."""
_APART_BY_LOG_S = 2.5
"""The same if no event told when the row was logged: the log's times are whole seconds."""
_FUTURE_S = 2.0
"""A host's times are whole seconds."""
_KEEP_GONE_S = 600.0
_MOST_TOKENS = 10_000_000
"""No context is longer."""


@dataclass(slots=True)
class _Flight:
    """A request as it was seen in flight. Times are seconds since 1970 UTC by our clock."""

    entry: InFlight
    began_s: float | None
    """None if it was in flight already when we began, and its age is not told."""
    gone_s: float | None = None


class SwapRecorder:
    """Follows the log of one llama-swap. Raises nothing for what the host does, once it has started."""

    def __init__(self, client: httpx.AsyncClient, model: str | None, tell: Callable[[str], None]) -> None:
        """``model`` None: all of them. ``tell`` gets a sentence when the log is out of reach, and when it is back."""
        self._client = client
        self._model = model
        self._tell = tell
        self._state = HostState()
        self._stream = EventStream(client, self._take, self._lose)
        self._woken = asyncio.Event()
        self._stopped = False
        self._flights: list[_Flight] = []
        self._announced_s: dict[int, float] = {}
        """Id in the log -> when an event told of it."""
        self._newest: LoggedRequest | None = None
        self._began_s = 0.0
        self._present = False
        """Whether anything was in flight when we began, or nobody could say."""
        self._out_since_s: float | None = None
        self.left_out: Counter[str] = Counter()
        """Why a request is not in the recording -> how many of them."""

    async def start(self, *, past: bool) -> list[tuple[str, Spoken]] | None:
        """Begin to follow. Return the requests that are in the log already, if asked; None if there is no log."""
        await self._stream.open()
        await self._stream.settle()
        self._began_s = time.time()
        self._present = self._state.detail == "nothing" or self._state.total > 0
        rows = await fetch_rows(self._client, 0)
        if rows is None:
            return None
        self._newest = max(rows, key=lambda row: row.id, default=None)
        self._announced_s.clear()
        return list(self._read(rows, past=True)) if past else []

    async def follow(self) -> AsyncIterator[tuple[str, Spoken]]:
        """Yield model and numbers of each request that finishes from now on, until `stop`."""
        last = False
        while not last:
            await self._wait()
            last = self._stopped
            for found in self._read(await self._fetch_new(), past=False):
                yield found

    def stop(self) -> None:
        """End `follow` after a last look."""
        self._stopped = True
        self._woken.set()

    async def close(self) -> None:
        """Stop listening to events."""
        await self._stream.close()

    @property
    def knows_callers(self) -> bool:
        """Whether this llama-swap tells who sends a request, so that those of boobench can be left out."""
        return self._state.detail == "callers"

    async def _wait(self) -> None:
        """Until an event tells of a finished request, it is time for a look, or following stops."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_EVERY_S if self._stream.trouble is None else _LOOK_AGAIN_S):
                await self._woken.wait()
        self._woken.clear()

    async def _fetch_new(self) -> list[LoggedRequest]:
        """What ended since the last look. The newest known row is asked for too: if it is another one now, llama-swap
        was restarted and its ids begin anew."""
        known = self._newest
        rows = await fetch_rows(self._client, known.id - 1 if known is not None else 0)
        if rows is not None and known is not None and not any(_is_same(row, known) for row in rows):
            after = min((row.id for row in rows), default=0)
            if after > known.id:  # ids have no gaps, so the log has dropped its oldest rows
                self.left_out["no longer in the log when it was read"] += after - known.id - 1
            else:
                rows, known = await fetch_rows(self._client, 0), None
        self._tell_of_outage(rows is None)
        if rows is None:
            return []
        new = [row for row in rows if known is None or row.id > known.id]
        self._newest = max(new, key=lambda row: row.id, default=known)
        newest_id = self._newest.id if self._newest is not None else 0
        told = {row.id for row in new}
        self._announced_s = {id: at_s for id, at_s in self._announced_s.items() if id in told or id > newest_id}
        return sorted(new, key=lambda row: row.id)

    def _tell_of_outage(self, out: bool) -> None:
        if out and self._out_since_s is None:
            self._out_since_s = time.time()
            self._tell(f"llama-swap's log cannot be read ({self._stream.trouble or 'no log'}); trying again")
        elif not out and self._out_since_s is not None:
            self._tell(f"llama-swap's log can be read again, after {time.time() - self._out_since_s:.0f} s")
            self._out_since_s = None

    # --- events

    def _take(self, message: str) -> str | None:
        before = dict(self._state.live)
        kind = self._state.take(message)
        if kind == "inflight":
            self._compare(before)
        elif kind in ("activity", "metrics"):
            self._announce(message)
            self._woken.set()
        return kind

    def _compare(self, before: dict[str, InFlight]) -> None:
        """Note which requests came and which went."""
        now_s, live = time.time(), self._state.live
        for entry in (live[id] for id in live.keys() - before.keys()):
            seen_s = None if self._began_s == 0 else now_s
            age_s = None if entry.began_at is None else time.monotonic() - entry.began_at
            self._flights.append(_Flight(entry, seen_s if age_s is None else now_s - age_s))
        self._leave(before.keys() - live.keys(), now_s)

    def _leave(self, gone: set[str], now_s: float) -> None:
        for flight in self._flights:
            if flight.gone_s is None and flight.entry.request.id in gone:
                flight.gone_s = now_s
        self._flights = [each for each in self._flights if each.gone_s is None or now_s - each.gone_s < _KEEP_GONE_S]

    def _announce(self, message: str) -> None:
        with contextlib.suppress(Fault):
            payload = parse_json(get_text(to_object(parse_json(message)), "data") or "")
            for row in to_objects(payload if isinstance(payload, list) else [payload]):
                if (id := get_count(row, "id")) is not None:
                    self._announced_s.setdefault(id, time.time())

    def _lose(self, in_order: bool) -> None:  # noqa: ARG002  # both ends are told alike
        self._leave({*self._state.live}, time.time())
        self._state.forget_live()
        self._announced_s.clear()
        self._woken.set()

    # --- the log

    def _read(self, rows: list[LoggedRequest], *, past: bool) -> Iterator[tuple[str, Spoken]]:
        for row in rows:
            if self._model not in (None, row.model):
                continue
            ended_s, apart_s = self._find_end(row)
            flight = None if past else self._match(row, ended_s, apart_s)
            reason = _find_flaw(row) or self._find_lie(row, ended_s, flight, past=past)
            if flight is not None and flight.entry.run_uid is not None:
                reason = "of boobench itself"
            if reason is not None:
                self.left_out[reason] += 1
                continue
            began_s = flight.began_s if flight is not None else None
            yield row.model, _condense(row, _find_beginning(row, ended_s) if began_s is None else began_s, ended_s)

    def _find_end(self, row: LoggedRequest) -> tuple[float, float]:
        """When the request ended, by our clock, and how exact that is: when an event told of it, if the log agrees."""
        by_log_s = time.time() - (row.read_at - row.ended_at).total_seconds()
        announced_s = self._announced_s.pop(row.id, None)
        if announced_s is None or abs(announced_s - by_log_s) > _APART_BY_LOG_S:
            return by_log_s, _APART_BY_LOG_S
        return announced_s, _APART_S

    def _match(self, row: LoggedRequest, ended_s: float, apart_s: float) -> _Flight | None:
        """The request as it was seen in flight, by its beginning or else its end. It is taken only once."""
        alike = [
            each
            for each in self._flights
            if each.entry.request.model == row.model and each.entry.request.path in (row.path, None)
        ]
        for time_s, name in ((_find_beginning(row, ended_s), "began_s"), (ended_s, "gone_s")):
            apart = [(abs(at_s - time_s), each) for each in alike if (at_s := getattr(each, name)) is not None]
            nearest = min(apart, key=lambda pair: pair[0], default=None)
            if nearest is not None and nearest[0] <= apart_s:
                self._flights.remove(nearest[1])
                return nearest[1]
        return None

    def _find_lie(self, row: LoggedRequest, ended_s: float, flight: _Flight | None, *, past: bool) -> str | None:
        """Why a row cannot be true; None if it can."""
        if (row.ended_at - row.read_at).total_seconds() > _FUTURE_S:
            return "whose end is in the future"
        early = _find_beginning(row, ended_s) < self._began_s - _APART_BY_LOG_S
        if early and not past and flight is None and not self._present:
            return "that ran longer than anybody could see"
        return None


def _find_beginning(row: LoggedRequest, ended_s: float) -> float:
    return ended_s - (row.duration_ms or 0) / 1000


def _is_same(row: LoggedRequest, known: LoggedRequest) -> bool:
    return (row.id, row.model, row.tokens, row.duration_ms) == (known.id, known.model, known.tokens, known.duration_ms)


def _find_flaw(row: LoggedRequest) -> str | None:
    """Why a request cannot be replayed by its numbers; None if it can."""
    if row.status not in (httpx.codes.OK, None):
        return "refused or failed"
    if not row.input_tokens and not row.cached_tokens:
        return "without prompt tokens: cancelled, or the server does not count"
    if not row.output_tokens:
        return "without output tokens: cancelled, or embeddings"
    prompt_tokens = row.prompt_tokens or 0
    if row.duration_ms is None or row.duration_ms < 0:
        return "whose duration cannot be"
    if max(prompt_tokens, row.output_tokens) > _MOST_TOKENS or (row.cached_tokens or 0) > prompt_tokens:
        return "whose counts cannot be"
    return None


def _condense(row: LoggedRequest, began_s: float, ended_s: float) -> Spoken:
    return Spoken(
        prompt_tokens=row.prompt_tokens or 0,
        output_tokens=row.output_tokens or 0,
        cached_tokens=row.cached_tokens,
        began_ms=round(began_s * 1000),
        ended_ms=round(ended_s * 1000),
    )
