"""Room 2: a server that we start: the port, the wait until it answers, the log, the memory, and the end."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from pytest_boobench.errors import HostError
from pytest_boobench.hosts import keeper
from pytest_boobench.hosts.server_memory import find_gpu_mb, find_peak_mb
from pytest_boobench.hosts.start_fields import Combination
from pytest_boobench.servers.command_line import write_command
from pytest_boobench.units import span

LOOPBACK = "127.0.0.1"
GRACE_S = 5.0
"""How long a server has to end by itself before it is killed."""
LOG_TAIL_LINES = 12
_POLL_S = (0.01, 0.25)
"""Shortest and longest wait between two looks whether it answers: about 1 % of the time so far."""
_PROBE_S = 2.0
_TRIES = 3
"""How often another port is tried where somebody took ours before the server did."""
_TAKEN = ("address already in use", "couldn't bind", "could not bind", "failed to bind", "eaddrinuse")

Tell = Callable[[float], None]
"""Receives the seconds waited so far."""


@dataclass(eq=False)
class StartedServer:
    """A running server, ready for requests."""

    combination: Combination
    url: str
    log: Path
    start_ms: float
    """From the start of the process until it answered."""
    _keeper: subprocess.Popen[bytes]
    _gpu_mb: float | None = None

    def alive(self) -> bool:
        """Whether it still runs."""
        return self._keeper.poll() is None

    @property
    def command(self) -> str | None:
        """The command line as a shell would write it, without the port and secrets."""
        words, env = self.combination.fill("{port}")
        return write_command([*(f"{name}={value}" for name, value in env.items()), *words])

    def processes(self) -> list[psutil.Process]:
        """Its processes that run now."""
        return list_processes(self._keeper.pid)

    def measure_memory(self) -> tuple[float | None, float | None]:
        """(rss_peak_mb, vram_peak_mb) since its start; blank where the system does not tell."""
        processes = self.processes()
        gpu_mb = find_gpu_mb({process.pid for process in processes})
        if gpu_mb is not None:
            self._gpu_mb = max(gpu_mb, self._gpu_mb or 0.0)
        return find_peak_mb(processes), self._gpu_mb

    def stop(self) -> None:
        """End it with all that it started; may be called more than once."""
        end(self._keeper)


def end(process: subprocess.Popen[bytes]) -> None:
    """Let a keeper end its server, and wait for both."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    try:
        process.wait(3 * GRACE_S)
    except subprocess.TimeoutExpired:  # the kernel then kills the server as well, where it is Linux
        process.kill()
        process.wait()


def list_processes(pid: int) -> list[psutil.Process]:
    """The processes that a keeper's server has now."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


async def launch(name: str, combination: Combination, log: Path, tell: Tell) -> StartedServer:
    """Start a server on a free port and wait until it answers.

    HostError, with the end of its log, where there is no such program, it ends, or it does not answer in time.
    """
    _require_program(name, combination)
    for tries_left in reversed(range(_TRIES)):
        port = _choose_port()
        process = _start(combination, port, log)
        try:
            start_ms = await _wait(name, combination, process, port, log, tell)
        except _PortTakenError as taken:
            end(process)
            if not tries_left:
                raise HostError(str(taken)) from None
        except BaseException:
            end(process)
            raise
        else:
            return StartedServer(combination, f"http://{LOOPBACK}:{port}", log, start_ms, process)
    raise AssertionError


class _PortTakenError(Exception):
    """Somebody else has the port that we chose."""


def _require_program(name: str, combination: Combination) -> None:
    start = combination.start
    words, env = combination.fill(0)
    program = words[0]
    path = env.get("PATH", os.environ.get("PATH"))
    where = str(start.folder / program) if os.sep in program else program
    if shutil.which(where, path=path) is None:
        found = Path(where).exists()
        what = "is not a program that can be run" if found else "there is no such program"
        raise HostError(f"{start.place}: {name}: command: {program!r}: {what}; paths are seen from {start.folder}")
    if not start.folder.is_dir():
        raise HostError(f"{start.place}: {name}: no folder {start.folder} to start it in")


def _choose_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def _start(combination: Combination, port: int, log: Path) -> subprocess.Popen[bytes]:
    words, env = combination.fill(port)
    options = json.dumps({"command": words, "log": str(log), "grace_s": GRACE_S})
    return subprocess.Popen(  # noqa: S603  # no shell; the words are the user's own
        [sys.executable, "-I", "-S", keeper.__file__, options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=combination.start.folder,
        env={**os.environ, **env},
    )


async def _wait(
    name: str, combination: Combination, process: subprocess.Popen[bytes], port: int, log: Path, tell: Tell
) -> float:
    """Milliseconds until it answered."""
    began = time.monotonic()
    told_s = 0.0
    ready_s = combination.start.ready_s
    while (waited_s := time.monotonic() - began) < ready_s:
        if process.poll() is not None:
            what = f"it ended with exit code {process.returncode} before it answered"
            message = _explain(name, combination, what, log)
            raise _PortTakenError(message) if _says_taken(log) else HostError(message)
        if _answers(port):
            start_ms = time.monotonic_ns() / 1e6 - _read_begin_ms(process)
            _require_own(name, combination, process, port, log)
            return start_ms
        if waited_s - told_s >= 1:
            told_s = waited_s
            tell(waited_s)
        await asyncio.sleep(max(_POLL_S[0], min(_POLL_S[1], waited_s / 100)))
    what = f"it did not answer on its port {port} within {span(ready_s)}{_describe_ports(process)}"
    raise HostError(_explain(name, combination, what, log))


def _read_begin_ms(process: subprocess.Popen[bytes]) -> float:
    """When the keeper started the server, by the clock that all processes share."""
    assert process.stdout is not None  # noqa: S101  # for mypy
    return int(process.stdout.readline()) / 1e6


def _answers(port: int) -> bool:
    """Whether a server answers, and not that it is still loading; without httpx, so that no proxy is used."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=_PROBE_S)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status != http.client.SERVICE_UNAVAILABLE
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _require_own(name: str, combination: Combination, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """An error where the answer came from a program that listened there before: not from what we started.

    Where nobody of ours listens there it may still be right: a container's service listens for its containers.
    """
    own = list_processes(process.pid)
    if any(port in _list_ports(one) for one in own):
        return
    began, pids = psutil.Process(process.pid).create_time(), {one.pid for one in own}
    for other in psutil.process_iter():
        with suppress(psutil.Error):
            strange = other.pid not in pids and other.create_time() < began
            if strange and port in _list_ports(other):
                what = f"another program, {other.name()} (process {other.pid}), listens on its port {port}"
                raise _PortTakenError(_explain(name, combination, what, log))


def _list_ports(process: psutil.Process) -> set[int]:
    """The TCP ports that a process listens on; none where it is gone or the system does not tell."""
    try:
        found = process.net_connections("tcp")
    except psutil.Error:
        return set()
    return {one.laddr.port for one in found if one.status == psutil.CONN_LISTEN}


def _describe_ports(process: subprocess.Popen[bytes]) -> str:
    """The ports that it listens on instead, to go on a sentence; empty where there are none."""
    found: set[int] = set().union(*map(_list_ports, list_processes(process.pid)))
    return f"; it listens on {', '.join(map(str, sorted(found)))}" if found else ""


def _says_taken(log: Path) -> bool:
    return any(words in line.lower() for line in read_tail(log) for words in _TAKEN)


def _explain(name: str, combination: Combination, what: str, log: Path) -> str:
    lines = [f"  {line}" for line in read_tail(log)]
    end_of_log = "the end of its log" if lines else "it wrote no log"
    head = f"{combination.start.place}: {name} did not start with {combination}: {what}; {end_of_log} ({log}):"
    return "\n".join([head if lines else head.removesuffix(":"), *lines])


def read_tail(log: Path) -> list[str]:
    """The last lines of a log."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 2**14))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    return [line[:500] for line in lines if line.strip()][-LOG_TAIL_LINES:]
