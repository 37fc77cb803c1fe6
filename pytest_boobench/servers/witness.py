"""Two witnesses for every rate: what the server says of itself, and the client's own clock.

The server's milliseconds are used where the stream bears them out. Where it does not, the client's clock is used, if
it can carry the rate; else there is no number, and the reason stands in its place. Arithmetic only.

The tolerance comes from measurement: over 180 requests to the embedded llama.cpp server, at one and four lanes on two
cores, ``predicted_ms`` was within 3.9 ms of last less first token, whatever its length, and ``prompt_ms`` within 4.5 ms
of TTFT less header. On a busy machine stamps scatter more, and so does the tolerance: twice the 90th percentile of what
the stream's own gaps differ from their median.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from pytest_boobench.arrivals import FEWEST_EVENTS, TOGETHER_MS, Burst, come_in_bursts, find_bursts, spread_tokens
from pytest_boobench.metrics import RateSource
from pytest_boobench.servers.claims import Claims
from pytest_boobench.units import quantity

APART_MS = 5.0
"""By so much a server's duration and the client's may differ: a little above the most that was measured."""
APART = 0.02
"""And by so much of the duration."""
CARRIED = 0.10
"""A rate that the client's clock knows no better than this is blank."""
LATE_FIRST = 0.05
"""A TTFT that may be late by more than this, since the first tokens were held back, is blank."""
LATE_FIRST_MS = 5.0
"""And by more than so much: a server's own threads may hold events back for as long."""
AT_ONCE = 0.10
"""All tokens within this share of the time before them, much faster than the prompt was read: held back to the end."""
FASTER_THAN_PROMPT = 3.0
"""No server generates a token so much faster than it reads one of the prompt."""
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
    """Tokens until then, where the server tells."""
    headers_ms: float = 0.0
    connect_ms: float = 0.0
    e2e_ms: float = 0.0
    lanes: int = 1
    reasoned: bool = False
    """Whether reasoning was streamed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What both witnesses together say."""

    ttft_ms: float | None = None
    decode_tok_s: float | None = None
    prefill_tok_s: float | None = None
    source: RateSource | None = None
    chunk_tokens: tuple[int, ...] = ()
    hidden_tokens: int = 0
    contradiction: str | None = None
    blanks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Clock:
    """What the client's clock alone can say."""

    tokens: tuple[int, ...]
    decode_tok_s: float | None
    """As well as it is known; whether that is well enough is said by ``bound``."""
    bound: float
    """By how much that may be wrong, as a share."""
    held: str = ""
    """How the stream was held back, in words; empty where it was not."""
    first_late_ms: float = 0.0
    """By how much the first token may have been held back."""


def find_rates(seen: Seen, claims: Claims) -> Rates:
    """The rates of one answer, with their source, and why there are none where there are none.

    decode = (tokens after the first event) / (last less first event), or (predicted_n - 1) / predicted_ms; prefill =
    evaluated prompt tokens / prompt_ms, or prompt tokens / TTFT, which holds queue and network too.
    """
    if not seen.chunk_ms:
        return Rates()
    hidden = _find_hidden(seen, claims)
    clock = _read_clock(seen, claims, (claims.output_tokens or 0) - hidden)
    first_ms = seen.chunk_ms[0]
    blanks: dict[str, str] = {}
    unseen = hidden > 0 or _lacks_text(seen, claims, hidden)
    times = claims.times
    if times and clock.held and _is_borne_out(seen, times):  # its own threads write in bursts, and nobody holds back
        clock = replace(clock, held="", first_late_ms=0.0)
    contradiction = _contradict(seen, claims, clock, times, unseen=unseen and hidden == 0) if times else ""
    if hidden or (unseen and (contradiction or not times)):  # else the server's prompt_ms says that it was the first
        blanks |= dict.fromkeys(("ttft_ms", "queue_ms"), _describe_hidden(seen, claims, hidden))
    elif clock.held and clock.first_late_ms > max(LATE_FIRST * first_ms, LATE_FIRST_MS):
        blanks |= dict.fromkeys(("ttft_ms", "ttfo_ms", "queue_ms"), _HELD_BACK.format(how=clock.held))
    carried = clock.decode_tok_s is not None and clock.bound <= CARRIED and (hidden > 0 or not unseen)
    if clock.held and not carried:
        blanks["itl_ms"] = _HELD_BACK.format(how=clock.held)
    ttft_ms = None if "ttft_ms" in blanks else first_ms
    source: RateSource = "server" if times and not contradiction else "client"
    if source == "server":
        decode_tok_s = _divide((claims.output_tokens or 0) - 1, claims.predicted_ms)
    else:
        decode_tok_s = clock.decode_tok_s if carried else None
        if not carried and (claims.output_tokens or 0) > 1:
            blanks["decode_tok_s"] = _explain_blank(seen, claims, clock, contradiction, unseen=unseen and hidden == 0)
        if ttft_ms is None:
            blanks["prefill_tok_s"] = blanks["ttft_ms"]
    return Rates(
        ttft_ms=ttft_ms,
        decode_tok_s=decode_tok_s,
        prefill_tok_s=_divide(claims.evaluated_tokens, claims.prompt_ms if source == "server" else ttft_ms, least=2),
        source=source,
        chunk_tokens=_keep(clock.tokens),
        hidden_tokens=hidden,
        contradiction=contradiction or None,
        blanks=blanks,
    )


# --- the client's clock


def _read_clock(seen: Seen, claims: Claims, visible: int) -> _Clock:
    tokens, told = _count_tokens(seen, visible)
    bursts, first_ms = find_bursts(seen.chunk_ms, tokens), seen.chunk_ms[0]
    span_ms = seen.chunk_ms[-1] - first_ms
    in_bursts = come_in_bursts(bursts)
    # the last burst counts from its first event on, as the first one does
    timed_ms = bursts[-1].at_ms - bursts[0].at_ms if in_bursts else span_ms
    after = visible - (bursts[0].tokens if in_bursts else tokens[0])
    speed = _divide(after, timed_ms)
    if _came_at_once(seen, claims, speed, span_ms):
        return _Clock(tokens=tokens, decode_tok_s=speed, bound=1.0, held=_AT_ONCE, first_late_ms=first_ms)
    if in_bursts:
        unsure: float = max(burst.tokens for burst in bursts)
        held = f"{len(seen.chunk_ms)} events came in {len(bursts)} bursts" if len(bursts) > 1 else _AT_ONCE
        late_ms = _find_held_ms(bursts[0], speed, first_ms)
    else:
        # k tokens are as long as k mean ones within sqrt(k): the lengths of tokens' texts vary by about a half
        unsure = 0.0 if told or tokens[0] == 1 else tokens[0] ** 0.5
        held, late_ms = "", 0.0
    bound = unsure / after if after > 0 else 1.0
    return _Clock(tokens=tokens, decode_tok_s=speed, bound=bound, held=held, first_late_ms=late_ms)


def _count_tokens(seen: Seen, visible: int) -> tuple[tuple[int, ...], bool]:
    """Tokens in each event, and whether the server told them."""
    counts = [count for count in seen.counts if count is not None]
    if counts and len(counts) == len(seen.chunk_ms):
        steps = [counts[0], *(later - earlier for earlier, later in pairwise(counts))]
        if min(steps) > 0 and counts[-1] == visible:
            return tuple(steps), True
    return spread_tokens(visible, seen.sizes), False


def _find_held_ms(first: Burst, speed: float | None, first_ms: float) -> float:
    """How long the first token of a burst may have waited for its last one."""
    if first.events == 1:
        return 0.0
    return first_ms if speed is None else min((first.tokens - 1) / speed * 1000, first_ms)


def _came_at_once(seen: Seen, claims: Claims, speed: float | None, span_ms: float) -> bool:
    """Whether all was held back to the end, and then came one by one, only faster than any server generates."""
    events, first_ms = len(seen.chunk_ms), seen.chunk_ms[0]
    if events < FEWEST_EVENTS or speed is None or span_ms > TOGETHER_MS * events:
        return False
    prompt_speed = _divide(claims.prompt_tokens, first_ms) or 0.0
    return span_ms < AT_ONCE * first_ms and speed > FASTER_THAN_PROMPT * prompt_speed


def _keep(tokens: tuple[int, ...]) -> tuple[int, ...]:
    return tokens if any(count != 1 for count in tokens) else ()


def _is_borne_out(seen: Seen, times: tuple[float, float]) -> bool:
    """Whether the server says the same of prompt and tokens as the stream that comes in bursts."""
    (prompt_ms, predicted_ms), first_ms = times, seen.chunk_ms[0]
    span_ms = seen.chunk_ms[-1] - first_ms
    waited_ms = first_ms - min(seen.headers_ms, first_ms)
    fits = abs(predicted_ms - span_ms) <= _tolerate(span_ms) and prompt_ms >= 0.5 * waited_ms - APART_MS
    return fits and not _contradict_sum(seen, prompt_ms + predicted_ms)


# --- tokens that were counted and never came


def _find_hidden(seen: Seen, claims: Claims) -> int:
    """Reasoning tokens that the server counts and did not stream."""
    if not claims.reasoning_tokens or seen.reasoned:
        return 0
    return min(claims.reasoning_tokens, max((claims.output_tokens or 0) - 1, 0))


def _lacks_text(seen: Seen, claims: Claims, hidden: int) -> bool:
    """Whether the text that came cannot hold the tokens that were counted: each is a byte at least."""
    return sum(seen.sizes) < (claims.output_tokens or 0) - hidden


def _describe_hidden(seen: Seen, claims: Claims, hidden: int) -> str:
    if hidden:
        return (
            f"{hidden} of {claims.output_tokens} tokens were reasoning that was not streamed: when the first token was "
            "there is not known, TTFO is the first visible one"
        )
    return (
        f"the server counts {claims.output_tokens} tokens, and the {sum(seen.sizes)} bytes of text that came cannot "
        "hold as many: some were never streamed"
    )


# --- the server's own times against the client's


def _contradict(seen: Seen, claims: Claims, clock: _Clock, times: tuple[float, float], *, unseen: bool) -> str:
    """How the stream rules out what the server says, with both numbers; empty where it does not."""
    if claims.disagreement:
        return claims.disagreement
    (prompt_ms, predicted_ms), first_ms = times, seen.chunk_ms[0]
    if prompt_ms > first_ms + _tolerate(first_ms):
        return _describe_prompt(prompt_ms, first_ms)
    if clock.held or unseen or len(seen.chunk_ms) < 2:
        return _contradict_sum(seen, prompt_ms + predicted_ms)
    return _contradict_decode(seen, claims.output_tokens or 0, clock, predicted_ms) or _contradict_short_prompt(
        seen, prompt_ms
    )


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
    """A prompt that the server says took less time than there was between header and first token.

    llama-server sends the header when it begins with the prompt. Of several lanes only a gross difference counts: a
    proxy may send the header before.
    """
    first_ms = seen.chunk_ms[0]
    began_ms = min(seen.headers_ms, first_ms)
    least_ms = first_ms - began_ms - _tolerate(first_ms) - 2 * _find_scatter(seen.chunk_ms)
    if seen.lanes > 1:
        least_ms /= 2
    unexplained_ms = first_ms - seen.connect_ms - prompt_ms
    gross = seen.lanes == 1 and unexplained_ms > 10 * APART_MS and prompt_ms < 0.2 * (first_ms - seen.connect_ms)
    if prompt_ms < least_ms or gross:
        return _describe_prompt(prompt_ms, first_ms)
    return ""


def _describe_prompt(prompt_ms: float, first_ms: float) -> str:
    return (
        f"the server says that the prompt took {quantity(prompt_ms, 'ms')}, the first token was there after "
        f"{quantity(first_ms, 'ms')}"
    )


def _contradict_sum(seen: Seen, said_ms: float) -> str:
    """Where the stream has no pace of its own: prompt and tokens together must fill the request, and not more."""
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
    """How far the stream's gaps lie from their median: the 90th percentile."""
    gaps = [later - earlier for earlier, later in pairwise(chunk_ms)]
    if not gaps:
        return 0.0
    middle = statistics.median(gaps)
    off = sorted(abs(gap - middle) for gap in gaps)
    return off[min(int(0.9 * len(off)), len(off) - 1)]


def _explain_blank(seen: Seen, claims: Claims, clock: _Clock, contradiction: str, *, unseen: bool) -> str:
    why = _describe_hidden(seen, claims, 0) if unseen else ""
    if not why:
        why = _HELD_BACK.format(how=clock.held) if clock.held else "the stream has too few events to time its tokens"
    return f"{contradiction}; and {why}" if contradiction else why


def _divide(count: int | None, duration_ms: float | None, *, least: int = 1) -> float | None:
    """Per second; None where there is nothing to divide, or no time that passed."""
    if count is None or count < least or not duration_ms or duration_ms <= 0:
        return None
    return count / duration_ms * 1000
