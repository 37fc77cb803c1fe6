"""Ollama's own answers -> OpenAI chunks for ``chunks``, with nanoseconds converted to milliseconds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pytest_boobench import wire
from pytest_boobench.servers.chunks import DONE, Chunk, load
from pytest_boobench.servers.claims import EVALUATED_UNKNOWN
from pytest_boobench.untrusted import Fault, get_count, get_number, get_object, parse_json, show

_NS_PER_MS = 1_000_000
_RAW = (
    "total_duration", "load_duration", "prompt_eval_count", "prompt_eval_cached_count", "prompt_eval_duration",
    "eval_count", "eval_duration",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """The part of the request that the meaning of the answer's counts depends on."""

    prompt_tokens: int
    slack: int
    """By how many tokens the prompt may be off."""
    cold: bool
    """Whether no token of the prompt may come from the cache."""


def read_lines(exchange: wire.Exchange) -> list[wire.Event]:
    """Return the lines of an answer that are not blank. A line arrives with the last byte before its line end.

    A last line without a line end counts only if the answer is complete.
    """
    lines = exchange.body.split(b"\n")
    if not exchange.complete:
        lines.pop()
    messages = []
    begin = 0
    for line in lines:
        if text := line.strip():
            messages.append(wire.Message(text.decode("utf-8", "replace"), "message", begin + len(line.rstrip())))
        begin += len(line) + 1
    return wire.stamp_messages(exchange, messages, line_ends=len("\n"))


def list_chunks(exchange: wire.Exchange, asked: Asked | None = None) -> Iterator[Chunk]:
    """Yield the lines of a stream as OpenAI chunks, with their arrivals, and `DONE` after a complete one."""
    for line in read_lines(exchange):
        said = load(line.data)
        if isinstance(said, Mapping) and "error" not in said:
            try:
                said = _make_chunk(said, asked)
            except Fault as fault:
                said = fault
        yield said, line
    if exchange.complete:
        yield DONE, wire.Event(DONE, "message", exchange.e2e_ms)


def translate_embedding(body: bytes) -> bytes:
    """Convert an answer of ``/api/embed`` to one of ``/v1/embeddings``; return any other body unchanged."""
    try:
        said = parse_json(body)
        data = [{"embedding": vector} for vector in said["embeddings"]]
        return json.dumps({"data": data, "usage": {"prompt_tokens": said.get("prompt_eval_count")}}).encode()
    except (ValueError, KeyError, TypeError, AttributeError):
        return body


def _make_chunk(said: Mapping[str, Any], asked: Asked | None) -> dict[str, Any]:
    message = get_object(said, "message") or said
    delta = {
        "content": message.get("content") or message.get("response"),
        "reasoning_content": message.get("thinking"),
        "tool_calls": message.get("tool_calls"),
    }
    chunk: dict[str, Any] = {"id": "ollama", "choices": [{"delta": delta}]}
    if said.get("done"):
        chunk["choices"][0]["finish_reason"] = said.get("done_reason") or "stop"
        chunk["usage"], chunk["timings"] = _read_end(said, asked)
    return chunk


def _read_end(said: Mapping[str, Any], asked: Asked | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """(usage, timings): Ollama's own numbers, and those in milliseconds under llama.cpp's names.

    ``eval_duration`` is llama.cpp's ``predicted_ms``: it begins with the first token. Ollama omits zeros.
    """
    timings: dict[str, Any] = {name: said[name] for name in _RAW if name in said}
    prompt_tokens, cached, evaluated = count_prompt(said, asked)
    eval_count = get_count(said, "eval_count")
    for ours, theirs, tokens in (
        ("load_ms", "load_duration", None),
        ("prompt_ms", "prompt_eval_duration", evaluated),
        ("predicted_ms", "eval_duration", eval_count),
    ):
        needed = (tokens or 0) > 1
        value = get_number(said, theirs, above=0 if needed else None)
        if value is None and needed:
            raise Fault(f"{theirs} is missing, expected a number above 0")
        if value is not None and value < 0:
            raise Fault(f"{theirs} is {show(value)}, expected a number above 0")
        if value is not None:
            timings[ours] = value / _NS_PER_MS
    usage: dict[str, Any] = {"prompt_tokens": prompt_tokens, "completion_tokens": eval_count}
    if cached is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": cached}
    if "prompt_ms" in timings and "predicted_ms" in timings and eval_count is not None:
        timings["predicted_n"] = eval_count
        if evaluated is None:
            usage[EVALUATED_UNKNOWN] = True
        else:
            timings |= {"prompt_n": evaluated, **({} if cached is None else {"cache_n": cached})}
    return usage, timings


def count_prompt(said: Mapping[str, Any], asked: Asked | None) -> tuple[int | None, int | None, int | None]:
    """Return (prompt tokens, cached ones, evaluated ones), for each possible meaning of Ollama's counts.

    ``prompt_eval_count`` is the whole prompt in most versions, only the evaluated tokens in old ones. Versions with
    ``prompt_eval_cached_count`` have either. The asked length tells them apart. A count without the cached tokens
    looks like a prompt that was cut at the context: in a cold cell both are failures.
    """
    count = get_count(said, "prompt_eval_count")
    told = get_count(said, "prompt_eval_cached_count")
    if asked is None:
        return count, told, None

    def fits(tokens: int) -> bool:
        return abs(tokens - asked.prompt_tokens) <= asked.slack

    if told is not None:
        whole = count or 0
        if not fits(whole) and fits(whole + told):
            return whole + told, told, whole
        return whole, told, max(whole - told, 0)
    if not asked.cold and (count or 0) + asked.slack < asked.prompt_tokens:
        return asked.prompt_tokens, asked.prompt_tokens - (count or 0), count or 0
    return count, None, count if asked.cold else None
