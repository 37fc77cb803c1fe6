"""Room 2: the thread that reads all connections, so that no byte waits while the event loop opens and ends others."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence

Take = Callable[[], bool]
"""Takes what a socket has without waiting for more; whether there may be more."""

_PAUSE_S = 0.001


class Reader:
    """Calls back, in a thread of its own, for every watched socket that has something to read.

    The thread begins with the first socket and ends with ``close``, or with the process.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
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
        self._rope.send(b"!")  # not every selector notices on its own that it has a socket more

    def forget(self, sock: socket.socket) -> None:
        """No call for this socket is under way when this returns, and none will be: it may be closed."""
        if sock.fileno() in self._takes:
            with self._taking:
                self._drop(sock.fileno())

    def close(self) -> None:
        """Ends the thread and waits for its end; no socket may be watched then."""
        self._closed = True
        if self._thread.ident is not None:
            self._rope.send(b"!")
            self._thread.join()
        self._selector.close()
        self._bell.close()
        self._rope.close()

    def _add(self, sock: socket.socket, take: Take) -> None:
        self._takes[sock.fileno()] = take
        self._selector.register(sock, selectors.EVENT_READ, take)

    def _drop(self, number: int) -> None:
        if self._takes.pop(number, None):
            self._selector.unregister(number)

    def _hear(self) -> bool:
        self._bell.recv(4096)
        return True

    def _run(self) -> None:
        while not self._closed:
            for key in self._select():
                with self._taking:
                    # It may have been forgotten since, and its number be another socket's by now.
                    take = self._takes.get(key.fd)
                    if take is not None and take is key.data and not take():
                        self._drop(key.fd)

    def _select(self) -> Sequence[selectors.SelectorKey]:
        try:
            return [key for key, _ in self._selector.select()]
        except (OSError, ValueError):
            # Windows' select() fails while one of its sockets is being closed, and with more than 512 of them.
            time.sleep(_PAUSE_S)
            return list(self._selector.get_map().values())
