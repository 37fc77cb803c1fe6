"""A stream's events -> what they say, each part of its own type: whatever comes is a value or a named failure.

Reading happens after the phase, so nothing here is timed. It is linear in the answer, and bounded.
"""

from __future__ import annotations

import contextlib
import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_boobench import wire
from pytest_boobench.metrics import FailureKind
from pytest_boobench.untrusted import Fault, clean, get_count, get_list, get_object, get_text, parse_json, show

BLUR_MS = 1.0
"""Tokens that Python had no later than this may share a stamp: they came together, or the error is no more."""
DONE = "[DONE]"
_SPARE_EVENTS = 10_000
_EVENTS_PER_TOKEN = 64
"""No server needs as many events for a token; what comes beyond is not read."""

Chunk = tuple[Any, wire.Event]
"""An event's value, a Fault where it has none, and its arrival. `DONE` is the value of the last one."""
Chunks = Callable[[wire.Exchange], Iterable[Chunk]]


@dataclass(slots=True)
class Stream:
    """What a stream said, gathered event by event."""

    chunk_ms: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    """Bytes of text in each of them."""
    counts: list[int | None] = field(default_factory=list)
    """Tokens generated until then, where the server says so with each event."""
    blurred: int = 0
    first_late_ms: float = 0.0
    last_late_ms: float = 0.0
    ttfo_ms: float | None = None
    reasoned: bool = False
    """Whether reasoning was streamed."""
    finish_reason: str | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)
    timings: Mapping[str, Any] = field(default_factory=dict)
    events: int = 0
    done: bool = False
    failure: FailureKind | None = None
    failure_text: str | None = None

    def fail(self, kind: FailureKind, text: str) -> None:
        """Keep the first failure: what follows it is only its echo."""
        if self.failure is None:
            self.failure, self.failure_text = kind, clean(text)


def list_chunks(exchange: wire.Exchange) -> Iterator[Chunk]:
    """The server-sent events of an answer as OpenAI chunks."""
    for event in wire.events(exchange):
        if event.data.strip() == DONE:
            yield DONE, event
            continue
        value = load(event.data)
        if event.event == wire.ERROR:
            yield {"error": event.data if isinstance(value, Fault) else value}, event
        else:
            yield value, event


def load(text: str) -> Any:
    """The JSON of a text, or the Fault that it is instead."""
    try:
        return parse_json(text)
    except Fault as fault:
        return fault


def read_stream(chunks: Iterable[Chunk], output_tokens: int | None = None) -> Stream:
    """What the chunks say, up to the first failure. After `DONE` only an error still counts.

    ``output_tokens`` are those asked for: they bound how many events are read.
    """
    stream = Stream()
    most = _SPARE_EVENTS + _EVENTS_PER_TOKEN * (output_tokens or 0)
    for value, event in chunks:
        stream.events += 1
        if stream.events > most:
            stream.fail("protocol", f"more than {most:,} events in an answer of {output_tokens or 0} tokens")
        elif stream.done:
            if isinstance(value, Mapping) and value.get("error"):
                stream.fail("stream-error", error_text(value))
        elif value == DONE:
            stream.done = True
        elif isinstance(value, Mapping):
            try:
                _read_chunk(stream, value, event)
            except Fault as fault:
                stream.fail("protocol", str(fault))
        elif isinstance(value, Fault):
            stream.fail("protocol", f"an event {value}")
        else:
            stream.fail("protocol", f"an event is {show(value)}, expected a JSON object")
        if stream.failure:
            break
    _bound_lateness(stream)
    return stream


def _bound_lateness(stream: Stream) -> None:
    """A token that shares its stamp with later ones is late by what those take at the stream's own pace, at most.

    What the read before it says alone is no use for the first token: that read may be the header's, long ago.
    """
    events = len(stream.chunk_ms)
    if events < 2:
        return
    pace_ms = (stream.chunk_ms[-1] - stream.chunk_ms[0]) / (events - 1)
    sharing = bisect_right(stream.chunk_ms, stream.chunk_ms[0])
    stream.first_late_ms = min(stream.first_late_ms, sharing * pace_ms)
    stream.last_late_ms = min(stream.last_late_ms, pace_ms)


def _read_chunk(stream: Stream, chunk: Mapping[str, Any], event: wire.Event) -> None:
    if chunk.get("error"):
        stream.fail("stream-error", error_text(chunk))
        return
    if "id" not in chunk:
        return  # a proxy's own words while it loads a model; real chunks always have one
    stream.usage = get_object(chunk, "usage") or stream.usage
    stream.timings = get_object(chunk, "timings") or stream.timings
    for choice in get_list(chunk, "choices")[:1]:
        if not isinstance(choice, Mapping):
            raise Fault(f"choices[0] is {show(choice)}, expected an object")
        _read_choice(stream, choice, event)


def _read_choice(stream: Stream, choice: Mapping[str, Any], event: wire.Event) -> None:
    reasoning, visible = read_delta(choice)
    if visible or reasoning:
        count = get_count(stream.usage, "completion_tokens", "usage")
        _add_tokens(stream, event, len((reasoning + visible).encode("utf-8", "replace")), count)
        stream.reasoned = stream.reasoned or bool(reasoning)
    if visible and stream.ttfo_ms is None:
        stream.ttfo_ms = event.arrival_ms
    stream.finish_reason = _read_reason(choice) or stream.finish_reason


def _read_reason(choice: Mapping[str, Any]) -> str | None:
    reason = get_text(choice, "finish_reason", "choices[0]")
    return clean(reason, 40) if reason else None


def read_delta(choice: Mapping[str, Any]) -> tuple[str, str]:
    """(reasoning, what is visible) of a choice; a tool call is visible, as JSON."""
    delta = get_object(choice, "delta", "choices[0]")
    reasoning = get_text(delta, "reasoning_content", "delta") or get_text(delta, "reasoning", "delta") or ""
    visible = get_text(delta, "content", "delta") or get_text(choice, "text", "choices[0]") or ""
    calls = get_list(delta, "tool_calls", "delta")
    return reasoning, visible or (json.dumps(calls) if calls else "")


def _add_tokens(stream: Stream, event: wire.Event, size: int, count: int | None) -> None:
    # Late and together with the one before: the two share a stamp that is true of the second only.
    late = event.lag_ms > BLUR_MS
    stream.blurred += bool(late and stream.chunk_ms and stream.chunk_ms[-1] == event.arrival_ms)
    stream.last_late_ms = event.find_lateness_ms(BLUR_MS)
    if not stream.chunk_ms:
        stream.first_late_ms = stream.last_late_ms
    stream.chunk_ms.append(event.arrival_ms)
    stream.sizes.append(size)
    stream.counts.append(count)


def join_text(chunks: Iterable[Chunk]) -> str:
    """All that the model said, reasoning first; empty where nothing can be read."""
    reasoning, visible = [], []
    for value, _ in chunks:
        with contextlib.suppress(Fault):  # not of the usual shape: says nothing
            for choice in get_list(value, "choices")[:1] if isinstance(value, Mapping) else ():
                thought, said = read_delta(choice) if isinstance(choice, Mapping) else ("", "")
                reasoning.append(thought)
                visible.append(said)
    return "".join([*reasoning, *visible])


def error_text(body: Any) -> str:
    """The words of an error body, whichever of the usual shapes it has."""
    error = body.get("error", body) if isinstance(body, Mapping) else body
    if isinstance(error, Mapping):
        message = error.get("message")
        error = message if isinstance(message, str) and message else _dump(error)
    return clean(error if isinstance(error, str) else show(error))


def _dump(error: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(error), sort_keys=True)
    except (TypeError, ValueError, RecursionError):
        return "an object"


def body_error_text(content: bytes) -> str:
    """The words of an error answer's body, JSON or not."""
    try:
        return error_text(parse_json(content))
    except Fault:
        return clean(content[:4096].decode("utf-8", "replace")) or "no body"
