"""A stand-in for llama-swap, shaped on recordings of v250 and on the source of older versions.

It proxies to real llama-server processes, one model of its group at a time, and says of itself what a llama-swap of
the given version says. Tests send it real requests, or put one in flight themselves: ``with swap.foreign():``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import httpx

from tests.fault_server import JSON, FaultServer, Peer

DISPATCHED = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
KEY = "sk-swap-secret-42"
HARDWARE = {"schema_version": 1, "cpu": {"model": "EPYC"}, "memory": {"capacity_bytes": 64}, "accelerators": []}


@dataclass
class Flight:
    """A request in flight."""

    id: int
    model: str
    path: str
    method: str
    headers: Mapping[str, str]
    began: datetime
    answered: dict[str, str] = field(default_factory=dict)


class LlamaSwapStandIn:
    """``upstreams``, ``peers``: model -> URL of its real server. ``loads`` and ``unloads`` keep what it did.

    ``ahead_s`` is how far its clock is ahead of ours.
    """

    def __init__(
        self,
        upstreams: Mapping[str, str],
        *,
        version: int = 250,
        key: str | None = None,
        limit: int = 10,
        load_s: float = 0.0,
        says_loading: bool = False,
        broken: tuple[str, ...] = (),
        peers: Mapping[str, str] | None = None,
        log_lag_s: float = 0.0,
        aliases: Mapping[str, str] | None = None,
        ahead_s: float = 0.0,
    ) -> None:
        self.upstreams, self.version, self.limit, self.load_s = dict(upstreams), version, limit, load_s
        self.key, self.says_loading, self.broken, self.log_lag_s = key, says_loading, broken, log_lag_s
        self.peers, self.aliases = dict(peers or {}), dict(aliases or {})
        self._ahead = timedelta(seconds=ahead_s)
        self.commands: dict[str, str] = {}
        """Model -> the ``cmd`` of its configuration; its port is that of its real server."""
        self.loads: list[str] = []
        self.unloads: list[str] = []
        self.refused = 0
        self.states = dict.fromkeys(upstreams, "stopped")
        self.rows: list[dict[str, Any]] = []
        self.drops_events = False
        """Whether news of requests is lost, as in a buffer that runs over."""
        self._flights: dict[int, Flight] = {}
        self._next_id = 0
        self._waiting = dict.fromkeys(upstreams, 0)
        self._listeners: list[asyncio.Queue[dict[str, Any] | bool]] = []
        self._server = FaultServer({"stream": self._answer})

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def in_flight(self) -> int:
        return len(self._flights)

    @property
    def listeners(self) -> int:
        return len(self._listeners)

    @property
    def seen(self) -> list[str]:
        """Method and target of every request so far."""
        return [f"{seen.method} {seen.target}" for seen in self._server.seen]

    def __enter__(self) -> LlamaSwapStandIn:
        self._server.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.__exit__(kind, error, trace)

    # what tests do to it

    def do(self, action: Callable[[], None]) -> None:
        """Run something inside of the server, and wait for it."""

        async def run() -> None:
            action()

        asyncio.run_coroutine_threadsafe(run(), self._server._loop).result(5)

    @contextmanager
    def foreign(self, tokens: tuple[int, int] = (3, 7), **headers: str) -> Iterator[None]:
        """A request of somebody else, in flight as long as the block runs; then a row of the log."""
        model = next(iter(self.upstreams))
        flights: list[Flight] = []

        def begin() -> None:
            self._waiting[model] += 1
            flights.append(self._begin(model, DISPATCHED[0], "POST", {"User-Agent": "curl/8.5", **headers}))

        def end() -> None:
            self._waiting[model] -= 1
            self._end(flights[0], 200, tokens)

        self.do(begin)
        try:
            yield
        finally:
            self.do(end)

    def log(self, tokens: tuple[int, int], cached: int = 0, /, **changed: Any) -> None:
        """A row of the log for a request that just ended, with llama.cpp's timings; ``changed`` are its fields."""
        counts = {"input_tokens": tokens[0], "output_tokens": tokens[1], "cache_tokens": cached}

        def act() -> None:
            row: dict[str, Any] = {"id": len(self.rows) + 1, "timestamp": f"{self._now():%Y-%m-%dT%H:%M:%SZ}"}
            row |= {"model": next(iter(self.upstreams)), "req_path": DISPATCHED[0], "resp_status_code": 200}
            row |= {"tokens": {**counts, "prompt_per_second": 500.0}, "duration_ms": 12, **changed}
            self.rows.append(row)
            self._tell(_event("activity", {"id": row["id"]}))

        self.do(act)

    def restart(self) -> None:
        """As when it was killed and started again: the log is empty, and its ids begin anew."""
        self.rows.clear()
        self.reload(in_order=False)

    def reload(self, *, in_order: bool = True) -> None:
        """As on SIGHUP: streams end, models stop, ids begin anew. Not in order: as when it was killed."""

        def act() -> None:
            for listener in self._listeners:
                listener.put_nowait(in_order)
            self._listeners.clear()
            self.states = dict.fromkeys(self.upstreams, "stopped")
            self._flights.clear()
            self._next_id = 0

        self.do(act)

    def break_streams(self) -> None:
        """As when a proxy between loses patience."""

        def act() -> None:
            for listener in self._listeners:
                listener.put_nowait(False)
            self._listeners.clear()

        self.do(act)

    def set_state(self, model: str, state: str) -> None:
        """A model starts or stops for reasons of its own."""
        self.do(lambda: self._set_state(model, state))

    # what it does

    async def _answer(self, peer: Peer) -> None:
        request = peer.request
        path = unquote(urlsplit(request.target).path)
        query = {name: values[-1] for name, values in parse_qs(urlsplit(request.target).query).items()}
        if path == "/health":
            await self._text(peer, "OK")
        elif self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            await self._error(peer, "401 Unauthorized", "unauthorized: invalid or missing API key")
        elif path == "/api/events":
            await self._tell_events(peer)
        elif path.startswith("/api/models/unload/"):
            self._stop(path.removeprefix("/api/models/unload/"))
            await self._text(peer, "OK")
        elif path.startswith("/upstream/"):
            await self._pass_upstream(peer, path.removeprefix("/upstream/"))
        elif path in DISPATCHED or (path == "/props" and "model" in query):
            await self._pass_on(peer, request.fields.get("model") or query["model"], path)
        else:
            page = self._find_page(path, query)
            if page is None:
                await self._error(peer, "404 Not Found", "404 page not found")
            else:
                await peer.answer("200 OK", page, f"Date: {format_datetime(self._now(), usegmt=True)}")

    def _find_page(self, path: str, query: Mapping[str, str]) -> Any:
        since = {"/api/version": 173, "/api/metrics/activity": 236, "/api/hardware": 240, "/api/performance": 220}
        if self.version < since.get(path, 0) or (path == "/api/metrics" and self.version >= 236):
            return None
        pages: Mapping[str, Callable[[], Any]] = {
            "/v1/models": self._list_models,
            "/running": lambda: {
                "running": [
                    {"model": m, "state": s, "cmd": self.commands.get(m, "x"), "proxy": self.upstreams[m]}
                    for m, s in self.states.items()
                    if s != "stopped"
                ]
            },
            "/api/version": lambda: {"version": str(self.version), "commit": "0bdb3720", "build_date": "2026-08-22"},
            "/api/metrics/activity": lambda: self._page_rows(query),
            "/api/metrics": lambda: self.rows,
            "/api/hardware": lambda: HARDWARE,
            "/api/performance": lambda: {
                "enabled": True,
                "sys_stats": [{"load_avg_1": 1.0}, {"load_avg_1": 2.0}],
                "gpu_stats": [{"id": 0, "power_draw_w": 90.0}, {"id": 0, "power_draw_w": 95.0}],
            },
        }
        return pages[path]() if path in pages else None

    def _list_models(self) -> Any:
        data = []
        for name, state in self.states.items():
            about: dict[str, Any] = {"type": "model"}
            if own := [alias for alias, model in self.aliases.items() if model == name]:
                about["aliases"] = own
            status = {"status": {"value": "unloaded" if state == "stopped" else "loaded"}}
            data.append({"id": name, "owned_by": "llama-swap", "meta": {"llamaswap": about}, **status})
        data += [{"id": name, "owned_by": "llama-swap", "meta": {"llamaswap": {"type": "peer"}}} for name in self.peers]
        return {"object": "list", "data": data}

    def _page_rows(self, query: Mapping[str, str]) -> Any:
        rows = [row for row in self.rows if row["id"] >= int(query.get("min_id", 0))]
        rows = sorted(rows, key=lambda row: row["id"], reverse=query.get("order") != "asc")
        limit, page = int(query.get("limit", 25)), int(query.get("page", 1))
        assert 0 < limit < 1000
        return {"data": rows[(page - 1) * limit : page * limit], "page": page, "limit": limit, "total": len(rows)}

    async def _pass_upstream(self, peer: Peer, rest: str) -> None:
        names = [name for name in (*self.upstreams, *self.aliases, *self.peers) if rest.startswith(f"{name}/")]
        if names:
            name = max(names, key=len)
            await self._pass_on(peer, name, rest[len(name) :])
        else:
            await self._error(peer, "404 Not Found", "model not found")

    async def _pass_on(self, peer: Peer, asked: str, path: str) -> None:
        """Let the request in, load its model, and pass on the answer as it comes."""
        model = self.aliases.get(asked, asked)
        if self._waiting.setdefault(model, 0) >= self.limit:
            self.refused += 1
            if path in DISPATCHED:
                self._end(self._begin(model, path, peer.request.method, peer.request.headers), 429, (0, 0))
            await self._error(peer, "429 Too Many Requests", "Too many requests", "Retry-After: 1")
            return
        tracked = path in DISPATCHED or path == "/props"
        flight = self._begin(model, path, peer.request.method, peer.request.headers) if tracked else None
        self._waiting[model] += 1
        tokens: tuple[int, ...] = (0, 0)
        status = 500
        try:
            if self.says_loading and self.states[model] != "ready" and peer.request.fields.get("stream"):
                await peer.head()
                await peer.event({"choices": [{"delta": {"reasoning_content": "llama-swap loading model"}}]})
                peer.sent.append(b"head")
            await self._load(model)
            if model in self.broken:
                await self._error(
                    peer, "500 Internal Server Error", "unspecific error: upstream command exited prematurely"
                )
                return
            status, tokens = await self._proxy(peer, model, path, flight)
        finally:
            self._waiting[model] -= 1
            if flight is not None:
                self._end(flight, status, tokens)

    async def _proxy(self, peer: Peer, model: str, path: str, flight: Flight | None) -> tuple[int, tuple[int, ...]]:
        body, request = b"", peer.request
        url, content = self.upstreams.get(model) or self.peers[model], request.body
        if model in self.peers and content:
            content = json.dumps({**request.fields, "model": model.rpartition("/")[2]}).encode()
        headers = {"Content-Type": JSON, "Connection": "close"}
        async with (
            httpx.AsyncClient(base_url=url, timeout=60) as client,
            client.stream(request.method, path, content=content, headers=headers) as response,
        ):
            if not peer.sent:
                await peer.head(f"{response.status_code} {response.reason_phrase}", response.headers["content-type"])
            if flight is not None:
                flight.answered["Content-Type"] = response.headers["content-type"]
                self._tell_flight(flight)
            async for piece in response.aiter_raw():
                body += piece
                await peer.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        tokens = _read_tokens(body.decode())
        if flight is not None:
            self._end(flight, response.status_code, tokens)
        await peer.chunk(b"")
        return response.status_code, tokens

    async def _load(self, model: str) -> None:
        if self.states.get(model, "ready") == "ready":
            return
        for other in [name for name, state in self.states.items() if state == "ready" and name != model]:
            while self._waiting[other]:
                await asyncio.sleep(0.005)
            self._stop(other)
        if self.states[model] == "starting":
            while self.states[model] == "starting":
                await asyncio.sleep(0.005)
            return
        self.loads.append(model)
        self._set_state(model, "starting")
        await asyncio.sleep(self.load_s)
        self._set_state(model, "stopped" if model in self.broken else "ready")

    def _stop(self, model: str) -> None:
        self.unloads.append(model)
        self._set_state(model, "stopping")
        self._set_state(model, "stopped")

    def _set_state(self, model: str, state: str) -> None:
        self.states[model] = state
        self._tell(self._model_status())

    def _begin(self, model: str, path: str, method: str, headers: Mapping[str, str]) -> Flight:
        self._next_id += 1
        flight = Flight(self._next_id, model, path, method, _canonical(headers), datetime.now(UTC))
        self._flights[flight.id] = flight
        self._tell_flight(flight)
        return flight

    def _end(self, flight: Flight, status: int, tokens: tuple[int, ...]) -> None:
        if self._flights.pop(flight.id, None) is not flight:
            return
        if flight.method == "POST":
            asyncio.get_running_loop().call_later(self.log_lag_s, self._log, flight, status, tokens)
        if self.version >= 240:
            self._tell_requests({"operation": "remove", "id": str(flight.id)})
        else:
            self._tell_flight(flight)

    def _log(self, flight: Flight, status: int, tokens: tuple[int, ...]) -> None:
        counts = {"input_tokens": tokens[0], "output_tokens": tokens[1], "cache_tokens": sum(tokens[2:])}
        counts["prompt_per_second"] = 500 if tokens[2:] else -1
        row: dict[str, Any] = {"id": len(self.rows) + 1, "timestamp": f"{self._now():%Y-%m-%dT%H:%M:%SZ}"}
        row |= {"model": flight.model, "duration_ms": 12}
        if self.version < 230:
            row |= counts
        else:
            row |= {"tokens": counts, "req_path": flight.path, "resp_status_code": status}
        self.rows.append(row)
        if self.version >= 236:
            self._tell(_event("activity", {"id": row["id"]}))
        else:
            self._tell(_event("metrics", [row]))

    # what it says

    def _now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def _tell(self, event: dict[str, Any]) -> None:
        for listener in self._listeners:
            listener.put_nowait(event)

    def _tell_requests(self, payload: Any) -> None:
        if not self.drops_events:
            self._tell(_event("inflight", payload))

    def _tell_flight(self, flight: Flight) -> None:
        if self.version >= 240:
            self._tell_requests({"operation": "upsert", "request": self._describe(flight)})
        elif self.version >= 192:
            self._tell_requests(self._snapshot())

    def _snapshot(self) -> dict[str, Any]:
        if self.version < 235:
            return {"total": len(self._flights)}
        requests = [self._describe(flight) for flight in self._flights.values()]
        if self.version < 240:
            return {"requests": requests}
        return {"operation": "snapshot", **({"requests": requests} if requests else {})}

    def _describe(self, flight: Flight) -> dict[str, Any]:
        known = {"id": str(flight.id), "model": flight.model, "req_path": flight.path, "method": flight.method}
        known["timestamp"] = f"{flight.began:%Y-%m-%dT%H:%M:%S.%f}889Z"
        if self.version < 240:
            return known
        elapsed_ms = int((datetime.now(UTC) - flight.began).total_seconds() * 1000)
        told = {"req_headers": flight.headers, "remote_ip": "127.0.0.1", "resp_headers": flight.answered}
        return {**known, **told, "resp_bytes": 0, "elapsed_ms": elapsed_ms}

    def _model_status(self) -> dict[str, Any]:
        models = []
        for name, state in self.states.items():
            own = [alias for alias, model in self.aliases.items() if model == name]
            models.append({"id": name, "name": "", "state": state, **({"aliases": own} if own else {})})
        return _event("modelStatus", models)

    async def _tell_events(self, peer: Peer) -> None:
        listener: asyncio.Queue[dict[str, Any] | bool] = asyncio.Queue()
        await peer.head()
        first = [_event("logData", {"source": "proxy", "data": "[INFO] listening\n"}), self._model_status()]
        if self.version < 236:
            first.append(_event("metrics", self.rows))
        if self.version >= 192:
            first.append(_event("inflight", self._snapshot()))
        for event in first:
            listener.put_nowait(event)
        self._listeners.append(listener)
        while not isinstance(event := await listener.get(), bool):
            data = f"event:message\ndata:{json.dumps(event)}\n\n".encode()
            await peer.send(b"%x\r\n%s\r\n" % (len(data), data))
        if event:
            await peer.chunk(b"")
        peer.leave()

    async def _text(self, peer: Peer, text: str) -> None:
        await peer.head("200 OK", "text/plain", f"Content-Length: {len(text)}")
        await peer.send(text.encode())

    async def _error(self, peer: Peer, status: str, message: str, *more: str) -> None:
        error = message if self.version <= 250 else {"message": message, "type": "x", "param": None, "code": "x"}
        await peer.answer(status, {"src": "llama-swap", "error": error}, *more)


def _event(kind: str, payload: Any) -> dict[str, Any]:
    return {"type": kind, "data": json.dumps(payload)}


def _canonical(headers: Mapping[str, str]) -> dict[str, str]:
    """Names as Go writes them, secrets taken out."""
    named = {"-".join(part.capitalize() for part in name.split("-")): value for name, value in headers.items()}
    return {name: "[REDACTED]" if name == "Authorization" else value for name, value in named.items()}


def _read_tokens(text: str) -> tuple[int, ...]:
    """Prompt tokens evaluated, tokens generated, and with timings those cached, as the last event that has any says."""
    found: tuple[int, ...] = (0, 0)
    for line in text.splitlines():
        try:
            body = json.loads(line.removeprefix("data: "))
        except ValueError:
            continue
        if isinstance(body, dict) and (timings := body.get("timings")):
            return timings["prompt_n"], timings["predicted_n"], timings["cache_n"]
        if isinstance(body, dict) and (usage := body.get("usage")):
            found = (usage["prompt_tokens"], usage.get("completion_tokens", 0))
    return found
