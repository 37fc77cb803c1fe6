"""Room 2: one request over the network: connect, send, collect the bytes, and decode them only afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from bisect import bisect_left
from collections.abc import Iterable
from functools import partial
from typing import Self

from pytest_boobench import units
from pytest_boobench.metrics import FailureKind
from pytest_boobench.suite.cell import Timeouts
from pytest_boobench.wire.clock import Reads, Stamps, hold_kernel_stamps, stamp, wall_offset_ns
from pytest_boobench.wire.connection import Address, Connection, Punctual, connect, reason
from pytest_boobench.wire.exchange import OBSERVER, Arrival, Exchange, Failure, NoAnswer
from pytest_boobench.wire.http1 import HttpAnswer
from pytest_boobench.wire.reader import Reader
from pytest_boobench.wire.sender import Sender

MAX_ANSWER_BYTES = 256 * 1024 * 1024


class Inbox:
    """Collects ``reads`` between enter and exit; ``ended`` is done as soon as the answer is complete or cut short.

    The reader's thread takes the bytes, the event loop's thread does everything else.
    """

    def __init__(
        self, connection: Connection, answer: HttpAnswer, timeouts: Timeouts, reader: Reader, began_ns: int
    ) -> None:
        self.reads = Reads()
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[Failure | None] = self._loop.create_future()
        self._connection = connection
        self._answer = answer
        self._timeouts = timeouts
        self._reader = reader
        self.began_ns = began_ns
        """From when on the limits count, monotonic clock."""
        self._observe = OBSERVER.get()

    async def __aenter__(self) -> Self:
        self.offset_before_ns = wall_offset_ns()
        self._reader.watch(self._connection.sock, self._take)
        self._timer: asyncio.Handle = self._loop.call_soon(self._watch_for_stall)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._timer.cancel()
        self._reader.forget(self._connection.sock)
        self.offset_after_ns = wall_offset_ns()

    def _take(self) -> bool:
        """Take what has come; whether more is wanted. Runs in the reader's thread, which all share: never raises."""
        try:
            ended = self._take_now()
        except BlockingIOError:
            return True
        except ssl.SSLError as error:
            failure: Failure | None = self._failure("protocol", reason(error))
        except OSError as error:
            failure = self._failure("truncated", f"{reason(error)} {self._moment}")
        except Exception as error:  # noqa: BLE001
            failure = self._failure("protocol", f"the answer cannot be read ({error!r})")
        else:
            if not ended:
                return True
            failure = self._check_end()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._settle, failure)
        return False

    def _take_now(self) -> bool:
        """Whether the answer has ended. Few steps: this runs for each token, on a processor busy with other work."""
        part, ancillary, _, _ = self._connection.receive()
        read_ns = time.monotonic_ns()
        ended = not part
        if self._connection.tls:
            part = self._connection.tls.open(part)
            ended = self._connection.tls.ended
        if part:
            length = self.reads.add(part, ancillary, read_ns)
            if ended or length > self._answer.max_bytes or not part.endswith(self._answer.goes_on):
                ended = self._answer.follow(self.reads.data) or ended
            if self._observe is not None:
                self._observe(part, read_ns, self._connection.last_write_ns)
        return ended

    def _check_end(self) -> Failure | None:
        if self._answer.error is not None:
            return self._failure("protocol", self._answer.error)
        return None if self._answer.close() else self._failure("truncated", f"the connection was closed {self._moment}")

    def _settle(self, failure: Failure | None) -> None:
        if not self.ended.done():
            self.ended.set_result(failure)

    def _watch_for_stall(self) -> None:
        """Look again when the limit can be reached at the earliest: one timer per limit, not per read."""
        first_s, stall_s = self._timeouts.first_byte_s, self._timeouts.stall_s
        limit_s, since_ns = (stall_s, self.reads.read_ns[-1]) if self.reads else (first_s, self.began_ns)
        left_s = limit_s - (time.monotonic_ns() - since_ns) / 1e9
        if left_s > 0:
            self._timer = self._loop.call_later(min(left_s, stall_s), self._watch_for_stall)
        else:
            self._settle(self._failure("stalled", f"no byte for {units.quantity(limit_s, 's')} {self._moment}"))

    @property
    def _moment(self) -> str:
        return "before the end of the answer" if self.reads else "before an answer came"

    def _failure(self, kind: FailureKind, text: str) -> Failure:
        return Failure(kind, f"{self._connection.where}: {text}")


class Transport:
    """Sends each request on a connection of its own and knows when each byte of an answer arrived.

    One thread reads all connections, another one writes what has a planned time. Close it when no request is under way.
    """

    def __init__(self) -> None:
        self._keeper = hold_kernel_stamps()
        self._reader = Reader()
        self._sender = Sender()

    async def exchange(
        self,
        address: Address,
        message: bytes,
        timeouts: Timeouts,
        max_bytes: int | None = None,
        planned_ns: int | None = None,
    ) -> Exchange:
        """Send one request and return its answer, read to the end, or to ``max_bytes``.

        ``planned_ns`` is when the last byte is to be written, by the monotonic clock; the connection is opened at once.
        ``connect_s`` limits opening the connection, the other limits count from the write of the request. NoAnswer
        where no status line came; later failures are in the Exchange.
        """
        answer = HttpAnswer(min(MAX_ANSWER_BYTES, max_bytes or MAX_ANSWER_BYTES))
        connection = await connect(address, timeouts.connect_s)
        try:
            sealed = connection.seal(message)
            now_ns = time.monotonic_ns()
            began_ns = now_ns if planned_ns is None else max(now_ns, planned_ns)
            punctual = None if planned_ns is None else partial(self._sender.send_at, planned_ns)
            async with Inbox(connection, answer, timeouts, self._reader, began_ns) as inbox:
                failure = await _converse(connection, sealed, inbox, timeouts.request_s, punctual)
        finally:
            connection.close()
        return _conclude(connection, answer, inbox, failure)

    def close(self) -> None:
        """End both threads and release the kernel's stamps."""
        self._sender.close()
        self._reader.close()
        self._keeper.close()


async def _converse(
    connection: Connection, sealed: bytes, inbox: Inbox, request_s: float, punctual: Punctual | None
) -> Failure | None:
    try:
        async with asyncio.timeout(request_s + max(0.0, (inbox.began_ns - time.monotonic_ns()) / 1e9)):
            unsent = await connection.send(sealed, inbox.ended, punctual)
            failure = await inbox.ended
    except TimeoutError:
        limit = units.quantity(request_s, "s")
        return Failure("timeout", f"{connection.where}: the request took longer than {limit}")
    if unsent and failure and failure.kind == "truncated":
        return Failure("connect", f"{connection.where}: {unsent} before the whole request was sent")
    return failure


def _conclude(connection: Connection, answer: HttpAnswer, inbox: Inbox, failure: Failure | None) -> Exchange:
    if answer.head is None:
        raise NoAnswer(failure or Failure("protocol", f"{connection.where}: no answer"))
    reads = inbox.reads
    if failure and answer.error is None:
        answer.follow(reads.data)  # to where it broke off: not every read was followed
    if answer.complete:
        failure = None
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in answer.head.headers}
    encoding = headers.get("content-encoding", "identity")
    if encoding != "identity" and failure is None:
        text = f"the answer is compressed ({encoding}), expected it uncompressed: its events have no times of their own"
        failure = Failure("protocol", f"{connection.where}: {text}")
    stamps = stamp(reads, inbox.offset_before_ns, inbox.offset_after_ns)
    return Exchange(
        connect_ms=connection.connect_ms,
        sent_at=(connection.last_write_ns + inbox.offset_before_ns) / 1e9,
        sent_ns=connection.last_write_ns,
        opened_ns=connection.opened_ns,
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
