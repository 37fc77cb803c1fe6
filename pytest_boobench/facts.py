"""Room 0: server, model, client and foreign traffic of a measurement. Some facts decide what is comparable."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_boobench.units import count

DECISIVE = (
    ("n_params", "parameters"),
    ("size_bytes", "file size"),
    ("quantisation", "quantisation"),
    ("n_ctx", "context"),
    ("slots", "slots"),
)
"""Two models with the same name are comparable only if these facts agree; with their titles in messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """A model as its server describes it; None for a fact that the server does not give."""

    name: str
    path: str | None = None
    n_params: int | None = None
    size_bytes: int | None = None
    quantisation: str | None = None
    """llama.cpp's file type, as in ``Q4_K - Medium``."""
    n_ctx: int | None = None
    """Context of one slot, tokens."""
    n_ctx_train: int | None = None
    n_embd: int | None = None
    n_vocab: int | None = None
    slots: int | None = None
    """Requests that the server processes at once for this model."""
    kv_type: str | None = None
    """Type of the KV cache's numbers, as in ``fp8``; None for llama.cpp, where only the command line tells."""
    cache_block: int | None = None
    """Tokens in a block of the prefix cache, which keeps whole blocks only; None if the server does not tell."""
    speculative: str | None = None
    """Whether the server uses speculative decoding: ``on`` or ``off``."""
    gpu_percent: int | None = None
    """Percentage of the loaded model in GPU memory, if the server splits models."""

    def differences(self, other: ModelFacts) -> tuple[str, ...]:
        """Return the decisive facts that differ, as ``quantisation Q4_0, was Q8_0``; None equals everything."""
        both = [(title, getattr(self, key), getattr(other, key)) for key, title in DECISIVE]
        return tuple(f"{title} {now}, was {was}" for title, now, was in both if None not in (now, was) and now != was)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientFacts:
    """The machine that measures, and how many processes measure on it at once."""

    machine: str | None = None
    cpu: str | None = None
    """The processor's model, as the system names it."""
    workers: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """A host's server as it describes itself. ``url`` never holds a key or a password."""

    kind: str
    url: str
    engine_build: str | None = None
    """The engine's own name of its build, as in ``b11549-abc1234``."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Other facts, plain JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignRequest:
    """A request on the host that is not ours, as far as the host describes it."""

    id: str
    model: str | None = None
    path: str | None = None
    user_agent: str | None = None
    address: str | None = None
    age_s: float | None = None
    """Seconds since it began."""
    queued: bool | None = None
    """Whether it still waits for the first byte of its answer."""

    def __str__(self) -> str:
        state = {True: "queued", False: "running", None: "in flight"}[self.queued]
        age = f" for {self.age_s:.0f} s" if self.age_s is not None else ""
        known = (self.model, self.path, self.user_agent, f"from {self.address}" if self.address else None)
        return f"{', '.join(part for part in known if part) or 'a request'} ({state}{age})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """The foreign requests on a host at one moment."""

    known: bool
    """False if the host does not tell."""
    why: str = ""
    """Why it does not tell, if its kind could; a sentence about the host."""
    in_flight: tuple[ForeignRequest, ...] = ()
    recent: tuple[str, ...] = ()
    """Requests that ended within the last minute, one line each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What a watcher saw on a host while a cell ran; None for a fact that the host does not give."""

    in_flight_at_start: int | None = None
    """Foreign requests when the window began."""
    concurrent_foreign_requests: int | None = None
    """Distinct foreign requests in the window, including those in flight at its start."""
    foreign_tokens: int | None = None
    """Prompt and generated tokens of foreign requests in the window."""
    model_swaps: int = 0
    """How often the cell's model left the state ready."""
    server_restarts: int = 0
    requests: tuple[ForeignRequest, ...] = ()
    """The first few of the foreign requests."""
    notes: tuple[str, ...] = ()
    """Reasons why the counts are uncertain."""

    def __str__(self) -> str:
        counts = (
            (self.concurrent_foreign_requests, "foreign request"),
            (self.foreign_tokens, "foreign token"),
            (self.model_swaps, "model swap"),
            (self.server_restarts, "server restart"),
        )
        return ", ".join(count(number, noun) for number, noun in counts if number) or "nothing foreign"

    @property
    def disturbed(self) -> bool:
        """Whether others used the host in the window."""
        return bool(self.concurrent_foreign_requests or self.foreign_tokens or self.model_swaps or self.server_restarts)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTraffic:
    """Our own part of a window's traffic, by the server's counts in our answers."""

    requests: int = 0
    prompt_tokens: int = 0
    """Evaluated tokens, without those from the cache."""
    cached_tokens: int = 0
    output_tokens: int = 0
    events: int = 0
    """Events with tokens that the client saw, less the first of each answer."""
    exact: bool = True
    """False if a request of ours was cancelled: its tokens are unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """The processors that a server used during a block, as its machine reports them; None for what it does not tell."""

    gpu_clock_mhz: float | None = None
    """Median clock of the GPU while it works; of several, the slowest."""
    memory_clock_mhz: float | None = None
    """The same of its memory."""
    gpu_temperature_c: float | None = None
    """Highest temperature."""
    power_w: float | None = None
    """Mean power of the GPUs that the server uses, together; if it uses none, of the processor packages."""
    power_limit_w: float | None = None
    """Sum of the GPUs' power limits."""
    kv_usage_share: float | None = None
    """Greatest used share of the KV cache, 0 to 1."""
    throttled: str | None = None
    """The limits that held a GPU's clock down, as in ``power cap, thermal slowdown``."""
    source: str | None = None
    """Who reported it, as in ``nvml``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Logprobs:
    """A model's probabilities after each of some fixed prefixes of one text."""

    text: str
    """Name and version of the text."""
    ids: str
    """Fingerprint of the text's token ids: 16 hex digits of SHA-256."""
    tokens: tuple[tuple[int, ...], ...]
    """For each prefix, the most likely next tokens, the likeliest first."""
    logs: tuple[tuple[float, ...], ...]
    """Natural logarithms of their probabilities."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """Speed and load of the client's machine before a block, for servers that run on it; megabytes per second."""

    copy_mb_s: float
    """Copying into fresh memory, far more than a cache holds."""
    hash_mb_s: float
    """Hashing one megabyte again and again (SHA-256)."""
    busy_share: float | None = None
    """Share of processor time that other programs used, 0 to 1; None if the system does not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceRates:
    """How fast the reference of the host's machine was around a measurement: a model that never changes."""

    name: str
    """``HOST::MODEL`` of the hosts file."""
    build: str | None = None
    """The engine build that ran it."""
    file: str | None = None
    """The decisive facts of its model file, in words."""
    measured_at: float = 0.0
    """When it was last measured; seconds since 1970 UTC."""
    looks: int = 1
    """How often it was measured."""
    decode_tok_s: float | None = None
    """Geometric mean of the looks' medians."""
    decode_error: float = 0.0
    """Its standard error, of the logarithm."""
    prefill_tok_s: float | None = None
    prefill_error: float = 0.0
    trouble: str = ""
    """Why it could not be measured; empty if it was."""

    def find_rate(self, rate: str) -> tuple[float, float] | None:
        """Return the rate ``decode`` or ``prefill`` with its error; None if it has none."""
        value = getattr(self, f"{rate}_tok_s")
        return (value, getattr(self, f"{rate}_error")) if value is not None else None

    def join(self, later: ReferenceRates) -> ReferenceRates:
        """Return these and a later look together. Half of their distance is error: the host changed between them."""
        if later.trouble or self.trouble or later.name != self.name or later.measured_at <= self.measured_at:
            return later if later.measured_at > self.measured_at else self
        facts: dict[str, float] = {}
        for rate in REFERENCE_RATES:
            before, after = self.find_rate(rate), later.find_rate(rate)
            if before is None or after is None:
                continue
            distance = math.log(after[0] / before[0])
            facts[f"{rate}_tok_s"] = before[0] * math.exp(distance / (self.looks + 1))
            facts[f"{rate}_error"] = math.hypot(max(before[1], after[1]), distance / 2)
        blank: dict[str, None] = dict.fromkeys(f"{rate}_tok_s" for rate in REFERENCE_RATES)
        return replace(later, looks=self.looks + 1, **{**blank, **facts})  # type: ignore[arg-type]


REFERENCE_RATES = ("decode", "prefill")
"""The rates of a machine's reference."""
REFERENCE_SUITE = "boobench-reference"
"""The suite under which the store keeps the measurements of references: they are no cells of the user."""
