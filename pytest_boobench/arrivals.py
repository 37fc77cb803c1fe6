"""Room 0: how the events of one stream arrive: how many tokens each brings, and whether they come in bursts.

Servers put several tokens into one event (speculation, stream intervals), and a proxy may hold events back and pass
many on at once. Both show in the arrival times alone, whatever the server says.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

FEWEST_EVENTS = 8
"""Fewer events have no pattern that chance would not make."""
TOGETHER = 0.1
"""Events closer than this share of the mean gap came together."""
TOGETHER_MS = 1.0
"""But none that are further apart: a fast stream with one long pause is no burst."""
BURST_EVENTS = 2.0
"""Events per burst, in the mean, from which on a stream is taken to come in bursts. Steady ones have 1.0 to 1.3."""


class Burst(NamedTuple):
    """Events that came together."""

    at_ms: float
    """Arrival of the first of them."""
    events: int
    tokens: int


def spread_tokens(tokens: int, sizes: Sequence[int]) -> tuple[int, ...]:
    """How many tokens each event holds, from their total and the sizes of the events' texts.

    Each has one at least; the rest goes where there is most text for each token, by Webster's method of apportionment.
    Right where events hold one token each, and where the texts of tokens are of about one length.
    """
    shares = [1] * len(sizes)
    rest = tokens - len(sizes)
    if rest <= 0 or not sizes:
        return tuple(shares)
    whole = sum(sizes) or len(sizes)
    if rest > len(sizes):  # most of it at once, so that the queue below is short
        shares = [max(1, int(tokens * (size or 1) / whole)) for size in sizes]
        rest = tokens - sum(shares)
    step = 1 if rest > 0 else -1
    queue = [(_rank(size, share, step), number) for number, (size, share) in enumerate(zip(sizes, shares, strict=True))]
    heapq.heapify(queue)
    while rest and queue:
        _, number = heapq.heappop(queue)
        if step < 0 and shares[number] == 1:
            continue
        shares[number] += step
        rest -= step
        heapq.heappush(queue, (_rank(sizes[number], shares[number], step), number))
    return tuple(shares)


def _rank(size: int, share: int, step: int) -> float:
    """Lowest first: who gives or takes the next token."""
    per_token = max(size, 0.5) / (2 * share + step)
    return -per_token if step > 0 else per_token


def find_bursts(chunk_ms: Sequence[float], chunk_tokens: Sequence[int] = ()) -> list[Burst]:
    """The events by arrival, ascending; ``chunk_tokens`` left out: one token in each."""
    if not chunk_ms:
        return []
    mean_ms = (chunk_ms[-1] - chunk_ms[0]) / max(len(chunk_ms) - 1, 1)
    limit_ms = min(TOGETHER * mean_ms, TOGETHER_MS)
    found: list[Burst] = []
    before_ms = chunk_ms[0]
    for at_ms, tokens in zip(chunk_ms, chunk_tokens or _ones(len(chunk_ms)), strict=True):
        if found and at_ms - before_ms <= limit_ms:
            last = found[-1]
            found[-1] = Burst(last.at_ms, last.events + 1, last.tokens + tokens)
        else:
            found.append(Burst(at_ms, 1, tokens))
        before_ms = at_ms
    return found


def come_in_bursts(bursts: Sequence[Burst]) -> bool:
    """Whether the events of a stream mostly arrive with others, and not one by one."""
    events = sum(burst.events for burst in bursts)
    if len(bursts) == 1:
        return events > 1
    return events >= FEWEST_EVENTS and events >= BURST_EVENTS * len(bursts)


def find_token_gaps(chunk_ms: Sequence[float], chunk_tokens: Sequence[int] = ()) -> tuple[float, ...]:
    """Inter-token latencies: the gap before an event of k tokens, divided by k, k times. Events that came together are
    one, where the stream comes in bursts."""
    bursts = find_bursts(chunk_ms, chunk_tokens)
    if not come_in_bursts(bursts):
        times = zip(chunk_ms, chunk_tokens or _ones(len(chunk_ms)), strict=True)
        bursts = [Burst(at_ms, 1, tokens) for at_ms, tokens in times]
    return tuple(
        gap_ms
        for earlier, later in pairwise(bursts)
        for gap_ms in [(later.at_ms - earlier.at_ms) / later.tokens] * later.tokens
    )


def _ones(count: int) -> Iterator[int]:
    return iter([1] * count)
