"""Compare the server's own timings with the client's clock and choose the rates of one answer.

The server's milliseconds are used if the stream confirms them. Otherwise the client's clock is used, if it is precise
enough. Else the rate is None, with the reason beside it. Arithmetic only.

The tolerance is measured: over 180 requests to the embedded llama.cpp server, at one and four lanes on two cores,
``predicted_ms`` was within 3.9 ms of last minus first token, at any length, and ``prompt_ms`` within 4.5 ms of TTFT
minus header. On a busy machine time stamps scatter more. So the tolerance grows by twice the 90th percentile of the
gaps' distances from their median.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from pytest_boobench.arrivals import FEWEST_EVENTS, TOGETHER_MS, come_in_bursts, find_bursts, spread_tokens
from pytest_boobench.metrics import RateSource
from pytest_boobench.servers.claims import Claims
from pytest_boobench.units import quantity

APART_MS = 5.0
"""Tolerated difference between the server's and the client's duration: a little above the largest measured one."""
APART = 0.02
"""Added to `APART_MS`: a share of the duration."""
CARRIED = 0.10
"""A rate by the client's clock with a larger uncertainty becomes None."""
LATE_FIRST, LATE_FIRST_MS = 0.05, 5.0
"""A TTFT that may be late by more than this share and more than these milliseconds becomes None. A server's own
threads may hold events back for as long."""
AT_ONCE = 0.10
"""All tokens within this share of the time before them, much faster than the prompt was read: held back to the end."""
FASTER_THAN_PROMPT = 3.0
"""No server generates tokens this many times faster than it reads the prompt."""
_AT_ONCE = "all came at once"
_HELD_BACK = (
    "something between client and server holds the stream back ({how}); look at nginx's proxy_buffering, at "
    "compression, or at a gateway that batches"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the client saw of one stream; milliseconds from the request's last byte."""

    chunk_ms: Sequence[float]
    sizes: Sequence[int]
    """Bytes of text in each event."""
    counts: Sequence[int | None] = ()
    """Tokens generated so far, as the server reports them with each event."""
    headers_ms: float = 0.0
    connect_ms: float = 0.0
    e2e_ms: float = 0.0
    lanes: int = 1
    """Requests at once; two or more: it may have waited for others."""
    reasoned: bool = False
    """Whether reasoning was streamed."""

    @property
    def first_ms(self) -> float:
        """Arrival of the first token."""
        return self.chunk_ms[0]

    @property
    def span_ms(self) -> float:
        """From the first to the last token."""
        return self.chunk_ms[-1] - self.chunk_ms[0]


@dataclass(frozen=True, kw_only=True)
class Rates:
    """The combined result from server and client, under the names of the Sample's fields."""

    ttft_ms: float | None = None
    decode_tok_s: float | None = None
    prefill_tok_s: float | None = None
    rate_source: RateSource | None = None
    chunk_tokens: tuple[int, ...] = ()
    hidden_tokens: int = 0
    contradiction: str | None = None
    blanks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Clock:
    """The result from the client's clock alone."""

    tokens: tuple[int, ...]
    decode_tok_s: float | None
    bound: float
    """Uncertainty of the rate, as a share."""
    held: str = ""
    """How the stream was held back; empty if it was not."""
    first_late_ms: float = 0.0
    """By how much the first token may have been held back."""


def find_rates(seen: Seen, claims: Claims) -> Rates:
    """Return the rates of one answer with their source, or the reasons why they are None.

    decode = (tokens after the first event) / (last - first event), or (predicted_n - 1) / predicted_ms; prefill =
    evaluated prompt tokens / prompt_ms, or prompt tokens / TTFT, which includes queue and network.
    """
    if not seen.chunk_ms:
        return Rates()
    output_tokens, times, hidden = claims.output_tokens or 0, claims.times, 0
    if claims.reasoning_tokens and not seen.reasoned:
        hidden = min(claims.reasoning_tokens, max(output_tokens - 1, 0))
    lacks_text = sum(seen.sizes) < output_tokens - hidden  # a token has at least one byte
    unseen = lacks_text and not hidden
    clock = _read_clock(seen, claims, output_tokens - hidden)
    blanks: dict[str, str] = {}
    if times and clock.held and _confirms(seen, times):  # the server's own threads write in bursts: nothing held back
        clock = replace(clock, held="", first_late_ms=0.0)
    contradiction = _contradict(seen, claims, clock, times, unseen=unseen) if times else ""
    if hidden or (unseen and (contradiction or not times)):  # else the server's prompt_ms confirms the first token
        blanks |= dict.fromkeys(("ttft_ms", "queue_ms"), _describe_hidden(seen, claims, hidden))
    elif clock.held and clock.first_late_ms > max(LATE_FIRST * seen.first_ms, LATE_FIRST_MS):
        blanks |= dict.fromkeys(("ttft_ms", "ttfo_ms", "queue_ms"), _HELD_BACK.format(how=clock.held))
    carried = clock.decode_tok_s is not None and clock.bound <= CARRIED and not unseen
    if clock.held and not carried:
        blanks["itl_ms"] = _HELD_BACK.format(how=clock.held)
    ttft_ms = None if "ttft_ms" in blanks else seen.first_ms
    if times and not contradiction:
        source: RateSource = "server"
        decode_tok_s, prefill_ms = _divide(output_tokens - 1, claims.predicted_ms), claims.prompt_ms
    else:
        source = "client"
        decode_tok_s, prefill_ms = clock.decode_tok_s if carried else None, ttft_ms
        if not carried and output_tokens > 1:
            why = "the stream has too few events to time its tokens"
            if unseen:
                why = _describe_hidden(seen, claims, 0)
            elif clock.held:
                why = _HELD_BACK.format(how=clock.held)
            blanks["decode_tok_s"] = f"{contradiction}; and {why}" if contradiction else why
        if ttft_ms is None:
            blanks["prefill_tok_s"] = blanks["ttft_ms"]
    return Rates(
        ttft_ms=ttft_ms,
        decode_tok_s=decode_tok_s,
        prefill_tok_s=_divide(claims.evaluated_tokens, prefill_ms, least=2),
        rate_source=source,
        chunk_tokens=() if set(clock.tokens) == {1} else clock.tokens,
        hidden_tokens=hidden,
        contradiction=contradiction or None,
        blanks=blanks,
    )


def _describe_hidden(seen: Seen, claims: Claims, hidden: int) -> str:
    if hidden:
        return (
            f"{hidden} of {claims.output_tokens} tokens were reasoning that was not streamed: the time of the first "
            "token is not known, TTFO is the first visible one"
        )
    return (
        f"the server counts {claims.output_tokens} tokens, and the {sum(seen.sizes)} bytes of text that came cannot "
        "hold as many: some were never streamed"
    )


# --- the client's clock


def _read_clock(seen: Seen, claims: Claims, visible: int) -> _Clock:
    tokens, exact = _count_tokens(seen, visible)
    bursts = find_bursts(seen.chunk_ms, tokens)
    in_bursts = come_in_bursts(bursts)
    # the last burst counts from its first event, as the first one does
    timed_ms = bursts[-1].at_ms - bursts[0].at_ms if in_bursts else seen.span_ms
    after = visible - (bursts[0].tokens if in_bursts else tokens[0])
    speed = _divide(after, timed_ms)
    if _came_at_once(seen, claims, speed):
        return _Clock(tokens=tokens, decode_tok_s=speed, bound=1.0, held=_AT_ONCE, first_late_ms=seen.first_ms)
    held, late_ms = "", 0.0
    if in_bursts:
        unsure: float = max(burst.tokens for burst in bursts)
        held = f"{len(seen.chunk_ms)} events came in {len(bursts)} bursts" if len(bursts) > 1 else _AT_ONCE
        if bursts[0].events > 1:
            late_ms = min((bursts[0].tokens - 1) / speed * 1000, seen.first_ms) if speed else seen.first_ms
    else:
        # k tokens are as long as k mean ones within sqrt(k): the lengths of tokens' texts vary by about a half
        unsure = 0.0 if exact or tokens[0] == 1 else tokens[0] ** 0.5
    bound = unsure / after if after > 0 else 1.0
    return _Clock(tokens=tokens, decode_tok_s=speed, bound=bound, held=held, first_late_ms=late_ms)


def _count_tokens(seen: Seen, visible: int) -> tuple[tuple[int, ...], bool]:
    """Tokens in each event, and whether the server reported them."""
    counts = [count for count in seen.counts if count is not None]
    if counts and len(counts) == len(seen.chunk_ms) and counts[-1] == visible:
        steps = tuple(later - earlier for earlier, later in pairwise([0, *counts]))
        if min(steps) > 0:
            return steps, True
    return spread_tokens(visible, seen.sizes), False


def _came_at_once(seen: Seen, claims: Claims, speed: float | None) -> bool:
    """Whether all events were held back to the end, and then came one by one, faster than any server generates."""
    events = len(seen.chunk_ms)
    if events < FEWEST_EVENTS or speed is None or seen.span_ms > TOGETHER_MS * events:
        return False
    prompt_speed = _divide(claims.prompt_tokens, seen.first_ms) or 0.0
    return seen.span_ms < AT_ONCE * seen.first_ms and speed > FASTER_THAN_PROMPT * prompt_speed


def _confirms(seen: Seen, times: tuple[float, float]) -> bool:
    """Whether a stream that comes in bursts agrees with the server's times for prompt and tokens."""
    prompt_ms, predicted_ms = times
    waited_ms = seen.first_ms - min(seen.headers_ms, seen.first_ms)
    fits = abs(predicted_ms - seen.span_ms) <= _tolerate(seen.span_ms) and prompt_ms >= 0.5 * waited_ms - APART_MS
    return fits and not _contradict_sum(seen, prompt_ms + predicted_ms)


# --- how the stream contradicts the server's own times, with both numbers; empty if it does not


def _contradict(seen: Seen, claims: Claims, clock: _Clock, times: tuple[float, float], *, unseen: bool) -> str:
    if claims.disagreement:
        return claims.disagreement
    prompt_ms, predicted_ms = times
    if prompt_ms > seen.first_ms + _tolerate(seen.first_ms):
        return _describe_prompt(seen, prompt_ms)
    if clock.held or unseen or len(seen.chunk_ms) < 2:
        return _contradict_sum(seen, prompt_ms + predicted_ms)
    decode = _contradict_decode(seen, claims.output_tokens or 0, clock, predicted_ms)
    return decode or _contradict_short_prompt(seen, prompt_ms)


def _contradict_decode(seen: Seen, tokens: int, clock: _Clock, predicted_ms: float) -> str:
    speed, events = clock.decode_tok_s, len(seen.chunk_ms)
    if speed is None or tokens < 2:
        return ""
    seen_ms = (tokens - 1) / speed * 1000
    # a few tokens without an event of their own, such as half a character: at either end they hide a gap
    silent = tokens - events if events < tokens < 1.1 * events + 2 else 0
    slack_ms = _tolerate(seen_ms) + 2 * _find_scatter(seen.chunk_ms)
    slack_ms += silent * seen_ms / (tokens - 1) + clock.bound * seen_ms
    if abs(predicted_ms - seen_ms) <= slack_ms:
        return ""
    said = _divide(tokens - 1, predicted_ms)
    return (
        f"the server says decode {quantity(said, 'tok/s')} ({tokens} tokens in {quantity(predicted_ms, 'ms')}), "
        f"the client's clock saw {quantity(speed, 'tok/s')}"
    )


def _contradict_short_prompt(seen: Seen, prompt_ms: float) -> str:
    """Contradict a prompt time that is shorter than the time between header and first token.

    llama-server sends the header when it begins with the prompt. With several lanes only a large difference counts: a
    proxy may send the header earlier.
    """
    least_ms = seen.first_ms - min(seen.headers_ms, seen.first_ms) - _tolerate(seen.first_ms)
    least_ms -= 2 * _find_scatter(seen.chunk_ms)
    if seen.lanes > 1:
        least_ms /= 2
    waited_ms = seen.first_ms - seen.connect_ms
    gross = seen.lanes == 1 and waited_ms - prompt_ms > 10 * APART_MS and prompt_ms < 0.2 * waited_ms
    return _describe_prompt(seen, prompt_ms) if prompt_ms < least_ms or gross else ""


def _describe_prompt(seen: Seen, prompt_ms: float) -> str:
    return (
        f"the server says that the prompt took {quantity(prompt_ms, 'ms')}, the first token was there after "
        f"{quantity(seen.first_ms, 'ms')}"
    )


def _contradict_sum(seen: Seen, said_ms: float) -> str:
    """For a stream without a pace of its own: prompt and tokens together must take as long as the request."""
    least_ms = 0.8 * (seen.e2e_ms - seen.connect_ms) - 10 * APART_MS if seen.lanes == 1 else 0.0
    if least_ms <= said_ms <= seen.e2e_ms + _tolerate(seen.e2e_ms):
        return ""
    return (
        f"the server says that prompt and tokens took {quantity(said_ms, 'ms')}, the whole request took "
        f"{quantity(seen.e2e_ms, 'ms')}"
    )


def _tolerate(duration_ms: float) -> float:
    return APART_MS + APART * duration_ms


def _find_scatter(chunk_ms: Sequence[float]) -> float:
    """The 90th percentile of the gaps' distances from their median."""
    gaps = [later - earlier for earlier, later in pairwise(chunk_ms)]
    if not gaps:
        return 0.0
    middle = statistics.median(gaps)
    off = sorted(abs(gap - middle) for gap in gaps)
    return off[min(int(0.9 * len(off)), len(off) - 1)]


def _divide(count: int | None, duration_ms: float | None, *, least: int = 1) -> float | None:
    """Per second; None if the count is too small or no time passed."""
    if count is None or count < least or not duration_ms or duration_ms <= 0:
        return None
    return count / duration_ms * 1000
