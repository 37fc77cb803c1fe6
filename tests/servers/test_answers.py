"""Answers as servers really give them -> Samples; and every way in which they go wrong."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from pytest_boobench.metrics import Sample
from pytest_boobench.servers.answers import read
from pytest_boobench.servers.clients import ServerAnswer
from pytest_boobench.suite.cell import Cell
from pytest_boobench.wire import Arrival, Exchange, Failure
from tests.making import make_cell, make_sample

TIMINGS = {
    "cache_n": 0,
    "prompt_n": 64,
    "prompt_ms": 18.0,
    "predicted_n": 8,
    "predicted_ms": 70.0,
    "predicted_per_second": 100.0,
}
USAGE = {"prompt_tokens": 64, "completion_tokens": 8, "total_tokens": 72}
ROLE = {"id": "x", "choices": [{"delta": {"role": "assistant", "content": None}, "finish_reason": None}]}
STOP = {"id": "x", "choices": [{"delta": {}, "finish_reason": "length"}]}
EOS = {"id": "x", "choices": [{"delta": {}, "finish_reason": "stop"}]}
LAST = {"id": "x", "choices": [], "usage": USAGE, "timings": TIMINGS}
DONE = "[DONE]"


def token(text: str, key: str = "content") -> dict[str, Any]:
    return {"id": "x", "choices": [{"delta": {key: text}, "finish_reason": None}]}


WORDS = tuple(token(letter) for letter in "abcdefgh")
"""Eight tokens."""


def stream_of(*events: Any, failure: Failure | None = None, status: int = 200) -> ServerAnswer:
    """Events 10 ms apart, the first one at 10 ms."""
    body = b""
    arrivals = []
    for number, event in enumerate(events, 1):
        body += f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n".encode()
        arrivals.append(Arrival(len(body), number * 10_000_000))
    return answer_of(body, tuple(arrivals), failure=failure, status=status)


def answer_of(
    body: bytes, arrivals: tuple[Arrival, ...] = (), *, failure: Failure | None = None, status: int = 200
) -> ServerAnswer:
    arrivals = arrivals or (Arrival(len(body), 20_000_000),)
    exchange = Exchange(
        connect_ms=0.5,
        sent_at=1_795_500_000.0,
        sent_ns=0,
        headers_ns=5_000_000,
        end_ns=arrivals[-1].stamp_ns,
        status=status,
        headers={},
        body=body,
        arrivals=arrivals,
        clock="kernel",
        client_lag_ms=0.02,
        clock_step=False,
        failure=failure,
    )
    return ServerAnswer(sent_at=exchange.sent_at, sent_ns=0, status=status, exchange=exchange, failure=failure)


def read_one(answer: ServerAnswer, cell: Cell | None = None) -> Sample:
    return read(make_sample(), answer, cell or make_cell())


def test_llama_server_chat() -> None:
    sample = read_one(stream_of(ROLE, *WORDS, STOP, LAST, DONE))
    assert sample.ok
    assert (sample.ttft_ms, sample.ttfo_ms, sample.headers_ms, sample.e2e_ms) == (20.0, 20.0, 5.0, 120.0)
    assert sample.chunk_ms == (20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0)
    assert (sample.chunk_tokens, sample.blanks, sample.contradiction) == ((), {}, None)
    assert (sample.prompt_tokens, sample.cached_tokens, sample.output_tokens) == (64, 0, 8)
    assert sample.decode_tok_s == pytest.approx(7 / 0.070)
    assert sample.prefill_tok_s == pytest.approx(64 / 0.018)
    assert sample.rate_source == "server"
    assert sample.queue_ms == pytest.approx(20.0 - 18.0)
    assert sample.timings == TIMINGS
    assert (sample.finish_reason, sample.status, sample.clock, sample.client_lag_ms) == ("length", 200, "kernel", 0.02)


def test_reasoning_starts_ttft_and_content_ttfo() -> None:
    sample = read_one(
        stream_of(ROLE, token("A", "reasoning_content"), token("B", "reasoning"), *WORDS[:6], STOP, LAST, DONE)
    )
    assert (sample.ttft_ms, sample.ttfo_ms) == (20.0, 40.0)


@pytest.mark.parametrize(
    "first",
    [
        ROLE,
        token(""),
        {"choices": [{"delta": {"reasoning_content": "llama-swap loading model: x"}}]},
        {"id": "x", "choices": [{"delta": {"role": "assistant", "content": None}}], "prompt_progress": {"total": 64}},
    ],
    ids=["role", "empty", "loading", "progress"],
)
def test_what_is_no_first_token(first: dict[str, Any]) -> None:
    assert read_one(stream_of(first, *WORDS, STOP, LAST, DONE)).ttft_ms == 20.0


def test_a_tool_call_is_a_first_token() -> None:
    call = {"id": "x", "choices": [{"delta": {"tool_calls": [{"index": 0, "name": "f"}]}, "finish_reason": None}]}
    assert read_one(stream_of(ROLE, call, STOP, LAST, DONE)).ttft_ms == 20.0


def test_completion_text() -> None:
    cell = make_cell(kind="completion")
    piece = {"id": "x", "choices": [{"text": "a", "finish_reason": None}]}
    end = {
        "id": "x",
        "choices": [{"text": "", "finish_reason": "length"}],
        "usage": {**USAGE, "prompt_tokens_details": {"cached_tokens": 0}},
    }
    sample = read_one(stream_of(*[piece] * 8, end, DONE), cell)
    assert sample.ok
    assert sample.cached_tokens == 0
    assert sample.rate_source == "client"
    assert sample.decode_tok_s == pytest.approx(7 / 0.070)
    assert sample.prefill_tok_s == pytest.approx(64 / 0.010)


def test_one_chunk_and_one_token_give_no_decode_rate() -> None:
    usage = {"id": "x", "choices": [], "usage": USAGE}
    assert read_one(stream_of(token("abcdefgh"), STOP, usage, DONE)).decode_tok_s is None
    one = {"id": "x", "choices": [], "timings": {**TIMINGS, "predicted_n": 1, "predicted_ms": 0.001}}
    assert read_one(stream_of(token("a"), STOP, one, DONE), make_cell(output_tokens=1)).decode_tok_s is None


def test_a_prompt_from_the_cache_gives_no_prefill_rate() -> None:
    warm = {"id": "x", "choices": [], "timings": {**TIMINGS, "prompt_n": 1, "cache_n": 63}}
    sample = read_one(stream_of(token("a"), STOP, warm, DONE), make_cell(cache="warm"))
    assert sample.ok
    assert (sample.prompt_tokens, sample.cached_tokens, sample.prefill_tok_s) == (64, 63, None)


GOOD = (ROLE, token("a"), STOP, LAST)


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (stream_of(*GOOD), "truncated", "the stream ended without its proper end: no [DONE]"),
        (
            stream_of(ROLE, token("a"), LAST, DONE),
            "truncated",
            "the stream ended without its proper end: no finish_reason",
        ),
        (
            stream_of(ROLE, token("a"), {"error": {"code": 500, "message": "boom", "type": "server_error"}}, DONE),
            "stream-error",
            "boom",
        ),
        (stream_of(ROLE, "{not json", DONE), "protocol", "an event is not JSON: {not json"),
        (stream_of(ROLE, "[1]", DONE), "protocol", "an event is a list, expected a JSON object"),
        (stream_of(ROLE, '{"id": 1', '"b": 2}', DONE), "protocol", 'an event is not JSON: {"id": 1'),
        (stream_of(*GOOD, DONE, "{not json", failure=Failure("truncated", "cut")), "truncated", "cut"),
        (
            stream_of(ROLE, token("a"), failure=Failure("stalled", "no byte for 60 s")),
            "stalled",
            "no byte for 60 s",
        ),
        (
            answer_of(b'{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}', status=503),
            "status",
            "503: Loading model",
        ),
        (answer_of(b'{"src":"llama-swap","error":"no such model"}', status=404), "status", "404: no such model"),
        (answer_of(b"<html>\n  Bad   gateway", status=502), "status", "502: Bad gateway"),
        (answer_of(b"", status=500), "status", "500: no body"),
        (
            ServerAnswer(sent_at=0.0, sent_ns=0, failure=Failure("connect", "refused")),
            "connect",
            "refused",
        ),
        (ServerAnswer(sent_at=0.0, sent_ns=0), "connect", "no answer"),
        (
            stream_of(ROLE, *WORDS, STOP, {**LAST, "timings": {**TIMINGS, "prompt_n": 65}, "usage": {}}, DONE),
            "prompt-length",
            "the server counted 65 tokens in a prompt of 64 tokens",
        ),
        (
            stream_of(ROLE, token("a"), STOP, DONE),
            "protocol",
            "the server sends no usage while it streams, though stream_options.include_usage asks for it, so that "
            "nothing can be counted; update the server, or measure it through one that counts",
        ),
        (
            stream_of(ROLE, *WORDS, STOP, {**LAST, "timings": {**TIMINGS, "prompt_n": 4, "cache_n": 60}}, DONE),
            "cached",
            "cache: cold, but the server took 60 prompt tokens from its cache",
        ),
        (
            stream_of(ROLE, *WORDS[:3], STOP, {**LAST, "timings": {**TIMINGS, "predicted_n": 3}, "usage": {}}, DONE),
            "output-length",
            "3 of 8 tokens came (finish_reason length); the context has no room for more: ask for fewer output_tokens, "
            "or give the server more context",
        ),
        (
            stream_of(ROLE, *WORDS[:3], EOS, {**LAST, "timings": {**TIMINGS, "predicted_n": 3}, "usage": {}}, DONE),
            "output-length",
            "3 of 8 tokens came (finish_reason stop): the model ended by itself; say length: natural in the suite, "
            "which measures answers as long as they are, or ask for fewer output_tokens",
        ),
        (
            stream_of(
                ROLE, *WORDS * 2, STOP, {**LAST, "usage": {**USAGE, "completion_tokens": 16}, "timings": {}}, DONE
            ),
            "output-length",
            "16 tokens came, 8 were asked for; this server does not keep to max_tokens",
        ),
        (
            stream_of(ROLE, *WORDS * 2, STOP, LAST, DONE),
            "output-length",
            "16 pieces of text came, the server counts 8 tokens",
        ),
        (
            stream_of(ROLE, *WORDS, STOP, LAST, DONE, {"error": {"message": "slot lost"}}),
            "stream-error",
            "slot lost",
        ),
        (
            answer_of(b"<html><h1>Log in</h1>"),
            "truncated",
            "expected a stream of events, got no content type: <html><h1>Log in</h1>",
        ),
    ],
)
def test_failures(answer: ServerAnswer, kind: str, text: str) -> None:
    sample = read_one(answer)
    assert (sample.failure, sample.failure_text) == (kind, text)


def test_the_first_failure_stands() -> None:
    """A stream that reports an error and then breaks off failed for the error."""
    answer = stream_of(ROLE, {"error": "out of memory"}, failure=Failure("truncated", "connection closed"))
    assert read_one(answer).failure == "stream-error"


def test_long_error_texts_are_cut() -> None:
    sample = read_one(answer_of(b"x" * 5000, status=500))
    assert sample.failure_text is not None
    assert len(sample.failure_text) <= 310
    assert sample.failure_text.endswith("…")


EMBEDDING = make_cell(kind="embedding", output_tokens=None)


def test_embedding() -> None:
    body = {"data": [{"embedding": [0.1, 0.2], "index": 0}], "usage": {"prompt_tokens": 64, "total_tokens": 64}}
    sample = read_one(answer_of(json.dumps(body).encode()), EMBEDDING)
    assert sample.ok
    assert sample.embed_tok_s == pytest.approx(64 / 0.020)
    assert (sample.ttft_ms, sample.e2e_ms, sample.rate_source) == (None, 20.0, "client")


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        (b"{}", "protocol", "not an embeddings answer: {}"),
        (b"nonsense", "protocol", "is not JSON: nonsense"),
        (b'{"data": []}', "protocol", "the answer has no embedding"),
        (b'{"data": [{"embedding": []}]}', "protocol", "the answer has no embedding"),
        (
            b'{"data": [{"embedding": [1]}]}',
            "protocol",
            "the answer has no usage, so that its tokens cannot be counted",
        ),
        (b'{"data": [{"embedding": [1]}], "usage": [1]}', "protocol", "usage is a list, expected an object"),
        (b'{"data": [{"embedding": ["a"]}], "usage": {}}', "protocol", "data[0].embedding holds a, expected numbers"),
        (b'{"data": [7]}', "protocol", "the answer has no embedding"),
        (b"[" * 90_000, "protocol", "is nested more than 64 levels deep"),
    ],
)
def test_embedding_failures(body: bytes, kind: str, text: str) -> None:
    sample = read_one(answer_of(body), EMBEDDING)
    assert (sample.failure, sample.failure_text) == (kind, text)


def test_a_broken_embedding_keeps_its_cause() -> None:
    sample = read_one(answer_of(b"{", failure=Failure("timeout", "took too long")), EMBEDDING)
    assert (sample.failure, sample.failure_text) == ("timeout", "took too long")


def test_tokens_read_late_and_at_once_are_blurred() -> None:
    texts = [json.dumps(event) for event in (token("a"), token("b"), token("c"), token("d"), STOP, LAST)]
    body = "".join(f"data: {text}\n\n" for text in [*texts, DONE]).encode()
    ends = [match.end() for match in re.finditer(rb"\n\n", body)]
    # a and b came in one read that was 5 ms late; c and d in one that was not.
    arrivals = (
        Arrival(ends[1], 10_000_000, 5_000_000),
        Arrival(ends[3], 20_000_000, 20_000),
        Arrival(len(body), 30_000_000, 9_000_000),
    )
    sample = read_one(answer_of(body, arrivals))
    assert sample.chunk_ms == (10.0, 10.0, 20.0, 20.0)
    assert sample.blurred_chunks == 1
    # a came with b: late by two tokens at the pace of the stream; d came with what follows it, and was read in time
    assert (sample.first_late_ms, sample.last_late_ms) == (pytest.approx(2 * 10 / 3), 0.0)
