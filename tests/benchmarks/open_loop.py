"""How late an open loop sends its requests: ``python -m tests.benchmarks.open_loop [RATE [SECONDS]]``.

The server is a process of its own on this machine and streams 20 events in 0.2 s to each request. The bar: 99 % of the
requests at 64 per second are sent at most 0.5 ms late, on two cores that do nothing else.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
from typing import Any

from pytest_boobench.aggregate import percentile
from pytest_boobench.measure import Ticket, run_phase
from pytest_boobench.measure.open_loop import OpenLoop
from pytest_boobench.servers.clients import Call, ServerAnswer, open_clients
from pytest_boobench.suite.cell import Timeouts

EVENT = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
BODY = {"messages": [{"role": "user", "content": "word " * 500}], "stream": True}


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.partition(b":")[2]))
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\n")
    for _ in range(20):
        await asyncio.sleep(0.01)
        writer.write(b"%x\r\n%b\r\n" % (len(EVENT), EVENT))
    writer.write(b"0\r\n\r\n")
    await writer.drain()
    writer.close()


def serve(ports: Any) -> None:
    """Listen, and put the port into the queue."""

    async def listen() -> None:
        server = await asyncio.start_server(_answer, "127.0.0.1", 0)
        ports.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(listen())


async def measure_lags_ms(port: int, loop: OpenLoop) -> list[float]:
    """The lag of each request, ascending."""
    clients = open_clients(f"http://127.0.0.1:{port}", {})

    async def send(ticket: Ticket) -> ServerAnswer:
        return await clients.send(Call("/v1/chat/completions", BODY, ticket.planned_ns), Timeouts())

    async def alive() -> bool:
        return True

    try:
        result = await run_phase(send, alive, "measure", loop, count=loop.total)
    finally:
        await clients.close()
    return sorted((answer.sent_ns - (ticket.planned_ns or 0)) / 1e6 for ticket, answer in result.answers)


def main(rate: float = 64.0, seconds: float = 30.0) -> None:
    """Print the lags at constant and at random times."""
    ports = multiprocessing.get_context("spawn").Queue()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(ports,), daemon=True)
    server.start()
    port = ports.get()
    print(f"send lag at {rate:g} requests per second, ms")
    for arrival in ("constant", "poisson"):
        loop = OpenLoop("here", rate, arrival, counted=round(rate * seconds), aside=round(rate))  # type: ignore[arg-type]
        lags_ms = asyncio.run(measure_lags_ms(port, loop))
        shown = "  ".join(
            f"{name} {percentile(lags_ms, q):.3f}" for name, q in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))
        )
        print(f"{arrival:<9} {len(lags_ms)} requests  {shown}  max {lags_ms[-1]:.3f}")
    server.terminate()


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
