"""Room 2: what came of one request on the wire: its answer's bytes, each with its time of arrival."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from pytest_boobench.metrics import ClockKind
from pytest_boobench.wire.failures import Failure
from pytest_boobench.wire.sse import Message, SseDecoder


class Arrival(NamedTuple):
    """When the bytes of the body up to ``end`` (one past the last of them) and after the arrival before were there."""

    end: int
    stamp_ns: int
    lag_ns: int = 0
    """From the kernel's stamp to the moment Python had them; 0 without kernel stamps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request and its answer. ``_ns`` is the monotonic clock in nanoseconds, ``_ms`` counts from ``sent_ns``."""

    connect_ms: float
    """Duration of name lookup, connecting and TLS together; over before ``sent_ns``."""
    sent_at: float
    """When the request was sent, seconds since 1970 UTC."""
    sent_ns: int
    """Right before the write of the request's last byte."""
    headers_ns: int
    """Arrival of the last byte of the answer's header."""
    end_ns: int
    """Arrival of the last byte that came."""
    status: int
    headers: Mapping[str, str]
    """Of the answer, names in lower case; of two with one name the last."""
    body: bytes
    """The body as it came, framing removed."""
    arrivals: tuple[Arrival, ...]
    """Ascending in both; the last one's ``end`` is the body's length."""
    clock: ClockKind
    """Whose clock all arrivals are by."""
    client_lag_ms: float | None
    """Longest time from the kernel's stamp to the moment Python had the bytes; blank without kernel stamps."""
    clock_step: bool
    """Whether the wall clock was set meanwhile; the arrivals are then by the user clock and right, though late."""
    failure: Failure | None
    """What cut the answer short; blank where HTTP says that it is whole."""

    @property
    def complete(self) -> bool:
        """Whether the answer is whole as HTTP counts; whether its events are is for their reader to say."""
        return self.failure is None

    @property
    def headers_ms(self) -> float:
        """Arrival of the end of the answer's header."""
        return self._ms(self.headers_ns)

    @property
    def e2e_ms(self) -> float:
        """Arrival of the end of the answer."""
        return self._ms(self.end_ns)

    def arrival_ms(self, end: int) -> float:
        """When the first ``end`` bytes of the body were all there."""
        return self._ms(self.arrival(end).stamp_ns)

    def arrival(self, end: int) -> Arrival:
        """The arrival that brought the last of the first ``end`` bytes of the body."""
        return self.arrivals[bisect_left(self.arrivals, end, key=lambda arrival: arrival.end)]

    def _ms(self, stamp_ns: int) -> float:
        return (stamp_ns - self.sent_ns) / 1e6


class Event(NamedTuple):
    """One server-sent event of an answer."""

    data: str
    event: str
    """Its type, ``message`` where the server names none."""
    arrival_ms: float
    """When the last byte of its data was there, from ``sent_ns``; not when the blank line after it was."""
    lag_ms: float = 0.0
    """How late Python had it: events that were read at once share the arrival of the last of them."""
    earliest_ms: float = -math.inf
    """When it may have been there at the earliest: by the read before, where more was read at once with it."""

    def find_lateness_ms(self, patience_ms: float) -> float:
        """By how much its stamp may be late: nothing where Python had it within ``patience_ms``."""
        return self.arrival_ms - max(self.earliest_ms, 0.0) if self.lag_ms > patience_ms else 0.0


def events(exchange: Exchange) -> list[Event]:
    """The server-sent events of an answer, in order.

    An event without the blank line after it counts where the answer is whole, and is dropped where it was cut short.
    """
    decoder = SseDecoder()
    messages = decoder.feed(exchange.body)
    if exchange.complete:
        messages += decoder.close()
    return stamp_messages(exchange, messages, line_ends=len("\r\n\r\n"))


def stamp_messages(exchange: Exchange, messages: Iterable[Message], *, line_ends: int) -> list[Event]:
    """Messages in the order of their ends, each with its arrival.

    ``line_ends`` are the bytes after a message's data that bring nothing new: where no more was read with it, it was
    the last of its read.
    """
    arrivals = iter(exchange.arrivals)
    came, stamp_ns, lag_ns = Arrival(0, exchange.sent_ns)
    before_ns = stamp_ns
    found = []
    for data, event, end in messages:
        while came < end:
            before_ns = stamp_ns
            came, stamp_ns, lag_ns = next(arrivals)
        arrival_ms = (stamp_ns - exchange.sent_ns) / 1e6
        earliest_ms = arrival_ms if came - end <= line_ends else (before_ns - exchange.sent_ns) / 1e6
        found.append(Event(data, event, arrival_ms, lag_ns / 1e6, earliest_ms))
    return found
