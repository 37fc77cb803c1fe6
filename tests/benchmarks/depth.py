"""Decode at depth beside ``llama-bench -d`` of the same build, and what a depth costs.

``python -m tests.benchmarks.depth --bench llama-bench --server llama-server``

A model that is heavy enough for one token to take longer than the server's own work around it is written for this.
Both programs run in turns, on one thread. llama-bench begins to generate behind as many tokens as our context and
prompt have together. The costs: by how much a first cell takes longer than the same cell once its context is in the
cache, in evaluations of the context.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from pytest_boobench.hosts.access import Hosts
from pytest_boobench.hosts.embedded import EmbeddedSettings, is_healthy, provide_model
from pytest_boobench.hosts.inventory import Host, Inventory
from pytest_boobench.measure.block import Measurer
from pytest_boobench.record import CellRecord
from pytest_boobench.suite.cell import Plan
from pytest_boobench.walk import run_cell
from tests.fault_server import closed_port
from tests.making import make_cell

PROMPT, OUTPUT = 32, 48
_SHAPE = EmbeddedSettings(layers=8, width=1024, feed_forward=4096)


@contextmanager
def serve(server: Path, model: Path, context: int) -> Iterator[str]:
    """The URL of a llama-server with one slot, as llama-bench runs a model."""
    port = closed_port()
    flags = ["-m", model, "--port", port, "-t", 1, "-np", 1, "-c", context, "--cache-ram", 0, "-a", "tiny"]
    process = subprocess.Popen([str(server), *map(str, flags)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        while not is_healthy(url):
            time.sleep(0.05)
        yield url
    finally:
        process.kill()
        process.wait()


async def measure(url: str, depth: int, prompt: int, samples: int) -> tuple[CellRecord, float]:
    """A cell as a session measures it, and how long that took, seconds."""
    cell = make_cell(
        host="local",
        model="tiny",
        kind="completion",
        prompt_tokens=prompt,
        output_tokens=OUTPUT,
        depth_tokens=depth,
        plan=Plan(samples=samples, warmup=1, warmup_max=1),
    )
    inventory = Inventory(
        {"local": Host(name="local", server="llama-server", base_url=url, shared=False)}, display=None
    )
    async with Hosts(inventory, "depth") as hosts:
        grant = await hosts.grant("local", "bench")
        began = time.monotonic()
        record = await run_cell(cell, grant, Measurer(run_uid=f"depth-{began}"), node_id="x")
        took_s = time.monotonic() - began
        grant.release()
    if record.error:
        raise SystemExit(record.error)
    return record, took_s


def evaluate_once(url: str, depth: int) -> float:
    """The server's own time for a prompt of so many tokens that are in no cache, seconds."""
    body = {"prompt": [300 + place % 7 for place in range(depth)], "n_predict": 1, "cache_prompt": False}
    answer = httpx.post(f"{url}/completion", json=body, timeout=900.0).json()
    return float(answer["timings"]["prompt_ms"]) / 1000


def run_llama_bench(bench: Path, model: Path, depth: int, repeat: int) -> list[float]:
    """Tokens per second of each repetition, behind so many tokens."""
    flags = ["-m", model, "-t", 1, "-p", 0, "-n", OUTPUT, "-d", depth, "-r", repeat, "-o", "json"]
    done = subprocess.run([str(bench), *map(str, flags)], capture_output=True, text=True, check=True)
    return [float(rate) for rate in json.loads(done.stdout)[0]["samples_ts"]]


def compare(options: argparse.Namespace, model: Path) -> None:
    """Print a row for each depth."""
    print("| depth | ours tok/s | llama-bench tok/s | apart | apart, fastest | one evaluation | cost in evaluations |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for depth in options.depths:
        ours, theirs, costs, once = defaultdict[str, list[float]](list), [], [], []
        for number in range(options.rounds):
            with serve(options.server, model, depth + PROMPT + OUTPUT + 64) as url:
                once.append(evaluate_once(url, depth) if depth else 0.0)
                first, first_s = asyncio.run(measure(url, depth, PROMPT + number, options.samples))
                again, again_s = asyncio.run(measure(url, depth, PROMPT + number, options.samples))
                costs.append((first_s - again_s) / once[-1] if depth else 0.0)
            for record in (first, again):
                measured = [one for one in record.samples if one.phase == "measure" and one.decode_tok_s]
                assert {one.cached_tokens for one in measured} == {depth}
                ours["decode"] += [one.decode_tok_s for one in measured if one.decode_tok_s]
            if options.bench:
                theirs += run_llama_bench(options.bench, model, depth + PROMPT, options.samples)
        median = statistics.median(ours["decode"])
        apart = f"{(median / statistics.median(theirs) - 1) * 100:+.2f} %" if theirs else "–"
        fastest = f"{(max(ours['decode']) / max(theirs) - 1) * 100:+.2f} %" if theirs else "–"
        told = f"{statistics.median(theirs):.2f}" if theirs else "–"
        cost = f"{statistics.median(costs):.2f}" if depth else "–"
        row = (depth, f"{median:.2f}", told, apart, fastest, f"{statistics.median(once):.2f} s", cost)
        print(f"| {' | '.join(map(str, row))} |", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.depth", description=__doc__.splitlines()[0])
    parser.add_argument("--server", type=Path, required=True, help="llama-server")
    parser.add_argument("--bench", type=Path, help="llama-bench of the same build")
    parser.add_argument("--depths", type=int, nargs="+", default=[0, 1024, 4096])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compare(options, provide_model(_SHAPE, Path(folder)))


if __name__ == "__main__":
    main()
