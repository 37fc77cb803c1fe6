"""Ollama's own answers -> the words that ``chunks`` reads: nanoseconds to milliseconds, lines to OpenAI chunks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pytest_boobench import wire
from pytest_boobench.servers.chunks import DONE, Chunk, load
from pytest_boobench.servers.claims import EVALUATED_UNKNOWN
from pytest_boobench.untrusted import Fault, get_count, get_number, get_object, parse_json, show


def read_lines(exchange: wire.Exchange) -> list[wire.Event]:
    """The lines of an answer that are not blank, in order; a line was there when the last byte before its end was.

    A last line without an end counts where the answer is whole, and is dropped where it was cut short.
    """
    lines = exchange.body.split(b"\n")
    rest = lines.pop()
    if exchange.complete:
        lines.append(rest)
    messages = []
    begin = 0
    for line in lines:
        if text := line.strip():
            messages.append(wire.Message(text.decode("utf-8", "replace"), "message", begin + len(line.rstrip())))
        begin += len(line) + 1
    return wire.stamp_messages(exchange, messages, line_ends=len("\n"))


_NS_PER_MS = 1_000_000
_RAW = (
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_cached_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the request was, as far as the counts of its answer depend on it."""

    prompt_tokens: int
    slack: int
    """By how many tokens the prompt may be off."""
    cold: bool
    """Whether no token of it may come from the cache."""


def list_chunks(exchange: wire.Exchange, asked: Asked | None = None) -> Iterator[Chunk]:
    """The lines of a stream as OpenAI chunks, with their arrivals, and `DONE` after the last of a whole one."""
    for line in read_lines(exchange):
        yield _translate(load(line.data), asked), line
    if exchange.complete:
        yield DONE, wire.Event(DONE, "message", exchange.e2e_ms)


def translate_embedding(body: bytes) -> bytes:
    """An answer of ``/api/embed`` as one of ``/v1/embeddings``; what is none stays as it is."""
    try:
        said = parse_json(body)
        data = [{"embedding": vector} for vector in said["embeddings"]]
        return json.dumps({"data": data, "usage": {"prompt_tokens": said.get("prompt_eval_count")}}).encode()
    except (ValueError, KeyError, TypeError, AttributeError):
        return body


def _translate(said: Any, asked: Asked | None) -> Any:
    if not isinstance(said, Mapping) or "error" in said:
        return said
    try:
        return _make_chunk(said, asked)
    except Fault as fault:
        return fault


def _make_chunk(said: Mapping[str, Any], asked: Asked | None) -> dict[str, Any]:
    message = get_object(said, "message") or said
    delta = {
        "content": message.get("content") or message.get("response"),
        "reasoning_content": message.get("thinking"),
        "tool_calls": message.get("tool_calls"),
    }
    choice: dict[str, Any] = {"delta": delta, "finish_reason": None}
    chunk: dict[str, Any] = {"id": "ollama", "choices": [choice]}
    if said.get("done"):
        choice["finish_reason"] = said.get("done_reason") or "stop"
        chunk["usage"], chunk["timings"] = _read_end(said, asked)
    return chunk


def _read_end(said: Mapping[str, Any], asked: Asked | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """(usage, timings): Ollama's numbers as they came, and beside them those in milliseconds under llama.cpp's names.

    ``eval_duration`` is llama.cpp's ``predicted_ms``: it begins with the first token. Ollama leaves out what is zero.
    """
    timings: dict[str, Any] = {name: said[name] for name in _RAW if name in said}
    prompt_tokens, cached, evaluated = count_prompt(said, asked)
    eval_count = get_count(said, "eval_count")
    durations = {"load_ms": "load_duration", "prompt_ms": "prompt_eval_duration", "predicted_ms": "eval_duration"}
    for ours, theirs in durations.items():
        needed = theirs == "eval_duration" and (eval_count or 0) > 1
        needed = needed or (theirs == "prompt_eval_duration" and (evaluated or 0) > 1)
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
    """(tokens of the prompt, of them from the cache, of them evaluated), in each dialect of Ollama's counts.

    ``prompt_eval_count`` is the whole prompt in most versions, only what was evaluated in old ones, and either beside
    ``prompt_eval_cached_count`` since that exists. The length that was asked for tells them apart. A count that leaves
    cached tokens out looks like a prompt that was cut at the context: in a cold cell both are wrong.
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
