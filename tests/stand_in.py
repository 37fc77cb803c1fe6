"""A stand-in for OpenAI-compatible servers of other makes: counts a character as a token, streams, and fails as told.

``X-Scenario`` is not used: the model's name says what happens. ``good`` answers; ``flaky`` cuts every third stream
short; ``uncounted`` never says how many tokens there were; ``caching`` takes prompts from a cache; ``miscounting``
counts five more in a stream than it did before; ``short`` stops early.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.fault_server import JSON, FaultServer, Peer

MODELS = ("good", "flaky", "uncounted", "caching", "miscounting", "short", "broken")
KEY = "sk-very-secret-1234567890"


async def _list_models(peer: Peer) -> None:
    await peer.answer("200 OK", {"object": "list", "data": [{"id": name, "object": "model"} for name in MODELS]})


async def _refuse_props(peer: Peer) -> None:
    await peer.answer("404 Not Found", {"error": {"message": "no such path"}})


class _Model:
    def __init__(self, name: str) -> None:
        self.name = name
        self.streams = 0

    async def __call__(self, peer: Peer) -> None:
        fields = peer.request.fields
        text = fields["messages"][0]["content"] if "messages" in fields else fields.get("prompt", fields.get("input"))
        usage = {"prompt_tokens": len(text), "completion_tokens": fields.get("max_tokens", 0)}
        if self.name == "broken":
            await peer.answer("500 Internal Server Error", {"error": {"message": "out of memory"}})
        elif "input" in fields:
            await peer.answer("200 OK", {"data": [{"index": 0, "embedding": [0.5]}], "usage": usage})
        elif not fields.get("stream"):
            await peer.answer("200 OK", {} if self.name == "uncounted" else {"usage": usage, "choices": []})
        else:
            await self._stream(peer, fields, usage)

    async def _stream(self, peer: Peer, fields: dict[str, Any], usage: dict[str, Any]) -> None:
        self.streams += 1
        if self.name == "caching":
            usage["prompt_tokens_details"] = {"cached_tokens": 12}
        if self.name == "miscounting":
            usage["prompt_tokens"] += 5
        if self.name == "short":
            usage["completion_tokens"] = 1
        await peer.head()
        for number in range(usage["completion_tokens"]):
            if self.name == "flaky" and self.streams % 3 == 0 and number == 1:
                peer.writer.close()
                return
            delta = {"content": "a"} if "messages" in fields else None
            choice = {"index": 0, "finish_reason": None, **({"delta": delta} if delta else {"text": "a"})}
            await peer.event({"id": "x", "choices": [choice]})
        await peer.event({"id": "x", "choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]})
        await peer.event({"id": "x", "choices": [], "usage": usage})
        await peer.chunk(b"data: [DONE]\n\n")
        await peer.chunk(b"")


@contextmanager
def openai_server() -> Iterator[FaultServer]:
    """The stand-in, running."""
    models = {name: _Model(name) for name in MODELS}
    with FaultServer({**models, "models": _list_models, "props": _refuse_props}) as server:
        yield server


__all__ = ["JSON", "KEY", "MODELS", "openai_server"]
