"""A scripted HTTP server for faults: real sockets, in a thread of its own; each request says which fault it wants.

    with FaultServer() as server:
        httpx.post(f"{server.url}/v1/chat/completions", json={"model": "truncated"})

The scenario is the request's ``X-Scenario`` header, else its body's ``model``, else the last part of its path;
``stream`` where none of them names one. Each takes one connection, and keeps it open after a whole answer until the
client leaves, so that a client that waits for the close hangs. Own scenarios: ``FaultServer({"name": coroutine})``.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

TOKENS = ("Hel", "lo", " wör", "ld")
GAP_S = 0.002
JSON = "application/json"
SSE = "text/event-stream"


@dataclass(frozen=True)
class Seen:
    """One request as it came."""

    method: str
    target: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def fields(self) -> dict[str, Any]:
        """The body as a JSON object, empty where it is none."""
        try:
            fields = json.loads(self.body)
        except ValueError:
            return {}
        return fields if isinstance(fields, dict) else {}


@dataclass
class Peer:
    """The far end of one connection, as a scenario holds it."""

    request: Seen
    writer: asyncio.StreamWriter
    sent: list[bytes] = field(default_factory=list)

    async def send(self, data: bytes, pause_s: float = 0.0) -> None:
        """Bytes at once, in a packet of their own, and a pause after them."""
        self.writer.write(data)
        await self.writer.drain()
        await asyncio.sleep(pause_s)

    async def head(self, status: str = "200 OK", content_type: str = SSE, *more: str) -> None:
        """A response's header with ``more`` lines; chunked unless one of them is a length or ``Connection: close``."""
        framing = () if any(line.startswith(("Content-Length", "Connection")) for line in more) else CHUNKED
        lines = (f"HTTP/1.1 {status}", f"Content-Type: {content_type}", *framing, *more)
        await self.send("\r\n".join(lines).encode() + b"\r\n\r\n", GAP_S)

    async def chunk(self, data: bytes) -> None:
        """One chunk of a chunked body; empty: its end."""
        await self.send(b"%x\r\n%s\r\n" % (len(data), data), GAP_S if data else 0.0)

    async def event(self, value: object) -> None:
        """One server-sent event as one chunk: a string as it is, all else as JSON."""
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        await self.chunk(f"data: {text}\n\n".encode())

    async def delta(self, finish_reason: str | None = None, **delta: Any) -> None:
        """One chat chunk."""
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        await self.event({"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice]})

    async def finish(self, tokens: int = len(TOKENS)) -> None:
        """The proper end of a chat stream: finish reason, usage and timings, ``[DONE]``, last chunk."""
        await self.delta("stop")
        usage = {"prompt_tokens": 8, "completion_tokens": tokens, "total_tokens": 8 + tokens}
        timings = {"cache_n": 0, "prompt_n": 8, "prompt_ms": 2.0, "predicted_n": tokens, "predicted_ms": 10.0}
        await self.event({"id": "chatcmpl-1", "choices": [], "usage": usage, "timings": timings})
        await self.event("[DONE]")
        await self.chunk(b"")

    async def answer(self, status: str, value: object, *more: str) -> None:
        """A JSON answer with a content length."""
        body = json.dumps(value).encode()
        await self.head(status, JSON, f"Content-Length: {len(body)}", *more)
        await self.send(body)

    def leave(self) -> None:
        """Closes the connection in good order."""
        self.writer.close()

    def reset(self) -> None:
        """Closes the connection with a TCP reset."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


CHUNKED = ("Transfer-Encoding: chunked",)
Scenario = Callable[[Peer], Awaitable[None]]


async def stream(peer: Peer) -> None:
    """A chat stream as llama-server sends it: role first, then a token per event, usage and timings, [DONE]."""
    await peer.head()
    await peer.delta(role="assistant", content=None)
    for token in TOKENS:
        await peer.delta(content=token)
    await peer.finish()


async def reasoning(peer: Peer) -> None:
    """Two events of reasoning before the visible ones."""
    await peer.head()
    for key, token in zip(("reasoning_content", "reasoning_content", "content", "content"), TOKENS, strict=True):
        await peer.delta(**{key: token})
    await peer.finish()


async def several_tokens(peer: Peer) -> None:
    """Two events for four tokens."""
    await peer.head()
    await peer.delta(content=TOKENS[0] + TOKENS[1])
    await peer.delta(content=TOKENS[2] + TOKENS[3])
    await peer.finish()


async def pings(peer: Peer) -> None:
    """Comments before, between and after the tokens."""
    await peer.head()
    for token in TOKENS:
        await peer.chunk(b":\n\n")
        await peer.delta(content=token)
    await peer.chunk(b": keep-alive\n\n")
    await peer.finish()


async def crlf(peer: Peer) -> None:
    """Events that end in CRLF, each of which looks a little like the end of a chunked body."""
    await peer.head()
    for token in TOKENS:
        await peer.chunk(b"event: delta\r\ndata: %s\r\n\r\n" % token.encode())
    await peer.chunk(b"data:[DONE]\r\n\r\n")
    await peer.chunk(b"")


async def crumbs(peer: Peer) -> None:
    """The whole answer byte by byte, the ends of lines and of characters included."""
    events = b"".join(b"data: %s\n\n" % token.encode() for token in (*TOKENS, "[DONE]"))
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    for byte in head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(events), events):
        await peer.send(bytes([byte]), 0.0001)


async def stream_error(peer: Peer) -> None:
    """An error event inside a 200, then a proper end of the body."""
    await peer.head()
    await peer.delta(content=TOKENS[0])
    await peer.event({"error": {"code": 500, "message": "boom", "type": "server_error"}})
    await peer.chunk(b"")


async def no_done(peer: Peer) -> None:
    """A stream whose body ends properly, but without finish reason and [DONE]."""
    await peer.head()
    await peer.delta(content=TOKENS[0])
    await peer.chunk(b"")


async def truncated(peer: Peer) -> None:
    """The connection is closed in the middle of a chunked stream."""
    await peer.head()
    await peer.delta(content=TOKENS[0])
    peer.leave()


async def drop(peer: Peer) -> None:
    """As truncated; under TLS without its goodbye."""
    await peer.head()
    await peer.delta(content=TOKENS[0])
    peer.writer.transport.abort()


async def reset(peer: Peer) -> None:
    """The connection is reset in the middle of a stream."""
    await peer.head()
    await peer.delta(content=TOKENS[0])
    peer.reset()


async def hang_up(peer: Peer) -> None:
    """The connection is closed without an answer."""
    peer.leave()


async def silent(peer: Peer) -> None:
    """Never a byte of an answer."""


async def stall(peer: Peer) -> None:
    """One token, and then nothing more for ever."""
    await peer.head()
    await peer.delta(content=TOKENS[0])


async def trickle(peer: Peer) -> None:
    """A token every few milliseconds for ever."""
    await peer.head()
    while not peer.writer.is_closing():
        await peer.delta(content=TOKENS[0])


async def slow_headers(peer: Peer) -> None:
    """The header in two halves, far apart."""
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-", 0.1)
    await peer.send(b"Length: 2\r\n\r\nok")


async def garbage(peer: Peer) -> None:
    """Not HTTP at all."""
    await peer.send(b"SSH-2.0-OpenSSH_9.6\r\n")


async def bad_header(peer: Peer) -> None:
    """Looks like HTTP and is not."""
    await peer.send(b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n")


async def endless_header(peer: Peer) -> None:
    """A header without an end."""
    await peer.send(b"HTTP/1.1 200 OK\r\n" + b"X-Filler: filler\r\n" * 8_000)


async def bad_chunk(peer: Peer) -> None:
    """A chunked stream that stops being one, and looks like its end."""
    await peer.head()
    await peer.delta(content=TOKENS[0])
    await peer.send(b"zz\r\n\r\n")


async def bad_json(peer: Peer) -> None:
    """An event that is no JSON, in a proper stream."""
    await peer.head()
    await peer.event('{"choices": [')
    await peer.event("[DONE]")
    await peer.chunk(b"")


async def length(peer: Peer) -> None:
    """A JSON body with a content length."""
    await peer.answer("200 OK", {"object": "list", "data": []})


async def short_length(peer: Peer) -> None:
    """Fewer bytes than the content length says."""
    await peer.head("200 OK", JSON, "Content-Length: 100")
    await peer.send(b"{}", GAP_S)
    peer.leave()


async def chunked(peer: Peer) -> None:
    """A JSON body in two chunks, and a trailer after them."""
    await peer.head("200 OK", JSON)
    await peer.chunk(b'{"object": ')
    await peer.chunk(b'"list"}')
    await peer.send(b"0\r\nX-Trailer: yes\r\n\r\n")


async def until_close(peer: Peer) -> None:
    """A stream that ends with the connection, right after [DONE] and without a line's end."""
    await peer.head("200 OK", SSE, "Connection: close")
    await peer.send(b"data: one\n\n", GAP_S)
    await peer.send(b"data: [DONE]", GAP_S)
    peer.leave()


async def no_content(peer: Peer) -> None:
    """A status that has no body."""
    await peer.send(b"HTTP/1.1 204 No Content\r\n\r\n")


async def early_hints(peer: Peer) -> None:
    """An informational response before the real one."""
    await peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", GAP_S)
    await peer.answer("200 OK", {})


async def compressed(peer: Peer) -> None:
    """A body in an encoding that nobody asked for."""
    await peer.head("200 OK", SSE, "Content-Encoding: gzip")
    await peer.chunk(b"\x1f\x8b\x08")
    await peer.chunk(b"")


async def refuse_early(peer: Peer) -> None:
    """A refusal before the request's body was read."""
    await peer.answer("413 Content Too Large", {"error": {"code": 413, "message": "too large"}})


async def reset_early(peer: Peer) -> None:
    """A reset before the request's body was read."""
    peer.reset()


EARLY = ("refuse_early", "reset_early")
"""Scenarios that do not wait for the request's body; choose them by header."""


def _refusal(status: str, message: str, *more: str) -> Scenario:
    async def refuse(peer: Peer) -> None:
        await peer.answer(status, {"error": {"code": int(status[:3]), "message": message}}, *more)

    return refuse


SCENARIOS: Mapping[str, Scenario] = {
    **{
        scenario.__name__: scenario
        for scenario in (
            stream, reasoning, several_tokens, pings, crlf, crumbs, stream_error, no_done, truncated, drop, reset,
            hang_up, silent, stall, trickle, slow_headers, garbage, bad_header, endless_header, bad_chunk, bad_json,
            length, short_length, chunked, until_close, no_content, early_hints, compressed, refuse_early, reset_early,
        )
    },
    "status_500": _refusal("500 Internal Server Error", "boom"),
    "status_503": _refusal("503 Service Unavailable", "Loading model"),
    "status_429": _refusal("429 Too Many Requests", "concurrency limit", "Retry-After: 1"),
}  # fmt: skip


class FaultServer:
    """The server, up between enter and exit on 127.0.0.1, by default on a free port; ``tls`` is a server's context."""

    def __init__(
        self, scenarios: Mapping[str, Scenario] | None = None, tls: ssl.SSLContext | None = None, port: int = 0
    ) -> None:
        self.seen: list[Seen] = []
        """Every request so far."""
        self.open_connections = 0
        self.port = port
        self._scenarios = {**SCENARIOS, **(scenarios or {})}
        self._tls = tls
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="fault-server")

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> FaultServer:
        self._thread.start()
        self._up.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._down.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop, self._down = asyncio.get_running_loop(), asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._begin, "127.0.0.1", self.port, ssl=self._tls, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        self._up.set()
        await self._down.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._handle(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.open_connections += 1
        try:
            request = await _read_request(reader)
            self.seen.append(request)
            await self._scenarios[self._choose(request)](Peer(request, writer))
            await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open_connections -= 1
            writer.transport.abort()

    def _choose(self, request: Seen) -> str:
        path_end = request.target.partition("?")[0].rpartition("/")[2]
        for name in (request.headers.get("x-scenario"), request.fields.get("model"), path_end):
            if name in self._scenarios:
                return str(name)
        return "stream"


async def _read_request(reader: asyncio.StreamReader) -> Seen:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = 0 if headers.get("x-scenario") in EARLY else int(headers.get("content-length", 0))
    return Seen(method, target, headers, await reader.readexactly(length))


def closed_port() -> int:
    """A port of 127.0.0.1 where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port
