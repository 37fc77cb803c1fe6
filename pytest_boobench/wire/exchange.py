"""Room 2: the answer to one request: its bytes and server-sent events with their times of arrival, or its failure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NamedTuple

from pytest_boobench.metrics import ClockKind, FailureKind


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request has no whole answer; ``text`` is "where: what is wrong, what would be right"."""

    kind: FailureKind
    text: str


class NoAnswer(Exception):  # noqa: N818  # the outcome of a request, not our error
    """A request that got no status line; ``failure`` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


Observe = Callable[[bytes, int, int], None]
"""Receives what one read brought (header, framing and all), and when Python had it and when the request was sent,
both in nanoseconds of the monotonic clock. It runs in the reader's thread: it must be quick, and never raise."""
OBSERVER: ContextVar[Observe | None] = ContextVar("OBSERVER", default=None)
"""For the requests of a task that wants to see answers while they come; measured ones have none."""
_BOM = b"\xef\xbb\xbf"
ERROR = "error"
"""The type of an event that says what went wrong."""


class Message(NamedTuple):
    """One server-sent event. Its data's lines are joined by LF; comments, ids and retry times are dropped."""

    data: str
    event: str
    """The event's type, ``message`` where the server names none."""
    end: int
    """Offset in the stream one past its last byte of data, without the end of that line.

    Some servers send the blank line that closes an event only with the next event.
    """


class SseDecoder:
    """Decodes a stream that comes in pieces. Lines end in LF, CR or CRLF; bytes that are not UTF-8 are replaced."""

    def __init__(self) -> None:
        self._rest = b""
        self._offset = 0
        self._after_cr = False
        self._data: bytes | None = None
        self._event = b""
        self._end = 0

    def feed(self, piece: bytes) -> list[Message]:
        """The events that this piece completes, in order."""
        if self._after_cr and piece:
            self._after_cr = False
            if piece.startswith(b"\n"):
                self._offset += 1
                piece = piece[1:]
        lines = (self._rest + piece).splitlines(keepends=True)
        self._rest = lines.pop() if lines and not lines[-1].endswith((b"\n", b"\r")) else b""
        self._after_cr = self._after_cr or (not self._rest and bool(lines) and lines[-1].endswith(b"\r"))
        return self._take(lines)

    def close(self) -> list[Message]:
        """The last event where no blank line follows: the standard drops it, but some servers end like this."""
        lines, self._rest = (self._rest, b"\n"), b""
        return self._take(lines)

    def _take(self, lines: Iterable[bytes]) -> list[Message]:
        """One loop and few calls: a stream has two lines per token."""
        messages = []
        offset, data = self._offset, self._data
        for line in lines:
            content = line.rstrip(b"\r\n")
            end = offset + len(content)
            if offset == 0:
                content = content.removeprefix(_BOM)
            offset += len(line)
            if not content:
                if data is not None:
                    event = self._event.decode("utf-8", "replace") if self._event else "message"
                    messages.append(Message(data.decode("utf-8", "replace"), event, self._end))
                data, self._event = None, b""
            elif content.startswith(b"data:") or content == b"data":
                value = content[5:].removeprefix(b" ")
                data = value if data is None else b"%b\n%b" % (data, value)
                self._end = end
            elif content.startswith(b"event:"):
                self._event = content[6:].removeprefix(b" ")
            elif content.startswith(b"error:"):  # not in the standard: how old llama-servers end
                messages.append(Message(content[6:].strip().decode("utf-8", "replace"), ERROR, end))
        self._offset, self._data = offset, data
        return messages


class Arrival(NamedTuple):
    """When one read brought the bytes of the body up to the offset ``end``, which it does not include."""

    end: int
    stamp_ns: int
    lag_ns: int = 0
    """From the kernel's stamp until Python had the bytes; 0 without kernel stamps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request and its answer. ``_ns`` is the monotonic clock in nanoseconds, ``_ms`` counts from ``sent_ns``."""

    connect_ms: float
    """Duration of name lookup, connecting and TLS together, all before ``sent_ns``."""
    sent_at: float
    """Seconds since 1970 UTC."""
    sent_ns: int
    """Right before the write of the last byte."""
    headers_ns: int
    """Arrival of the last byte of the answer's header."""
    end_ns: int
    """Arrival of the last byte that came."""
    status: int
    headers: Mapping[str, str]
    """Of the answer, names in lower case; of two with the same name the last."""
    body: bytes
    """Without framing."""
    arrivals: tuple[Arrival, ...]
    """In ascending order; the last one's ``end`` is the body's length."""
    clock: ClockKind
    """The clock of all arrivals."""
    client_lag_ms: float | None
    """Longest time from the kernel's stamp until Python had the bytes; blank without kernel stamps."""
    clock_step: bool
    """Whether the wall clock was set meanwhile; the arrivals are then by the user clock: correct, but late."""
    failure: Failure | None
    """What cut the answer short; blank where it is complete by the rules of HTTP."""
    opened_ns: int = 0
    """When the connection was open; a request with a planned time may have waited since."""

    @property
    def complete(self) -> bool:
        """Whether HTTP says that the answer is complete; its events may still be cut short."""
        return self.failure is None

    @property
    def headers_ms(self) -> float:
        """Arrival of the end of the answer's header."""
        return (self.headers_ns - self.sent_ns) / 1e6

    @property
    def e2e_ms(self) -> float:
        """Arrival of the end of the answer."""
        return (self.end_ns - self.sent_ns) / 1e6


class Event(NamedTuple):
    """One server-sent event of an answer."""

    data: str
    event: str
    """Its type, ``message`` where the server names none."""
    arrival_ms: float
    """When the last byte of its data arrived, from ``sent_ns``; the blank line after it does not count."""
    lag_ms: float = 0.0
    """How late Python had it: events of one read share the arrival of the last of them."""
    earliest_ms: float = -math.inf
    """The earliest possible arrival: that of the read before, where its own read brought more than this event."""

    def find_lateness_ms(self, patience_ms: float) -> float:
        """By how much its stamp may be late; 0 where Python had it within ``patience_ms``."""
        return self.arrival_ms - max(self.earliest_ms, 0.0) if self.lag_ms > patience_ms else 0.0


def events(exchange: Exchange) -> list[Event]:
    """The server-sent events of an answer, in order.

    A last event without a blank line after it counts only where the answer is complete.
    """
    decoder = SseDecoder()
    messages = decoder.feed(exchange.body)
    if exchange.complete:
        messages += decoder.close()
    return stamp_messages(exchange, messages, line_ends=len("\r\n\r\n"))


def stamp_messages(exchange: Exchange, messages: Iterable[Message], *, line_ends: int) -> list[Event]:
    """Messages, in the order of their ends, with their arrivals.

    A message is the last of its read where at most ``line_ends`` bytes follow its data in that read.
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
