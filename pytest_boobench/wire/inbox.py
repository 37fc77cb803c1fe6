"""Room 2: takes an answer's bytes with their stamps as they come, and does next to nothing else meanwhile."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType

from pytest_boobench import units
from pytest_boobench.metrics import FailureKind
from pytest_boobench.suite.cell import Timeouts
from pytest_boobench.wire.clock import Ancillary, Read
from pytest_boobench.wire.connection import Connection, reason
from pytest_boobench.wire.failures import Failure
from pytest_boobench.wire.http1 import Answer


class Inbox:
    """Collects ``reads`` between enter and exit; ``ended`` is done as soon as the answer is whole or cut short."""

    def __init__(self, connection: Connection, answer: Answer, timeouts: Timeouts, max_answer_bytes: int) -> None:
        self.reads: list[Read] = []
        self.ended: asyncio.Future[Failure | None] = asyncio.get_running_loop().create_future()
        self._connection = connection
        self._answer = answer
        self._timeouts = timeouts
        self._bytes_left = max_answer_bytes
        self._max_answer_bytes = max_answer_bytes
        self._began_ns = time.monotonic_ns()
        self._pump: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Inbox:
        loop = asyncio.get_running_loop()
        try:
            loop.add_reader(self._connection.sock, self._on_readable)
        except NotImplementedError:  # Windows' proactor loop
            self._pump = loop.create_task(self._read_on())
        self._timer: asyncio.Handle = loop.call_soon(self._watch_for_stall)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        if self._pump:
            await asyncio.wait((self._pump,))
        self._answer.catch_up(self.reads)

    def _on_readable(self) -> None:
        try:
            data, ancillary = self._connection.receive()
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(error)
            return
        self._take(data, ancillary)

    async def _read_on(self) -> None:
        while not self.ended.done():
            try:
                data = await self._connection.receive_later()
            except OSError as error:
                self._lose(error)
                return
            self._take(data, ())

    def _take(self, data: bytes, ancillary: Ancillary) -> None:
        read_ns = time.monotonic_ns()
        closed = not data
        if self._connection.tls:
            try:
                data = self._connection.tls.open(data)
            except OSError as error:
                self._fail("protocol", reason(error))
                return
            closed = self._connection.tls.ended
        if data:
            self.reads.append(Read(data, ancillary, read_ns))
            self._bytes_left -= len(data)
        if closed or (data and self._answer.watch.may_end(data)) or self._bytes_left < 0:
            self._look_closer(closed=closed)

    def _look_closer(self, *, closed: bool) -> None:
        answer = self._answer
        answer.catch_up(self.reads)
        if answer.complete:
            self._end(None)
        elif self._bytes_left < 0:
            self._fail("protocol", f"the answer is longer than {self._max_answer_bytes} bytes, which nobody asks for")
        elif answer.error is not None:
            self._fail("protocol", f"the answer is not HTTP as it should be ({answer.error})")
        elif closed and answer.close():
            self._end(None)
        elif closed:
            self._fail("truncated", f"the connection was closed {self._moment}")
        elif answer.head is None:
            self._fail("protocol", f"the answer is not HTTP, it begins with {self.reads[0].data[:20]!r}")

    def _lose(self, error: OSError) -> None:
        self._fail("truncated", f"{reason(error)} {self._moment}")

    @property
    def _moment(self) -> str:
        return "before the end of the answer" if self.reads else "before an answer came"

    def _watch_for_stall(self) -> None:
        """Looks again when the limit can be reached at the earliest: one timer per limit, not per read."""
        first_s, stall_s = self._timeouts.first_byte_s, self._timeouts.stall_s
        limit_s, since_ns = (stall_s, self.reads[-1].read_ns) if self.reads else (first_s, self._began_ns)
        left_s = limit_s - (time.monotonic_ns() - since_ns) / 1e9
        if left_s > 0:
            self._timer = asyncio.get_running_loop().call_later(min(left_s, stall_s), self._watch_for_stall)
        else:
            self._fail("stalled", f"no byte for {units.quantity(limit_s, 's')} {self._moment}")

    def _fail(self, kind: FailureKind, text: str) -> None:
        self._end(Failure(kind, f"{self._connection.where}: {text}"))

    def _end(self, failure: Failure | None) -> None:
        if not self.ended.done():
            self.ended.set_result(failure)
        self._stop()

    def _stop(self) -> None:
        self._timer.cancel()
        if self._pump:
            self._pump.cancel()
        else:
            asyncio.get_running_loop().remove_reader(self._connection.sock)
