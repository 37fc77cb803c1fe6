"""Room 2: the thread that reads all connections, so that no byte waits while the event loop opens and closes others."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from selectors import EVENT_READ, DefaultSelector, SelectSelector

Take = Callable[[], bool]
"""Reads what a socket has, without waiting; whether there may be more. Sometimes called when there is nothing."""

_PAUSE_S = 0.001
_NICE = -10
"""Of the reading thread: before programs of usual priority, behind those that the system itself puts first."""


class Reader:
    """Calls back, in a thread of its own, for each watched socket that has something to read.

    The thread starts with the first socket and ends with ``close`` or with the process.
    """

    def __init__(self) -> None:
        self._selector = DefaultSelector()
        self._takes: dict[int, Take] = {}
        self._taking = threading.Lock()
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._wake_receiver.setblocking(False)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="boobench reader", daemon=True)

    def watch(self, sock: socket.socket, take: Take) -> None:
        """Call ``take`` whenever the socket can be read, until it returns False."""
        if self._thread.ident is None:
            self._add(self._wake_receiver, self._drain)
            self._thread.start()
        self._add(sock, take)
        if isinstance(self._selector, SelectSelector):  # a ``select`` under way does not know the new socket
            self._wake_sender.send(b"!")

    def forget(self, sock: socket.socket) -> None:
        """Stop watching; when this returns, no call for the socket runs or follows, so that it may be closed."""
        with self._taking:
            self._drop(sock.fileno())

    def close(self) -> None:
        """End the thread and wait for it; no socket may be watched by then."""
        self._closed = True
        if self._thread.ident is not None:
            self._wake_sender.send(b"!")
            self._thread.join()
        self._selector.close()
        self._wake_receiver.close()
        self._wake_sender.close()

    def _add(self, sock: socket.socket, take: Take) -> None:
        self._takes[sock.fileno()] = take
        self._selector.register(sock, EVENT_READ)

    def _drop(self, number: int) -> None:
        if self._takes.pop(number, None):
            self._selector.unregister(number)

    def _drain(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            self._wake_receiver.recv(4096)
        return True

    def _run(self) -> None:
        raise_priority()
        while not self._closed:
            try:
                ready = [key.fd for key, _ in self._selector.select()]
            except (OSError, ValueError):  # of ``select``: a socket is being closed, or there are too many
                time.sleep(_PAUSE_S)
                ready = list(self._takes)
            for number in ready:
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
