"""What an open page costs a measurement beside it: ``python -m tests.benchmarks.beside_page [--rounds 20]``.

One embedded server is measured by the wire of a measurement, in alternating rounds with and without a page's server
that follows a growing run, with one browser's stream open. Prints the change of decode between both, with its interval.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from pytest_boobench.hosts.embedded import EmbeddedSettings, start
from pytest_boobench.measure.sending import make_requests, read_answers, run_requests
from pytest_boobench.page.run_file import ABOUT
from pytest_boobench.servers.clients import open_clients
from pytest_boobench.servers.connect import connect
from tests.making import make_cell

SAMPLES = 5
CHILD = """
import sys
from pathlib import Path
from tests.page.serving import serve
import os
os.chdir(sys.argv[1])
with serve(Path(sys.argv[1])) as page:
    print("ready", flush=True)
    for event in page.stream("GET", "/api/runs/r/events"):
        pass
"""


def make_project(folder: Path) -> Path:
    """A project whose run goes on: this process is its keeper."""
    import psutil

    (folder / "pytest.ini").write_text("[pytest]\n")
    run = folder / ".boobench" / "page" / "runs" / "r"
    run.mkdir(parents=True)
    about = {"id": "r", "command": "", "started_at": time.time(), "hosts": ["embedded"], "estimates_s": {}}
    process = psutil.Process()
    about |= {"pid": process.pid, "pid_created_at": process.create_time()}
    (run / ABOUT).write_text(json.dumps(about))
    return run / "progress.jsonl"


def write_progress(path: Path, over: threading.Event) -> None:
    """Two lines a second, as a cell does."""
    line = {"run": "u", "node_id": "n", "suite": "s", "host": "h", "model": "m", "cell": "c", "state": "measuring"}
    while not over.wait(0.5):
        with path.open("a") as file:
            file.write(json.dumps({**line, "at": time.time()}) + "\n")


async def measure(url: str, name: str) -> float:
    """The median of decode, tok/s."""
    clients = open_clients(url, {})
    try:
        server = await connect("embedded", url, clients, "llama-server")
        cell = make_cell(prompt_tokens=64, output_tokens=256)
        requests = await make_requests(server, cell, name, SAMPLES)
        samples = read_answers(server, cell, requests, await run_requests(server, cell, requests, "measure"))
        return statistics.median(sample.decode_tok_s or math.nan for sample in samples)
    finally:
        await clients.close()


def measure_beside(url: str, name: str) -> float:
    """The same beside a page."""
    with tempfile.TemporaryDirectory() as folder:
        progress = make_project(Path(folder))
        page = subprocess.Popen([sys.executable, "-c", CHILD, folder], stdout=subprocess.PIPE, env=dict(os.environ))
        over = threading.Event()
        writer = threading.Thread(target=write_progress, args=(progress, over))
        writer.start()
        try:
            assert page.stdout is not None
            assert page.stdout.readline() == b"ready\n"
            time.sleep(0.5)
            return asyncio.run(measure(url, name))
        finally:
            over.set()
            writer.join()
            page.kill()
            page.wait()


def take(url: str, name: str, *, beside: bool) -> float:
    """One side of a round."""
    return measure_beside(url, name) if beside else asyncio.run(measure(url, name))


def main() -> None:
    """Print a line for each round, then the change."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    changes = []
    with start(EmbeddedSettings()) as server:
        asyncio.run(measure(server.url, "warm-up"))
        for number in range(rounds):
            order = (False, True) if number % 2 else (True, False)
            found = {beside: take(server.url, f"{number}{beside}", beside=beside) for beside in order}
            changes.append(math.log(found[True] / found[False]))
            print(f"{number + 1}: alone {found[False]:.1f} tok/s, beside a page {found[True]:.1f} tok/s", flush=True)
    middle, error = statistics.median(changes), statistics.stdev(changes) / math.sqrt(rounds)
    mean = statistics.mean(changes)
    print(f"beside an open page decode changes by {middle:+.2%} (median), mean {mean:+.2%} +- {2 * error:.2%}")


if __name__ == "__main__":
    main()
