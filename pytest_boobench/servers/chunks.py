"""The events of a stream -> a `Stream`. Each part has its own type; any answer gives a value or a named failure.

Streams are parsed after the phase, so parsing disturbs no clock. Its cost is linear in the answer, and bounded.
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
from pytest_boobench.servers.refusals import find_words
from pytest_boobench.untrusted import Fault, clean, get_count, get_list, get_object, get_text, parse_json, show

BLUR_MS = 1.0
"""Tokens that Python read no later than this may share a time stamp: they came together, or the error is no larger."""
DONE = "[DONE]"
_SPARE_EVENTS = 10_000
_EVENTS_PER_TOKEN = 64
"""No server needs this many events for one token; further events are not read."""

Chunk = tuple[Any, wire.Event]
"""An event's JSON value (or the Fault instead of it) and the event. The last value is `DONE`."""
Chunks = Callable[[wire.Exchange], Iterable[Chunk]]


@dataclass(slots=True)
class Stream:
    """The facts of a stream, collected event by event."""

    chunk_ms: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    """Bytes of text in each event."""
    counts: list[int | None] = field(default_factory=list)
    """Tokens generated so far, if the server reports them with each event."""
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
        """Keep only the first failure: later ones follow from it."""
        if self.failure is None:
            self.failure, self.failure_text = kind, clean(text)


def list_chunks(exchange: wire.Exchange) -> Iterator[Chunk]:
    """Yield the server-sent events of an answer as OpenAI chunks."""
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
    """Parse a JSON text; return a Fault if it is invalid."""
    try:
        return parse_json(text)
    except Fault as fault:
        return fault


def read_stream(chunks: Iterable[Chunk], output_tokens: int | None = None) -> Stream:
    """Parse the chunks up to the first failure. After `DONE`, only an error still counts.

    ``output_tokens`` is the number asked for: it limits how many events are read.
    """
    stream = Stream()
    most = _SPARE_EVENTS + _EVENTS_PER_TOKEN * (output_tokens or 0)
    for value, event in chunks:
        stream.events += 1
        if stream.events > most:
            stream.fail("protocol", f"more than {most:,} events in an answer of {output_tokens or 0} tokens")
        elif isinstance(value, Mapping) and value.get("error"):
            stream.fail("stream-error", find_words(value))
        elif stream.done:
            continue
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
    """Limit a token's lateness to the time that the later tokens with the same time stamp take at the stream's pace.

    The previous read does not limit the first token: it may have been the header's, long before.
    """
    events = len(stream.chunk_ms)
    if events < 2:
        return
    pace_ms = (stream.chunk_ms[-1] - stream.chunk_ms[0]) / (events - 1)
    sharing = bisect_right(stream.chunk_ms, stream.chunk_ms[0])
    stream.first_late_ms = min(stream.first_late_ms, sharing * pace_ms)
    stream.last_late_ms = min(stream.last_late_ms, pace_ms)


def _read_chunk(stream: Stream, chunk: Mapping[str, Any], event: wire.Event) -> None:
    if "id" not in chunk:
        return  # a proxy's own message while it loads a model; real chunks always have an id
    stream.usage = get_object(chunk, "usage") or stream.usage
    stream.timings = get_object(chunk, "timings") or stream.timings
    for choice in get_list(chunk, "choices")[:1]:
        if not isinstance(choice, Mapping):
            raise Fault(f"choices[0] is {show(choice)}, expected an object")
        reasoning, visible = read_delta(choice)
        if visible or reasoning:
            _add_tokens(stream, event, len((reasoning + visible).encode("utf-8", "replace")))
            stream.reasoned = stream.reasoned or bool(reasoning)
        if visible and stream.ttfo_ms is None:
            stream.ttfo_ms = event.arrival_ms
        if reason := get_text(choice, "finish_reason", "choices[0]"):
            stream.finish_reason = clean(reason, 40)


def read_delta(choice: Mapping[str, Any]) -> tuple[str, str]:
    """Return (reasoning, visible text) of a choice; a tool call is visible, as JSON."""
    delta = get_object(choice, "delta", "choices[0]")
    reasoning = get_text(delta, "reasoning_content", "delta") or get_text(delta, "reasoning", "delta") or ""
    visible = get_text(delta, "content", "delta") or get_text(choice, "text", "choices[0]") or ""
    calls = get_list(delta, "tool_calls", "delta")
    return reasoning, visible or (json.dumps(calls) if calls else "")


def _add_tokens(stream: Stream, event: wire.Event, size: int) -> None:
    count = get_count(stream.usage, "completion_tokens", "usage")
    # read late, together with the event before: their common time stamp is right only for this one
    late = event.lag_ms > BLUR_MS
    stream.blurred += bool(late and stream.chunk_ms and stream.chunk_ms[-1] == event.arrival_ms)
    stream.last_late_ms = event.find_lateness_ms(BLUR_MS)
    if not stream.chunk_ms:
        stream.first_late_ms = stream.last_late_ms
    stream.chunk_ms.append(event.arrival_ms)
    stream.sizes.append(size)
    stream.counts.append(count)


def join_text(chunks: Iterable[Chunk]) -> str:
    """Return all text of the model, reasoning first; empty if nothing can be parsed."""
    pieces = list(list_texts(chunks))
    return "".join([*(thought for thought, _ in pieces), *(said for _, said in pieces)])


def list_texts(chunks: Iterable[Chunk]) -> Iterator[tuple[str, str]]:
    """Yield reasoning and visible text of each event that can be parsed."""
    for value, _ in chunks:
        with contextlib.suppress(Fault):  # an unusual shape holds no text
            for choice in get_list(value, "choices")[:1] if isinstance(value, Mapping) else ():
                yield read_delta(choice) if isinstance(choice, Mapping) else ("", "")
