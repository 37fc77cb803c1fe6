"""Whatever a server says in its answer: no error of ours, and no rate that the client's clock rules out."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_boobench.metrics import Sample
from pytest_boobench.servers import answers, ollama_answers
from pytest_boobench.servers.answers import Tolerance
from pytest_boobench.servers.clients import ServerAnswer
from pytest_boobench.servers.ollama_answers import Asked
from pytest_boobench.wire import Arrival
from tests.making import make_cell, make_sample
from tests.servers.test_answers import answer_of

PROMPT, TOKENS, TTFT_MS, GAP_MS = 64, 16, 40, 10
"""The truth: 64 tokens in 40 ms are 1,600 tokens per second, and a token every 10 ms are 100."""
CELL = make_cell(prompt_tokens=PROMPT, output_tokens=TOKENS)
TIMINGS = {
    "cache_n": 0,
    "prompt_n": PROMPT,
    "prompt_ms": TTFT_MS - 2.0,
    "predicted_n": TOKENS,
    "predicted_ms": (TOKENS - 1) * GAP_MS * 1.0,
}
USAGE = {"prompt_tokens": PROMPT, "completion_tokens": TOKENS, "total_tokens": PROMPT + TOKENS}
OLLAMA = {
    "prompt_eval_count": PROMPT,
    "prompt_eval_duration": (TTFT_MS - 2) * 1_000_000,
    "eval_count": TOKENS,
    "eval_duration": (TOKENS - 1) * GAP_MS * 1_000_000,
    "load_duration": 1000,
    "total_duration": 10**9,
}
_NUMBERS = st.one_of(
    st.integers(-(10**6), 10**6),
    st.floats(),
    st.sampled_from([0, 0.0, -1, 10**400, 2**63, 1e308, -0.0, True, None, "8", "", [8], {}, {"a": [1]}]),
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_SLOW = settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow], deadline=None)


def timed(texts: list[str], ends: list[int] | None = None) -> ServerAnswer:
    """The texts of an answer, the first when the header came, then a token after 40 ms and one every 10 ms."""
    body, arrivals = b"", []
    for number, text in enumerate(texts):
        body += text.encode("utf-8", "replace")
        at_ms = 1 if number == 0 else TTFT_MS + GAP_MS * min(number - 1, TOKENS - 1)
        arrivals.append(Arrival(len(body), at_ms * 1_000_000))
    return answer_of(body, tuple(arrivals))


def openai_stream(last: Any, *, at: int = -1, chunk: Any = None) -> ServerAnswer:
    """A stream as llama-server sends it, ``last`` at its end, and ``chunk`` in the place of the object at ``at``."""
    role = {"id": "x", "choices": [{"delta": {"role": "assistant", "content": None}, "finish_reason": None}]}
    word = {"id": "x", "choices": [{"delta": {"content": "word"}, "finish_reason": None}]}
    end = {"id": "x", "choices": [{"delta": {}, "finish_reason": "length"}]}
    values = [role, *[word] * TOKENS, end, last]
    if at >= 0:
        values[at] = chunk
    return timed([f"data: {json.dumps(value)}\n\n" for value in values] + ["data: [DONE]\n\n"])


def read(answer: ServerAnswer) -> Sample:
    return answers.read(make_sample(), answer, CELL)


def require_truth(sample: Sample) -> None:
    """Failed with a reason, or each rate right or blank; and in a form that any store can hold."""
    json.dumps(asdict(sample), allow_nan=False)
    if not sample.ok:
        assert sample.failure_text
        return
    for value, truth in ((sample.decode_tok_s, 1000 / GAP_MS), (sample.prefill_tok_s, PROMPT / TTFT_MS * 1000)):
        assert value is None or value == pytest.approx(truth, rel=0.2)
    assert (sample.prompt_tokens, sample.output_tokens) == (PROMPT, TOKENS)


def test_the_truth_is_read() -> None:
    sample = read(openai_stream({"id": "x", "choices": [], "usage": USAGE, "timings": TIMINGS}))
    assert (sample.ok, sample.rate_source, sample.contradiction) == (True, "server", None)
    assert sample.decode_tok_s == pytest.approx(100)
    require_truth(sample)


@_SLOW
@given(st.dictionaries(st.sampled_from(sorted(TIMINGS)), _NUMBERS), st.booleans())
def test_any_number_in_timings(lies: dict[str, Any], with_usage: bool) -> None:
    last = {"id": "x", "choices": [], "timings": {**TIMINGS, **lies}, **({"usage": USAGE} if with_usage else {})}
    require_truth(read(openai_stream(last)))


@_SLOW
@given(st.dictionaries(st.sampled_from(sorted(USAGE)), _NUMBERS), _NUMBERS, _NUMBERS)
def test_any_number_in_usage(lies: dict[str, Any], cached: Any, reasoning: Any) -> None:
    details = {
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }
    sample = read(openai_stream({"id": "x", "choices": [], "usage": {**USAGE, **details, **lies}}))
    if not sample.hidden_tokens:  # of hidden tokens nobody but the server knows
        require_truth(sample)


@_SLOW
@given(st.dictionaries(st.sampled_from([*sorted(OLLAMA), "prompt_eval_cached_count"]), _NUMBERS))
def test_any_number_of_ollama(lies: dict[str, Any]) -> None:
    words = [json.dumps({"message": {"content": "word"}, "done": False}) + "\n"] * TOKENS
    end = json.dumps({"message": {"content": ""}, "done": True, "done_reason": "length", **OLLAMA, **lies}) + "\n"
    asked = Asked(PROMPT, 2, cold=True)
    answer = timed(["\n", *words, end])
    sample = answers.read(
        make_sample(), answer, CELL, Tolerance(2, 0), lambda exchange: ollama_answers.list_chunks(exchange, asked)
    )
    json.dumps(asdict(sample), allow_nan=False)
    if sample.ok and sample.decode_tok_s is not None:
        assert sample.decode_tok_s == pytest.approx(100, rel=0.2)


@_SLOW
@given(st.integers(0, TOKENS + 2), _JSON)
def test_any_chunk_of_a_stream(at: int, chunk: Any) -> None:
    last = {"id": "x", "choices": [], "usage": USAGE, "timings": TIMINGS}
    require_truth(read(openai_stream(last, at=at, chunk=chunk)))


@_SLOW
@given(st.sampled_from(["choices", "delta", "usage", "timings", "finish_reason", "content", "error", "text"]), _JSON)
def test_any_part_of_a_chunk(part: str, value: Any) -> None:
    choice: dict[str, Any] = {"delta": {"content": "word"}, "finish_reason": None}
    chunk: dict[str, Any] = {"id": "x", "choices": [choice]}
    if part in ("delta", "finish_reason", "text"):
        choice[part] = value
    elif part == "content":
        choice["delta"] = {"content": value}
    else:
        chunk[part] = value
    last = {"id": "x", "choices": [], "usage": USAGE, "timings": TIMINGS}
    require_truth(read(openai_stream(last, at=3, chunk=chunk)))


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("predicted_ms", 0.0, "timings.predicted_ms is 0.0, expected a number above 0"),
        ("predicted_ms", -1, "timings.predicted_ms is -1, expected a number above 0"),
        ("predicted_ms", float("nan"), "timings.predicted_ms is nan, expected a number above 0"),
        ("predicted_ms", float("inf"), "timings.predicted_ms is inf, expected a number above 0"),
        ("predicted_ms", "soon", "timings.predicted_ms is soon, expected a number above 0"),
        ("predicted_ms", [1], "timings.predicted_ms is a list, expected a number above 0"),
        ("predicted_ms", None, "timings.predicted_ms is missing, expected a number"),
        ("prompt_ms", 10**400, "timings.prompt_ms is a number of more than 60 digits, expected a number above 0"),
        ("prompt_ms", 0, "timings.prompt_ms is 0, expected a number above 0"),
        ("prompt_n", 1.5, "timings.prompt_n is 1.5, expected a whole number from 0"),
        ("predicted_n", "8", "timings.predicted_n is 8, expected a whole number from 0"),
        ("predicted_n", None, "timings.predicted_n is missing, expected a number"),
    ],
)
def test_a_number_that_cannot_be_is_named(field: str, value: Any, text: str) -> None:
    last = {"id": "x", "choices": [], "usage": USAGE, "timings": {**TIMINGS, field: value}}
    sample = read(openai_stream(last))
    assert (sample.failure, sample.failure_text) == ("protocol", text)


@pytest.mark.parametrize(
    ("chunk", "text"),
    [
        ({"id": "x", "choices": {}}, "choices is an object, expected a list"),
        ({"id": "x", "choices": "a"}, "choices is a, expected a list"),
        ({"id": "x", "choices": ["a"]}, "choices[0] is a, expected an object"),
        ({"id": "x", "choices": [None]}, "choices[0] is null, expected an object"),
        ({"id": "x", "choices": [{"delta": "a"}]}, "choices[0].delta is a, expected an object"),
        ({"id": "x", "choices": [{"delta": {"content": ["a"]}}]}, "delta.content is a list, expected a text"),
        ({"id": "x", "choices": [{"finish_reason": {}}]}, "choices[0].finish_reason is an object, expected a text"),
        ({"id": "x", "usage": [1]}, "usage is a list, expected an object"),
        ({"id": "x", "timings": [1]}, "timings is a list, expected an object"),
        (["a"], "an event is a list, expected a JSON object"),
    ],
    ids=str,
)
def test_a_part_that_is_something_else_is_named(chunk: Any, text: str) -> None:
    last = {"id": "x", "choices": [], "usage": USAGE, "timings": TIMINGS}
    sample = read(openai_stream(last, at=3, chunk=chunk))
    assert (sample.failure, sample.failure_text) == ("protocol", text)


def test_deep_json_is_named() -> None:
    deep = "[" * 900 + "]" * 900
    for text in (deep, f'{{"id": "x", "choices": [], "timings": {{"a": {deep}}}}}', f'{{"error": {deep}}}'):
        sample = read(timed([f"data: {text}\n\n", "data: [DONE]\n\n"]))
        assert (sample.failure, sample.failure_text) == ("protocol", "an event is nested more than 64 levels deep")


def test_more_events_than_an_answer_can_have_are_not_read() -> None:
    word = {"id": "x", "choices": [{"delta": {"content": "x"}, "finish_reason": None}]}
    sample = read(timed([f"data: {json.dumps(word)}\n\n" * 12_000, "data: [DONE]\n\n"]))
    assert (sample.failure, sample.failure_text) == ("protocol", "more than 11,024 events in an answer of 16 tokens")


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["event: error\ndata: out of memory\n\n"], "out of memory"),
        (['event: error\ndata: {"message": "no slot"}\n\n'], "no slot"),
        (['error: {"code": 500, "message": "slot unavailable"}\n\n'], "slot unavailable"),
        (['data: {"error": {"message": "boom"}}\n\n'], "boom"),
        (['data: {"error": "boom"}\n\n'], "boom"),
        (['data: {"error": {"code": 7}}\n\n'], '{"code": 7}'),
    ],
    ids=str,
)
@pytest.mark.parametrize("after", [False, True], ids=["in the middle", "after the last token"])
def test_each_shape_of_an_error_is_a_failure(lines: list[str], text: str, after: bool) -> None:
    word = 'data: {"id": "x", "choices": [{"delta": {"content": "word"}, "finish_reason": null}]}\n\n'
    last = {"id": "x", "choices": [{"delta": {}, "finish_reason": "length"}], "usage": USAGE}
    end = f"data: {json.dumps(last)}\n\n"
    whole = [word] * TOKENS + [end] if after else [word] * 3
    sample = read(timed([*whole, *lines, "data: [DONE]\n\n"]))
    assert (sample.failure, sample.failure_text) == ("stream-error", text)


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ({"prompt_eval_count": 128}, (128, None, 128)),
        ({"prompt_eval_count": 128, "prompt_eval_cached_count": 100}, (128, 100, 28)),
        ({"prompt_eval_count": 28, "prompt_eval_cached_count": 100}, (128, 100, 28)),
        ({"prompt_eval_cached_count": 128}, (128, 128, 0)),
        ({"prompt_eval_count": 127, "prompt_eval_cached_count": 0}, (127, 0, 127)),
        ({"prompt_eval_count": 28}, (28, None, 28)),
        ({}, (None, None, None)),
    ],
    ids=str,
)
def test_ollamas_counts_of_a_cold_prompt(said: dict[str, int], right: tuple[int | None, ...]) -> None:
    assert ollama_answers.count_prompt(said, Asked(128, 2, cold=True)) == right


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ({"prompt_eval_count": 128}, (128, None, None)),
        ({"prompt_eval_count": 28}, (128, 100, 28)),
        ({}, (128, 128, 0)),
        ({"prompt_eval_count": 128, "prompt_eval_cached_count": 100}, (128, 100, 28)),
    ],
    ids=str,
)
def test_ollamas_counts_of_a_warm_prompt(said: dict[str, int], right: tuple[int | None, ...]) -> None:
    assert ollama_answers.count_prompt(said, Asked(128, 2, cold=False)) == right
