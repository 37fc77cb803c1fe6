"""Room 0: how the events of one stream arrive: the tokens in each, and bursts.

Servers put several tokens into one event (speculation, stream intervals). A proxy may hold events back and send many
at once. The arrival times alone show both.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

FEWEST_EVENTS = 8
"""Fewer events cannot show a pattern."""
TOGETHER = 0.1
"""Events closer than this share of the mean gap came together."""
TOGETHER_MS = 1.0
"""The largest such gap: a fast stream with one long pause is not a burst."""
BURST_EVENTS = 2.0
"""Least mean number of events per burst for a stream that comes in bursts. Steady streams have 1.0 to 1.3."""


class Burst(NamedTuple):
    """Events that came together."""

    at_ms: float
    """Arrival of its first event."""
    events: int
    tokens: int


def spread_tokens(tokens: int, sizes: Sequence[int]) -> tuple[int, ...]:
    """Estimate the tokens in each event from their total and the sizes of the events' texts.

    Each event has at least one. The rest is distributed by text size (Webster's method of apportionment). Exact if each
    event holds one token, or if the texts of tokens have about the same length.
    """
    shares = [1] * len(sizes)
    rest = tokens - len(sizes)
    if rest <= 0 or not sizes:
        return tuple(shares)
    whole = sum(sizes) or len(sizes)
    if rest > len(sizes):  # distribute most of it at once, so that the queue below is short
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
    """Sort key: the event that gives or takes the next token has the lowest one."""
    per_token = max(size, 0.5) / (2 * share + step)
    return -per_token if step > 0 else per_token


def find_bursts(chunk_ms: Sequence[float], chunk_tokens: Sequence[int] = ()) -> list[Burst]:
    """Return the bursts in the order of arrival. Without ``chunk_tokens``, each event is one token."""
    if not chunk_ms:
        return []
    mean_ms = (chunk_ms[-1] - chunk_ms[0]) / max(len(chunk_ms) - 1, 1)
    limit_ms = min(TOGETHER * mean_ms, TOGETHER_MS)
    found: list[Burst] = []
    before_ms = chunk_ms[0]
    for at_ms, tokens in zip(chunk_ms, chunk_tokens or [1] * len(chunk_ms), strict=True):
        if found and at_ms - before_ms <= limit_ms:
            last = found[-1]
            found[-1] = Burst(last.at_ms, last.events + 1, last.tokens + tokens)
        else:
            found.append(Burst(at_ms, 1, tokens))
        before_ms = at_ms
    return found


def come_in_bursts(bursts: Sequence[Burst]) -> bool:
    """Whether most events of a stream arrive together with others."""
    events = sum(burst.events for burst in bursts)
    if len(bursts) == 1:
        return events > 1
    return events >= FEWEST_EVENTS and events >= BURST_EVENTS * len(bursts)


def find_token_gaps(chunk_ms: Sequence[float], chunk_tokens: Sequence[int] = ()) -> tuple[float, ...]:
    """Return inter-token latencies: the gap before an event of k tokens, divided by k, k times.

    If the stream comes in bursts, a burst counts as one event.
    """
    bursts = find_bursts(chunk_ms, chunk_tokens)
    if not come_in_bursts(bursts):
        times = zip(chunk_ms, chunk_tokens or [1] * len(chunk_ms), strict=True)
        bursts = [Burst(at_ms, 1, tokens) for at_ms, tokens in times]
    gaps_ms: list[float] = []
    for earlier, later in pairwise(bursts):
        gaps_ms += [(later.at_ms - earlier.at_ms) / later.tokens] * later.tokens
    return tuple(gaps_ms)
