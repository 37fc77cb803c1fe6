"""Room 0: what is measured. A Sample is one request's facts; METRICS says what each number is, and which way is up."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

Phase = Literal["warmup", "measure"]
Kind = Literal["chat", "completion", "embedding"]
ClockKind = Literal["kernel", "user"]
"""Where a time stamp was taken: by the kernel when the bytes arrived, or in Python right after the read."""
RateSource = Literal["server", "client"]
"""Whose clock a rate comes from: the server's raw counts and milliseconds, or the client's arrival times."""
FailureKind = Literal[
    "connect",  # no connection: refused, unreachable, reset before the request was out
    "status",  # an HTTP status other than 200
    "stream-error",  # {"error": …} inside a 200
    "truncated",  # the stream ended without its proper end
    "stalled",  # no byte for too long
    "timeout",  # the whole request took too long
    "protocol",  # bytes that are not HTTP, SSE or JSON as they should be
    "prompt-length",  # the server counted another number of prompt tokens than the cell asks for
    "output-length",  # fewer tokens came than were asked for
    "cached",  # a prompt token was reused although the cell says cache: cold
]


STALL_FACTOR = 5
"""A gap of more than so many medians is a stall."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One request's facts. Times are milliseconds from the write of the request's last byte unless said otherwise.

    A blank (None) is a fact the server did not give or that cannot be derived honestly.
    """

    phase: Phase
    lane: int
    """Which of the cell's parallel request loops, from 0."""
    index: int
    """The sample's number in its phase of the cell, from 0, in the order the requests were started."""
    block: int = 1
    """Which block of the cell: the first, or one that was added later since the ones before left doubt."""
    attempt: int = 1
    """Which measuring of its block; the last one counts, an earlier one was disturbed or still warming up."""
    reference: bool = False
    """Whether it was sent to the other host of a duet; it has the number of its partner."""
    started_at: float
    """When the request was sent, seconds since 1970 UTC."""
    offset_ms: float
    """When the request was sent, milliseconds after the phase began, by the monotonic clock."""
    connect_ms: float | None = None
    """Duration of opening the connection, TLS included; before the clock of the sample starts."""
    headers_ms: float | None = None
    """Arrival of the end of the response's header."""
    ttft_ms: float | None = None
    """Time to first token: arrival of the first non-empty content, reasoning, text or tool call."""
    ttfo_ms: float | None = None
    """Time to first visible output: as ttft_ms, reasoning left out."""
    e2e_ms: float | None = None
    """Arrival of the end of the answer."""
    chunk_ms: tuple[float, ...] = ()
    """Arrival of each event that carried tokens, ascending."""
    prompt_tokens: int | None = None
    """Prompt tokens as the server counted them, cached ones included."""
    cached_tokens: int | None = None
    """Prompt tokens the server took from its cache."""
    output_tokens: int | None = None
    """Generated tokens as the server counted them."""
    prompt_ms: float | None = None
    """The server's own time for the prompt tokens it evaluated (llama.cpp ``timings.prompt_ms``)."""
    predicted_ms: float | None = None
    """The server's own time from the first to the last generated token (llama.cpp ``timings.predicted_ms``)."""
    timings: Mapping[str, Any] = field(default_factory=dict)
    """The server's ``timings`` object as it came, its own rates among it."""
    decode_tok_s: float | None = None
    prefill_tok_s: float | None = None
    embed_tok_s: float | None = None
    rate_source: RateSource | None = None
    finish_reason: str | None = None
    status: int | None = None
    """HTTP status of the answer."""
    clock: ClockKind | None = None
    client_lag_ms: float | None = None
    """Longest time between the kernel's stamp on bytes and the moment Python read them; blank without kernel stamps."""
    blurred_chunks: int = 0
    """Entries of chunk_ms that have the stamp of a later one, since Python read both late and at once."""
    clock_step: bool = False
    """Whether the wall clock was set during the request; its times are then by the user clock."""
    failure: FailureKind | None = None
    failure_text: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the request did what the cell asks for."""
        return self.failure is None

    @property
    def queue_ms(self) -> float | None:
        """TTFT less the server's prompt time: queue, templating and transport together; blank where either is."""
        if self.ttft_ms is None or self.prompt_ms is None:
            return None
        return self.ttft_ms - self.prompt_ms

    @property
    def itl_ms(self) -> tuple[float, ...]:
        """Inter-token latencies: the gaps between chunks, scaled to tokens where chunks carry several.

        Their mean is (last - first chunk) / (tokens - 1). Empty where there is one chunk only.
        """
        gaps = [later - earlier for earlier, later in pairwise(self.chunk_ms)]
        if not gaps or not self.output_tokens or self.output_tokens < 2:
            return ()
        tokens_per_gap = max(1.0, (self.output_tokens - 1) / len(gaps))
        return tuple(gap / tokens_per_gap for gap in gaps)

    @property
    def stalls(self) -> int:
        """Gaps between chunks of more than five times their median."""
        gaps = self.itl_ms
        return sum(gap > STALL_FACTOR * statistics.median(gaps) for gap in gaps) if gaps else 0


@dataclass(frozen=True, slots=True)
class Metric:
    """One measured quantity; ``key`` is the name of the Sample's attribute, a number or a tuple of them."""

    key: str
    title: str
    """Short name in lines and table heads."""
    unit: str
    better: Literal["higher", "lower"]
    definition: str
    kinds: tuple[Kind, ...] = ("chat", "completion")
    """For which kinds of cell it exists."""
    gated: bool = False
    """Whether the gate judges it where a suite does not say and one lane runs."""

    def values(self, sample: Sample) -> tuple[float, ...]:
        """This metric's finite values in a sample: one, none, or as many as it has gaps."""
        found = getattr(sample, self.key)
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
        Metric("ttft_ms", "TTFT", "ms", "lower", "request sent to first token, reasoning included"),
        Metric("ttfo_ms", "TTFO", "ms", "lower", "request sent to first visible token, reasoning left out"),
        Metric("queue_ms", "queue", "ms", "lower", "TTFT less the server's prompt time"),
        Metric("prompt_ms", "prompt", "ms", "lower", "the server's own time for the prompt"),
        Metric("itl_ms", "ITL", "ms", "lower", "time between two tokens, over all gaps of all samples"),
        Metric("e2e_ms", "e2e", "ms", "lower", "request sent to end of answer", kinds=_ALL),
        Metric("connect_ms", "connect", "ms", "lower", "opening the connection, TLS included", kinds=_ALL),
        Metric("headers_ms", "headers", "ms", "lower", "request sent to end of the response's header", kinds=_ALL),
    )
}
# fmt: on
"""Every metric by its key; reports, gate, schema and store derive from this table."""


def metrics_of(kind: Kind) -> tuple[Metric, ...]:
    """The metrics that exist for a kind of cell, in table order."""
    return tuple(metric for metric in METRICS.values() if kind in metric.kinds)


def gated_metrics(kind: Kind, lanes: int) -> tuple[str, ...]:
    """Keys of the metrics that are judged where a suite does not say.

    With several lanes the end-to-end time takes the place of the prefill: how long a prompt waits for those of other
    lanes is chance, and makes up for how few others it then decodes beside.
    """
    keys = [metric.key for metric in metrics_of(kind) if metric.gated]
    return tuple("e2e_ms" if key == "prefill_tok_s" and lanes > 1 else key for key in keys)
