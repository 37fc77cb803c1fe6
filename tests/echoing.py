"""Servers that send the key back in every field of every answer, in every form, among characters that steer terminals.

Any stand-in becomes one: ``EchoServer(stand_in)``. What the product needs in order to go on (names of models, states,
counts) stays as it is, and everything else has the echo in it; fields are added whose names are the echo.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

from tests.fault_server import SSE, FaultServer, Peer, Seen
from tests.kinds_stand_in import TEMPLATE, Page, StandIn, fixed, stream_openai

KEY = 'sk+echo/9f"2Z&<7q>-secret-tail=e8'
FORMS = (
    KEY,
    quote(KEY, safe=""),
    html.escape(KEY),
    json.dumps(KEY)[1:-1],
    *(
        base64.b64encode(before + KEY.encode()).decode()[skipped : (len(before) + len(KEY)) * 8 // 6]
        for before, skipped in ((b"", 0), (b"a", 2), (b"ab", 3))
    ),
)
"""What must be nowhere, and neither their first nor their last eight characters."""
BASIC = base64.b64encode(f"me:{KEY}".encode()).decode()
STEERING = "\x1b[31mred\x1b]0;title\x07\x00\x9b32m\x08"
ECHO = " ".join((f"you sent Bearer {KEY}, {KEY[:8]}… …{KEY[-8:]} {KEY[:13]}", *FORMS, BASIC, STEERING))
IN_HEADER = f"{KEY} {quote(KEY)} {BASIC} {KEY[:9]}"
_KEPT = frozenset("id model name state object owned_by role type value status prompt content text build_date".split())
"""Fields whose text the product goes by."""


def spoil(value: Any, field: str = "") -> Any:
    """The same JSON with the echo in it."""
    if isinstance(value, dict):
        kept = {name: spoil(each, name) for name, each in value.items()}
        return {**kept, KEY: ECHO, f"x {ECHO}": [ECHO]} if field != "delta" else kept
    if isinstance(value, list):
        return [spoil(each, field) for each in value]
    return f"{value}{ECHO}" if isinstance(value, str) and field not in _KEPT else value


class EchoPeer(Peer):
    """The far end of a connection, every answer of which is spoilt."""

    async def head(self, status: str = "200 OK", content_type: str = SSE, *more: str) -> None:
        """With headers that hold the key."""
        await super().head(f"{status} {KEY}", content_type, f"Server: {IN_HEADER}", f"X-Sent: {IN_HEADER}", *more)

    async def answer(self, status: str, value: object, *more: str) -> None:
        """As any, spoilt."""
        await super().answer(status, spoil(value), *more)

    async def event(self, value: object) -> None:
        """As any, spoilt."""
        await super().event(value if isinstance(value, str) else spoil(value))

    async def chunk(self, data: bytes) -> None:
        """Lines of JSON are spoilt, events have been."""
        try:
            found = json.loads(data)
        except ValueError:
            found = None
        await super().chunk(json.dumps(spoil(found)).encode() + b"\n" if isinstance(found, dict) else data)

    async def say(self, status: str, content_type: str, text: str) -> None:
        """A body that is no JSON."""
        body = text.encode()
        await self.head(status, content_type, f"Content-Length: {len(body)}")
        await self.send(body)


def echoing(answer: Callable[[Peer], Awaitable[None]]) -> Callable[[Peer], Awaitable[None]]:
    """A scenario whose every answer is spoilt."""

    async def spoilt(peer: Peer) -> None:
        await answer(EchoPeer(peer.request, peer.writer))

    return spoilt


class EchoServer(FaultServer):
    """A stand-in whose every answer is spoilt."""

    def __init__(self, stand_in: StandIn) -> None:
        super().__init__({"stand-in": echoing(stand_in)})

    def _choose(self, request: Seen) -> str:
        return "stand-in"


MODELS = ("good", "broken", "angry", "plain", "page", "moved", "odd", "texts", "torn", f"m-{KEY}", f"m-{KEY[:10]}")
"""What else happens is in `Llama.complete`."""


class Llama(StandIn):
    """A llama-server whose models answer, or fail, each in its own way; as an ``openai`` host it will do too."""

    def __init__(self) -> None:
        super().__init__(MODELS, MODELS)

    def pages(self) -> dict[str, Page]:
        settings = {"n_ctx": 4096}
        meta = {"n_params": 8_000_000, "size": 4_000, "ftype": "Q4_K"}
        props = {
            "total_slots": 2,
            "model_path": "/models/x.gguf",
            "build_info": "b11434",
            "chat_template": "{{ messages }}",
            "model_alias": "x",
            "default_generation_settings": settings,
        }
        return {
            "/health": fixed({"status": "ok"}),
            "/props": fixed(props),
            "/slots": fixed([{"id": 0, "is_processing": False, "params": {"prompt": "x"}}]),
            "/v1/models": fixed({"data": [{"id": name, "object": "model", "meta": meta} for name in self.models]}),
            "/tokenize": self._tokenize,
            "/apply-template": self._apply_template,
            "/v1/chat/completions": self.complete,
        }

    async def _tokenize(self, peer: Peer, fields: dict[str, Any]) -> None:
        await peer.answer("200 OK", {"tokens": [ord(letter) for letter in fields["content"]]})

    async def _apply_template(self, peer: Peer, fields: dict[str, Any]) -> None:
        await peer.answer("200 OK", {"prompt": TEMPLATE + fields["messages"][0]["content"]})

    async def complete(self, peer: Peer, fields: dict[str, Any]) -> None:
        """A chat answer, or what the model's name says."""
        assert isinstance(peer, EchoPeer)
        name, count = fields["model"], fields["max_tokens"]
        prompt = len(TEMPLATE + fields["messages"][0]["content"])
        usage: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": count}
        timings: dict[str, Any] = {
            "cache_n": 0, "prompt_n": prompt, "prompt_ms": 2.0, "predicted_n": count, "predicted_ms": 10.0,
        }  # fmt: skip
        if not fields.get("stream"):
            await peer.answer("200 OK", {"choices": [], "usage": usage})
        elif name == "broken":
            await peer.answer("500 Internal Server Error", {"error": {"code": 500, "message": "wrong: "}})
        elif name == "plain":
            await peer.say("401 Unauthorized", "text/plain", ECHO)
        elif name == "page":
            await peer.say("502 Bad Gateway", "text/html", f"<html><body>{html.escape(ECHO)}</body></html>")
        elif name == "moved":
            await peer.head("302 Found", "text/plain", f"Location: http://127.0.0.1:1/{quote(KEY)}?key={quote(KEY)}")
            await peer.chunk(b"")
        elif name == "torn":
            await peer.head()
            await peer.event(f"no JSON: {ECHO[: -len(STEERING)]}")
            await peer.chunk(b"")
        elif name == "angry":
            await peer.head()
            await peer.delta(content="a")
            await peer.event({"id": "x", "error": {"message": "wrong: "}})
            await peer.chunk(b"")
        elif name == "texts":
            await stream_openai(peer, True, count, dict.fromkeys(usage, KEY), timings=dict.fromkeys(timings, KEY))
        elif name == "odd":
            await peer.head()
            for _ in range(count):
                await peer.delta(content="a")
            await peer.delta(finish_reason=KEY[:8], content="")
            await peer.event({"id": "x", "choices": [], "usage": usage, "timings": timings})
            await peer.event("[DONE]")
            await peer.chunk(b"")
        else:
            await stream_openai(peer, True, count, usage, timings=timings)
