"""Room 2: the thread that writes requests at their planned times, however busy the event loop is.

The event loop itself wakes up to a millisecond late: its timers are rounded up to whole milliseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pytest_boobench.wire.reader import raise_priority

Write = Callable[[memoryview], memoryview]
"""Writes what fits without waiting, and returns the rest. Raises OSError."""


@dataclass(order=True, slots=True)
class _Due:
    """One message and its planned time."""

    planned_ns: int
    number: int
    """Of two with the same time the one that came first is sent first."""
    part: memoryview = field(compare=False)
    write: Write = field(compare=False)
    rest: asyncio.Future[memoryview] = field(compare=False)


class Sender:
    """Writes messages at their times by the monotonic clock. The thread starts with the first one."""

    def __init__(self) -> None:
        self._waiting: list[_Due] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="boobench sender", daemon=True)

    async def send_at(self, planned_ns: int, part: memoryview, write: Write) -> memoryview:
        """Write at this time, at once if it is over; return what did not fit. Raises what ``write`` raises.

        When this returns or is cancelled, ``write`` is not called any more.
        """
        due = _Due(planned_ns, next(self._numbers), part, write, asyncio.get_running_loop().create_future())
        with self._changed:
            heapq.heappush(self._waiting, due)
            if self._waiting[0] is due:
                self._changed.notify()
        if self._thread.ident is None:
            self._thread.start()
        try:
            return await due.rest
        except asyncio.CancelledError:
            with self._changed:  # the thread writes only while it has this lock
                if due in self._waiting:
                    self._waiting.remove(due)
                    heapq.heapify(self._waiting)
            raise

    def close(self) -> None:
        """End the thread and wait for it; no message may be waiting by then."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        raise_priority()
        with self._changed:
            while not self._closed:
                left_s = (self._waiting[0].planned_ns - time.monotonic_ns()) / 1e9 if self._waiting else None
                if left_s is None or left_s > 0:
                    self._changed.wait(left_s)
                else:
                    _write(heapq.heappop(self._waiting))


def _write(due: _Due) -> None:
    """Runs in the sender's thread, which all share: never raises."""
    settle: Callable[[Any], None] = due.rest.set_result
    told: Any
    try:
        told = due.write(due.part)
    except Exception as error:  # noqa: BLE001
        settle, told = due.rest.set_exception, error

    def tell() -> None:
        if not due.rest.done():
            settle(told)

    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        due.rest.get_loop().call_soon_threadsafe(tell)
