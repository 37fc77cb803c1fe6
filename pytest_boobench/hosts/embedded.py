"""Room 2: the embedded host: a llama.cpp server in its own process, with a model that the package writes."""

from __future__ import annotations

import http.client
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pytest_boobench.environment import find_cache
from pytest_boobench.errors import HostError, MissingExtra, explain_os_error
from pytest_boobench.hosts import embedded_child
from pytest_boobench.hosts.embedded_model import CONTEXT_LIMIT_TOKENS, describe, lay_out_tensors, write

MODELS = ("tiny-chat", "tiny-embed")
"""Names of the same model, for text and for embeddings."""
FORMAT = 1
"""Part of the file's name. Increase it when the same settings give a different file."""
_LOG_FILE = "llama.log"
_LOG_TAIL_LINES = 12
_NEEDED_BYTES = 4096
_POLL_S = 0.01
_LIMITS: Mapping[str, tuple[int, int, int]] = {  # least, most, step
    "layers": (1, 128, 1),
    "width": (256, 4096, 256),
    "feed_forward": (256, 16384, 256),
    "threads": (1, 64, 1),
    "slots": (1, 64, 1),
    "context_tokens": (256, CONTEXT_LIMIT_TOKENS, 1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedSettings:
    """The size of the embedded host: of its model, then of its server. Raises ValueError for impossible values.

    The defaults on one core of an EPYC guest: a file of 14 MB, ready in 0.2 s, 125 MB of memory, decode 310 tok/s and
    prefill 2300 tok/s after 256 tokens, both within 1 % from request to request. A token takes 3 ms, 0.1 of them for
    HTTP and sampling. The layers are IQ3_S (3.4 bits per weight): slow to unpack and small enough for a cache. So the
    speed depends on arithmetic, and not on memory, which other guests of the machine slow down.
    """

    layers: int = 8
    width: int = 512
    feed_forward: int = 2048
    threads: int = 1
    slots: int = 8
    """Requests at once; more wait in the server's queue."""
    context_tokens: int = 4096
    """Context of one slot, and the longest text for an embedding."""

    def __post_init__(self) -> None:
        problems = find_problems(asdict(self))
        if problems:
            raise ValueError("; ".join(f"{field}: {text}" for field, text in problems.items()))


def find_problems(values: Mapping[str, object]) -> dict[str, str]:
    """Return field -> what is wrong with its value and what would be right, for the given fields of the settings."""
    problems = {}
    for field, (least, most, step) in _LIMITS.items():
        value = values.get(field, least)
        if type(value) is not int or not least <= value <= most or value % step:
            kind = "a whole number" if step == 1 else f"a multiple of {step}"
            problems[field] = f"expected {kind} from {least} to {most}, got {value!r}"
    return problems


def provide_model(settings: EmbeddedSettings, cache: Path | None = None) -> Path:
    """Return the model's file for these settings; write it at first use. Raises OSError for a read-only cache.

    ``cache`` is a folder, by default the user's for this package. Safe if sessions write at the same time: each writes
    its own file and renames it when it is complete.
    """
    folder = cache or find_cache()
    shape = settings.layers, settings.width, settings.feed_forward
    path = folder / f"tiny-l{shape[0]}-w{shape[1]}-f{shape[2]}-v{FORMAT}.gguf"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=path.stem, delete=False) as file:
            fresh = Path(file.name)
            try:
                write(file, describe(*shape), lay_out_tensors(*shape))
                file.close()
                fresh.replace(path)
            except BaseException:  # or each try would leave a part of a file on a full disk
                fresh.unlink(missing_ok=True)
                raise
    return path


@dataclass(eq=False)
class EmbeddedServer:
    """A running server; as a context manager it stops at the end."""

    _process: subprocess.Popen[bytes]
    _folder: Path
    url: str = ""

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def stop(self) -> None:
        """Kill the server, even during an answer. Idempotent.

        llama.cpp's own shutdown can hang, and there is nothing to save.
        """
        self._process.kill()
        self._process.communicate()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start(settings: EmbeddedSettings, *, deadline_s: float = 30.0, cache: Path | None = None) -> EmbeddedServer:
    """Start a server in its own process and wait until it is healthy.

    It ends with this process, even if this process is killed. ``cache`` is as in `provide_model`. Raises MissingExtra
    without xllamacpp; HostError, with the end of llama.cpp's log, if no server is ready in time.
    """
    if importlib.util.find_spec("xllamacpp") is None:
        raise MissingExtra("the embedded host", "embedded")
    try:
        model = provide_model(settings, cache)
    except OSError as error:
        raise HostError(
            f"the embedded host: its model cannot be written, expected a writable cache: {error}"
        ) from error
    folder = Path(tempfile.mkdtemp(prefix="boobench-embedded-"))
    process = _launch(settings, model, folder)
    server = EmbeddedServer(process, folder)
    try:
        server.url = _wait_until_healthy(process, folder, deadline_s)
    except BaseException:
        server.stop()
        raise
    return server


def is_healthy(url: str) -> bool:
    """Whether a server answers ``/health`` with 200. Without httpx, so that no proxy is used."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=1.0)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()


def _launch(settings: EmbeddedSettings, model: Path, folder: Path) -> subprocess.Popen[bytes]:
    options = {"folder": str(folder), "model": str(model), "aliases": MODELS, **asdict(settings)}
    command = [sys.executable, "-P", embedded_child.__file__, json.dumps(options)]
    with (folder / _LOG_FILE).open("wb") as log:
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT)  # noqa: S603


def _wait_until_healthy(process: subprocess.Popen[bytes], folder: Path, deadline_s: float) -> str:
    deadline = time.monotonic() + deadline_s
    address = folder / embedded_child.ADDRESS_FILE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise HostError(_tell(f"its server ended with exit code {process.returncode} before it was ready", folder))
        if address.exists() and is_healthy(url := address.read_text()):
            return url
        time.sleep(_POLL_S)
    raise HostError(_tell(f"its server was not ready after {deadline_s:g} s", folder))


def _tell(what: str, folder: Path) -> str:
    try:
        (folder / "room").write_bytes(bytes(_NEEDED_BYTES))
    except OSError as error:
        reason = explain_os_error(error)
        return (
            f"the embedded host: {what}: it cannot write to {folder.parent} ({reason}); let TMPDIR name another folder"
        )
    log = (folder / _LOG_FILE).read_text(errors="replace").splitlines()
    return "\n".join([f"the embedded host: {what}; the end of its log:", *log[-_LOG_TAIL_LINES:]])
