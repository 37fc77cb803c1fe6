"""Room 2, the process between us and a server that we start: it keeps the log, and ends the server with all that it
started. Run as a file, without the package and with the standard library only, so that it starts fast.

Its one argument is a JSON object: "command" (a list of texts), "log" (a file) and "grace_s". Its standard input is a
pipe that we hold open and never write to. The server is ended at the end of that pipe, so when we close it or die in
any way: first asked by SIGTERM, then, after the grace, killed. On Linux no descendant gets away, whatever its group.

It writes to its standard output when it started the server, in ns of the monotonic clock. The exit code is the server's
own; as a shell says it, 128 + the number of a signal, 127 where there is no such command.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

LOG_HEAD_BYTES = 2**20
LOG_TAIL_BYTES = 2**20
_LOG_MOST_BYTES = 8 * 2**20
"""A longer log keeps its first and its newest megabyte."""
NOT_THERE = 127
_PARENT_EVERY_S = 1.0
_REAP_EVERY_S = 0.01
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # prctl(2)
_CHILDREN = Path("/proc/self/task") / str(os.getpid()) / "children"


class Log:
    """What the server writes. A full disk loses log, and never stops the server."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self._size = self._left_out = 0

    def write(self, text: bytes) -> None:
        """Append; leave the middle out where the log is too long."""
        with suppress(OSError):
            self._size += self._file.write(text)
            if self._size > _LOG_MOST_BYTES:
                self._shorten()

    def _shorten(self) -> None:
        self._file.seek(-LOG_TAIL_BYTES, os.SEEK_END)
        tail = self._file.read()
        self._left_out += self._size - LOG_HEAD_BYTES - len(tail)
        self._file.seek(LOG_HEAD_BYTES)
        self._file.truncate()
        self._file.write(b"\n[%d bytes left out]\n" % self._left_out + tail)
        self._size = self._file.tell()


def main() -> NoReturn:
    """Start the server, follow it, end it."""
    options = json.loads(sys.argv[1])
    parent = os.getppid()
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    ended = False

    def end(*_: object) -> None:
        nonlocal ended
        ended = True

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches us too; who measures ends its measuring first
    signal.signal(signal.SIGCHLD, lambda *_: None)  # only wakes
    prctl = _find_prctl()
    prctl(_PR_SET_CHILD_SUBREAPER, 1)
    log = Log(Path(options["log"]))
    os.write(1, b"%d\n" % time.monotonic_ns())
    try:
        server = subprocess.Popen(  # noqa: S603
            options["command"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),  # noqa: PLW1509  # no thread runs here
        )
    except OSError as error:
        log.write(f"{options['command'][0]}: {error.strerror}\n".encode())
        os._exit(NOT_THERE)
    assert server.stdout is not None  # noqa: S101  # for mypy
    said = server.stdout.fileno()
    os.set_blocking(said, False)
    with selectors.DefaultSelector() as selector:
        for pipe in (0, wake, said):
            selector.register(pipe, selectors.EVENT_READ)
        while not ended and server.poll() is None and os.getppid() == parent:
            ready = {key.fd for key, _ in selector.select(_PARENT_EVERY_S)}
            if wake in ready:
                os.read(wake, 512)
            if said in ready and not _copy(said, log):
                selector.unregister(said)
            if 0 in ready and not os.read(0, 1):
                end()
    code = _end(server, said, log, options["grace_s"])
    os._exit(code if code >= 0 else 128 - code)


def _find_prctl() -> Callable[[int, int], object]:
    """Linux's call; elsewhere one that does nothing."""
    call: Callable[[int, int], object] = ctypes.CDLL(None).prctl if sys.platform == "linux" else max
    return call


def _copy(said: int, log: Log) -> bool:
    """Move what the server has written to the log; False at its end."""
    try:
        text = os.read(said, 2**16)
    except BlockingIOError:
        return True
    log.write(text)
    return bool(text)


def _end(server: subprocess.Popen[bytes], said: int, log: Log, grace_s: float) -> int:
    """Ask the server to end, kill what is left of it and of its descendants; its exit code."""
    deadline = time.monotonic() + grace_s
    if server.poll() is None:
        _signal(server.pid, signal.SIGTERM)
    while server.poll() is None and time.monotonic() < deadline:
        _copy(said, log)
        time.sleep(_REAP_EVERY_S)
    _signal(server.pid, signal.SIGKILL)
    code = server.wait()
    _kill_descendants(time.monotonic() + grace_s)
    while select.select([said], [], [], 0)[0] and _copy(said, log):
        pass
    return code


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _kill_descendants(deadline: float) -> None:
    """Kill what left the server's group: a process whose parent is dead becomes our child, until there is none."""
    while time.monotonic() < deadline:
        try:
            children = [int(pid) for pid in _CHILDREN.read_text().split()]
        except OSError:
            return  # another system than Linux
        for pid in children:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not children:
            return
        time.sleep(_REAP_EVERY_S)


if __name__ == "__main__":
    main()
