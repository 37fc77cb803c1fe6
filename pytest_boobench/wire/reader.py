"""Room 2: the thread that reads all connections, so that no byte waits while the event loop opens and ends others."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

Take = Callable[[], bool]
"""Takes what a socket has without waiting for more; whether there may be more. Called in vain now and then."""

_READABLE = 1
_PAUSE_S = 0.001
_NICE = -10
"""Of the reading thread: before all that have none of their own, behind what the system itself has put in front."""


class Reader:
    """Calls back, in a thread of its own, for every watched socket that has something to read.

    The thread begins with the first socket and ends with ``close``, or with the process.
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
        """Calls ``take`` whenever the socket can be read, until it says that there is no more."""
        if self._thread.ident is None:
            self._add(self._bell, self._hear)
            self._thread.start()
        self._add(sock, take)
        if isinstance(self._watched, SelectList):  # which does not notice on its own that it has a socket more
            self._rope.send(b"!")

    def forget(self, sock: socket.socket) -> None:
        """No call for this socket is under way when this returns, and none will be: it may be closed."""
        with self._taking:
            self._drop(sock.fileno())

    def close(self) -> None:
        """Ends the thread and waits for its end; no socket may be watched then."""
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
    """Put the calling thread before other programs' where the system lets this user; whether it did.

    It sleeps nearly all the time, so it takes nothing from others; but it is not kept waiting by those that never do.
    """
    if sys.platform != "linux":  # elsewhere it would be the whole process, the server's side of a test too
        return False
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
    except OSError:  # no CAP_SYS_NICE, and no RLIMIT_NICE that allows it
        return False
    return True


def can_raise_priority() -> bool:
    """Whether the reading thread goes before others; tried in a thread that does nothing else."""
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(raise_priority()), name="boobench priority")
    thread.start()
    thread.join()
    return found[0]


class WatchList(Protocol):
    """Sockets by their numbers, as ``select.epoll`` has them."""

    def register(self, number: int, event_mask: int, /) -> None:
        """Watch one more."""
        ...

    def unregister(self, number: int, /) -> None:
        """Watch one less."""
        ...

    def poll(self) -> Sequence[tuple[int, int]]:
        """Wait until some can be read: their numbers, each with what there is to it."""
        ...

    def close(self) -> None:
        """Let go of what the system keeps for it."""
        ...


def make_watch_list() -> WatchList:
    """The system's best, empty: epoll on Linux, select elsewhere."""
    if sys.platform != "linux":
        return SelectList()
    return select.epoll()


class SelectList:
    """A WatchList by ``select``."""

    def __init__(self) -> None:
        self._numbers: set[int] = set()

    def register(self, number: int, _: int, /) -> None:
        """Watch one more, from the next ``poll`` on."""
        self._numbers.add(number)

    def unregister(self, number: int, /) -> None:
        """Watch one less."""
        self._numbers.discard(number)

    def poll(self) -> Sequence[tuple[int, int]]:
        """Wait until some can be read; all of them after a moment where ``select`` fails."""
        try:
            ready, _, _ = select.select(list(self._numbers), (), ())
        except (OSError, ValueError):  # one is being closed, or there are more than it takes: 512 on Windows
            time.sleep(_PAUSE_S)
            ready = list(self._numbers)
        return [(number, _READABLE) for number in ready]

    def close(self) -> None:
        """Nothing is kept."""
