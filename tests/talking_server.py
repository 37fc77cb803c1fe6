"""A stand-in for a llama-server that keeps the newest conversation in its cache: a character is a token.

The truth is ``token_s`` for each prompt token that it evaluates; a test says where its cache breaks, or what its chat
template leaves out.
"""

from __future__ import annotations

from itertools import takewhile
from typing import Any

from tests.fault_server import Peer
from tests.paced_server import GAP_S, Paced

TOKEN_S = 0.0001
SYSTEM_TOKENS = 20
"""Of each prompt that is in the cache all the same where it breaks."""


class Talking(Paced):
    """Counts what it took from its cache, and takes as long for a prompt as for the rest of it."""

    timings = True

    def __init__(
        self,
        *,
        breaks_at: tuple[int, ...] = (),
        forgets: bool = False,
        thinks: bool = False,
        claims_all: bool = False,
        counts_cached: bool = True,
        token_s: float = TOKEN_S,
    ) -> None:
        """``forgets``: its template drops all messages but the last. ``thinks``: the first half of an answer is
        reasoning. ``claims_all``: what it says of its cache is a lie. ``counts_cached``: it says something of it. Long
        ``token_s`` are for tests that compare times which a busy machine blurs."""
        super().__init__()
        self.breaks_at, self.forgets, self.thinks = breaks_at, forgets, thinks
        self.claims_all, self.counts_cached = claims_all, counts_cached
        self.timings = counts_cached
        self.token_s = token_s
        self.requests: list[dict[str, Any]] = []
        """The bodies of the streamed requests."""
        self._kept = ""
        self._evaluated = self._cached = self._streamed = 0

    async def _apply_template(self, peer: Peer, fields: dict[str, Any]) -> None:
        await peer.answer("200 OK", {"prompt": "".join(message["content"] for message in fields["messages"])})

    async def _complete(self, peer: Peer, fields: dict[str, Any]) -> None:
        said = [message["content"] for message in fields["messages"]]
        text = said[-1] if self.forgets else "".join(said)
        if not fields.get("stream"):
            await peer.answer("200 OK", {"choices": [], "usage": self.count(len(text), 1)})
            return
        self.requests.append(fields)
        turn, tokens = (len(said) + 1) // 2, fields["max_tokens"]
        known = self._find_known(text) if fields.get("cache_prompt", len(said) > 1) else 0
        if turn in self.breaks_at:
            known = min(known, SYSTEM_TOKENS)
        self._evaluated = len(text) - known
        self._cached = len(text) - 1 if self.claims_all and turn > 1 else known
        self._streamed = 0
        await self.stream(peer, tokens)
        self._kept = text + "a" * tokens
        await self.finish(peer, len(text), tokens)

    def _find_known(self, text: str) -> int:
        same = zip(self._kept, text, strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], same))

    @property
    def ttft_s(self) -> float:
        return self._evaluated * self.token_s

    def chunk(self) -> Any:
        self._streamed += 1
        thought = self.thinks and self._streamed <= 2
        delta = {"reasoning_content": "t"} if thought else {"content": "a"}
        return {"id": "x", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}

    def claim(self, prompt: int, tokens: int) -> dict[str, Any]:
        return {
            "cache_n": self._cached,
            "prompt_n": prompt - self._cached,
            "prompt_ms": max(self.ttft_s * 1000, 0.01),
            "predicted_n": tokens,
            "predicted_ms": (tokens - 1) * GAP_S * 1000,
        }
