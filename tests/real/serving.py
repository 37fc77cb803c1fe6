"""A server in a process group of its own, on a free port, gone when its block ends."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_POLL_S = 0.2
_LAST_LINES = 30


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers."""

    url: str
    log: Path
    started_s: float
    """From its start to its first good answer."""


def find_port() -> int:
    """One that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def serve(
    command: Sequence[str | Path],
    port: int,
    log: Path,
    *,
    ready: str,
    variables: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    deadline_s: float = 600.0,
) -> Iterator[Running]:
    """Run a server that listens on ``port`` while the block lasts; it is up when the page ``ready`` is a 200."""
    signal.signal(signal.SIGTERM, _leave)
    began_s = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(variables or {})},
            start_new_session=True,
            cwd=log.parent,
        )
    try:
        while status_of(port, ready, headers or {}) != http.client.OK:
            if process.poll() is not None or time.monotonic() - began_s > deadline_s:
                last = log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
                raise RuntimeError("\n".join([f"{command[0]} did not come up; the end of its log:", *last]))
            time.sleep(_POLL_S)
        yield Running(f"http://127.0.0.1:{port}", log, time.monotonic() - began_s)
    finally:
        _end(process)


def status_of(port: int, path: str, headers: Mapping[str, str]) -> int | None:
    """Of a GET; None where nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
    try:
        connection.request("GET", path, headers=dict(headers))
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()


def _leave(*_: object) -> None:
    """So that a block's end is reached when the program is asked to go."""
    raise SystemExit(128 + signal.SIGTERM)


def _end(process: subprocess.Popen[bytes]) -> None:
    """The whole group: asked first, killed after ten seconds."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
            process.wait(timeout=10)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
