"""Room 2: one request's walk over the wire: connect, send, collect, and only then decode."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass

import httpx

from pytest_boobench import units
from pytest_boobench.suite.cell import Timeouts
from pytest_boobench.wire.clock import Read, Stamps, hold_kernel_stamps, stamp, wall_offset_ns
from pytest_boobench.wire.connection import Connection, connect
from pytest_boobench.wire.exchange import Arrival, Exchange
from pytest_boobench.wire.failures import Failure, error_of
from pytest_boobench.wire.http1 import Answer, serialize
from pytest_boobench.wire.inbox import Inbox

MAX_ANSWER_BYTES = 256 * 1024 * 1024


class StampingTransport(httpx.AsyncBaseTransport):
    """An httpx transport that knows when each byte of an answer arrived: ``exchange_of(response)``.

    Each request has a connection of its own. Its limits are ``request.extensions["timeouts"]``, a
    ``suite.cell.Timeouts``: ``connect_s`` for opening the connection, the others from the write of the request on.
    Raises subclasses of httpx.TransportError until the status line came, and nothing after it.
    """

    def __init__(self, tls_context: ssl.SSLContext, max_answer_bytes: int = MAX_ANSWER_BYTES) -> None:
        self._tls_context = tls_context
        self._max_answer_bytes = max_answer_bytes
        self._keeper = hold_kernel_stamps()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Sends one request and returns its answer, read to the end."""
        timeouts: Timeouts = request.extensions.get("timeouts", Timeouts())
        await request.aread()
        message, answer = serialize(request)
        connection = await connect(request.url, self._tls_context, timeouts.connect_s)
        try:
            outcome = await _converse(connection, message, answer, timeouts, self._max_answer_bytes)
        finally:
            connection.close()
        return _respond(connection, answer, outcome)

    async def aclose(self) -> None:
        """Lets go of the kernel's stamps."""
        self._keeper.close()


@dataclass(frozen=True, slots=True)
class _Outcome:
    reads: list[Read]
    failure: Failure | None
    offset_before_ns: int
    offset_after_ns: int


async def _converse(
    connection: Connection, message: bytes, answer: Answer, timeouts: Timeouts, max_answer_bytes: int
) -> _Outcome:
    offset_before_ns = wall_offset_ns()
    async with Inbox(connection, answer, timeouts, max_answer_bytes) as inbox:
        try:
            async with asyncio.timeout(timeouts.request_s):
                unsent = await connection.send(message, inbox.ended)
                failure = _blame(await inbox.ended, unsent, connection.where)
        except TimeoutError:
            limit = units.quantity(timeouts.request_s, "s")
            failure = Failure("timeout", f"{connection.where}: the request took longer than {limit}")
    return _Outcome(inbox.reads, failure, offset_before_ns, wall_offset_ns())


def _blame(failure: Failure | None, unsent: str | None, where: str) -> Failure | None:
    """A connection lost before the request was out never was one; with an answer to it all is well."""
    if failure and failure.kind == "truncated" and unsent:
        return Failure("connect", f"{where}: {unsent} before the request was out")
    return failure


def _respond(connection: Connection, answer: Answer, outcome: _Outcome) -> httpx.Response:
    failure = None if answer.complete else outcome.failure
    if answer.head is None:
        raise error_of(failure or Failure("protocol", f"{connection.where}: no answer"))
    headers = httpx.Headers(list(answer.head.headers))
    encoding = headers.pop("content-encoding", "identity")
    if encoding != "identity" and failure is None:
        text = f"the answer is compressed ({encoding}), expected it plain: its events have no times of their own"
        failure = Failure("protocol", f"{connection.where}: {text}")
    exchange = _exchange(connection, answer, outcome, failure)
    return httpx.Response(
        answer.head.status_code,
        headers=headers,
        content=exchange.body if encoding == "identity" else b"",
        extensions={
            "exchange": exchange,
            "http_version": b"HTTP/" + answer.head.http_version,
            "reason_phrase": answer.head.reason,
        },
    )


def _exchange(connection: Connection, answer: Answer, outcome: _Outcome, failure: Failure | None) -> Exchange:
    stamps = stamp(outcome.reads, outcome.offset_before_ns, outcome.offset_after_ns)
    return Exchange(
        connect_ms=connection.connect_ms,
        sent_at=(connection.last_write_ns + outcome.offset_before_ns) / 1e9,
        sent_ns=connection.last_write_ns,
        headers_ns=stamps.arrival_ns[answer.head_read],
        end_ns=stamps.arrival_ns[-1],
        body=bytes(answer.body),
        arrivals=_arrivals(answer.body_ends, stamps),
        clock=stamps.clock,
        client_lag_ms=stamps.client_lag_ms,
        clock_step=stamps.clock_step,
        failure=failure,
    )


def _arrivals(body_ends: list[int], stamps: Stamps) -> tuple[Arrival, ...]:
    """One per read that brought bytes of the body; header and framing alone bring none."""
    before = [0, *body_ends]
    return tuple(
        Arrival(end, stamp_ns, lag_ns)
        for start, end, stamp_ns, lag_ns in zip(before, body_ends, stamps.arrival_ns, stamps.lag_ns, strict=False)
        if end > start
    )
