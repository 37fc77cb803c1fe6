"""Python processes of sessions inside tests, forked from one that has imported everything: `ForkedPython`.

From a fresh Python a session, or a worker of xdist, takes more than a second of processor until it begins. Else they
are the same: each is a process of its own, with its own folder, environment and standard streams.

``python -m tests.forking SOCKET`` is the process that is forked. It ends when its standard input ends.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import NoReturn

import execnet.gateway_io
import pytest
from execnet.gateway_base import ExecModel, Popen2IO

_CHECKOUT = str(Path(__file__).parent.parent)
_STREAMS = (0, 1, 2)


# --- whoever wants a process


class _Server:
    """The process that is forked: started when it is first needed, ended with us."""

    def __init__(self) -> None:
        self.address: str | None = None
        self._lock = threading.Lock()

    def connect(self) -> socket.socket:
        with self._lock:
            if self.address is None:
                self.address = self._start()
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self.address)
        return connection

    def _start(self) -> str:
        folder = tempfile.TemporaryDirectory(prefix="boobench-fork-")  # a socket's path must be short
        address = f"{folder.name}/socket"
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "BOOBENCH_"))}
        environ["PYTHONPATH"] = os.pathsep.join([_CHECKOUT, environ.get("PYTHONPATH", "")])
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.forking", address],
            cwd=folder.name,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"

        def end() -> None:
            assert process.stdin is not None
            process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            folder.cleanup()

        atexit.register(end)
        return address


_server = _Server()


class ForkedPython:
    """A process that does what ``python`` with these arguments does: ``-u -c CODE`` or ``-m pytest …``."""

    def __init__(
        self,
        args: Sequence[str],
        streams: Sequence[int],
        *,
        folder: Path | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._connection = _server.connect()
        socket.send_fds(self._connection, [b"!"], list(streams))
        asked = (list(args), str(folder or Path.cwd()), dict(os.environ if environ is None else environ))
        self._connection.sendall(pickle.dumps(asked))
        self._said = self._connection.makefile("r")
        self.pid = int(self._said.readline())
        self._lock = threading.Lock()
        self._code: int | None = None

    def wait(self) -> int:
        """Its exit code once it ended, negative for a signal."""
        with self._lock:
            if self._code is None:
                self._code = int(self._said.readline())
                self._said.close()
                self._connection.close()
        return self._code

    def kill(self) -> None:
        """At once."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


class ForkedWorker(Popen2IO):
    """A worker of xdist and the pipes to it, in place of execnet's ``Popen2IOMaster``."""

    def __init__(self, args: Sequence[str], execmodel: ExecModel) -> None:
        told, tell = os.pipe()
        hear, says = os.pipe()
        self._process = ForkedPython(args[1:], (told, says, 2))
        os.close(told)
        os.close(says)
        super().__init__(os.fdopen(tell, "wb"), os.fdopen(hear, "rb"), execmodel=execmodel)

    def wait(self) -> int | None:
        """Its exit code, once it ended."""
        return self._process.wait()

    def kill(self) -> None:
        """At once."""
        self._process.kill()


def run_pytest(args: Sequence[str], folder: Path, environ: Mapping[str, str]) -> pytest.RunResult:
    """``python -m pytest`` with its output in the files ``stdout`` and ``stderr``, as pytester's."""
    paths = [folder / name for name in ("stdout", "stderr")]
    began_s = time.monotonic()
    with paths[0].open("wb") as out, paths[1].open("wb") as err, Path(os.devnull).open("rb") as nothing:
        streams = (nothing.fileno(), out.fileno(), err.fileno())
        process = ForkedPython(
            ["-m", "pytest", f"--basetemp={folder}/runpytest", *args], streams, folder=folder, environ=environ
        )
    code = process.wait()
    took_s = time.monotonic() - began_s
    out_lines, err_lines = (path.read_text(encoding="utf-8").splitlines() for path in paths)
    for line in (*out_lines, *err_lines):
        print(line)
    return pytest.RunResult(code, out_lines, err_lines, took_s)


# --- the process that is forked


def _import_all() -> None:
    """By a session over nothing first: pytest wants to rewrite the modules of its plugins itself."""
    plugins = [part for name in ("boobench", "xdist", "benchmark") for part in ("-p", name)]
    with contextlib.redirect_stdout(io.StringIO()):
        pytest.main(["--boobench", "--disable-plugin-autoload", *plugins, "--rootdir=.", "-p", "no:cacheprovider"])
    import xdist.remote  # noqa: F401

    from tests.imported import KNOWN

    metadata.distributions = lambda **_: iter(KNOWN)  # type: ignore[assignment, arg-type]
    gc.collect()
    gc.freeze()  # or each fork's collector would copy all of it


def _serve(address: str) -> NoReturn:
    _import_all()
    execnet.gateway_io.Popen2IOMaster = ForkedWorker  # type: ignore[misc, assignment]
    _server.address = address
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            ready, _, _ = select.select([listener, 0], [], [])
            if listener not in ready:
                _forget_ended()
                os._exit(0)
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _keep(connection)
            connection.close()
            _forget_ended()


def _forget_ended() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _keep(connection: socket.socket) -> NoReturn:
    """Fork what is asked for, wait for its end and tell it."""
    _, streams, _, _ = socket.recv_fds(connection, 1, len(_STREAMS))
    with connection.makefile("rb") as said:
        args, folder, environ = pickle.load(said)
    pid = os.fork()
    if pid == 0:
        connection.close()
        for stream, fd in zip(streams, _STREAMS, strict=True):
            os.dup2(stream, fd)
        os.closerange(3, max(streams) + 1)
        _become(args, folder, environ)
    for fd in (*streams, *_STREAMS):
        os.close(fd)
    with contextlib.suppress(OSError):
        connection.sendall(f"{pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _become(args: Sequence[str], folder: str, environ: Mapping[str, str]) -> NoReturn:
    """Do what a fresh Python does with these arguments, to its end."""
    own = [_CHECKOUT, *os.environ.get("PYTHONPATH", "").split(os.pathsep), ""]
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    theirs = [path for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [folder, *theirs, *(path for path in sys.path if path not in own)]
    from xdist import workermanage

    workermanage._sys_path = list(sys.path)  # what it gives to workers, taken from the start of the interpreter
    sys.stdin = sys.__stdin__ = os.fdopen(0, "r", closefd=False)
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", 1, errors="backslashreplace", closefd=False)
    code = _find_code(lambda: _run(args))
    with contextlib.suppress(ValueError, OSError):
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _run(args: Sequence[str]) -> object:
    if args[:2] == ["-m", "pytest"]:
        sys.argv = ["pytest", *args[2:]]
        return pytest.main(list(args[2:]))
    assert args[:2] == ["-u", "-c"], args
    sys.argv = ["-c"]
    exec(args[2], {"__name__": "__main__"})
    return 0


def _find_code(run: Callable[[], object]) -> int:
    try:
        code = run()
    except SystemExit as error:
        code = error.code
    except BaseException:
        traceback.print_exc()
        return 1
    return int(code) if isinstance(code, int) else int(code is not None)


if __name__ == "__main__":
    _serve(sys.argv[1])
