"""An answer from the wire -> one Sample: first token, tokens, the server's claims, rates, and what went wrong.

Answers are parsed after the phase, so parsing disturbs no clock. It never raises: any answer becomes a sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import httpx

from pytest_boobench import wire
from pytest_boobench.metrics import FailureKind, Sample
from pytest_boobench.servers.chunks import Chunks, Stream, join_text, list_chunks, list_texts, read_stream
from pytest_boobench.servers.claims import read_claims
from pytest_boobench.servers.clients import ServerAnswer
from pytest_boobench.servers.refusals import KEY_WANTED, read_words
from pytest_boobench.servers.speculation import add_drafts
from pytest_boobench.servers.witness import Seen, find_rates
from pytest_boobench.suite.cell import Cell
from pytest_boobench.untrusted import Fault, clean, get_count, get_object, parse_json, show, to_number

_TIMING_FIELDS = 64
"""How many fields of the server's timings are kept."""
_MORE_EVENTS, _SPARE_EVENTS = 1.05, 2
"""Events per token, and extra events: a token may make two where reasoning ends or a tool call begins."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a prompt may differ from the cell, if a server allows no exact one; tokens."""

    slack: int = 0
    """How much longer or shorter it may be."""
    cached: int = 0
    """How many may come from the cache in a cold cell: every request begins with the chat template."""
    fewer: int = 16
    """How many tokens of a context before the prompt may be evaluated again: vLLM keeps whole blocks of 16 tokens, and
    llama.cpp's checkpoints of recurrent and sliding-window models end shortly before the end."""
    more: int = 4
    """How many tokens of the prompt may come from the cache behind such a context: two may begin alike by chance."""


EXACT = Tolerance()
_UNCOUNTED = "the server does not say how many tokens of a later turn came from its cache"
_TEMPLATE = 64
"""Tokens that a chat template may put around two messages, or take back from the end of the last prompt."""


def find_most_bytes(output_tokens: int) -> int:
    """Return the most bytes to read from a stream of this many tokens.

    16 kB per token is forty times an event with timings, and as much as one with many log-probabilities.
    """
    return 1024 * 1024 + 16 * 1024 * output_tokens


def find_slack(prompt_tokens: int) -> int:
    """Return by how many tokens a prompt may be off if it cannot be made exact.

    At least two: similar common words make one token more or less.
    """
    return max(2, int(0.01 * prompt_tokens))


def find_turn_tolerance(output_tokens: int) -> Tolerance:
    """Return by how much a later turn's prompt may differ from the middle of what is possible.

    Between none and all tokens of the last answer are in it: reasoning is not sent back.
    """
    return Tolerance(slack=output_tokens // 2 + 1 + _TEMPLATE)


def read(
    sample: Sample, answer: ServerAnswer, cell: Cell, tolerance: Tolerance = EXACT, chunks: Chunks = list_chunks
) -> Sample:
    """Return the sample with all facts of the answer, checked against the cell and what the client saw.

    ``chunks`` parses the stream of servers that do not send server-sent events.
    """
    exchange = answer.exchange
    if exchange is None:
        failure = answer.failure or wire.Failure("connect", "no answer")
        return _fail(sample, failure.kind, failure.text)
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
    if answer.status != httpx.codes.OK:
        return _fail(sample, "status", _explain_status(exchange))
    if cell.kind == "embedding":
        if answer.failure:
            return _fail(sample, answer.failure.kind, answer.failure.text)
        return _check(_add_embedding(sample, exchange.body), cell, tolerance)
    stream = read_stream(chunks(exchange), cell.output_tokens)
    if answer.failure:
        stream.fail(answer.failure.kind, answer.failure.text)
    sample = _check(_add_stream(sample, stream, cell), cell, tolerance, done=stream.done)
    if sample.failure == "truncated" and stream.events == 0:
        kind = exchange.headers.get("content-type", "").partition(";")[0] or "no content type"
        words = show(exchange.body[:4096].decode("utf-8", "replace")) if exchange.body.strip() else "nothing"
        return _fail(sample, "truncated", f"expected a stream of events, got {kind}: {words}")
    return sample


def _fail(sample: Sample, kind: FailureKind, text: str) -> Sample:
    return replace(sample, failure=kind, failure_text=clean(text))


def _explain_status(exchange: wire.Exchange) -> str:
    status, said = exchange.status, read_words(exchange.body)
    if status in KEY_WANTED:
        return f"{status}: {said}; the host wants a key: see api_key in the hosts file"
    if location := exchange.headers.get("location"):
        to = location.partition("?")[0]
        return f"{status}: it redirects to {to}; the url in the hosts file must be the one that answers"
    return f"{status}: {said}"


def read_text(answer: ServerAnswer, chunks: Chunks = list_chunks) -> str:
    """Return all text of the model, reasoning first; empty if nothing can be parsed."""
    return join_text(chunks(answer.exchange)) if answer.exchange is not None else ""


def read_reply(answer: ServerAnswer, chunks: Chunks = list_chunks) -> Iterator[str]:
    """Yield the model's visible text, event by event."""
    for _, said in list_texts(chunks(answer.exchange)) if answer.exchange is not None else ():
        yield said


def _add_stream(sample: Sample, stream: Stream, cell: Cell) -> Sample:
    """Add the facts of its stream to the sample; mark it failed if a number is impossible."""
    sample = replace(
        sample,
        ttft_ms=stream.chunk_ms[0] if stream.chunk_ms else None,
        ttfo_ms=stream.ttfo_ms,
        chunk_ms=tuple(stream.chunk_ms),
        blurred_chunks=stream.blurred,
        first_late_ms=stream.first_late_ms,
        last_late_ms=stream.last_late_ms,
        timings=_keep_timings(stream.timings),
        finish_reason=stream.finish_reason,
        failure=stream.failure,
        failure_text=stream.failure_text,
    )
    if stream.failure or not (stream.done and stream.finish_reason):
        return sample
    try:
        claims = read_claims(stream.timings, stream.usage, asked=cell.output_tokens, prompt=cell.input_tokens)
    except Fault as fault:
        return _fail(sample, "protocol", str(fault))
    sample = replace(
        sample,
        prompt_tokens=claims.prompt_tokens,
        cached_tokens=claims.cached_tokens,
        output_tokens=claims.output_tokens,
        prompt_ms=claims.prompt_ms,
        predicted_ms=claims.predicted_ms,
    )
    tokens = claims.output_tokens or 0
    if cell.output_tokens is not None and tokens > cell.output_tokens:
        return sample  # `_check` fails it; an unbounded count must not be used
    if tokens and len(stream.chunk_ms) > _MORE_EVENTS * tokens + _SPARE_EVENTS:
        text = f"{len(stream.chunk_ms)} pieces of text came, the server counts {tokens} tokens"
        return _fail(sample, "output-length", text)
    rates = find_rates(
        Seen(
            chunk_ms=stream.chunk_ms,
            sizes=stream.sizes,
            counts=stream.counts,
            headers_ms=sample.headers_ms or 0.0,
            connect_ms=sample.connect_ms or 0.0,
            e2e_ms=sample.e2e_ms or 0.0,
            lanes=2 if cell.planned else cell.concurrency,
            reasoned=stream.reasoned,
        ),
        claims,
    )
    found = replace(sample, ttfo_ms=None if "ttfo_ms" in rates.blanks else sample.ttfo_ms, **vars(rates))
    found = add_drafts(found, stream.timings)
    uncounted = sample.turn > 1 and claims.cached_tokens is None
    return _blank_uncounted(found) if uncounted else found


def _blank_uncounted(sample: Sample) -> Sample:
    """Without what needs the number of cached tokens, in a later turn whose server does not tell it."""
    blanks = {"cached_share": _UNCOUNTED, **sample.blanks}
    if "prompt_n" in sample.timings:  # these are the evaluated ones
        return replace(sample, blanks=blanks)
    return replace(sample, prefill_tok_s=None, blanks={"prefill_tok_s": _UNCOUNTED, **blanks})


def _keep_timings(timings: Mapping[str, Any]) -> dict[str, Any]:
    """The server's own numbers unchanged, as far as a store can hold them."""
    kept = {}
    for key, value in list(timings.items())[:_TIMING_FIELDS]:
        storable = value is None or isinstance(value, bool) or to_number(value) is not None
        kept[clean(key, 40)] = value if storable else show(value)
    return kept


def _add_embedding(sample: Sample, content: bytes) -> Sample:
    """Add the facts of an embeddings answer to the sample; tokens per second over the whole request."""
    try:
        body = parse_json(content)
        if not isinstance(body, Mapping) or not isinstance(body.get("data"), list):
            raise Fault(f"not an embeddings answer: {read_words(content)}")
        _check_vector(body["data"])
        usage = get_object(body, "usage")
        if not usage:
            raise Fault("the answer has no usage, so that its tokens cannot be counted")
        tokens = get_count(usage, "prompt_tokens", "usage")
    except Fault as fault:
        return _fail(sample, "protocol", str(fault))
    speed = tokens / sample.e2e_ms * 1000 if tokens and sample.e2e_ms else None
    return replace(sample, prompt_tokens=tokens, embed_tok_s=speed, rate_source="client" if speed else None)


def _check_vector(data: Sequence[Any]) -> None:
    """Raise Fault if the first entry holds no embedding: numbers, or their bytes in base64."""
    vector = data[0].get("embedding") if data and isinstance(data[0], Mapping) else None
    if not vector:
        raise Fault("the answer has no embedding")
    if isinstance(vector, str):
        return
    if not isinstance(vector, list):
        raise Fault(f"data[0].embedding is {show(vector)}, expected a list of numbers")
    flat = vector[0] if isinstance(vector[0], list) else vector  # llama-server without pooling: one vector per token
    wrong = next((value for value in flat if to_number(value) is None), None)
    if wrong is not None or not flat:
        raise Fault(f"data[0].embedding holds {show(wrong)}, expected numbers")


def _check(sample: Sample, cell: Cell, tolerance: Tolerance, *, done: bool = True) -> Sample:
    """Mark the sample failed if the server did not do what the cell asks for. The first problem counts."""
    if sample.failure:
        return sample
    if cell.kind != "embedding" and not (done and sample.finish_reason):
        missing = "no finish_reason" if done else "no [DONE]"
        return _fail(sample, "truncated", f"the stream ended without its proper end: {missing}")
    if text := _find_wrong_prompt(sample, cell, tolerance.slack):
        return _fail(sample, "prompt-length", text)
    if text := _find_wrong_cache(sample, cell, tolerance):
        return _fail(sample, "cached", text)
    if cell.output_tokens is not None and (text := _find_wrong_length(sample, cell, cell.output_tokens)):
        return _fail(sample, "output-length", text)
    return sample


def _find_wrong_prompt(sample: Sample, cell: Cell, slack: int) -> str:
    """What is wrong with the length of a prompt; empty if it is right, or if only the server knows it."""
    if not cell.input_tokens:
        return "" if sample.prompt_tokens else "the server counted nothing in a prompt whose length only it can tell"
    if sample.prompt_tokens is not None and abs(sample.prompt_tokens - cell.input_tokens) <= slack:
        return ""
    counted = "nothing" if sample.prompt_tokens is None else f"{sample.prompt_tokens} tokens"
    if sample.turn > 1:
        return (
            f"the server counted {counted} in turn {sample.turn}, the conversation has {cell.prompt_tokens} "
            f"(within {slack}): its chat template, its context or a proxy leaves out what was said before"
        )
    about = f" (within {slack})" if slack else ""
    return f"the server counted {counted} in a prompt of {cell.input_tokens} tokens{about}"


def _find_wrong_cache(sample: Sample, cell: Cell, tolerance: Tolerance) -> str:
    """What is wrong with the number of tokens from the cache, and what would be right; empty if it is right."""
    depth, cached = cell.depth_tokens, sample.cached_tokens
    if not depth:
        if cell.cache == "cold" and (cached or 0) > tolerance.cached:
            return f"cache: cold, but the server took {cached} prompt tokens from its cache"
        return ""
    if cached is None:
        return (
            f"depth_tokens: {depth} tokens should come from the cache, and the server does not say how many did; vLLM "
            "says so if it is started with --enable-prompt-tokens-details"
        )
    if cached < depth - tolerance.fewer:
        return (
            f"depth_tokens: {depth} tokens should come from the cache, and {cached} did: it does not hold the context; "
            "give the server room for the contexts of all lanes (llama-server: -c and -np, for a model with a sliding "
            "window --swa-full), or ask for a smaller depth or fewer lanes"
        )
    if cell.cache == "cold" and cached > depth + tolerance.more:
        return (
            f"cache: cold, but the server took {cached} tokens from its cache, {cached - depth} more than the "
            f"{depth} of depth_tokens"
        )
    return ""


def _find_wrong_length(sample: Sample, cell: Cell, asked: int) -> str:
    """What is wrong with the length of an answer, and what would be right; empty if it is right."""
    came = sample.output_tokens or 0
    if came > asked:
        return f"{came} tokens came, {asked} were asked for; this server does not keep to max_tokens"
    if came == 0:
        return f"0 of {asked} tokens came (finish_reason {sample.finish_reason})"
    if came == asked or cell.length == "natural":
        return ""
    told = f"{came} of {asked} tokens came (finish_reason {sample.finish_reason})"
    if sample.finish_reason == "length":
        return f"{told}; the context has no room for more: ask for fewer output_tokens, or give the server more context"
    return (
        f"{told}: the model ended by itself; say length: natural in the suite, which measures answers as long as they "
        "are, or ask for fewer output_tokens"
    )
