"""Door 3: the events of an exchange's stream, and an exchange as a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from pytest_boobench.metrics import Sample
from pytest_boobench.plain import take


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleAnswer:
    """What a measurement would keep of the same answer. Rates are tokens per second; None is what is not known."""

    ttft_ms: float | None
    ttfo_ms: float | None
    prefill_tok_s: float | None
    decode_tok_s: float | None
    e2e_ms: float | None
    prompt_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    accepted_len: float | None
    """Tokens per decoding step with speculation; None without it."""
    draft_accept_share: float | None
    rate_source: str | None
    clock: str | None
    blanks: Mapping[str, str]
    """Metric -> why it has no number."""


def describe_sample(sample: Sample) -> SampleAnswer:
    """The facts of a sample that are shown."""
    return SampleAnswer(**take([one.name for one in fields(SampleAnswer)], sample))


@dataclass(frozen=True, slots=True, kw_only=True)
class TalkEvent:
    """What every event of an exchange has."""

    exchange: str
    side: int | None = None
    """Which side of a comparison, from 0; missing with one model."""
    seed: int | None = None
    """Of all sides of a comparison; missing with one model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingEvent(TalkEvent):
    """Nothing is sent yet."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartEvent(TalkEvent):
    """The request is sent. Blind sides have no names."""

    host: str | None
    model: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaEvent(TalkEvent):
    """A piece of the answer."""

    text: str
    reasoning: bool
    at_ms: float
    """Since the request was sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveEvent(TalkEvent):
    """How fast it comes."""

    tokens: int
    tok_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DoneEvent(TalkEvent):
    """The answer is whole. Blind sides have no text to copy."""

    sample: SampleAnswer
    finish_reason: str | None
    curl: str | None
    python: str | None
    suite: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedEvent(TalkEvent):
    """There is no whole answer."""

    kind: str
    """A sample's kind of failure, ``host`` or ``stopped``."""
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedEvent(TalkEvent):
    """A measurement uses the host."""

    who: tuple[str, ...]
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedEvent(TalkEvent):
    """The name of a blind side, where a side has no answer and nobody can vote."""

    host: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferenceAnswer:
    """How a side differs from the first one in a metric: medians, and their ratio minus one with its interval."""

    metric: str
    side: int
    value: float
    first: float
    change: float
    low: float | None
    """Holds the true change with 95 % confidence; None with too few pairs."""
    high: float | None
    pairs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatedEvent(TalkEvent):
    """Another round is over; the differences are those of all rounds."""

    done: int
    of: int
    differences: tuple[DifferenceAnswer, ...]


TALK_EVENTS: Mapping[str, type[TalkEvent]] = {
    "waiting": WaitingEvent,
    "start": StartEvent,
    "delta": DeltaEvent,
    "live": LiveEvent,
    "done": DoneEvent,
    "failed": FailedEvent,
    "refused": RefusedEvent,
    "named": NamedEvent,
}
REPEAT_EVENTS: Mapping[str, type[TalkEvent]] = {
    "waiting": WaitingEvent,
    "repeated": RepeatedEvent,
    "failed": FailedEvent,
    "refused": RefusedEvent,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedSide:
    """One side with its answer."""

    host: str
    model: str
    reasoning: str
    text: str
    sample: SampleAnswer | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportAnswer:
    """An exchange with its texts."""

    exchange: str
    prompt_sha256: str
    seed: int | None
    vote: str | None
    messages: tuple[Mapping[str, Any], ...]
    sampling: Mapping[str, Any]
    max_tokens: int
    sides: tuple[ExportedSide, ...]
    arena_url: str | None
    """From the hosts file's template, with the first two models."""
