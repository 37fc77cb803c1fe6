"""Door 2: what this machine is like for a client that measures: how busy, by which clock, in which CI system."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping

from pytest_boobench import wire
from pytest_boobench.ci import read_ci
from pytest_boobench.cli.diagnosis.finding import Finding
from pytest_boobench.units import count, number, quantity

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"


def look_at_machine(env: Mapping[str, str]) -> Iterator[Finding]:
    """Findings on load, clock and CI; a request is sent to ourselves over loopback."""
    yield _look_at_load()
    yield _look_at_clock()
    yield _look_at_priority()
    ci = read_ci(env)
    if ci:
        yield Finding("ok", "ci", ", ".join(f"{key} {value}" for key, value in ci.items()))
    else:
        yield Finding("ok", "ci", "none that is known")


def _look_at_load() -> Finding:
    cores = os.cpu_count() or 1
    try:
        load = os.getloadavg()[0]
    except (OSError, AttributeError):  # not on every system
        return Finding("ok", "machine", count(cores, "core"))
    text = f"{count(cores, 'core')}, load {number(load)}"
    if load > cores:
        return Finding("warn", "machine", text, "a busy client blurs time stamps; measure when it is calm")
    return Finding("ok", "machine", text)


def _look_at_clock() -> Finding:
    try:
        exchange = asyncio.run(_ask_ourselves())
    except (OSError, wire.NoAnswer) as error:
        text = f"no request to ourselves over 127.0.0.1 comes through: {error}"
        return Finding("fail", "clock", text, "let this user open sockets")
    if exchange.clock == "kernel":
        late = quantity(exchange.client_lag_ms, "ms")
        return Finding("ok", "clock", f"the kernel stamps what arrives; Python had it {late} later")
    remedy = "Linux has kernel stamps; elsewhere keep concurrency low and the client idle"
    return Finding("warn", "clock", "arrivals are stamped by Python, late when this machine is busy", remedy)


def _look_at_priority() -> Finding:
    """Whether the thread that reads answers goes before other programs."""
    if wire.can_raise_priority():
        text = "the thread that reads answers goes before other programs: a busy machine hardly keeps it waiting"
        return Finding("ok", "priority", text)
    text = "the thread that reads answers waits its turn: on a busy machine it reads late, and cells say so"
    remedy = "Linux lets it go first with 'nice -10' for this user in limits.conf, or LimitNICE=-10 in a systemd unit"
    return Finding("ok", "priority", text, remedy)


async def _ask_ourselves() -> wire.Exchange:
    """One request through the measuring wire, to a server of this process."""
    async with await asyncio.start_server(_answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with wire.StreamClient(f"http://127.0.0.1:{port}") as client:
            return await client.post("/", {})


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(_ANSWER)
    await writer.drain()
    writer.close()
