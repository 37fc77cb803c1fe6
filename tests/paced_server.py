"""A stand-in for servers that keep a known pace and say strange things of it: a character is a token.

The truth is `TTFT_S` and `GAP_S`; a test changes what the server says, or how its events go out.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

from tests.fault_server import Peer
from tests.kinds_stand_in import Page, StandIn, fixed

TTFT_S, GAP_S = 0.05, 0.005
DECODE_TOK_S = 1 / GAP_S


class Paced(StandIn):
    """An OpenAI-compatible server; with ``timings`` it is a llama-server."""

    timings = False
    burst = 1
    """Events that are held back until so many are there."""
    ttft_s: float = TTFT_S

    def __init__(self) -> None:
        super().__init__(("m",))
        self.streams = 0

    def pages(self) -> Mapping[str, Page]:
        pages: dict[str, Page] = {
            "/v1/models": fixed({"object": "list", "data": [{"id": "m", "object": "model"}]}),
            "/v1/chat/completions": self._complete,
        }
        if self.timings:
            settings = {"default_generation_settings": {"n_ctx": 4096}, "total_slots": 4, "build_info": "b1"}
            pages |= {
                "/health": fixed({"status": "ok"}),
                "/props": fixed(settings),
                "/slots": fixed([{"id": 0, "is_processing": False}]),
                "/tokenize": self._tokenize,
                "/apply-template": self._apply_template,
            }
        return pages

    async def _tokenize(self, peer: Peer, fields: dict[str, Any]) -> None:
        await peer.answer("200 OK", {"tokens": [ord(letter) for letter in fields["content"]]})

    async def _apply_template(self, peer: Peer, fields: dict[str, Any]) -> None:
        await peer.answer("200 OK", {"prompt": fields["messages"][0]["content"]})

    async def _complete(self, peer: Peer, fields: dict[str, Any]) -> None:
        prompt = self.tokens_of(fields["messages"][0]["content"])
        if not fields.get("stream"):
            await peer.answer("200 OK", {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": 1}})
            return
        self.streams += 1
        tokens = self.length(fields["max_tokens"])
        await self.stream(peer, tokens)
        await self.finish(peer, prompt, tokens)

    def tokens_of(self, text: str) -> int:
        """How many tokens a prompt has."""
        return len(text)

    def length(self, asked: int) -> int:
        """How many tokens come."""
        return asked

    async def stream(self, peer: Peer, tokens: int) -> None:
        """A token every 5 ms after 50."""
        await peer.head()
        began = time.monotonic()
        for first in range(0, tokens, self.burst):
            last = min(first + self.burst, tokens)
            await asyncio.sleep(max(0.0, began + self.ttft_s + (last - 1) * GAP_S - time.monotonic()))
            events = b"".join(self.event(self.chunk()) for _ in range(first, last))
            peer.writer.write(b"%x\r\n%b\r\n" % (len(events), events))
            await peer.writer.drain()

    def chunk(self) -> Any:
        """What an event says."""
        return {"id": "x", "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]}

    @staticmethod
    def event(value: Any) -> bytes:
        """An event's bytes."""
        return f"data: {json.dumps(value)}\n\n".encode()

    async def finish(self, peer: Peer, prompt: int, tokens: int) -> None:
        """The end of an answer, with the server's claims."""
        timings = self.claim(prompt, tokens) if self.timings else None
        last = {
            "id": "x",
            "choices": [],
            "usage": self.count(prompt, tokens),
            **({"timings": timings} if timings else {}),
        }
        await peer.event({"id": "x", "choices": [{"index": 0, "delta": {}, "finish_reason": self.reason(tokens)}]})
        await peer.event(last)
        await peer.event("[DONE]")
        await peer.chunk(b"")

    def reason(self, tokens: int) -> Any:
        """Why it ended."""
        return "length"

    def count(self, prompt: int, tokens: int) -> Any:
        """Its usage."""
        return {"prompt_tokens": prompt, "completion_tokens": tokens}

    def claim(self, prompt: int, tokens: int) -> dict[str, Any]:
        """Its timings: the truth."""
        return {
            "cache_n": 0,
            "prompt_n": prompt,
            "prompt_ms": TTFT_S * 1000,
            "predicted_n": tokens,
            "predicted_ms": (tokens - 1) * GAP_S * 1000,
        }
