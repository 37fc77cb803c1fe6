"""A stand-in for llama-server with slots that keep what they evaluated, at a known pace: a character is a token.

What it says of its cache is the truth, or not: ``keeps`` says how much of a common beginning it really keeps, ``says``
how much it claims to have kept. The chat template puts two tokens before a text and one after it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.fault_server import Peer
from tests.kinds_stand_in import Page, StandIn, fixed

BEFORE, AFTER = "<[", ">"
GAP_S = 0.002
SIMILAR = 0.1


def whole(common: int) -> int:
    """All of it."""
    return common


@dataclass
class StoredSlot:
    """What one slot has evaluated."""

    content: list[int] = field(default_factory=list)
    used_at: int = 0
    busy: bool = False


class Remembering(StandIn):
    """The server; ``evaluated`` is the number of prompt tokens that it really evaluated, per request."""

    def __init__(
        self,
        *,
        keeps: Callable[[int], int] = whole,
        says: Callable[[int, int], int | None] = lambda common, kept: kept,
        slots: int = 4,
        n_ctx: int = 65536,
        token_s: float = 0.0001,
    ) -> None:
        super().__init__(("m",), ("m",))
        self.keeps, self.says, self.n_ctx, self.token_s = keeps, says, n_ctx, token_s
        self.slots = [StoredSlot() for _ in range(slots)]
        self.evaluated: list[int] = []
        self._requests = 0

    def pages(self) -> Mapping[str, Page]:
        settings = {"default_generation_settings": {"n_ctx": self.n_ctx}, "total_slots": len(self.slots)}
        return {
            "/v1/models": fixed({"object": "list", "data": [{"id": "m", "object": "model"}]}),
            "/health": fixed({"status": "ok"}),
            "/props": fixed({**settings, "build_info": "b1"}),
            "/slots": fixed([{"id": 0, "is_processing": False}]),
            "/tokenize": self._tokenize,
            "/apply-template": self._apply_template,
            "/v1/chat/completions": self._complete,
            "/v1/completions": self._complete,
        }

    async def _tokenize(self, peer: Peer, fields: dict[str, Any]) -> None:
        await peer.answer("200 OK", {"tokens": [ord(letter) for letter in fields["content"]]})

    async def _apply_template(self, peer: Peer, fields: dict[str, Any]) -> None:
        await peer.answer("200 OK", {"prompt": f"{BEFORE}{fields['messages'][0]['content']}{AFTER}"})

    def _choose(self, prompt: list[int], wanted: int | None) -> StoredSlot:
        """As llama-server does: the one that is named, the most similar one, or the one that rested longest."""
        if wanted is not None:
            return self.slots[wanted]
        free = [slot for slot in self.slots if not slot.busy]
        similar = max(free, key=lambda slot: count_same(slot.content, prompt))
        if count_same(similar.content, prompt) > SIMILAR * len(prompt):
            return similar
        return min(free, key=lambda slot: slot.used_at)

    async def _complete(self, peer: Peer, fields: dict[str, Any]) -> None:
        chat = "messages" in fields
        prompt = (
            [ord(one) for one in f"{BEFORE}{fields['messages'][0]['content']}{AFTER}"] if chat else fields["prompt"]
        )
        slot = self._choose(prompt, fields.get("id_slot"))
        slot.busy, self._requests = True, self._requests + 1
        slot.used_at = self._requests
        common = count_same(slot.content, prompt) if fields["cache_prompt"] else 0
        kept = self.keeps(common)
        self.evaluated.append(len(prompt) - kept)
        await peer.head()
        began = time.monotonic()
        await asyncio.sleep(self.token_s * (len(prompt) - kept))
        first = time.monotonic()
        tokens = fields["max_tokens"]
        for number in range(tokens):
            await asyncio.sleep(max(0.0, first + number * GAP_S - time.monotonic()))
            text = {"delta": {"content": "a"}} if chat else {"text": "a"}
            await peer.event({"id": "x", "choices": [{"index": 0, "finish_reason": None, **text}]})
        ended = time.monotonic()
        slot.content, slot.busy = [*prompt, *[ord("a")] * tokens], False
        await peer.event({"id": "x", "choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]})
        said = self._claim(len(prompt), self.says(common, kept), first - began, ended - first, tokens)
        await peer.event({"id": "x", "choices": [], **said})
        await peer.event("[DONE]")
        await peer.chunk(b"")

    def _claim(
        self, prompt: int, cached: int | None, prompt_s: float, predicted_s: float, tokens: int
    ) -> dict[str, Any]:
        usage = {"prompt_tokens": prompt, "completion_tokens": tokens}
        if cached is None:
            return {"usage": usage}
        counts = {"cache_n": cached, "prompt_n": prompt - cached, "predicted_n": tokens}
        times = {"prompt_ms": prompt_s * 1000, "predicted_ms": max(predicted_s * 1000, 0.001)}
        return {"usage": usage, "timings": counts | times}


def count_same(one: list[int], other: list[int]) -> int:
    """How many numbers two lists have in common at their start."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
