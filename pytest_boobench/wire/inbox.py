"""Room 2: takes an answer's bytes with their stamps as they come, and does next to nothing else meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import time
from types import TracebackType

from pytest_boobench import units
from pytest_boobench.metrics import FailureKind
from pytest_boobench.suite.cell import Timeouts
from pytest_boobench.wire.clock import Reads, kernel_ns
from pytest_boobench.wire.connection import Connection, reason
from pytest_boobench.wire.failures import Failure
from pytest_boobench.wire.http1 import Answer
from pytest_boobench.wire.reader import Reader


class Inbox:
    """Collects ``reads`` between enter and exit; ``ended`` is done as soon as the answer is whole or cut short.

    Bytes are taken in the reader's thread, and all else is done in the event loop's.
    """

    def __init__(self, connection: Connection, answer: Answer, timeouts: Timeouts, reader: Reader) -> None:
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
            return self._take_now()
        except Exception as error:  # noqa: BLE001
            return self._report(self._failure("protocol", f"the answer cannot be read ({error!r})"))

    def _take_now(self) -> bool:
        try:
            data, ancillary = self._connection.receive()
        except BlockingIOError:
            return True
        except OSError as error:
            return self._report(self._failure("truncated", f"{reason(error)} {self._moment}"))
        read_ns = time.monotonic_ns()
        closed = not data
        if self._connection.tls:
            try:
                data = self._connection.tls.open(data)
            except OSError as error:
                return self._report(self._failure("protocol", reason(error)))
            closed = self._connection.tls.ended
        if data:
            self.reads.add(data, kernel_ns(ancillary), read_ns)
            closed = self._answer.follow(self.reads.data) or closed
        return self._report(self._conclude()) if closed else True

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
