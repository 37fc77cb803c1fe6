"""Room 2: the thread that reads all connections, so that no byte waits while the event loop opens and closes others."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

Take = Callable[[], bool]
"""Reads what a socket has, without waiting; whether there may be more. Sometimes called when there is nothing."""

_READABLE = 1
_PAUSE_S = 0.001
_NICE = -10
"""Of the reading thread: before programs of usual priority, behind those that the system itself puts first."""


class Reader:
    """Calls back, in a thread of its own, for each watched socket that has something to read.

    The thread starts with the first socket and ends with ``close`` or with the process.
    """

    def __init__(self) -> None:
        self._watched = make_watch_list()
        self._takes: dict[int, Take] = {}
        self._taking = threading.Lock()
        self._bell, self._rope = socket.socketpair()
        self._bell.setblocking(False)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="boobench reader", daemon=True)

    def watch(self, sock: socket.socket, take: Take) -> None:
        """Call ``take`` whenever the socket can be read, until it returns False."""
        if self._thread.ident is None:
            self._add(self._bell, self._hear)
            self._thread.start()
        self._add(sock, take)
        if isinstance(self._watched, SelectList):  # its running ``poll`` does not know the new socket
            self._rope.send(b"!")

    def forget(self, sock: socket.socket) -> None:
        """Stop watching; when this returns, no call for the socket runs or follows, so that it may be closed."""
        with self._taking:
            self._drop(sock.fileno())

    def close(self) -> None:
        """End the thread and wait for it; no socket may be watched by then."""
        self._closed = True
        if self._thread.ident is not None:
            self._rope.send(b"!")
            self._thread.join()
        self._watched.close()
        self._bell.close()
        self._rope.close()

    def _add(self, sock: socket.socket, take: Take) -> None:
        self._takes[sock.fileno()] = take
        self._watched.register(sock.fileno(), _READABLE)

    def _drop(self, number: int) -> None:
        if self._takes.pop(number, None):
            self._watched.unregister(number)

    def _hear(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            self._bell.recv(4096)
        return True

    def _run(self) -> None:
        raise_priority()
        while not self._closed:
            for number, _ in self._watched.poll():
                with self._taking:
                    take = self._takes.get(number)  # none where it was forgotten a moment ago
                    if take is not None and not take():
                        self._drop(number)


def raise_priority() -> bool:
    """Give the calling thread a higher priority where the system lets this user; whether it did.

    It sleeps nearly all the time, so it takes little from other programs, but it need not wait for busy ones.
    """
    if sys.platform != "linux":  # elsewhere the priority is that of the whole process
        return False
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
    except OSError:  # no CAP_SYS_NICE, and no RLIMIT_NICE that allows it
        return False
    return True


def can_raise_priority() -> bool:
    """Whether the reading thread gets a higher priority; tried in a thread that does nothing else."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(raise_priority).result()


class WatchList(Protocol):
    """Watched sockets by their numbers: what this module uses of ``select.epoll``."""

    def register(self, number: int, event_mask: int, /) -> None: ...

    def unregister(self, number: int, /) -> None: ...

    def poll(self) -> Sequence[tuple[int, int]]: ...

    def close(self) -> None: ...


def make_watch_list() -> WatchList:
    """An empty one: epoll on Linux, select elsewhere."""
    if sys.platform != "linux":
        return SelectList()
    return select.epoll()


class SelectList:
    """A WatchList that uses ``select``."""

    def __init__(self) -> None:
        self._numbers: set[int] = set()

    def register(self, number: int, _: int, /) -> None:
        """Watch a socket, from the next ``poll`` on."""
        self._numbers.add(number)

    def unregister(self, number: int, /) -> None:
        """Stop watching a socket."""
        self._numbers.discard(number)

    def poll(self) -> Sequence[tuple[int, int]]:
        """Wait until some can be read; where ``select`` fails, all of them after a short pause."""
        try:
            ready, _, _ = select.select(list(self._numbers), (), ())
        except (OSError, ValueError):  # one is being closed, or there are more than it takes: 512 on Windows
            time.sleep(_PAUSE_S)
            ready = list(self._numbers)
        return [(number, _READABLE) for number in ready]

    def close(self) -> None:
        """Nothing to close."""
