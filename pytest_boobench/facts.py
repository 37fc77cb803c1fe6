"""Room 0: what was measured on, as the server tells it. Facts travel beside samples and decide what is comparable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_boobench.units import count

_DECISIVE = (
    ("n_params", "parameters"),
    ("size_bytes", "file size"),
    ("quantisation", "quantisation"),
    ("n_ctx", "context"),
    ("slots", "slots"),
)
"""What makes two measurements of one model's name two things."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """A model file as its server describes it; blanks are facts the server does not give."""

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
    """Requests the server works on at once for this model."""

    def differences(self, other: ModelFacts) -> tuple[str, ...]:
        """Which facts that speed depends on differ, as ``quantisation Q4_0, was Q8_0``; a blank is like anything."""
        found = []
        for key, title in _DECISIVE:
            now, was = getattr(self, key), getattr(other, key)
            if now is not None and was is not None and now != was:
                found.append(f"{title} {now}, was {was}")
        return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientFacts:
    """The machine that measures, and how many processes do so on it at once."""

    machine: str | None = None
    cpu: str | None = None
    """Its model, as the system names it."""
    workers: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """A host's server as it describes itself. ``url`` never carries a key or a password."""

    kind: str
    url: str
    engine_build: str | None = None
    """The engine's own words for its build, as in ``b11549-abc1234``."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Other facts worth keeping, plain JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignRequest:
    """A request on the host that is not ours, as far as the host tells of it."""

    id: str
    model: str | None = None
    path: str | None = None
    user_agent: str | None = None
    address: str | None = None
    age_s: float | None = None
    """Since it began, seconds."""
    queued: bool | None = None
    """Whether it still waits for its first byte."""

    def __str__(self) -> str:
        state = {True: "queued", False: "running", None: "in flight"}[self.queued]
        age = f" for {self.age_s:.0f} s" if self.age_s is not None else ""
        known = (self.model, self.path, self.user_agent, f"from {self.address}" if self.address else None)
        return f"{', '.join(part for part in known if part) or 'a request'} ({state}{age})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What a host has in flight at one moment, ours left out."""

    known: bool
    """False: the host has no way to tell."""
    why: str = ""
    """Why it has none, where that is not its kind; a sentence about the host."""
    in_flight: tuple[ForeignRequest, ...] = ()
    recent: tuple[str, ...] = ()
    """What ended within the last minute, one line each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What a watcher saw on a host while a cell ran; blanks are facts that the host does not give."""

    in_flight_at_start: int | None = None
    """Foreign requests when the window began."""
    concurrent_foreign_requests: int | None = None
    """Distinct foreign requests in the window, those in flight at its start among them."""
    foreign_tokens: int | None = None
    """Tokens that foreign requests were charged in the window, prompt and generated together."""
    model_swaps: int = 0
    """How often the cell's model left the state ready."""
    server_restarts: int = 0
    requests: tuple[ForeignRequest, ...] = ()
    """The first few of the foreign requests."""
    notes: tuple[str, ...] = ()
    """What makes the counts less than certain, in words."""

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
        """Whether the window was not ours alone."""
        return bool(self.concurrent_foreign_requests or self.foreign_tokens or self.model_swaps or self.server_restarts)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTraffic:
    """What of a window's traffic is ours, by the server's own counts in our answers."""

    requests: int = 0
    prompt_tokens: int = 0
    """Evaluated ones: those from the cache are counted apart."""
    cached_tokens: int = 0
    output_tokens: int = 0
    exact: bool = True
    """False where a request of ours broke off: what it was charged is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """What the client's machine was like before a block, for servers that run on it; rates in megabytes a second."""

    copy_mb_s: float
    """Copying into fresh memory, far more than a cache holds."""
    hash_mb_s: float
    """Hashing (SHA-256) one megabyte again and again."""
    busy_share: float | None = None
    """Share of its processors' time that other programs took, 0 to 1; blank where the system does not tell."""
