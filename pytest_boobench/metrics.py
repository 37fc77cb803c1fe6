"""Room 0: what is measured. A Sample is one request's facts; METRICS defines each number and which way is better."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from pytest_boobench.arrivals import find_token_gaps
from pytest_boobench.plain import Since

Phase = Literal["warmup", "measure"]
Kind = Literal["chat", "completion", "embedding"]
Length = Literal["exact", "natural"]
"""Whether each answer has as many tokens as requested, or ends where the model ends it."""
ClockKind = Literal["kernel", "user"]
"""Source of a time stamp: the kernel when the bytes arrived, or Python right after the read."""
Load = Literal["lanes", "rate", "slo"]
"""What decides how many requests are in flight: lanes, or a rate, without an SLO or with one."""
RateSource = Literal["server", "client"]
"""Whose clock a rate comes from: the server's raw counts and milliseconds, or the client's arrival times."""
FailureKind = Literal[
    "connect",  # no connection: refused, unreachable, reset before the request was sent
    "status",  # an HTTP status other than 200
    "stream-error",  # {"error": …} inside a 200
    "truncated",  # the stream ended without its proper end
    "stalled",  # no byte for too long
    "timeout",  # the whole request took too long
    "protocol",  # bytes that are not valid HTTP, SSE or JSON, and impossible numbers
    "prompt-length",  # the server's count of prompt tokens differs from the cell's
    "output-length",  # the number of output tokens differs from the requested one
    "cached",  # a prompt token came from the cache although the cell says cache: cold
    "reported",  # another tool, whose results were imported, reports that the request failed
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One request's facts. Times are milliseconds from the write of the request's last byte, unless stated otherwise.

    None is a fact that the server did not give or that cannot be derived reliably.
    """

    phase: Phase
    lane: int
    """Number of the cell's parallel request loop, from 0."""
    index: int
    """Number of the sample in its phase of the cell, from 0, in the order of the requests' starts."""
    block: int = 1
    """Number of the block in its cell; later ones were added because the earlier ones left a doubt."""
    attempt: int = 1
    """Number of the attempt at its block. Only the last counts; others were disturbed or still warming up."""
    reference: bool = False
    """Whether it was sent to the other host of a duet; its partner has the same index."""
    started_at: float
    """When the request was sent, seconds since 1970 UTC."""
    offset_ms: float
    """When the request was sent, milliseconds after the phase began, by the monotonic clock."""
    connect_ms: float | None = None
    """Time to open the connection, with TLS, before the clock of the sample starts."""
    headers_ms: float | None = None
    """Arrival of the end of the response's header."""
    ttft_ms: float | None = None
    """Time to first token: arrival of the first content, reasoning or tool call. None if earlier tokens were never
    streamed."""
    ttfo_ms: float | None = None
    """Time to first visible output: as ttft_ms, without reasoning."""
    e2e_ms: float | None = None
    """Arrival of the end of the answer."""
    chunk_ms: tuple[float, ...] = ()
    """Arrival of each event with tokens, ascending."""
    chunk_tokens: Annotated[tuple[int, ...], Since("0002")] = ()
    """Tokens in each of these events, from the server or estimated from their texts; empty: one in each."""
    prompt_tokens: int | None = None
    """Prompt tokens by the server's count, with cached ones."""
    cached_tokens: int | None = None
    """Prompt tokens that the server took from its cache."""
    output_tokens: int | None = None
    """Generated tokens by the server's count, with tokens that were never streamed."""
    hidden_tokens: Annotated[int, Since("0002")] = 0
    """Generated tokens that were counted but never streamed, such as hidden reasoning."""
    prompt_ms: float | None = None
    """The server's own time for the prompt tokens it evaluated (llama.cpp ``timings.prompt_ms``)."""
    predicted_ms: float | None = None
    """The server's own time from the first to the last generated token (llama.cpp ``timings.predicted_ms``)."""
    timings: Mapping[str, Any] = field(default_factory=dict)
    """The server's ``timings`` object, with cleaned texts."""
    decode_tok_s: float | None = None
    prefill_tok_s: float | None = None
    embed_tok_s: float | None = None
    lanes_tok_s: Annotated[float | None, Since("0002")] = None
    """All lanes together while this request ran; None if the cell has one lane."""
    rate_source: RateSource | None = None
    contradiction: Annotated[str | None, Since("0002")] = None
    """How the client's clock or count contradicts the server, with both numbers. The server's timings are not used."""
    blanks: Annotated[Mapping[str, str], Since("0002")] = field(default_factory=dict)
    """Metric -> why it is None, for metrics that such a request usually has."""
    finish_reason: str | None = None
    status: int | None = None
    """HTTP status of the answer."""
    clock: ClockKind | None = None
    client_lag_ms: float | None = None
    """Longest time from the kernel's stamp on bytes until Python read them; None without kernel stamps."""
    blurred_chunks: int = 0
    """Entries of chunk_ms with the stamp of a later one, because Python read both late and at once."""
    first_late_ms: Annotated[float, Since("0002")] = 0.0
    """How much earlier than its stamp the first token may have arrived, because Python read late."""
    last_late_ms: Annotated[float, Since("0002")] = 0.0
    """The same for the last token."""
    clock_step: bool = False
    """Whether the wall clock was set during the request; its times are then by the user clock."""
    failure: FailureKind | None = None
    failure_text: str | None = None
    turn: Annotated[int, Since("0004")] = 0
    """Number of the turn in its conversation, from 1; 0: the request is no part of one."""
    send_lag_ms: Annotated[float | None, Since("0004")] = None
    """In an open loop: how much later than planned, or than its connection was open, it was sent. All its times are
    from the planned moment."""
    accepted_len: Annotated[float | None, Since("0004")] = None
    """Tokens per decoding step with speculation; of vLLM, over all requests of the same window. None without it."""
    draft_accept_share: Annotated[float | None, Since("0004")] = None
    """Share of the draft tokens that were accepted, likewise."""
    prompt_line: Annotated[int, Since("0004")] = 0
    """Line of its prompt in the file of the suite's own prompts, from 1; 0: the prompt was made."""

    @property
    def ok(self) -> bool:
        """Whether the request did what the cell asks for."""
        return self.failure is None

    @property
    def queue_ms(self) -> float | None:
        """TTFT minus the server's prompt time: queue, templating, transport. None if missing or contradictory."""
        if self.ttft_ms is None or self.prompt_ms is None or self.contradiction is not None:
            return None
        return self.ttft_ms - self.prompt_ms

    @property
    def cached_share(self) -> float | None:
        """Cached / prompt tokens of a conversation's later turn; None if the server does not count cached ones."""
        if self.turn < 2 or self.cached_tokens is None or not self.prompt_tokens:
            return None
        return self.cached_tokens / self.prompt_tokens

    @property
    def steps_per_s(self) -> float | None:
        """Decoding steps per second: decode is this times the accepted length. None without speculation."""
        if self.decode_tok_s is None or not self.accepted_len:
            return None
        return self.decode_tok_s / self.accepted_len

    @property
    def itl_ms(self) -> tuple[float, ...]:
        """Inter-token latencies, see `find_token_gaps`; empty if the stream does not show them."""
        if "itl_ms" in self.blanks or (self.output_tokens or 0) < 2:
            return ()
        return find_token_gaps(self.chunk_ms, self.chunk_tokens)

    def find_client_bound(self, metric: str) -> float:
        """Return by how much a late client may have moved this metric, as a share of its value."""
        first, last, unsent = self.first_late_ms, self.last_late_ms, self.send_lag_ms or 0.0
        if unsent and metric in ("headers_ms", "e2e_ms"):
            return unsent / self.e2e_ms if self.e2e_ms else 0.0
        if metric in ("ttft_ms", "ttfo_ms", "queue_ms") or (metric == "prefill_tok_s" and self.rate_source == "client"):
            known = self.queue_ms if metric == "queue_ms" else self.ttft_ms
            whole = self.ttfo_ms if known is None else known
            late = first + (0.0 if metric == "prefill_tok_s" else unsent)
            return late / whole if whole and whole > 0 else math.inf if late else 0.0
        if metric == "decode_tok_s" and self.rate_source == "client":
            span = self.chunk_ms[-1] - self.chunk_ms[0] if self.chunk_ms else 0.0
            return (first + last) / span if span else 0.0
        if metric == "itl_ms":
            return self.blurred_chunks / len(self.chunk_ms) if self.chunk_ms else 0.0
        return 0.0

    @property
    def stalls(self) -> int:
        """Inter-token latencies of more than five times their median."""
        gaps = self.itl_ms
        longest = 5 * statistics.median(gaps or [0.0])
        return sum(gap > longest for gap in gaps)


STORED_BESIDE = ("queue_ms", "stalls")
"""Properties of a `Sample` that the store keeps like fields."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One measured quantity. ``key`` begins with the name of the Sample's attribute, a number or a tuple of numbers."""

    key: str
    title: str
    """Short name for table headers."""
    unit: str
    better: Literal["higher", "lower"]
    definition: str
    kinds: tuple[Kind, ...] = ("chat", "completion")
    """The kinds of cell that have it."""
    gated: bool = False
    """Whether the gate judges it by default, with one lane."""
    of_start: bool = False
    """Whether it belongs to a server's start: then it is a fact of the cell, and not of each request."""
    of_block: bool = False
    """Whether it is one number per block of requests, in `CellFacts.of_blocks`."""
    of_baseline: bool = False
    """Whether it is a distance from the baseline: only a verdict has it, and its limit is absolute, in its unit."""
    assumed_noise: float | None = None
    """Standard deviation of its logarithm between sessions while it is not measured; None: the gate's default."""
    binomial: bool = False
    """Whether it counts requests that are good or not, so that its noise follows from their number."""
    turn: int = 0
    """The only turn of a conversation whose samples have it; 0: any sample."""

    @property
    def base(self) -> str:
        """Its key without the turn."""
        return self.key.partition(".")[0]

    def values(self, sample: Sample) -> tuple[float, ...]:
        """Return this metric's finite values in a sample: one or none, or one for each gap."""
        if self.turn not in (0, sample.turn):
            return ()
        found = getattr(sample, self.base, None)  # metrics of a start or a block are no facts of a sample
        several = found if isinstance(found, tuple) else () if found is None else (found,)
        return tuple(float(value) for value in several if math.isfinite(value))


_ALL: tuple[Kind, ...] = ("chat", "completion", "embedding")

# fmt: off
METRICS: Mapping[str, Metric] = {
    metric.key: metric
    for metric in (
        Metric("decode_tok_s", "decode", "tok/s", "higher",
               "(generated tokens - 1) / time from first to last token", gated=True),
        Metric("prefill_tok_s", "prefill", "tok/s", "higher",
               "evaluated prompt tokens / time to evaluate them", gated=True),
        Metric("embed_tok_s", "embed", "tok/s", "higher",
               "prompt tokens / end-to-end time", kinds=("embedding",), gated=True),
        Metric("accepted_len", "accepted", "tok/step", "higher",
               "tokens per decoding step with speculation: 1 + accepted draft tokens / steps", assumed_noise=0.01),
        Metric("steps_per_s", "steps", "1/s", "higher",
               "decoding steps per second with speculation: decode / accepted_len"),
        Metric("draft_accept_share", "drafts", "", "higher",
               "accepted draft tokens / draft tokens, as a share of 1", assumed_noise=0.01),
        Metric("ttft_ms", "TTFT", "ms", "lower", "request sent to first token, reasoning included"),
        Metric("ttfo_ms", "TTFO", "ms", "lower", "request sent to first visible token, reasoning left out"),
        Metric("queue_ms", "queue", "ms", "lower", "TTFT less the server's prompt time"),
        Metric("prompt_ms", "prompt", "ms", "lower", "the server's own time for the prompt"),
        Metric("itl_ms", "ITL", "ms", "lower", "time between two tokens, over all gaps of all samples"),
        Metric("e2e_ms", "e2e", "ms", "lower", "request sent to end of answer", kinds=_ALL),
        Metric("connect_ms", "connect", "ms", "lower", "opening the connection, TLS included", kinds=_ALL),
        Metric("headers_ms", "headers", "ms", "lower", "request sent to end of the response's header", kinds=_ALL),
        Metric("cached_share", "cached", "", "higher",
               "cached / prompt tokens of a conversation's later turns, by the server's count", kinds=("chat",)),
        Metric("lanes_tok_s", "all lanes", "tok/s", "higher",
               "tokens per second of all lanes together, while each request ran", kinds=_ALL),
        Metric("slo_share", "within SLO", "", "higher",
               "share of the measured requests that were within every limit of the SLO; failed ones were not",
               kinds=_ALL, of_block=True, binomial=True),
        Metric("goodput_rps", "goodput", "req/s", "higher",
               "requests within the SLO / duration of the window in which they were planned or, in a closed loop, sent",
               kinds=_ALL, of_block=True, binomial=True),
        Metric("load_ms", "load", "ms", "lower", "loading the model, or starting the server where we start it",
               kinds=_ALL, of_start=True, assumed_noise=0.1),
        Metric("kld", "KLD", "nat", "lower",
               "mean divergence of the model's probabilities from the baseline's, over a fixed text", of_baseline=True),
        Metric("rss_peak_mb", "memory", "MB", "lower", "most resident memory of a server that we started",
               kinds=_ALL, of_start=True),
        Metric("vram_peak_mb", "GPU memory", "MB", "lower", "most GPU memory of a server on this machine",
               kinds=_ALL, of_start=True),
        Metric("joule_per_token", "energy/token", "J", "lower",
               "energy of the block / generated tokens of all its requests; of embeddings / prompt tokens",
               kinds=_ALL, of_block=True),
    )
}
# fmt: on
"""Every metric by its key; reports, gate, schema and store derive from this table."""


OF_TURNS = ("ttft_ms", "prefill_tok_s", "decode_tok_s", "e2e_ms", "cached_share")
"""Metrics that each turn of a conversation has for itself too, under a key such as ``ttft_ms.turn[3]``."""
_OF_TURN = re.compile(r"(\w+)\.turn\[([1-9]\d{0,5})\]")


def name_of_turn(key: str, turn: int) -> str:
    """Return the key of a metric in one turn: ``ttft_ms.turn[3]``."""
    return f"{key}.turn[{turn}]"


def find_metric(key: str) -> Metric:
    """Return the metric with this key, of all requests or of one turn. Raises KeyError like `METRICS`."""
    match = _OF_TURN.fullmatch(key)
    if match is None or match[1] not in OF_TURNS:
        return METRICS[key]
    metric, turn = METRICS[match[1]], int(match[2])
    title, definition = f"{metric.title} turn {turn}", f"{metric.definition}; turn {turn} of the conversations"
    return replace(metric, key=key, title=title, definition=definition, gated=False, turn=turn)


def is_metric(key: str) -> bool:
    """Whether `find_metric` knows the key."""
    match = _OF_TURN.fullmatch(key)
    return key in METRICS or (match is not None and match[1] in OF_TURNS)


def sort_metrics(keys: Iterable[str]) -> list[str]:
    """Return the keys in table order, then those of turns by turn; leaves out what is no metric."""
    places = {key: place for place, key in enumerate(METRICS)}
    found = [find_metric(key) for key in keys if is_metric(key)]
    return [metric.key for metric in sorted(found, key=lambda metric: (metric.turn, places[metric.base]))]


def metrics_of(kind: Kind) -> tuple[Metric, ...]:
    """Return the metrics that exist for a kind of cell, in table order."""
    return tuple(metric for metric in METRICS.values() if kind in metric.kinds)


def find_load(rate: float | None, slo: Mapping[str, Any] | None, arrival: str | None = None) -> Load:
    """What decides how many requests of a cell with this rate, SLO and arrival are in flight."""
    return "lanes" if not rate and arrival != "recorded" else "slo" if slo else "rate"


def gated_metrics(
    kind: Kind, lanes: int, length: Length = "exact", turns: int = 1, load: Load = "lanes"
) -> tuple[str, ...]:
    """Return the keys of the metrics that the gate judges by default.

    At a rate it judges what a user feels: the goodput where there is an SLO, else the times, of which the end-to-end
    time is left out if answers end by themselves.

    With several lanes, end-to-end time replaces prefill: it is chance how long a prompt waits for those of other lanes,
    and a longer wait means fewer others during its decoding. If answers end by themselves, the end-to-end time depends
    on their length, so the rate of all lanes together replaces it. In a conversation, turns differ: the last one's time
    replaces prefill, to the first token or, with several lanes, to the end.
    """
    if load == "slo":
        return ("goodput_rps",)
    if load == "rate":
        return ("e2e_ms",) if kind == "embedding" else ("ttft_ms", "e2e_ms") if length == "exact" else ("ttft_ms",)
    several = "e2e_ms" if length == "exact" else "lanes_tok_s"
    if turns > 1 and (lanes == 1 or length == "exact"):
        second = name_of_turn("ttft_ms" if lanes == 1 else "e2e_ms", turns)
    else:
        second = several if lanes > 1 else "prefill_tok_s"
    keys = [metric.key for metric in metrics_of(kind) if metric.gated]
    return tuple(second if key == "prefill_tok_s" else key for key in keys)
