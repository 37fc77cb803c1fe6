"""Room 2, the parent's side of the embedded host: start it, know its URL, see whether it lives, end it."""

from __future__ import annotations

import http.client
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from pytest_boobench.errors import HostError, MissingExtra
from pytest_boobench.hosts.embedded import serve
from pytest_boobench.hosts.embedded.model import MODELS, EmbeddedSettings, provide_model

_LOG_FILE = "llama.log"
_LOG_TAIL_LINES = 12
_POLL_S = 0.01


class EmbeddedServer:
    """A running server; as a context manager it is stopped at the end."""

    def __init__(self, url: str, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.url = url
        self._process = process
        self._folder = folder

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    def alive(self) -> bool:
        """Whether the process still runs; asks the system, not the server."""
        return self._process.poll() is None

    def stop(self) -> None:
        """End the server at once, answers under way included; once more does nothing."""
        _end(self._process, self._folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def start(settings: EmbeddedSettings, *, deadline_s: float = 30.0, cache: Path | None = None) -> EmbeddedServer:
    """Start a server of its own process and wait until it is healthy.

    It ends with this process, however that ends. ``cache`` is the folder for the model's file, the user's by default.
    MissingExtra without xllamacpp; HostError, with the end of llama.cpp's log, where no server comes up in time.
    """
    if importlib.util.find_spec("xllamacpp") is None:
        raise MissingExtra("the embedded host", "embedded")
    model = _provide(settings, cache)
    folder = Path(tempfile.mkdtemp(prefix="boobench-embedded-"))
    process = _launch(settings, model, folder)
    try:
        url = _wait_until_healthy(process, folder, deadline_s)
    except BaseException:
        _end(process, folder)
        raise
    return EmbeddedServer(url, process, folder)


def is_healthy(url: str) -> bool:
    """Whether a server answers at ``/health`` with 200; asked without httpx, so past any proxy of the environment."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=1.0)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()


def _provide(settings: EmbeddedSettings, cache: Path | None) -> Path:
    try:
        return provide_model(settings, cache)
    except OSError as error:
        raise HostError(
            f"the embedded host: its model cannot be written, expected a writable cache: {error}"
        ) from error


def _launch(settings: EmbeddedSettings, model: Path, folder: Path) -> subprocess.Popen[bytes]:
    options = {
        "--model": model,
        "--threads": settings.threads,
        "--slots": settings.slots,
        "--context-tokens": settings.context_tokens,
    }
    command = [sys.executable, "-P", serve.__file__, str(folder)]
    command += [f"{name}={value}" for name, value in options.items()] + [f"--alias={name}" for name in MODELS]
    with (folder / _LOG_FILE).open("wb") as log:
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT)  # noqa: S603


def _wait_until_healthy(process: subprocess.Popen[bytes], folder: Path, deadline_s: float) -> str:
    deadline = time.monotonic() + deadline_s
    address = folder / serve.ADDRESS_FILE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise HostError(_tell(f"its server ended with exit code {process.returncode} before it was ready", folder))
        if address.exists() and is_healthy(url := address.read_text()):
            return url
        time.sleep(_POLL_S)
    raise HostError(_tell(f"its server was not ready after {deadline_s:g} s", folder))


def _tell(what: str, folder: Path) -> str:
    log = (folder / _LOG_FILE).read_text(errors="replace").splitlines()
    return "\n".join([f"the embedded host: {what}; the end of its log:", *log[-_LOG_TAIL_LINES:]])


def _end(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Killed, not asked: llama.cpp's own way out can hang, and there is nothing to save."""
    process.kill()
    process.communicate()
    shutil.rmtree(folder, ignore_errors=True)
