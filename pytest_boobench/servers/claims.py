"""What a server says of its own answer: counts and milliseconds, from llama.cpp's ``timings`` and OpenAI's ``usage``.

They are claims: each must be a number that can be, and where two of them count the same thing they must agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pytest_boobench.untrusted import Fault, get_count, get_number, get_object

_TIMINGS = ("prompt_n", "prompt_ms", "predicted_n", "predicted_ms")
EVALUATED_UNKNOWN = "evaluated_unknown"
"""A mark in usage, of our own: how many tokens of the prompt were evaluated is not known."""
NO_USAGE = (
    "the server sends no usage while it streams, though stream_options.include_usage asks for it, so that nothing can "
    "be counted; update the server, or measure it through one that counts"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """Blanks are what the server does not say."""

    prompt_tokens: int | None = None
    """Those from the cache included."""
    cached_tokens: int | None = None
    evaluated_tokens: int | None = None
    """Prompt tokens that ``prompt_ms`` was spent on; blank where that is not known."""
    output_tokens: int | None = None
    reasoning_tokens: int = 0
    """Of the generated ones, as far as the server says."""
    prompt_ms: float | None = None
    predicted_ms: float | None = None
    disagreement: str = ""
    """Two counts of one thing that differ, in words."""

    @property
    def times(self) -> tuple[float, float] | None:
        """(prompt_ms, predicted_ms), None where the server does not say both."""
        if self.prompt_ms is None or self.predicted_ms is None:
            return None
        return self.prompt_ms, self.predicted_ms


def read_claims(timings: Mapping[str, Any], usage: Mapping[str, Any], *, asked: int | None, prompt: int) -> Claims:
    """The claims of one stream; Fault where a number is missing or none that can be.

    ``prompt`` and ``asked`` are the tokens that the cell asks for: of two counts that differ the one that is as asked
    is taken, and the other is the disagreement.
    """
    if any(key in timings for key in _TIMINGS):
        return _read_timings(timings, usage, asked=asked, prompt=prompt)
    if not usage:
        raise Fault(NO_USAGE)
    prompt_tokens = _require(get_count(usage, "prompt_tokens", "usage"), "usage.prompt_tokens")
    cached = _read_cached(usage)
    _check_cached(cached, prompt_tokens)
    return Claims(
        prompt_tokens=prompt_tokens,
        cached_tokens=cached,
        evaluated_tokens=prompt_tokens - (cached or 0),
        output_tokens=_require(get_count(usage, "completion_tokens", "usage"), "usage.completion_tokens"),
        reasoning_tokens=_read_reasoning(usage),
        # another server's durations, without llama.cpp's counts
        prompt_ms=get_number(timings, "prompt_ms", "timings", above=0),
        predicted_ms=get_number(timings, "predicted_ms", "timings", above=0),
    )


def _read_timings(timings: Mapping[str, Any], usage: Mapping[str, Any], *, asked: int | None, prompt: int) -> Claims:
    if usage.get(EVALUATED_UNKNOWN):
        return _read_without_prompt(timings, usage)
    evaluated = _require(get_count(timings, "prompt_n", "timings"), "timings.prompt_n")
    predicted = _require(get_count(timings, "predicted_n", "timings"), "timings.predicted_n")
    used = get_count(usage, "prompt_tokens", "usage")
    cached = get_count(timings, "cache_n", "timings")
    if cached is None:  # before llama.cpp said so itself
        cached = _read_cached(usage) if used is None else max(used - evaluated, 0)
    prompt_tokens, prompt_words = _choose(evaluated + (cached or 0), used, prompt, "prompt tokens")
    completed = get_count(usage, "completion_tokens", "usage")
    output_tokens, output_words = _choose(predicted, completed, asked, "generated tokens")
    # one token needs no time after itself, and none evaluated needs none at all
    return Claims(
        prompt_tokens=prompt_tokens,
        cached_tokens=cached,
        evaluated_tokens=prompt_tokens - (cached or 0) if prompt_words else evaluated,
        output_tokens=output_tokens,
        reasoning_tokens=_read_reasoning(usage),
        prompt_ms=_read_ms(timings, "prompt_ms", zero=evaluated == 0),
        predicted_ms=_read_ms(timings, "predicted_ms", zero=predicted <= 1),
        disagreement=prompt_words or output_words,
    )


def _read_without_prompt(timings: Mapping[str, Any], usage: Mapping[str, Any]) -> Claims:
    """Where the server's time for the prompt is for an unknown part of it."""
    predicted = _require(get_count(timings, "predicted_n", "timings"), "timings.predicted_n")
    return Claims(
        prompt_tokens=get_count(usage, "prompt_tokens", "usage"),
        output_tokens=predicted,
        prompt_ms=get_number(timings, "prompt_ms", "timings"),
        predicted_ms=_read_ms(timings, "predicted_ms", zero=predicted <= 1),
    )


def _read_ms(timings: Mapping[str, Any], key: str, *, zero: bool) -> float:
    found = get_number(timings, key, "timings", above=None if zero else 0)
    if found is not None and found < 0:
        found = get_number(timings, key, "timings", above=0)  # says what is wrong
    return _require(found, f"timings.{key}")


def _read_cached(usage: Mapping[str, Any]) -> int | None:
    details = get_object(usage, "prompt_tokens_details", "usage")
    return get_count(details, "cached_tokens", "usage.prompt_tokens_details")


def _check_cached(cached: int | None, prompt_tokens: int) -> None:
    if cached is not None and cached > prompt_tokens:
        raise Fault(
            f"usage.prompt_tokens_details.cached_tokens is {cached}, expected no more than the {prompt_tokens} tokens "
            "of the prompt"
        )


def _read_reasoning(usage: Mapping[str, Any]) -> int:
    details = get_object(usage, "completion_tokens_details", "usage")
    return get_count(details, "reasoning_tokens", "usage.completion_tokens_details") or 0


def _choose(timed: int, used: int | None, asked: int | None, noun: str) -> tuple[int, str]:
    """The count to go by, and how the other one differs from it, in words."""
    if used is None or used == timed:
        return timed, ""
    chosen = used if used == asked else timed
    return chosen, f"the server counts {timed} {noun} in timings and {used} in usage"


N = TypeVar("N", int, float)


def _require(value: N | None, name: str) -> N:
    if value is None:
        raise Fault(f"{name} is missing, expected a number")
    return value
