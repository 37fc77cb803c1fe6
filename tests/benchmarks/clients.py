"""The clients that are compared, each written as it usually is: ``python -m tests.benchmarks.clients NAME``.

It reads a Load as JSON from standard input, runs it, and writes a Report as JSON. Each runs in a process of its own, in
an environment of its own where it needs one, so this module and ``traces`` import nothing but the standard library.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import selectors
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.benchmarks.traces import trace

PATH = "/v1/chat/completions"
Event = dict[str, Any]
_LINUX_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class Load:
    """``streams`` at once, ``rounds`` times, dealt out to the servers in turn."""

    urls: Sequence[str]
    streams: int
    rounds: int
    body: Mapping[str, Any]
    """The request, the truth server's schedule among its fields."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One answer: its events with the client's stamps, nanoseconds of the monotonic clock."""

    began_ns: int
    events: Sequence[tuple[int, Event]]
    ended_ns: int
    lags_ms: Sequence[float] = ()
    """How late the client had each event after its stamp, where it knows."""


Answers = list[Heard | BaseException]
Client = Callable[[Sequence[str], Mapping[str, Any]], Answers]
"""One request to each URL, all at once; an answer or an error for each."""


def run_wire(urls: Sequence[str], body: Mapping[str, Any]) -> Answers:
    """This project's, as a cell's phase uses it: no collector runs, events are decoded when all streams are over."""
    from pytest_boobench import measure, wire
    from pytest_boobench.servers.chunks import load

    async def ask_all() -> list[Any]:
        async with AsyncExitStack() as stack:
            clients = {url: await stack.enter_async_context(wire.StreamClient(url)) for url in set(urls)}
            asked = (clients[url].post(PATH, body) for url in urls)
            with measure.collector_held():
                return await asyncio.gather(*asked, return_exceptions=True)

    def decode(exchange: wire.Exchange | BaseException) -> Heard | BaseException:
        if isinstance(exchange, BaseException):
            return exchange
        events = [event for event in wire.events(exchange) if event.data != "[DONE]"]
        stamps_ns = [exchange.sent_ns + round(event.arrival_ms * 1e6) for event in events]
        said = [load(event.data) for event in events]
        lags_ms = [event.lag_ms for event in events]
        return Heard(exchange.sent_ns, list(zip(stamps_ns, said, strict=True)), exchange.end_ns, lags_ms)

    return [decode(exchange) for exchange in asyncio.run(ask_all())]


def run_httpx(urls: Sequence[str], body: Mapping[str, Any]) -> Answers:
    """Plain httpx: one AsyncClient, lines as they come, perf_counter. Its limits on connections and time are lifted."""
    import httpx

    async def ask(client: httpx.AsyncClient, url: str) -> Heard:
        began_ns = time.perf_counter_ns()  # on Linux and macOS the same clock as monotonic
        events = []
        async with client.stream("POST", url + PATH, json=body) as response:
            async for line in response.aiter_lines():
                stamp_ns = time.perf_counter_ns()
                if line.startswith("data: {"):
                    events.append((stamp_ns, json.loads(line[6:])))
        return Heard(began_ns, events, time.perf_counter_ns())

    async def ask_all() -> Answers:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(limits=limits, timeout=None, trust_env=False, verify=False) as client:
            return await asyncio.gather(*(ask(client, url) for url in urls), return_exceptions=True)

    return asyncio.run(ask_all())


def run_aiohttp(urls: Sequence[str], body: Mapping[str, Any]) -> Answers:
    """Plain aiohttp: one ClientSession, lines as they come, perf_counter. Its limits are lifted."""
    import aiohttp  # type: ignore[import-not-found,unused-ignore]

    async def ask(session: aiohttp.ClientSession, url: str) -> Heard:
        began_ns = time.perf_counter_ns()
        events = []
        async with session.post(url + PATH, json=body) as response:
            async for line in response.content:
                stamp_ns = time.perf_counter_ns()
                if line.startswith(b"data: {"):
                    events.append((stamp_ns, json.loads(line[6:])))
        return Heard(began_ns, events, time.perf_counter_ns())

    async def ask_all() -> Answers:
        unlimited = aiohttp.ClientTimeout(total=None, sock_connect=None)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=unlimited) as session:
            return await asyncio.gather(*(ask(session, url) for url in urls), return_exceptions=True)

    return asyncio.run(ask_all())


def run_sockets(urls: Sequence[str], body: Mapping[str, Any]) -> Answers:
    """The floor: non-blocking sockets and one selector, the clock read right after each recv, no HTTP to speak of."""
    content = json.dumps(body).encode()
    request = f"POST {PATH} HTTP/1.1\r\nHost: truth\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content
    connections = [socket.create_connection((urlsplit(url).hostname, urlsplit(url).port)) for url in urls]
    reads: list[list[tuple[int, bytes]]] = [[] for _ in urls]
    began_ns = []
    with selectors.DefaultSelector() as selector:
        for connection, kept in zip(connections, reads, strict=True):
            selector.register(connection, selectors.EVENT_READ, kept)
            began_ns.append(time.monotonic_ns())
            connection.sendall(request)
        while selector.get_map():
            for key, _ in selector.select():
                data = key.fileobj.recv(65_536)  # type: ignore[union-attr]
                key.data.append((time.monotonic_ns(), data))
                if not data or data.endswith(b"0\r\n\r\n"):
                    selector.unregister(key.fileobj)
    for connection in connections:
        connection.close()
    return [Heard(began, list(_read_events(kept)), kept[-1][0]) for began, kept in zip(began_ns, reads, strict=True)]


def _read_events(reads: Sequence[tuple[int, bytes]]) -> Iterator[tuple[int, Event]]:
    rest = b""
    for stamp_ns, data in reads:
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data: {"):
                yield stamp_ns, json.loads(line[6:])


CLIENTS: Mapping[str, Client] = {
    "wire": run_wire,
    "httpx": run_httpx,
    "aiohttp": run_aiohttp,
    "sockets": run_sockets,
}


def find_limit(answers: Answers) -> str | None:
    """What a cell of these answers would say of its client as the bottleneck, where that is known and it was one."""
    heard = [answer for answer in answers if isinstance(answer, Heard) and answer.lags_ms]
    if not heard:
        return None
    from pytest_boobench.aggregate import find_blanks
    from pytest_boobench.metrics import Sample
    from pytest_boobench.servers.chunks import load, read_stream
    from pytest_boobench.wire import Event as WireEvent

    samples = []
    for one in heard:
        events = [
            WireEvent(json.dumps(said), "message", (stamp_ns - one.began_ns) / 1e6, lag_ms)
            for (stamp_ns, said), lag_ms in zip(one.events, one.lags_ms, strict=True)
        ]
        stream = read_stream((load(event.data), event) for event in events)
        samples.append(
            Sample(
                phase="measure",
                lane=0,
                index=0,
                started_at=0,
                offset_ms=0,
                output_tokens=len(stream.chunk_ms),
                chunk_ms=tuple(stream.chunk_ms),
                blurred_chunks=stream.blurred,
                client_lag_ms=max(one.lags_ms),
            )
        )
    return find_blanks(samples, "chat", {}).get("itl_ms")


def report(client: Client, load: Load) -> dict[str, Any]:
    """Runs a load after one stream that warms up, and tells traces, losses, cost and limit.

    What is kept for the traces makes Python's collector run; it is not to walk all that was imported as well.
    """
    client(load.urls[:1], load.body)
    gc.collect()
    gc.freeze()
    urls = list(islice(cycle(load.urls), load.streams))
    before_s = time.process_time()
    answers = [answer for _ in range(load.rounds) for answer in client(urls, load.body)]
    cpu_s, peak_mb = time.process_time() - before_s, _peak_mb()
    traces, lost = [], []
    for answer in answers:
        try:
            if isinstance(answer, BaseException):
                raise answer
            traces.append(asdict(trace(answer.began_ns, answer.events, answer.ended_ns)))
        except Exception as error:
            lost.append(f"{type(error).__name__}: {error}")
    return {
        "traces": traces,
        "lost": lost,
        "cpu_s": cpu_s,
        "peak_mb": peak_mb,
        "limit": find_limit(answers),
    }


def _peak_mb() -> float:
    """Linux's ``ru_maxrss`` will not do: a process inherits it from the one that started it."""
    if not _LINUX_STATUS.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # bytes on macOS
    line = next(line for line in _LINUX_STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


if __name__ == "__main__":
    json.dump(report(CLIENTS[sys.argv[1]], Load(**json.load(sys.stdin))), sys.stdout)
