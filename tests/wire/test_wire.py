"""The wire against real sockets: whole answers, every fault, both clocks, TLS."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import selectors
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_boobench import wire
from pytest_boobench.suite.cell import Timeouts
from pytest_boobench.wire import clock, connection, reader
from pytest_boobench.wire.clock import Reads, Stamps, stamp
from pytest_boobench.wire.connection import Address
from pytest_boobench.wire.http1 import HttpAnswer, write_head, write_request
from pytest_boobench.wire.transport import Transport
from tests.fault_server import JSON, TOKENS, FaultServer, Peer, closed_port

PATIENT = Timeouts(connect_s=10, first_byte_s=20, stall_s=20, request_s=40)
HASTY = Timeouts(connect_s=10, first_byte_s=0.2, stall_s=0.2, request_s=5)
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="kernel stamps are Linux's")


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


class BlindLoop(asyncio.SelectorEventLoop):
    """An event loop that cannot watch sockets for its users, as Windows' proactor loop."""

    def add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> None:  # type: ignore[override]
        raise NotImplementedError

    def add_writer(self, fd: Any, callback: Callable[..., Any], *args: Any) -> None:  # type: ignore[override]
        raise NotImplementedError


def run(main: Coroutine[Any, Any, Any], loop: type[asyncio.AbstractEventLoop] = asyncio.SelectorEventLoop) -> Any:
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(main)


async def post(
    url: str,
    scenario: str,
    timeouts: Timeouts = PATIENT,
    *,
    body: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
) -> wire.Exchange:
    async with wire.StreamClient(url, {"X-Scenario": scenario, **(headers or {})}, tls) as client:
        return await client.post("/v1/chat/completions", body or {"model": scenario}, timeouts)


def ask(server: FaultServer, scenario: str, timeouts: Timeouts = PATIENT, **more: Any) -> wire.Exchange:
    exchange: wire.Exchange = run(post(server.url, scenario, timeouts, **more))
    return exchange


def failure_before_answer(url: str, scenario: str, timeouts: Timeouts = HASTY, **more: Any) -> wire.Failure:
    with pytest.raises(wire.NoAnswer) as caught:
        run(post(url, scenario, timeouts, **more))
    assert str(caught.value) == caught.value.failure.text
    return caught.value.failure


# whole answers


@pytest.mark.parametrize(
    ("scenario", "status", "body"),
    [
        ("length", 200, b'{"object": "list", "data": []}'),
        ("chunked", 200, b'{"object": "list"}'),
        ("until_close", 200, b"data: one\n\ndata: [DONE]"),
        ("slow_headers", 200, b"ok"),
        ("early_hints", 200, b"{}"),
        ("no_content", 204, b""),
        ("status_429", 429, b'{"error": {"code": 429, "message": "concurrency limit"}}'),
        ("status_500", 500, b'{"error": {"code": 500, "message": "boom"}}'),
    ],
)
def test_reads_an_answer_in_any_framing_and_does_not_wait_for_the_close(
    server: FaultServer, scenario: str, status: int, body: bytes
) -> None:
    exchange = ask(server, scenario)
    assert (exchange.status, exchange.body) == (status, body)
    assert exchange.complete
    assert exchange.failure is None


def test_header_of_an_answer(server: FaultServer) -> None:
    assert ask(server, "status_503").headers == {"content-type": JSON, "content-length": "52"}


@pytest.mark.parametrize(
    ("scenario", "count", "last"),
    [
        ("stream", 8, "[DONE]"),
        ("pings", 7, "[DONE]"),
        ("crlf", 5, "[DONE]"),
        ("crumbs", 5, "[DONE]"),
        ("until_close", 2, "[DONE]"),
        ("bad_json", 2, "[DONE]"),
        ("stream_error", 2, '{"error": {"code": 500, "message": "boom", "type": "server_error"}}'),
        ("length", 0, None),
    ],
)
def test_events_of_Answer(server: FaultServer, scenario: str, count: int, last: str | None) -> None:
    exchange = ask(server, scenario)
    events = wire.events(exchange)
    assert exchange.complete
    assert len(events) == count
    assert (events[-1].data if events else None) == last
    arrivals = [event.arrival_ms for event in events]
    assert arrivals == sorted(arrivals)


def test_types_of_events(server: FaultServer) -> None:
    events = wire.events(ask(server, "crlf"))
    assert [event.event for event in events] == ["delta"] * len(TOKENS) + ["message"]
    assert tuple(event.data for event in events[:-1]) == TOKENS


def test_sends_the_request_on_a_connection_of_its_own(server: FaultServer) -> None:
    run(post(f"{server.url}/base/", "length", body={"a": "ö"}, headers={"X-Key": "k"}))
    seen = server.seen[-1]
    assert (seen.method, seen.target, seen.body) == ("POST", "/base/v1/chat/completions", '{"a":"ö"}'.encode())
    assert seen.headers == {
        "host": f"127.0.0.1:{server.port}",
        "x-scenario": "length",
        "x-key": "k",
        "content-type": "application/json",
        "accept-encoding": "identity",
        "connection": "close",
        "content-length": "10",
    }


def test_asks_without_content_and_with_the_same_headers(server: FaultServer) -> None:
    async def get() -> wire.Exchange:
        async with wire.StreamClient(f"{server.url}/base/", {"X-Scenario": "length", "X-Key": "k"}) as client:
            await client.post("/slots", {})
            return await client.get("/slots?model=a")

    exchange = run(get())
    assert (exchange.status, exchange.complete) == (200, True)
    seen = server.seen[-1]
    assert (seen.method, seen.target, seen.body) == ("GET", "/base/slots?model=a", b"")
    assert seen.headers == {
        "host": f"127.0.0.1:{server.port}",
        "x-scenario": "length",
        "x-key": "k",
        "accept-encoding": "identity",
        "connection": "close",
    }


# arrivals


@pytest.mark.parametrize("scenario", ["stream", "crumbs", "chunked", "length", "until_close", "truncated"])
def test_arrivals_cover_the_body_in_order(server: FaultServer, scenario: str) -> None:
    exchange = ask(server, scenario)
    ends = [arrival.end for arrival in exchange.arrivals]
    stamps = [arrival.stamp_ns for arrival in exchange.arrivals]
    assert ends == sorted(set(ends))
    assert ends[-1] == len(exchange.body)
    assert [exchange.headers_ns, *stamps, exchange.end_ns] == sorted([exchange.headers_ns, *stamps, exchange.end_ns])
    assert exchange.sent_ns <= exchange.headers_ns
    assert 0 <= exchange.headers_ms <= exchange.e2e_ms


def test_no_byte_arrives_before_it_was_sent() -> None:
    async def tell_time(peer: Peer) -> None:
        await peer.head()
        for _ in range(20):
            await peer.event(str(time.monotonic_ns()))
        await peer.chunk(b"")

    with FaultServer({"tell_time": tell_time}) as server:
        exchange = ask(server, "tell_time")
    events = wire.events(exchange)
    assert len(events) == 20
    assert all(exchange.sent_ns + event.arrival_ms * 1e6 > int(event.data) for event in events)


def test_an_event_arrives_with_its_data_and_not_with_the_blank_line_after_it() -> None:
    async def late_blank_lines(peer: Peer) -> None:
        await peer.head()
        for piece in (b"data: one", b"\n\ndata: two", b"\n\n"):
            await peer.chunk(piece)
            await asyncio.sleep(0.02)
        await peer.chunk(b"")

    with FaultServer({"late": late_blank_lines}) as server:
        exchange = ask(server, "late")
    first, second, _ = exchange.arrivals
    assert [exchange.sent_ns + event.arrival_ms * 1e6 for event in wire.events(exchange)] == pytest.approx(
        [first.stamp_ns, second.stamp_ns]
    )


def test_sent_at_is_the_wall_clock_of_the_request(server: FaultServer) -> None:
    before = time.time()
    exchange = ask(server, "length")
    assert before <= exchange.sent_at <= time.time()
    assert exchange.connect_ms > 0


@on_linux
def test_answers_are_read_while_the_loop_is_busy(server: FaultServer) -> None:
    async def busy() -> tuple[wire.Exchange, float]:
        requests = len(server.seen)
        answer = asyncio.create_task(post(server.url, "length"))
        while len(server.seen) == requests:
            await asyncio.sleep(0)
        began = time.monotonic()
        time.sleep(0.5)
        return await answer, (time.monotonic() - began) * 1000

    exchange, blocked_ms = run(busy())
    assert exchange.clock == "kernel"
    assert exchange.client_lag_ms is not None
    assert exchange.client_lag_ms < blocked_ms / 2
    assert exchange.e2e_ms < blocked_ms / 2


def test_user_clock_where_the_kernel_gives_no_stamps(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "ask_for_kernel_stamps", lambda sock: False)
    exchange = ask(server, "stream")
    assert (exchange.clock, exchange.client_lag_ms) == ("user", None)
    assert len(wire.events(exchange)) == 8


@pytest.mark.parametrize(
    ("scenario", "failure"),
    [
        ("stream", None),
        ("until_close", None),
        ("truncated", "the connection was closed before the end of the answer"),
        ("reset", "connection reset by peer before the end of the answer"),
        ("stall", "no byte for 0.200 s before the end of the answer"),
    ],
)
def test_loops_that_cannot_watch_sockets_need_not(server: FaultServer, scenario: str, failure: str | None) -> None:
    exchange = run(post(server.url, scenario, HASTY), BlindLoop)
    assert exchange.clock == ("kernel" if sys.platform == "linux" else "user")
    assert (exchange.failure and exchange.failure.text) == (failure and f"127.0.0.1:{server.port}: {failure}")


class JumpySelector(selectors.SelectSelector):
    """Calls all of its sockets readable as soon as one is."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        super().select(timeout)
        return [(key, key.events) for key in list(self._fd_to_key.values())]


class FailingSelector(selectors.SelectSelector):
    """As `select` with a closed socket."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        raise OSError


@pytest.mark.parametrize("selector", [selectors.SelectSelector, JumpySelector, FailingSelector])
@pytest.mark.parametrize(("scenario", "count"), [("stream", 8), ("crumbs", 5), ("until_close", 2), ("truncated", 1)])
def test_reads_by_select_and_in_spite_of_false_alarms(
    server: FaultServer,
    monkeypatch: pytest.MonkeyPatch,
    selector: type[selectors.SelectSelector],
    scenario: str,
    count: int,
) -> None:
    async def several() -> list[wire.Exchange]:
        async with wire.StreamClient(server.url) as client:
            return await asyncio.gather(*(client.post(f"/{scenario}", {}) for _ in range(4)))

    monkeypatch.setattr(reader, "DefaultSelector", selector)
    assert [len(wire.events(exchange)) for exchange in run(several())] == [count] * 4


def test_an_answer_that_came_while_the_loop_was_busy_has_not_stalled() -> None:
    async def answer_later(peer: Peer) -> None:
        await asyncio.sleep(0.1)
        await peer.answer("200 OK", {})

    async def busy(server: FaultServer) -> wire.Exchange:
        answer = asyncio.create_task(post(server.url, "answer_later", HASTY))
        while not server.seen:
            await asyncio.sleep(0)
        time.sleep(0.5)
        return await answer

    with FaultServer({"answer_later": answer_later}) as server:
        assert run(busy(server)).complete


@pytest.mark.parametrize("loop", [asyncio.SelectorEventLoop, BlindLoop])
def test_clock_of_a_large_request_starts_with_its_last_byte(loop: type[asyncio.AbstractEventLoop]) -> None:
    size = 30_000_000  # more than the sockets' buffers hold

    def read_late(listener: socket.socket) -> int:
        peer, _ = listener.accept()
        with peer:
            time.sleep(0.1)
            began_ns = time.monotonic_ns()
            left = size
            while left > 0:
                left -= len(peer.recv(1_000_000))
            peer.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            peer.recv(1_000_000)
        return began_ns

    async def send() -> tuple[int, wire.Exchange]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            reading = asyncio.create_task(asyncio.to_thread(read_late, listener))
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            exchange = await post(url, "stream", body={"prompt": "x" * size})
            return await reading, exchange

    began_ns, exchange = run(send(), loop)
    assert exchange.complete
    assert exchange.sent_ns > began_ns


def test_a_large_request_arrives_as_it_was(server: FaultServer) -> None:
    body = {"prompt": "".join(map(chr, range(32, 256))) * 40_000}
    assert ask(server, "length", body=body).complete
    assert server.seen[-1].fields == body


# the clocks, as arithmetic


@on_linux
@pytest.mark.parametrize(("option", "layout"), [(64, "=qq"), (35, "@ll")])
def test_reads_both_layouts_of_the_kernels_stamp(option: int, layout: str) -> None:
    data = struct.pack(layout, 3, 7)
    assert clock.kernel_ns([(socket.SOL_SOCKET, option, data)]) == 3_000_000_007


@pytest.mark.parametrize(
    "ancillary",
    [
        [],
        [(socket.SOL_SOCKET, 1, bytes(16))],
        [(socket.IPPROTO_TCP, 64, bytes(16))],
        [(socket.SOL_SOCKET, 64, bytes(3))],
    ],
)
def test_no_stamp_where_there_is_none(ancillary: clock.Ancillary) -> None:
    assert clock.kernel_ns(ancillary) is None


@pytest.mark.parametrize(
    ("reads", "offset_after_ns", "expected"),
    [
        pytest.param(
            [(1_100, 200), (1_300, 2_000_300)], 1_400,
            Stamps("kernel", (100, 300), (100, 2_000_000), 2.0, clock_step=False), id="kernel",
        ),
        pytest.param(
            [(1_300, 200)], 1_000, Stamps("kernel", (300,), (0,), 0.0, clock_step=False), id="no negative lag",
        ),
        pytest.param(
            [(1_100, 200), (None, 400)], 1_000,
            Stamps("user", (200, 400), (0, 0), None, clock_step=False), id="one unstamped makes all of them user's",
        ),
        pytest.param(
            [(1_100, 200)], 1_001_001, Stamps("user", (200,), (0,), None, clock_step=True), id="step ahead",
        ),
        pytest.param([(1_100, 200)], -999_001, Stamps("user", (200,), (0,), None, clock_step=True), id="step back"),
        pytest.param([], 1_000, Stamps("user", (), (), None, clock_step=False), id="nothing"),
    ],
)  # fmt: skip
def test_stamps(reads: list[tuple[int | None, int]], offset_after_ns: int, expected: Stamps) -> None:
    """(kernel's stamp, time of the read) of each read."""
    columns = Reads()
    for kernel_ns, read_ns in reads:
        stamped = [] if kernel_ns is None else [(socket.SOL_SOCKET, 64, struct.pack("=qq", 0, kernel_ns))]
        columns.add(b"x", stamped, read_ns)
    assert stamp(columns, 1_000, offset_after_ns) == expected


def test_asks_for_stamps_only_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as sock:
        assert clock.ask_for_kernel_stamps(sock) is (sys.platform == "linux")
    assert clock.ask_for_kernel_stamps(sock) is False  # closed: the kernel refuses
    monkeypatch.setattr(sys, "platform", "darwin")
    assert clock.ask_for_kernel_stamps(sock) is False


def test_wall_offset_turns_one_clock_into_the_other() -> None:
    before_ns = time.time_ns()
    now_ns = time.monotonic_ns() + clock.wall_offset_ns()
    assert before_ns - 1_000_000 < now_ns < time.time_ns() + 1_000_000


# faults after the status line


@pytest.mark.parametrize(
    ("scenario", "kind", "text"),
    [
        ("truncated", "truncated", "the connection was closed before the end of the answer"),
        ("short_length", "truncated", "the connection was closed before the end of the answer"),
        ("reset", "truncated", "connection reset by peer before the end of the answer"),
        ("stall", "stalled", "no byte for 0.200 s before the end of the answer"),
        (
            "bad_chunk",
            "protocol",
            "the answer is not valid HTTP (illegal chunk header: b'zz')",
        ),
        (
            "compressed",
            "protocol",
            "the answer is compressed (gzip), expected it uncompressed: its events have no times of their own",
        ),
    ],
)
def test_what_cuts_an_answer_short_is_said_and_not_raised(
    server: FaultServer, scenario: str, kind: str, text: str
) -> None:
    exchange = ask(server, scenario, HASTY)
    assert exchange.status == 200
    assert not exchange.complete
    assert exchange.failure == wire.Failure(kind, f"127.0.0.1:{server.port}: {text}")  # type: ignore[arg-type]
    assert exchange.body


@pytest.mark.parametrize("scenario", ["truncated", "reset", "stall", "bad_chunk"])
def test_events_before_the_fault_are_kept(server: FaultServer, scenario: str) -> None:
    (event,) = wire.events(ask(server, scenario, HASTY))
    assert '"Hel"' in event.data
    assert event.arrival_ms > 0


def test_an_unfinished_event_of_a_cut_answer_is_dropped() -> None:
    async def cut(peer: Peer) -> None:
        await peer.head()
        await peer.chunk(b"data: one\n\ndata: tw")
        peer.leave()

    with FaultServer({"cut": cut}) as server:
        assert [event.data for event in wire.events(ask(server, "cut"))] == ["one"]


def test_whole_request_has_a_limit_of_its_own(server: FaultServer) -> None:
    exchange = ask(server, "trickle", Timeouts(request_s=0.3))
    assert exchange.failure == wire.Failure("timeout", f"127.0.0.1:{server.port}: the request took longer than 0.300 s")
    assert len(wire.events(exchange)) > 1


def test_slow_first_byte_may_take_longer_than_a_stall() -> None:
    async def slow_start(peer: Peer) -> None:
        await asyncio.sleep(0.3)
        await peer.answer("200 OK", {})

    with FaultServer({"slow_start": slow_start}) as server:
        assert ask(server, "slow_start", Timeouts(first_byte_s=20, stall_s=0.1)).complete


def test_endless_answers_are_cut_off(server: FaultServer) -> None:
    async def trickle() -> wire.Exchange:
        transport = Transport()
        message = write_request(write_head("POST", b"x", b"/trickle", {}), b"")
        try:
            return await transport.exchange(Address("127.0.0.1", server.port, None), message, PATIENT, max_bytes=1_000)
        finally:
            transport.close()

    exchange = run(trickle())
    assert exchange.failure is not None
    assert exchange.failure.kind == "protocol"
    assert exchange.failure.text.endswith(": the answer is longer than 1000 bytes, the limit of this request")


def test_a_mistake_of_ours_costs_one_request_and_not_the_thread(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def two() -> list[wire.Exchange | BaseException]:
        async with wire.StreamClient(server.url) as client:
            with monkeypatch.context() as patch:
                patch.setattr(Reads, "add", lambda *_: 1 / 0)
                first = await asyncio.gather(client.post("/stream", {}), return_exceptions=True)
            return [*first, await client.post("/stream", {})]

    failed, exchange = run(two())
    assert str(failed) == (
        f"127.0.0.1:{server.port}: the answer cannot be read (ZeroDivisionError('division by zero'))"
    )
    assert exchange.complete


# faults before the status line


@pytest.mark.parametrize(
    ("scenario", "kind", "text"),
    [
        ("hang_up", "truncated", "the connection was closed before an answer came"),
        ("silent", "stalled", "no byte for 0.200 s before an answer came"),
        ("garbage", "protocol", "the answer is not HTTP, it begins with b'SSH-2.0-OpenSSH_9.6\\r'"),
        (
            "bad_header",
            "protocol",
            "the answer is not valid HTTP (illegal header line: bytearray(b'no colon here'))",
        ),
        ("endless_header", "protocol", "the answer is not valid HTTP (Receive buffer too long)"),
    ],
)
def test_no_answer(server: FaultServer, scenario: str, kind: str, text: str) -> None:
    failure = failure_before_answer(server.url, scenario)
    assert failure == wire.Failure(kind, f"127.0.0.1:{server.port}: {text}")  # type: ignore[arg-type]


def test_no_answer_within_the_request_limit(server: FaultServer) -> None:
    failure = failure_before_answer(server.url, "silent", Timeouts(request_s=0.1))
    assert failure == wire.Failure("timeout", f"127.0.0.1:{server.port}: the request took longer than 0.100 s")


def test_refusal_before_the_request_is_out(server: FaultServer) -> None:
    exchange = ask(server, "refuse_early", body={"prompt": "x" * 30_000_000})
    assert exchange.complete
    assert b"too large" in exchange.body


RESET = {
    "connection reset by peer before the whole request was sent",  # as the write met it
    "broken pipe before the whole request was sent",  # as a second write met it
    "the connection ended before the whole request was sent",  # as the read met it first
}


def test_reset_before_the_request_is_out(server: FaultServer) -> None:
    failure = failure_before_answer(server.url, "reset_early", PATIENT, body={"prompt": "x" * 30_000_000})
    assert failure.kind == "connect"
    assert failure.text.removeprefix(f"127.0.0.1:{server.port}: ") in RESET


def test_reset_before_the_first_byte_is_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        class Unlucky(asyncio.SelectorEventLoop):
            async def sock_connect(self, sock: socket.socket, address: Any) -> None:
                await super().sock_connect(sock, address)
                peer, _ = listener.accept()
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                peer.close()

        with pytest.raises(wire.NoAnswer) as caught:
            run(post(f"http://127.0.0.1:{port}", "stream"), Unlucky)
    assert caught.value.failure.kind == "connect"
    assert caught.value.failure.text.removeprefix(f"127.0.0.1:{port}: ") in RESET


def test_nobody_listens() -> None:
    port = closed_port()
    assert failure_before_answer(f"http://127.0.0.1:{port}", "stream") == wire.Failure(
        "connect", f"127.0.0.1:{port}: connection refused, expected a server that answers there"
    )


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
def test_ipv6_address() -> None:
    port = closed_port()
    assert failure_before_answer(f"http://[::1]:{port}", "stream").text.startswith(f"[::1]:{port}: ")


def test_unknown_host() -> None:
    failure = failure_before_answer("http://no-such-host.invalid", "stream")
    assert failure.kind == "connect"
    assert failure.text.startswith("no-such-host.invalid:80: ")
    assert failure.text.endswith(", expected a server that answers there")


def test_tries_each_address_of_a_name(server: FaultServer) -> None:
    class TwoAddresses(asyncio.SelectorEventLoop):
        async def getaddrinfo(self, host: Any, port: Any, **how: Any) -> Any:
            kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
            return [(*kind, ("127.0.0.1", closed_port())), (*kind, ("127.0.0.1", port))]

    assert run(post(f"http://two.invalid:{server.port}", "length"), TwoAddresses).complete


def test_no_connection_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf:
        port = deaf.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:  # they fill the backlog, so that the next one is not even refused
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
        failure = failure_before_answer(f"http://127.0.0.1:{port}", "stream", Timeouts(connect_s=0.2))
        for sock in waiting:
            sock.close()
    assert failure == wire.Failure("connect", f"127.0.0.1:{port}: no connection within 0.200 s")


# nothing leaks


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("loop", [asyncio.SelectorEventLoop, BlindLoop])
def test_cancelling_closes_the_socket(loop: type[asyncio.AbstractEventLoop]) -> None:
    async def give_up(server: FaultServer) -> None:
        request = asyncio.create_task(post(server.url, "stall"))
        await until(lambda: server.open_connections == 1)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        await until(lambda: server.open_connections == 0)

    with FaultServer() as server:
        run(give_up(server), loop)


def test_an_answer_that_comes_just_after_cancelling_is_left_alone() -> None:
    complaints: list[dict[str, Any]] = []

    async def answer_later(peer: Peer) -> None:
        await asyncio.sleep(0.1)
        await peer.answer("200 OK", {})

    async def give_up(server: FaultServer) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, complaint: complaints.append(complaint))
        request = asyncio.create_task(post(server.url, "answer_later"))
        await until(lambda: bool(server.seen))
        time.sleep(0.3)  # meanwhile the answer comes, and is found readable in the turn that cancels
        loop.call_soon(request.cancel)
        with pytest.raises(asyncio.CancelledError):
            await request

    with FaultServer({"answer_later": answer_later}) as server:
        run(give_up(server))
    assert complaints == []


@on_linux
def test_no_descriptor_is_left(server: FaultServer) -> None:
    async def many() -> None:
        async with wire.StreamClient(server.url) as client:
            for scenario in ("stream", "truncated", "reset", "length", "silent"):
                requests = [client.post(f"/{scenario}", {}, Timeouts(first_byte_s=0.1)) for _ in range(4)]
                await asyncio.gather(*requests, return_exceptions=True)

    def count_descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    async def count_with_a_loop() -> int:
        return count_descriptors()

    gc.collect()
    before = run(count_with_a_loop())
    run(many())
    # the server is of this process, and closes its end of a connection a moment later
    run(until(lambda: server.open_connections == 0 and count_descriptors() <= before))


def test_the_thread_that_reads_ends_with_the_client(server: FaultServer) -> None:
    async def count_threads() -> list[int]:
        counts = []
        async with wire.StreamClient(server.url) as client:
            counts.append(threading.active_count())
            await asyncio.gather(*(client.post("/stream", {}) for _ in range(4)))
            counts.append(threading.active_count())
        return [*counts, threading.active_count()]

    before = threading.active_count()
    assert run(count_threads()) == [before, before + 1, before]


def test_many_streams_at_once(server: FaultServer) -> None:
    async def many() -> list[wire.Exchange]:
        async with wire.StreamClient(server.url) as client:
            return await asyncio.gather(*(client.post("/stream", {}) for _ in range(40)))

    assert all(len(wire.events(exchange)) == 8 and exchange.complete for exchange in run(many()))


# secrets


def test_a_key_that_cannot_be_sent_is_not_quoted(server: FaultServer) -> None:
    failure = failure_before_answer(server.url, "stream", headers={"Authorization": "Bearer s3cret\nX"})
    text = "the request's path or headers hold characters that HTTP does not allow"
    assert failure == wire.Failure("protocol", f"127.0.0.1:{server.port}: {text}")


def test_a_password_in_the_url_is_sent_and_not_logged(server: FaultServer, caplog: pytest.LogCaptureFixture) -> None:
    async def get() -> httpx.Response:
        async with wire.control_client(server.url.replace("//", "//user:s3cret@")) as client:
            return await client.get("/length")

    with caplog.at_level(logging.DEBUG):
        assert run(get()).status_code == 200
    assert server.seen[-1].headers["authorization"] == "Basic dXNlcjpzM2NyZXQ="
    assert "HTTP Request" in caplog.text
    assert "s3cret" not in caplog.text


# clients


def test_clients_share_one_tls_context(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = wire.tls_context()
    made: list[object] = []
    monkeypatch.setattr(ssl, "create_default_context", lambda *args, **how: made.append(how))
    monkeypatch.setattr(ssl, "SSLContext", lambda *args: made.append(args))

    async def make() -> None:
        for client in (
            wire.control_client("https://example.invalid"),
            wire.control_client("https://example.invalid", {"X": "y"}, shared, proxies_from_env=True),
            wire.StreamClient("https://example.invalid"),
        ):
            await client.aclose()

    run(make())
    assert made == []
    assert wire.tls_context() is shared


def test_proxies_of_the_environment_are_not_used(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")

    async def get() -> int:
        async with wire.control_client(server.url) as client:
            return (await client.get("/length")).status_code

    assert run(get()) == 200
    assert ask(server, "length").status == 200


def test_proxies_of_the_environment_are_used_where_asked(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url)

    async def get() -> httpx.Response:
        async with wire.control_client("http://example.invalid", proxies_from_env=True) as client:
            return await client.get("/length")

    assert run(get()).status_code == 200
    assert server.seen[-1].target == "http://example.invalid/length"


# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(scope="module")
def tls_server(authority: trustme.CA) -> Iterator[FaultServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with FaultServer(tls=context) as running:
        yield running


@pytest.mark.parametrize(("scenario", "count"), [("stream", 8), ("crumbs", 5), ("until_close", 2), ("length", 0)])
def test_tls_keeps_the_kernels_stamps(
    tls_server: FaultServer, trusting: ssl.SSLContext, scenario: str, count: int
) -> None:
    exchange = ask(tls_server, scenario, tls=trusting)
    assert exchange.complete
    assert exchange.clock == ("kernel" if sys.platform == "linux" else "user")
    assert len(wire.events(exchange)) == count


def test_tls_carries_large_messages(tls_server: FaultServer, trusting: ssl.SSLContext) -> None:
    body = {"prompt": "x" * 1_000_000}
    assert ask(tls_server, "length", tls=trusting, body=body).complete
    assert tls_server.seen[-1].fields == body


@pytest.mark.parametrize("scenario", ["truncated", "drop", "reset"])
def test_tls_stream_cut_short(tls_server: FaultServer, trusting: ssl.SSLContext, scenario: str) -> None:
    exchange = ask(tls_server, scenario, tls=trusting)
    assert exchange.failure is not None
    assert exchange.failure.kind == "truncated"
    assert len(wire.events(exchange)) == 1


def test_tls_stream_damaged_on_its_way(tls_server: FaultServer, trusting: ssl.SSLContext) -> None:
    async def damage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A relay that puts a stray record behind the first bytes of the answer."""
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", tls_server.port)

        async def forward() -> None:
            while data := await reader.read(65_536):
                far_writer.write(data)

        forwarding = asyncio.create_task(forward())
        while len(data := await far_reader.read(65_536)) and not tls_server.seen[requests:]:
            writer.write(data)
        writer.write(b"\x17\x03\x03\x00\x05wrong")
        await forwarding
        far_writer.close()
        writer.close()

    async def through_relay() -> wire.Failure:
        relay = await asyncio.start_server(damage, "127.0.0.1", 0)
        async with relay:
            url = f"https://127.0.0.1:{relay.sockets[0].getsockname()[1]}"
            with pytest.raises(wire.NoAnswer) as caught:
                await post(url, "stall", tls=trusting)
            await asyncio.sleep(0.05)
        return caught.value.failure

    requests = len(tls_server.seen)
    failure = run(through_relay())
    assert failure.kind == "protocol"
    assert failure.text.partition(": ")[2].startswith("TLS failed (")


def test_untrusted_certificate(tls_server: FaultServer) -> None:
    assert failure_before_answer(tls_server.url, "stream") == wire.Failure(
        "connect",
        f"127.0.0.1:{tls_server.port}: its certificate is not trusted (unable to get local issuer certificate), "
        "expected a server that answers there",
    )


def test_certificate_of_an_authority_in_a_file(tls_server: FaultServer, authority: trustme.CA, tmp_path: Path) -> None:
    file = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(file))
    assert ask(tls_server, "length", tls=wire.tls_context(file)).complete


def test_certificate_of_anyone(tls_server: FaultServer) -> None:
    assert ask(tls_server, "length", tls=wire.tls_context(False)).complete


def test_certificate_of_another_name(tls_server: FaultServer, trusting: ssl.SSLContext) -> None:
    failure = failure_before_answer(tls_server.url.replace("127.0.0.1", "localhost"), "stream", tls=trusting)
    assert "its certificate is not trusted (Hostname mismatch" in failure.text


def test_tls_where_there_is_none(trusting: ssl.SSLContext) -> None:
    def speak_plain(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(65_536)
            peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async def knock() -> str:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            speaking = asyncio.create_task(asyncio.to_thread(speak_plain, listener))
            with pytest.raises(wire.NoAnswer) as caught:
                await post(f"https://127.0.0.1:{port}", "stream", tls=trusting)
            await speaking
        return str(caught.value).removeprefix(f"127.0.0.1:{port}: ")

    assert run(knock()) in {
        "TLS failed (wrong version number), expected a server that answers there",
        "TLS failed (record layer failure), expected a server that answers there",
    }


def test_tls_peer_that_hangs_up(trusting: ssl.SSLContext) -> None:
    def hang_up(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(65_536)

    async def knock() -> str:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            hanging_up = asyncio.create_task(asyncio.to_thread(hang_up, listener))
            with pytest.raises(wire.NoAnswer) as caught:
                await post(f"https://127.0.0.1:{listener.getsockname()[1]}", "stream", tls=trusting)
            await hanging_up
        return str(caught.value)

    assert "TLS failed (" in run(knock())


def test_tls_peer_that_says_nothing(trusting: ssl.SSLContext) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        failure = failure_before_answer(f"https://127.0.0.1:{port}", "stream", Timeouts(connect_s=0.2), tls=trusting)
    assert failure == wire.Failure("connect", f"127.0.0.1:{port}: no connection within 0.200 s")


# the end of an answer, without sockets

HEAD = b"HTTP/1.1 200 OK\r\nServer: x\r\n"
EVENTS = (b"data: {}\n\n", b"data: 0\r\n\r\n", b"0\r\n\r\n", b"\r\n\r\n", "data: ö\n\n".encode())
CHUNKS = st.lists(st.sampled_from(EVENTS), max_size=5)


def in_chunks(chunks: list[bytes], end: bytes) -> bytes:
    framed = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return HEAD + b"transfer-encoding: Chunked\r\n\r\n" + framed + end


def with_length(chunks: list[bytes], _: bytes) -> bytes:
    body = b"".join(chunks)
    return HEAD + b"CONTENT-LENGTH:  %d\r\n\r\n" % len(body) + body


def after_continue(chunks: list[bytes], end: bytes) -> bytes:
    return b"HTTP/1.1 100 Continue\r\n\r\n" + in_chunks(chunks, end)


@settings(deadline=None, database=None)
@given(
    frame=st.sampled_from([in_chunks, with_length, after_continue]),
    chunks=CHUNKS,
    end=st.sampled_from([b"0\r\n\r\n", b"000\r\n\r\n", b"0;ext=1\r\n\r\n", b"0\r\nX-Trailer: 1\r\n\r\n"]),
    data=st.data(),
)
def test_end_is_seen_with_the_last_byte_and_not_before(
    frame: Callable[[list[bytes], bytes], bytes], chunks: list[bytes], end: bytes, data: st.DataObject
) -> None:
    raw = frame(chunks, end)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(raw) - 1), max_size=8)))
    answer, came, lengths = HttpAnswer(), bytearray(), []
    for start, stop in pairwise([0, *cuts, len(raw)]):
        assert not answer.complete
        came += raw[start:stop]
        lengths.append(len(came))
        if not came[start:].endswith(answer.goes_on):
            assert answer.follow(came) == (stop == len(raw))
    assert answer.complete
    body = b"".join(chunks)
    assert answer.body(came) == body
    grown = list(answer.body_lengths(lengths))
    assert grown == sorted(grown)
    assert (len(grown), grown[-1]) == (len(lengths), len(body))


def test_an_answer_follows_no_more_after_an_error() -> None:
    answer = HttpAnswer()
    assert answer.follow(bytearray(b"nonsense\r\n\r\n"))
    assert answer.error == "the answer is not HTTP, it begins with b'nonsense\\r\\n\\r\\n'"
    assert (answer.head, answer.close()) == (None, False)


def test_an_answer_that_is_too_long_is_an_error() -> None:
    answer = HttpAnswer(max_bytes=100)
    assert not answer.follow(bytearray(HEAD + b"Content-Length: 5000\r\n\r\n"))
    assert answer.follow(bytearray(HEAD + b"Content-Length: 5000\r\n\r\n" + b"x" * 200))
    assert answer.error == "the answer is longer than 100 bytes, the limit of this request"


@pytest.mark.parametrize(("allowed", "platform"), [(True, "linux"), (False, "linux"), (True, "darwin")])
def test_the_reading_thread_goes_first_where_it_may(
    monkeypatch: pytest.MonkeyPatch, allowed: bool, platform: str
) -> None:
    """The thread and not the process; where that is refused, nothing is said and nothing fails."""
    asked: list[tuple[int, int, int]] = []

    def ask(which: int, who: int, nice: int) -> None:
        asked.append((which, who, nice))
        if not allowed:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "setpriority", ask, raising=False)
    monkeypatch.setattr(sys, "platform", platform)
    assert wire.can_raise_priority() is (allowed and platform == "linux")
    assert [(which, nice) for which, _, nice in asked] == ([(0, -10)] if platform == "linux" else [])
    assert threading.get_native_id() not in [who for _, who, _ in asked]
