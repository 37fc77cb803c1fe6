"""The server's own counts and milliseconds for one answer, from llama.cpp's ``timings`` and OpenAI's ``usage``.

Each must be a possible number, and two counts of the same thing must agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pytest_boobench.untrusted import Fault, get_count, get_number, get_object

EVALUATED_UNKNOWN = "evaluated_unknown"
"""Our own mark in usage: the number of evaluated prompt tokens is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """The server's claims; None for what it does not say."""

    prompt_tokens: int | None = None
    """Includes cached ones."""
    cached_tokens: int | None = None
    evaluated_tokens: int | None = None
    """Prompt tokens that ``prompt_ms`` was spent on."""
    output_tokens: int | None = None
    reasoning_tokens: int = 0
    """Part of the output tokens, as far as the server says."""
    prompt_ms: float | None = None
    predicted_ms: float | None = None
    disagreement: str = ""
    """Two different counts of one thing, as a message."""

    @property
    def times(self) -> tuple[float, float] | None:
        """(prompt_ms, predicted_ms); None if one is missing."""
        if self.prompt_ms is None or self.predicted_ms is None:
            return None
        return self.prompt_ms, self.predicted_ms


def read_claims(timings: Mapping[str, Any], usage: Mapping[str, Any], *, asked: int | None, prompt: int) -> Claims:
    """Return the claims of one stream. Raises Fault for a missing or impossible number.

    ``prompt`` and ``asked`` are the cell's prompt and output tokens. If two counts differ, the one that matches the
    cell is used, and the other becomes the disagreement.
    """
    if any(key in timings for key in ("prompt_n", "prompt_ms", "predicted_n", "predicted_ms")):
        return _read_timings(timings, usage, asked=asked, prompt=prompt)
    if not usage:
        raise Fault(
            "the server sends no usage while it streams, though stream_options.include_usage asks for it, so that "
            "nothing can be counted; update the server, or measure it through one that counts"
        )
    prompt_tokens = _require(get_count(usage, "prompt_tokens", "usage"), "usage.prompt_tokens")
    cached = _read_cached(usage)
    if cached is not None and cached > prompt_tokens:
        raise Fault(
            f"usage.prompt_tokens_details.cached_tokens is {cached}, expected no more than the {prompt_tokens} tokens "
            "of the prompt"
        )
    return Claims(
        prompt_tokens=prompt_tokens,
        cached_tokens=cached,
        evaluated_tokens=prompt_tokens - (cached or 0),
        output_tokens=_require(get_count(usage, "completion_tokens", "usage"), "usage.completion_tokens"),
        reasoning_tokens=_read_reasoning(usage),
    )


def _read_timings(timings: Mapping[str, Any], usage: Mapping[str, Any], *, asked: int | None, prompt: int) -> Claims:
    predicted = _require(get_count(timings, "predicted_n", "timings"), "timings.predicted_n")
    predicted_ms = _read_ms(timings, "predicted_ms", zero=predicted <= 1)  # one token needs no time after itself
    used = get_count(usage, "prompt_tokens", "usage")
    if usage.get(EVALUATED_UNKNOWN):
        prompt_ms = get_number(timings, "prompt_ms", "timings")
        return Claims(prompt_tokens=used, output_tokens=predicted, prompt_ms=prompt_ms, predicted_ms=predicted_ms)
    evaluated = _require(get_count(timings, "prompt_n", "timings"), "timings.prompt_n")
    cached = get_count(timings, "cache_n", "timings")
    if cached is None:  # older llama.cpp has no cache_n
        cached = _read_cached(usage) if used is None else max(used - evaluated, 0)
    prompt_tokens, prompt_words = _choose(evaluated + (cached or 0), used, prompt, "prompt tokens")
    completed = get_count(usage, "completion_tokens", "usage")
    output_tokens, output_words = _choose(predicted, completed, asked, "generated tokens")
    return Claims(
        prompt_tokens=prompt_tokens,
        cached_tokens=cached,
        evaluated_tokens=prompt_tokens - (cached or 0) if prompt_words else evaluated,
        output_tokens=output_tokens,
        reasoning_tokens=_read_reasoning(usage),
        prompt_ms=_read_ms(timings, "prompt_ms", zero=evaluated == 0),
        predicted_ms=predicted_ms,
        disagreement=prompt_words or output_words,
    )


def _read_ms(timings: Mapping[str, Any], key: str, *, zero: bool) -> float:
    found = get_number(timings, key, "timings", above=None if zero else 0)
    if found is not None and found < 0:
        found = get_number(timings, key, "timings", above=0)  # raises the Fault
    return _require(found, f"timings.{key}")


def _read_cached(usage: Mapping[str, Any]) -> int | None:
    details = get_object(usage, "prompt_tokens_details", "usage")
    return get_count(details, "cached_tokens", "usage.prompt_tokens_details")


def _read_reasoning(usage: Mapping[str, Any]) -> int:
    details = get_object(usage, "completion_tokens_details", "usage")
    return get_count(details, "reasoning_tokens", "usage.completion_tokens_details") or 0


def _choose(timed: int, used: int | None, asked: int | None, noun: str) -> tuple[int, str]:
    """Return the count to use, and how the other one differs from it."""
    if used is None or used == timed:
        return timed, ""
    return used if used == asked else timed, f"the server counts {timed} {noun} in timings and {used} in usage"


N = TypeVar("N", int, float)


def _require(value: N | None, name: str) -> N:
    if value is None:
        raise Fault(f"{name} is missing, expected a number")
    return value
