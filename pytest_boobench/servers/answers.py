"""An answer from the wire -> one Sample: first token, tokens, the server's timings, rates, and what went wrong.

Reading happens after the phase, so nothing here is timed.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_boobench import wire
from pytest_boobench.metrics import FailureKind, RateSource, Sample
from pytest_boobench.servers.clients import Answer
from pytest_boobench.suite.cell import Cell

_OK = 200
BLUR_MS = 1.0
"""Tokens that Python had no later than this may share a stamp: they came together, or the error is no more."""

Events = Callable[[wire.Exchange], Iterable[wire.Event]]
"""An answer's body -> its events in order, each an OpenAI chunk as JSON or ``[DONE]``."""


def read(sample: Sample, answer: Answer, cell: Cell, events: Events = wire.events) -> Sample:
    """The sample with all that the answer says, checked against what the cell asks for.

    ``events`` is for servers that stream in another way than server-sent events.
    """
    exchange = answer.exchange
    if exchange is None:
        return _failed(sample, answer.failure or wire.Failure("connect", "no answer"))
    sample = replace(
        sample,
        connect_ms=exchange.connect_ms,
        headers_ms=exchange.headers_ms,
        e2e_ms=exchange.e2e_ms,
        status=answer.status,
        clock=exchange.clock,
        client_lag_ms=exchange.client_lag_ms,
        clock_step=exchange.clock_step,
    )
    if answer.status != _OK:
        return _failed(sample, wire.Failure("status", f"{answer.status}: {body_error_text(exchange.body)}"))
    if cell.kind == "embedding":
        return _failed(sample, answer.failure) if answer.failure else check(add_embedding(sample, exchange.body), cell)
    stream = read_stream(events(exchange))
    sample = add_stream(sample, stream)
    if answer.failure and not sample.failure:
        return _failed(sample, answer.failure)
    return check(sample, cell, done=stream.done)


def _failed(sample: Sample, failure: wire.Failure) -> Sample:
    return replace(sample, failure=failure.kind, failure_text=failure.text)


@dataclass(slots=True)
class Stream:
    """What a stream said, gathered event by event."""

    chunk_ms: list[float] = field(default_factory=list)
    blurred: int = 0
    ttfo_ms: float | None = None
    finish_reason: str | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)
    timings: Mapping[str, Any] = field(default_factory=dict)
    done: bool = False
    failure: FailureKind | None = None
    failure_text: str | None = None

    def fail(self, kind: FailureKind, text: str) -> None:
        """Keep the first failure: what follows it is only its echo."""
        if self.failure is None:
            self.failure, self.failure_text = kind, text


def read_text(answer: Answer, events: Events = wire.events) -> str:
    """All that the model said, reasoning first; empty where nothing can be read."""
    reasoning, visible = [], []
    for event in events(answer.exchange) if answer.exchange is not None else ():
        with contextlib.suppress(ValueError, AttributeError):  # not JSON, or not of the usual shape: says nothing
            for choice in (json.loads(event.data).get("choices") or [])[:1]:
                delta = choice.get("delta") or {}
                reasoning.append(delta.get("reasoning_content") or delta.get("reasoning") or "")
                visible.append(delta.get("content") or choice.get("text") or "")
    return "".join([*reasoning, *visible])


def read_stream(events: Iterable[wire.Event]) -> Stream:
    """Events in order -> what they say. ``[DONE]`` ends it."""
    stream = Stream()
    told: list[wire.Event] = []
    for event in events:
        stream.done = event.data.strip() == "[DONE]"
        if stream.done:
            break
        told.append(event)
    for event, chunk in zip(told, load_all([event.data for event in told]), strict=True):
        if isinstance(chunk, dict):
            _read_chunk(stream, chunk, event)
        elif isinstance(chunk, ValueError):
            stream.fail("protocol", f"an event is not JSON: {_cut(event.data)}")
        else:
            stream.fail("protocol", f"an event is not a JSON object: {_cut(event.data)}")
        if stream.failure:
            break
    return stream


def load_all(texts: Sequence[str]) -> list[Any]:
    """The JSON of each text, a ValueError in its place where it is none. All at once takes half the time."""
    try:
        values = json.loads(f"[{','.join(texts)}]")
    except ValueError:
        values = []
    return values if len(values) == len(texts) else [_load(text) for text in texts]


def _load(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        return error


def _read_chunk(stream: Stream, chunk: Mapping[str, Any], event: wire.Event) -> None:
    if chunk.get("error"):
        stream.fail("stream-error", error_text(chunk))
        return
    if "id" not in chunk:
        return  # a proxy's own words while it loads a model; real chunks always have one
    stream.usage = chunk.get("usage") or stream.usage
    stream.timings = chunk.get("timings") or stream.timings
    for choice in (chunk.get("choices") or [])[:1]:
        delta = choice.get("delta") or {}
        visible = bool(delta.get("content") or choice.get("text") or delta.get("tool_calls"))
        if visible or delta.get("reasoning_content") or delta.get("reasoning"):
            # Late and together with the one before: the two share a stamp that is true of the second only.
            stream.blurred += bool(
                stream.chunk_ms and stream.chunk_ms[-1] == event.arrival_ms and event.lag_ms > BLUR_MS
            )
            stream.chunk_ms.append(event.arrival_ms)
        if visible and stream.ttfo_ms is None:
            stream.ttfo_ms = event.arrival_ms
        stream.finish_reason = choice.get("finish_reason") or stream.finish_reason


def error_text(body: Any) -> str:
    """The words of an error body, whichever of the usual shapes it has."""
    error = body.get("error", body) if isinstance(body, Mapping) else body
    if isinstance(error, Mapping):
        error = error.get("message") or json.dumps(dict(error), sort_keys=True)
    return _cut(str(error))


def body_error_text(content: bytes) -> str:
    """The words of an error answer's body, JSON or not."""
    try:
        return error_text(json.loads(content))
    except ValueError:
        return _cut(content.decode("utf-8", "replace").strip()) or "no body"


def _cut(text: str, limit: int = 300) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else f"{flat[: limit - 1]}…"


def add_stream(sample: Sample, stream: Stream) -> Sample:
    """A sample with what its stream said. Counts come from ``timings`` first, ``usage`` second, never from chunks."""
    timings, usage = stream.timings, stream.usage
    prompt_n, cache_n = _count(timings, "prompt_n"), _count(timings, "cache_n")
    from_timings = prompt_n + (cache_n or 0) if prompt_n is not None else None
    details = usage.get("prompt_tokens_details") or {}
    filled = replace(
        sample,
        ttft_ms=stream.chunk_ms[0] if stream.chunk_ms else None,
        ttfo_ms=stream.ttfo_ms,
        chunk_ms=tuple(stream.chunk_ms),
        blurred_chunks=stream.blurred,
        prompt_tokens=from_timings if from_timings is not None else _count(usage, "prompt_tokens"),
        cached_tokens=cache_n if cache_n is not None else _count(details, "cached_tokens"),
        output_tokens=_first(_count(timings, "predicted_n"), _count(usage, "completion_tokens")),
        prompt_ms=_number(timings, "prompt_ms"),
        predicted_ms=_number(timings, "predicted_ms"),
        timings=dict(timings),
        finish_reason=stream.finish_reason,
        failure=stream.failure,
        failure_text=stream.failure_text,
    )
    decode_tok_s, prefill_tok_s, source = _rates(filled, prompt_n)
    return replace(filled, decode_tok_s=decode_tok_s, prefill_tok_s=prefill_tok_s, rate_source=source)


def _rates(sample: Sample, prompt_n: int | None) -> tuple[float | None, float | None, RateSource | None]:
    """(decode, prefill) in tokens per second, by one definition for all builds; blank where none can be had.

    decode = (predicted_n - 1) / predicted_ms: the first token belongs to the prompt. prefill = prompt_n / prompt_ms.
    Without timings, from the client's clock: decode = (output tokens - 1) / (last token - first token), and prefill =
    prompt tokens / TTFT, which holds queue and network too. One token or one chunk cannot give a rate.
    """
    tokens = sample.output_tokens
    if sample.prompt_ms is not None and sample.predicted_ms is not None:
        prefill = _divide(prompt_n, sample.prompt_ms) if prompt_n is not None and prompt_n > 1 else None
        return _divide(tokens - 1 if tokens else None, sample.predicted_ms), prefill, "server"
    if not sample.chunk_ms:
        return None, None, None
    span_ms = sample.chunk_ms[-1] - sample.chunk_ms[0]
    return _divide(tokens - 1 if tokens else None, span_ms), _divide(sample.prompt_tokens, sample.ttft_ms), "client"


def add_embedding(sample: Sample, content: bytes) -> Sample:
    """A sample with what an embeddings answer said; tokens per second over the whole request."""
    try:
        body = json.loads(content)
        vectors = [entry["embedding"] for entry in body["data"]]
    except (ValueError, KeyError, TypeError):
        return replace(sample, failure="protocol", failure_text=f"not an embeddings answer: {body_error_text(content)}")
    if not vectors or not vectors[0]:
        return replace(sample, failure="protocol", failure_text="the answer has no embedding")
    tokens = _count(body.get("usage") or {}, "prompt_tokens")
    speed = _divide(tokens, sample.e2e_ms)
    return replace(sample, prompt_tokens=tokens, embed_tok_s=speed, rate_source="client" if speed else None)


def check(sample: Sample, cell: Cell, *, done: bool = True) -> Sample:
    """The sample, failed where the server did not do what the cell asks for. The first finding stands."""
    if sample.failure:
        return sample
    if cell.kind != "embedding" and not (done and sample.finish_reason):
        missing = "no finish_reason" if done else "no [DONE]"
        return replace(sample, failure="truncated", failure_text=f"the stream ended without its proper end: {missing}")
    if sample.prompt_tokens != cell.prompt_tokens:
        counted = "nothing" if sample.prompt_tokens is None else f"{sample.prompt_tokens} tokens"
        text = f"the server counted {counted} in a prompt of {cell.prompt_tokens} tokens"
        return replace(sample, failure="prompt-length", failure_text=text)
    if cell.cache == "cold" and sample.cached_tokens:
        text = f"cache: cold, but the server took {sample.cached_tokens} prompt tokens from its cache"
        return replace(sample, failure="cached", failure_text=text)
    if cell.output_tokens is not None and (sample.output_tokens or 0) < cell.output_tokens:
        text = f"{sample.output_tokens or 0} of {cell.output_tokens} tokens came (finish_reason {sample.finish_reason})"
        return replace(sample, failure="output-length", failure_text=text)
    return sample


def _divide(count: int | None, duration_ms: float | None) -> float | None:
    """Per second; blank rather than zero or infinity."""
    return count / duration_ms * 1000 if count and duration_ms and duration_ms > 0 else None


def _count(source: Mapping[str, Any], key: str) -> int | None:
    value = source.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _number(source: Mapping[str, Any], key: str) -> float | None:
    value = source.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)
