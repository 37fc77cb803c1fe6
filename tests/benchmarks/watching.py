"""What it costs a host to be watched: ``python -m tests.benchmarks.watching``.

The embedded server at its defaults generates one long answer after another, in turns with and without a watcher. A few
looks a second disappear in the noise of the rate, so the price of one is also taken from looks without a pause.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from pytest_boobench.facts import OwnTraffic
from pytest_boobench.hosts.embedded import EmbeddedServer, EmbeddedSettings, start
from pytest_boobench.hosts.llama_watcher import LOOK_EVERY_S, SlotsWatcher
from pytest_boobench.hosts.watcher import OwnMarks
from pytest_boobench.servers.clients import Clients, open_clients

_SEED = 3
_PAUSES_S: Sequence[float | None] = (None, 1.0, 0.25, LOOK_EVERY_S, 0.02, 0.0)
"""Between two looks; None: nobody watches."""
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer, and what it took."""

    decode_tok_s: float
    looks_per_s: float
    server_cpu: float
    """Share of a core."""
    client_cpu: float


def read_cpu_s(pid: int) -> float:
    """User and system time of a process until now; Linux only."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


async def generate(client: httpx.AsyncClient, tokens: int) -> float:
    """One answer; tokens per second by the server's clock."""
    body = {"prompt": "hello world", "max_tokens": tokens, "ignore_eos": True, "cache_prompt": False, "seed": _SEED}
    timings = (await client.post("/v1/completions", json=body, timeout=120)).json()["timings"]
    rate: float = (timings["predicted_n"] - 1) / timings["predicted_ms"] * 1000
    return rate


async def take_turn(server: EmbeddedServer, clients: Clients, pause_s: float | None, tokens: int) -> Turn:
    """One answer, watched every ``pause_s``, with the looks counted on the wire."""
    looks = 0

    async def count_look(request: httpx.Request) -> None:
        nonlocal looks
        looks += request.url.path == "/slots"

    clients.control.event_hooks = {"request": [count_look]}
    watcher = SlotsWatcher(clients, "tiny-chat", look_every_s=pause_s or 0.0)
    if pause_s is not None:
        await watcher.begin(OwnMarks("benchmark", frozenset({_SEED})))
    looks = 0
    began_s, server_s, client_s = time.perf_counter(), read_cpu_s(server.pid), time.process_time()
    rate = await generate(clients.control, tokens)
    wall_s = time.perf_counter() - began_s
    turn = Turn(
        decode_tok_s=rate,
        looks_per_s=looks / wall_s,
        server_cpu=(read_cpu_s(server.pid) - server_s) / wall_s,
        client_cpu=(time.process_time() - client_s) / wall_s,
    )
    if pause_s is not None:
        traffic = await watcher.end(OwnTraffic(exact=False))
        assert not traffic.disturbed, traffic
    return turn


async def compare(rounds: int, tokens: int) -> dict[float | None, list[Turn]]:
    """All pauses in turn, again and again."""
    turns: dict[float | None, list[Turn]] = defaultdict(list)
    with start(EmbeddedSettings()) as server:
        clients = open_clients(server.url, {})
        await generate(clients.control, 20)
        for _ in range(rounds):
            for pause_s in _PAUSES_S:
                turns[pause_s].append(await take_turn(server, clients, pause_s, tokens))
        await clients.close()
    return turns


def print_table(turns: Mapping[float | None, Sequence[Turn]]) -> None:
    """The best rate of each pause, since other load on the machine only slows; medians of the rest."""
    best = {pause_s: max(turn.decode_tok_s for turn in several) for pause_s, several in turns.items()}
    looks_per_s = {
        pause_s: statistics.median(turn.looks_per_s for turn in several) for pause_s, several in turns.items()
    }
    print("| look every | looks/s | decode tok/s | against unwatched | server CPU | client CPU |")
    print("| --- | --- | --- | --- | --- | --- |")
    for pause_s, several in turns.items():
        print(
            f"| {'never' if pause_s is None else f'{pause_s:g} s'} | {looks_per_s[pause_s]:.1f} | {best[pause_s]:.1f} "
            f"| {(best[pause_s] / best[None] - 1) * 100:+.2f} % "
            f"| {statistics.median(turn.server_cpu for turn in several) * 100:.1f} % "
            f"| {statistics.median(turn.client_cpu for turn in several) * 100:.1f} % |"
        )
    look_ms = (1 - best[0.0] / best[None]) * 1000 / looks_per_s[0.0]
    print(
        f"\none look takes {look_ms:.3f} ms of decode time: {look_ms / LOOK_EVERY_S / 10:.2f} % at {LOOK_EVERY_S:g} s"
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.watching", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tokens", type=int, default=500)
    options = parser.parse_args()
    print_table(asyncio.run(compare(options.rounds, options.tokens)))


if __name__ == "__main__":
    main()
