"""``python -m tests.benchmarks.quality``: what ``quality: kld`` says of changed and of unchanged models.

A model of random weights on the real llama-server. Unchanged: the same file, asked a thousand times, on servers with
other batches, slots, flash attention or draft, half of the time while another request is decoded, and every
second time with a cache that other texts have used. Changed: another quantisation of the same weights, or of the
KV cache.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

import httpx

from pytest_boobench.facts import Logprobs
from pytest_boobench.gate.divergence import AT_MOST, diverge
from pytest_boobench.servers.clients import open_clients
from pytest_boobench.servers.llama_server import LlamaServer
from tests.random_model import write_random_model
from tests.real_llama_server import serve

_SETTINGS: Sequence[Sequence[str]] = (
    (),
    ("-np", "4"),
    ("-b", "32", "-ub", "32"),
    ("-fa", "off"),
    ("-fa", "on"),
    ("-c", "8192"),
    ("--no-mmap",),
)
_CHANGED = {
    "KV cache Q8_0": ("Q8_0", ("-fa", "on", "-ctk", "q8_0", "-ctv", "q8_0")),
    "weights F16": ("F16", ()),
    "KV cache Q4_0": ("Q8_0", ("-fa", "on", "-ctk", "q4_0", "-ctv", "q4_0")),
    "weights Q4_0": ("Q4_0", ()),
}


async def repeat(url: str, times: int) -> list[Logprobs]:
    """What the model at ``url`` expects, asked so often."""
    found = []
    async with httpx.AsyncClient(base_url=url, timeout=60) as other:
        for number in range(times):
            if number % 2:
                await other.post("/completion", json={"prompt": f"{number} other texts were here", "n_predict": 4})
            busy = {"prompt": f"And meanwhile {number}", "n_predict": 100, "ignore_eos": True}
            task = asyncio.create_task(other.post("/completion", json=busy)) if number % 4 > 1 else None
            clients = open_clients(url, {})
            try:
                found.append(await LlamaServer("real", url, clients).next_tokens("", 60.0))
            finally:
                await clients.close()
            if task is not None:
                await task
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=1000)
    times = parser.parse_args().times
    with tempfile.TemporaryDirectory() as folder:
        models = {name: write_random_model(Path(folder, name), name) for name in ("F16", "Q8_0", "Q4_0")}
        with serve("-m", models["Q8_0"], "-c", "4096", "-np", "2") as server:
            (was,) = asyncio.run(repeat(server.url, 1))
        unchanged: list[float] = []
        print("| unchanged | times | mean, nat | most, nat |\n|---|---|---|---|")
        for flags in _SETTINGS:
            with serve("-m", models["Q8_0"], "-c", "4096", "-np", "2", *flags) as server:
                found = [diverge(was, now) for now in asyncio.run(repeat(server.url, -(-times // len(_SETTINGS))))]
            unchanged += found
            name, mean = " ".join(flags) or "as before", sum(found) / len(found)
            print(f"| {name} | {len(found)} | {mean:.6f} | {max(found):.6f} |", flush=True)
        flagged = sum(kld > AT_MOST for kld in unchanged)
        print(f"\n{flagged} of {len(unchanged)} flagged at {AT_MOST} nat\n\n| changed | nat |\n|---|---|")
        for name, (model, flags) in _CHANGED.items():
            with serve("-m", models[model], "-c", "4096", "-np", "2", *flags) as server:
                (now,) = asyncio.run(repeat(server.url, 1))
            print(f"| {name} | {diverge(was, now):.5f} |")


if __name__ == "__main__":
    main()
