"""The processes of a comparison: truth servers, clients, CPU hogs; and the environments that other tools run in."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from platformdirs import user_cache_path

from tests.benchmarks.clients import Load
from tests.benchmarks.schedule import Schedule
from tests.benchmarks.traces import Trace

CHECKOUT = Path(__file__).parents[2]
REQUIREMENTS = {
    "aiohttp": "aiohttp>=3.11",
    "aiperf": "aiperf==0.13.0",
    "guidellm": "guidellm==0.8.1",
    "llama-benchy": "llama-benchy==0.4.0",
    "llm-grill": "llm-grill==0.1.4",
    "pytest-boobench": str(CHECKOUT),
}
"""What runs in an environment of its own, and which version of it was looked at."""
_LARGE = {"aiperf": "1.2 GB", "guidellm": "6 GB"}
"""What the largest of them take on disk; guidellm brings torch with its CUDA."""
_FINISHED = "installed"
_HOG = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"
"""Ends with its parent, however that ends."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one client made of one load."""

    traces: Sequence[Trace]
    lost: Sequence[str]
    """Why streams are not among the traces."""
    cpu_s: float
    """User and system time from the first request to the last decoded event, imports and warm-up left out."""
    peak_mb: float
    """Peak memory of the client's process, interpreter included."""
    limit: str | None
    """What our own cell would say of its client as the bottleneck."""

    @property
    def events(self) -> int:
        """Events that brought tokens."""
        return sum(len(trace.seen_ns) for trace in self.traces)


def run_client(name: str, load: Load, timeout_s: float = 600.0) -> Result:
    """Runs a client in a process of its own; RuntimeError with the end of its words where it fails."""
    python = provide_environment(name) if name in REQUIREMENTS else Path(sys.executable)
    done = subprocess.run(
        [python, "-m", "tests.benchmarks.clients", name],
        input=json.dumps(asdict(load)),
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        timeout=timeout_s,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{name}: its process ended with exit code {done.returncode}: {done.stderr[-500:].strip()}")
    said = json.loads(done.stdout)
    return Result(**{**said, "traces": [Trace(**trace) for trace in said["traces"]]})


def provide_environment(name: str) -> Path:
    """The Python of an environment in the user's cache that has a tool of ``REQUIREMENTS``, installed at first use."""
    folder = user_cache_path("pytest-boobench") / "benchmarks" / name
    python = folder / "bin" / "python"
    if not (folder / _FINISHED).exists():
        size = f" ({_LARGE[name]})" if name in _LARGE else ""
        print(f"installing {REQUIREMENTS[name]} in {folder}{size}", file=sys.stderr)
        venv.create(folder, clear=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", REQUIREMENTS[name]], check=True)
        (folder / _FINISHED).touch()
    return python


@contextmanager
def truth_servers(count: int = 1, default: Schedule | None = None) -> Iterator[list[str]]:
    """The URLs of truth servers, each a process of its own; they end with this block, and with this process."""
    command = [sys.executable, "-m", "tests.benchmarks.truth", "--with-parent"]
    for name, value in asdict(default or Schedule()).items():
        command.append(f"--{name.replace('_', '-')}={value}")
    with ExitStack() as stack:
        servers = []
        for _ in range(count):
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT)
            stack.callback(process.communicate)  # closes its standard input, which ends it
            servers.append(process)
        yield [server.stdout.readline().strip() for server in servers if server.stdout]


@contextmanager
def hogs(count: int) -> Iterator[None]:
    """Processes that each keep a core busy for as long as the block runs."""
    processes = [subprocess.Popen([sys.executable, "-c", _HOG]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()
