"""Room 0: what is measured. A Sample is one request's facts; METRICS defines each number and which way is better."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pytest_boobench.arrivals import find_token_gaps
from pytest_boobench.plain import Since

Phase = Literal["warmup", "measure"]
Kind = Literal["chat", "completion", "embedding"]
Length = Literal["exact", "natural"]
"""Whether each answer has as many tokens as requested, or ends where the model ends it."""
ClockKind = Literal["kernel", "user"]
"""Source of a time stamp: the kernel when the bytes arrived, or Python right after the read."""
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
    """In an open loop: how much later than planned it was sent. All its times are from the planned moment."""
    accepted_len: Annotated[float | None, Since("0004")] = None
    """Tokens per decoding step with speculation; of vLLM, over all requests of the same window. None without it."""
    draft_accept_share: Annotated[float | None, Since("0004")] = None
    """Share of the draft tokens that were accepted, likewise."""

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
        first, last = self.first_late_ms, self.last_late_ms
        if metric in ("ttft_ms", "ttfo_ms", "queue_ms") or (metric == "prefill_tok_s" and self.rate_source == "client"):
            known = self.queue_ms if metric == "queue_ms" else self.ttft_ms
            whole = self.ttfo_ms if known is None else known
            return first / whole if whole and whole > 0 else math.inf if first else 0.0
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
    """One measured quantity. ``key`` is the name of the Sample's attribute, a number or a tuple of numbers."""

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

    def values(self, sample: Sample) -> tuple[float, ...]:
        """Return this metric's finite values in a sample: one or none, or one for each gap."""
        found = getattr(sample, self.key, None)  # metrics of a start or a block are no facts of a sample
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
        Metric("lanes_tok_s", "all lanes", "tok/s", "higher",
               "tokens per second of all lanes together, while each request ran", kinds=_ALL),
        Metric("load_ms", "load", "ms", "lower", "loading the model, or starting the server where we start it",
               kinds=_ALL, of_start=True, assumed_noise=0.1),
        Metric("kld", "KLD", "nat", "lower",
               "mean divergence of the model's probabilities from the baseline's, over a fixed text", of_baseline=True),
        Metric("rss_peak_mb", "memory", "MB", "lower", "most resident memory of a server that we started",
               kinds=_ALL, of_start=True),
        Metric("vram_peak_mb", "GPU memory", "MB", "lower", "most GPU memory of a server that we started",
               kinds=_ALL, of_start=True),
    )
}
# fmt: on
"""Every metric by its key; reports, gate, schema and store derive from this table."""


def metrics_of(kind: Kind) -> tuple[Metric, ...]:
    """Return the metrics that exist for a kind of cell, in table order."""
    return tuple(metric for metric in METRICS.values() if kind in metric.kinds)


def gated_metrics(kind: Kind, lanes: int, length: Length = "exact") -> tuple[str, ...]:
    """Return the keys of the metrics that the gate judges by default.

    With several lanes, end-to-end time replaces prefill: it is chance how long a prompt waits for those of other lanes,
    and a longer wait means fewer others during its decoding. If answers end by themselves, the end-to-end time depends
    on their length, so the rate of all lanes together replaces it.
    """
    several = "e2e_ms" if length == "exact" else "lanes_tok_s"
    keys = [metric.key for metric in metrics_of(kind) if metric.gated]
    return tuple(several if key == "prefill_tok_s" and lanes > 1 else key for key in keys)
