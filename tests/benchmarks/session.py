"""A whole pytest session against llama.cpp: ``python -m tests.benchmarks.session [--peers llama-benchy,llm-grill]``.

16 requests of 128 prompt and 32 output tokens down one lane, to one embedded server that all tools share. Each tool
runs in an environment of its own, this one too: as users have it, without what its tests need.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sqlite3
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_boobench.hosts.embedded import EmbeddedServer, EmbeddedSettings, start
from tests.benchmarks.peers import PEERS, Job, Reported, run_peer
from tests.benchmarks.stage import CHECKOUT, provide_environment

_MODEL = "tiny-chat"
_PROMPT_TOKENS, _OUTPUT_TOKENS, _REQUESTS = 128, 32, 16
_HOSTS = "hosts: {here: {server: llama-server, url: '%s', shared: false}}\n"
_SUITE = f"""\
suite: session
hosts: [here]
models: [{_MODEL}]
kind: chat
grid: {{prompt_tokens: {_PROMPT_TOKENS}, output_tokens: {_OUTPUT_TOKENS}, concurrency: 1}}
warmup: 1
warmup_max: 1
samples: {_REQUESTS}
"""
"""With one request to warm up, as llama-benchy's dropped batch."""
_SETTINGS = {
    "as it comes": EmbeddedSettings(),
    "light": EmbeddedSettings(layers=1, width=256, feed_forward=256),  # what the tools themselves take shows better
}
_TRIES = 5
_QUERY = "SELECT ttft_ms, prompt_ms FROM bench_samples WHERE phase = 'measure' AND failure IS NULL"


@dataclass(frozen=True, slots=True)
class Session:
    """What a pytest session measured, and how long all of it took."""

    ttft_ms: Sequence[float]
    prompt_ms: Sequence[float]
    wall_s: float

    @property
    def rest_ms(self) -> float:
        """Median of TTFT less the server's own time for the prompt."""
        return statistics.median(ttft - prompt for ttft, prompt in zip(self.ttft_ms, self.prompt_ms, strict=True))


def install_ourselves() -> Path:
    """The Python of an environment that has this checkout, as it is now, and what it depends on."""
    python = provide_environment("pytest-boobench")
    anew = ("--quiet", "--force-reinstall", "--no-deps", str(CHECKOUT))
    subprocess.run([str(python), "-m", "pip", "install", *anew], check=True)
    return python


def run_session(python: Path, url: str) -> Session:
    """``pytest --boobench`` in a process and a folder of its own; RuntimeError with its words where it fails."""
    with tempfile.TemporaryDirectory(prefix="boobench-session-") as name:
        folder = Path(name)
        (folder / "pytest.ini").write_text("[pytest]\n")
        (folder / "boobench.hosts.yaml").write_text(_HOSTS % url)
        (folder / "session.boobench.yaml").write_text(_SUITE)
        began_s = time.monotonic()
        command = [str(python), "-m", "pytest", "--boobench", "-q", "-p", "no:cacheprovider"]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
        wall_s = time.monotonic() - began_s
        if done.returncode:
            raise RuntimeError(f"pytest: exit code {done.returncode}: {done.stdout[-1000:]}")
        store = sqlite3.connect(folder / ".boobench" / "store.db")
        try:
            rows = store.execute(_QUERY).fetchall()
        finally:
            store.close()
    return Session([ttft for ttft, _ in rows], [prompt for _, prompt in rows], wall_s)


def run_whole(name: str, job: Job) -> Reported:
    """Runs a peer until none of its requests is lost, as llama-benchy's often are, or five times."""
    for _ in range(_TRIES):
        told = run_peer(name, job)
        if len(told.ttft_ms) == job.rounds:
            break
    return told


def compare(python: Path, server: EmbeddedServer, peers: Sequence[str]) -> Iterable[tuple[object, ...]]:
    """The rows of one round: tool, requests that came whole, median TTFT, median TTFT - prompt_ms, wall."""
    session = run_session(python, server.url)
    ttft_ms = statistics.median(session.ttft_ms)
    yield "pytest --boobench", len(session.ttft_ms), f"{ttft_ms:.2f}", f"{session.rest_ms:.2f}", f"{session.wall_s:.2f}"
    for name in peers:
        told = run_whole(name, Job(server.url, _MODEL, _PROMPT_TOKENS, _OUTPUT_TOKENS, streams=1, rounds=_REQUESTS))
        yield name, len(told.ttft_ms), f"{statistics.median(told.ttft_ms):.2f}", "–", f"{told.wall_s:.2f}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.session", description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=lambda text: text.split(","), default=[], help=", ".join(PEERS))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    python = install_ourselves()
    print("| model | tool | requests | TTFT ms, median | TTFT - prompt_ms, median | wall of the whole command, s |")
    print("| --- | --- | --- | --- | --- | --- |")
    for (title, settings), _ in itertools.product(_SETTINGS.items(), range(options.rounds)):
        with start(settings) as server:
            run_session(python, server.url)  # pytest keeps the modules that it compiled; a first run has to make them
            for row in compare(python, server, options.peers):
                print("|", title, "|", " | ".join(map(str, row)), "|", flush=True)


if __name__ == "__main__":
    main()
