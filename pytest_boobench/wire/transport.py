"""Room 2: one request's walk over the wire: connect, send, collect, and only then decode."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType

from pytest_boobench import units
from pytest_boobench.metrics import FailureKind
from pytest_boobench.suite.cell import Timeouts
from pytest_boobench.wire.clock import Reads, Stamps, hold_kernel_stamps, stamp, wall_offset_ns
from pytest_boobench.wire.connection import Address, Connection, connect, reason
from pytest_boobench.wire.exchange import Arrival, Exchange, Failure, NoAnswer
from pytest_boobench.wire.http1 import HttpAnswer
from pytest_boobench.wire.reader import Reader


class Inbox:
    """Collects ``reads`` between enter and exit; ``ended`` is done as soon as the answer is whole or cut short.

    Bytes are taken in the reader's thread, and all else is done in the event loop's.
    """

    def __init__(self, connection: Connection, answer: HttpAnswer, timeouts: Timeouts, reader: Reader) -> None:
        self.reads = Reads()
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[Failure | None] = self._loop.create_future()
        self._connection = connection
        self._answer = answer
        self._timeouts = timeouts
        self._reader = reader
        self._began_ns = time.monotonic_ns()

    async def __aenter__(self) -> Inbox:
        self._reader.watch(self._connection.sock, self._take)
        self._timer: asyncio.Handle = self._loop.call_soon(self._watch_for_stall)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self._reader.forget(self._connection.sock)

    def _take(self) -> bool:
        """In the reader's thread: takes what has come; whether more is wanted. Never raises: all share the thread."""
        try:
            ended = self._take_now()
        except BlockingIOError:
            return True
        except ssl.SSLError as error:
            return self._report(self._failure("protocol", reason(error)))
        except OSError as error:
            return self._report(self._failure("truncated", f"{reason(error)} {self._moment}"))
        except Exception as error:  # noqa: BLE001
            return self._report(self._failure("protocol", f"the answer cannot be read ({error!r})"))
        return self._report(self._conclude()) if ended else True

    def _take_now(self) -> bool:
        """Few steps: this runs for each token, on a processor that was busy with something else."""
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
        return ended

    def _conclude(self) -> Failure | None:
        if self._answer.error is not None:
            return self._failure("protocol", self._answer.error)
        return None if self._answer.close() else self._failure("truncated", f"the connection was closed {self._moment}")

    def _report(self, failure: Failure | None) -> bool:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._settle, failure)
        return False

    def _settle(self, failure: Failure | None) -> None:
        if not self.ended.done():
            self.ended.set_result(failure)

    def _watch_for_stall(self) -> None:
        """Looks again when the limit can be reached at the earliest: one timer per limit, not per read."""
        first_s, stall_s = self._timeouts.first_byte_s, self._timeouts.stall_s
        limit_s, since_ns = (stall_s, self.reads.read_ns[-1]) if self.reads else (first_s, self._began_ns)
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
        answer = HttpAnswer(min(self._max_answer_bytes, max_bytes or self._max_answer_bytes))
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


def _conclude(connection: Connection, answer: HttpAnswer, outcome: _Outcome) -> Exchange:
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
