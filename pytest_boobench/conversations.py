"""The samples of conversations: which belong together, and at which turn the server's prefix cache breaks.

A later turn sends all that was said before, so its server may have the whole prompt of the turn before in its cache.
Its count of cached tokens is a claim; the client's time to first token is the evidence beside it.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pytest_boobench.metrics import Sample
from pytest_boobench.units import quantity

KEPT = 0.75
"""Of the last turn's prompt, a cache that works has at least this share: its blocks may hold 16 tokens and more."""
LEAST_LOST = 32
"""Fewer tokens that are not cached are a cache's blocks, or the end of a chat template."""
ROSE = 1.2
"""A TTFT by this factor above the turn before confirms that the cache broke."""
AS_LONG = 0.8
"""A TTFT of this share of what the whole prompt would take denies that most of it was cached."""
LEAST_TTFT_MS = 50.0
"""Below this, TTFT is not the prompt's time."""


def list_conversations(samples: Iterable[Sample]) -> list[list[Sample]]:
    """Return the samples of each conversation, in the order of the conversations' first requests.

    A lane has one conversation after the other; each begins with turn 1. Other samples are left out.
    """
    lanes: dict[tuple[int, int, bool, str, int], list[list[Sample]]] = defaultdict(list)
    found: list[list[Sample]] = []
    for sample in sorted(samples, key=lambda sample: (sample.block, sample.attempt, sample.index)):
        of_lane = lanes[sample.block, sample.attempt, sample.reference, sample.phase, sample.lane]
        if sample.turn == 1:
            of_lane.append([])
            found.append(of_lane[-1])
        if sample.turn and of_lane:
            of_lane[-1].append(sample)
    return found


@dataclass(frozen=True, slots=True)
class CachedTurn:
    """One turn, by the medians over its conversations."""

    turn: int
    before_tokens: float
    """Prompt tokens of the turn before: those that the cache may hold at least."""
    prompt_tokens: float
    cached_tokens: float
    broken: bool
    """Whether most of the conversations lost what the turn before had left in the cache."""

    @property
    def words(self) -> str:
        """``64 of 1,480``."""
        return f"{self.cached_tokens:,.0f} of {self.prompt_tokens:,.0f}"


def list_cached_turns(samples: Iterable[Sample], block: int | None = None) -> list[CachedTurn]:
    """Return the later turns whose cached tokens the server counts, in their order.

    ``block`` is the number of tokens in a block of the cache, if the server tells: what fills none is not lost.
    """
    steps: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
    for conversation in list_conversations(samples):
        for before, after in pairwise(conversation):
            whole, prompt, cached = before.prompt_tokens, after.prompt_tokens, after.cached_tokens
            if before.ok and after.ok and whole and prompt and cached is not None:
                steps[after.turn].append((whole, prompt, cached))
    found, least_lost = [], max(LEAST_LOST, block or 0)
    for turn, several in sorted(steps.items()):
        lost = sum(cached < min(KEPT * before, before - least_lost) for before, _, cached in several)
        before, prompt, cached = (statistics.median(counts) for counts in zip(*several, strict=True))
        found.append(CachedTurn(turn, before, prompt, cached, broken=2 * lost > len(several)))
    return found


def find_cache_break(samples: Sequence[Sample], block: int | None = None) -> str | None:
    """Name the first turn at which the prefix cache breaks, with the server's counts and the client's TTFT.

    Also names a cache that holds by the server's count while TTFT denies it. None if neither is so, or nobody counts.
    """
    turns = list_cached_turns(samples, block)
    ttft_ms = _find_ttft(samples)
    broken = next((turn for turn in turns if turn.broken), None)
    if broken is not None:
        return _describe_break(broken, turns, ttft_ms)
    if any(sample.lane for sample in samples) or ttft_ms.get(1, 0.0) < LEAST_TTFT_MS:
        return None
    denied = next((turn for turn in turns if _is_denied(turn, turns, ttft_ms)), None)
    if denied is None:
        return None
    return (
        f"the server says that {denied.words} tokens of turn {denied.turn} came from its cache, but TTFT was "
        f"{quantity(ttft_ms[denied.turn], 'ms')}, after {quantity(ttft_ms[1], 'ms')} for turn 1 without a cache"
    )


def find_broken_turn(samples: Sequence[Sample], block: int | None = None) -> int | None:
    """Return the first turn at which the prefix cache breaks by the server's count; None if it holds or is unknown."""
    return next((turn.turn for turn in list_cached_turns(samples, block) if turn.broken), None)


def _find_ttft(samples: Iterable[Sample]) -> Mapping[int, float]:
    """Turn -> median TTFT."""
    found: dict[int, list[float]] = defaultdict(list)
    for sample in samples:
        if sample.turn and sample.ok and sample.ttft_ms is not None:
            found[sample.turn].append(sample.ttft_ms)
    return {turn: statistics.median(several) for turn, several in found.items()}


def _describe_break(broken: CachedTurn, turns: Sequence[CachedTurn], ttft_ms: Mapping[int, float]) -> str:
    before = next((turn for turn in turns if turn.turn == broken.turn - 1), None)
    had = f"turn {before.turn} had {before.words}" if before else f"turn 1 had left {broken.before_tokens:,.0f} there"
    parts = [f"the prefix cache breaks at turn {broken.turn}: {broken.words} tokens were cached, {had}"]
    now_ms, then_ms = ttft_ms.get(broken.turn), ttft_ms.get(broken.turn - 1)
    if now_ms is not None and then_ms is not None:
        shown = f"{quantity(then_ms, 'ms')} to {quantity(now_ms, 'ms')}"
        if before is not None and now_ms >= ROSE * then_ms:
            parts.append(f"TTFT rose from {shown}")
        elif before is not None or now_ms < then_ms / 2:
            parts.append(f"TTFT does not show it (from {shown})")
    if before is None:
        parts.append("the chat template may rewrite earlier turns, or the server keeps no cache")
    return "; ".join(parts)


def _is_denied(turn: CachedTurn, turns: Sequence[CachedTurn], ttft_ms: Mapping[int, float]) -> bool:
    """Whether TTFT is as long as if nothing had been cached, by turn 1 and in proportion to the prompt."""
    first = next((other.before_tokens for other in turns if other.turn == 2), 0.0)
    if not first or turn.cached_tokens < turn.prompt_tokens / 2 or turn.turn not in ttft_ms:
        return False
    return ttft_ms[turn.turn] >= AS_LONG * ttft_ms[1] * turn.prompt_tokens / first
