"""Room 2: one request's walk over the wire: connect, send, collect, and only then decode."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

from pytest_boobench import units
from pytest_boobench.suite.cell import Timeouts
from pytest_boobench.wire.clock import Reads, Stamps, hold_kernel_stamps, stamp, wall_offset_ns
from pytest_boobench.wire.connection import Address, Connection, connect
from pytest_boobench.wire.exchange import Arrival, Exchange
from pytest_boobench.wire.failures import Failure, NoAnswer
from pytest_boobench.wire.http1 import Answer
from pytest_boobench.wire.inbox import Inbox
from pytest_boobench.wire.reader import Reader

MAX_ANSWER_BYTES = 256 * 1024 * 1024


class Transport:
    """Sends requests, each on a connection of its own, and knows when each byte of an answer arrived.

    All connections are read by one thread. Close it when no request is under way.
    """

    def __init__(self, max_answer_bytes: int = MAX_ANSWER_BYTES) -> None:
        self._max_answer_bytes = max_answer_bytes
        self._keeper = hold_kernel_stamps()
        self._reader = Reader()

    async def exchange(
        self, address: Address, message: bytes, timeouts: Timeouts, max_bytes: int | None = None
    ) -> Exchange:
        """Sends one request and brings its answer, read to the end, or to ``max_bytes``.

        ``connect_s`` is for opening the connection, the other limits run from the write of the request on. Raises
        NoAnswer until the status line came, and nothing after it.
        """
        answer = Answer(min(self._max_answer_bytes, max_bytes or self._max_answer_bytes))
        connection = await connect(address, timeouts.connect_s)
        try:
            outcome = await _converse(
                connection, message, Inbox(connection, answer, timeouts, self._reader), timeouts.request_s
            )
        finally:
            connection.close()
        return _conclude(connection, answer, outcome)

    def close(self) -> None:
        """Ends the reader's thread and lets go of the kernel's stamps."""
        self._reader.close()
        self._keeper.close()


@dataclass(frozen=True, slots=True)
class _Outcome:
    reads: Reads
    failure: Failure | None
    offset_before_ns: int
    offset_after_ns: int


async def _converse(connection: Connection, message: bytes, inbox: Inbox, request_s: float) -> _Outcome:
    offset_before_ns = wall_offset_ns()
    sealed = connection.seal(message)
    async with inbox:
        try:
            async with asyncio.timeout(request_s):
                unsent = await connection.send(sealed, inbox.ended)
                failure = _blame(await inbox.ended, unsent, connection.where)
        except TimeoutError:
            limit = units.quantity(request_s, "s")
            failure = Failure("timeout", f"{connection.where}: the request took longer than {limit}")
    return _Outcome(inbox.reads, failure, offset_before_ns, wall_offset_ns())


def _blame(failure: Failure | None, unsent: str | None, where: str) -> Failure | None:
    """A connection lost before the request was out never was one; with an answer to it all is well."""
    if failure and failure.kind == "truncated" and unsent:
        return Failure("connect", f"{where}: {unsent} before the request was out")
    return failure


def _conclude(connection: Connection, answer: Answer, outcome: _Outcome) -> Exchange:
    if answer.head is None:
        raise NoAnswer(outcome.failure or Failure("protocol", f"{connection.where}: no answer"))
    if outcome.failure and answer.error is None:
        answer.follow(outcome.reads.data)  # to where it broke off: not every read was followed
    failure = None if answer.complete else outcome.failure
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in answer.head.headers}
    encoding = headers.get("content-encoding", "identity")
    if encoding != "identity" and failure is None:
        text = f"the answer is compressed ({encoding}), expected it plain: its events have no times of their own"
        failure = Failure("protocol", f"{connection.where}: {text}")
    reads = outcome.reads
    stamps = stamp(reads, outcome.offset_before_ns, outcome.offset_after_ns)
    return Exchange(
        connect_ms=connection.connect_ms,
        sent_at=(connection.last_write_ns + outcome.offset_before_ns) / 1e9,
        sent_ns=connection.last_write_ns,
        headers_ns=stamps.arrival_ns[bisect_left(reads.lengths, answer.head_end)],
        end_ns=stamps.arrival_ns[-1],
        status=answer.head.status_code,
        headers=headers,
        body=answer.body(reads.data),
        arrivals=_arrivals(answer.body_lengths(reads.lengths), stamps),
        clock=stamps.clock,
        client_lag_ms=stamps.client_lag_ms,
        clock_step=stamps.clock_step,
        failure=failure,
    )


def _arrivals(body_lengths: Iterable[int], stamps: Stamps) -> tuple[Arrival, ...]:
    """One per read that brought bytes of the body; header and framing alone bring none."""
    arrivals = []
    before = 0
    for length, stamp_ns, lag_ns in zip(body_lengths, stamps.arrival_ns, stamps.lag_ns, strict=True):
        if length > before:
            arrivals.append(Arrival(length, stamp_ns, lag_ns))
            before = length
    return tuple(arrivals)
