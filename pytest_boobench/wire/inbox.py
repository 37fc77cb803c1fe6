"""Room 2: takes an answer's bytes with their stamps as they come, and does next to nothing else meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from types import TracebackType

from pytest_boobench import units
from pytest_boobench.metrics import FailureKind
from pytest_boobench.suite.cell import Timeouts
from pytest_boobench.wire.clock import Reads
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
