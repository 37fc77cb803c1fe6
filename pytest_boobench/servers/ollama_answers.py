"""Ollama's own answers -> the words that ``answers`` reads: nanoseconds to milliseconds, lines to OpenAI chunks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pytest_boobench import wire
from pytest_boobench.servers.ndjson import read_lines

_NS_PER_MS = 1_000_000
_RAW = (
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
)


def read_events(exchange: wire.Exchange, *, cold: bool) -> list[wire.Event]:
    """The lines of a stream as OpenAI chunks, with their arrivals, and ``[DONE]`` after the last of a whole one.

    ``cold`` says that all prompt tokens were evaluated: Ollama counts those from its cache too, but not their time.
    """
    events = [line._replace(data=_translate(line.data, cold=cold)) for line in read_lines(exchange)]
    return [*events, wire.Event("[DONE]", "message", exchange.e2e_ms)] if exchange.complete else events


def translate_embedding(body: bytes) -> bytes:
    """An answer of ``/api/embed`` as one of ``/v1/embeddings``; what is none stays as it is."""
    try:
        said = json.loads(body)
        data = [{"embedding": vector} for vector in said["embeddings"]]
    except (ValueError, KeyError, TypeError):
        return body
    return json.dumps({"data": data, "usage": {"prompt_tokens": said.get("prompt_eval_count")}}).encode()


def _translate(line: str, *, cold: bool) -> str:
    try:
        said = json.loads(line)
    except ValueError:
        return line
    if not isinstance(said, dict) or "error" in said:
        return line
    message = said.get("message") or said
    delta = {
        "content": message.get("content") or message.get("response"),
        "reasoning_content": message.get("thinking"),
        "tool_calls": message.get("tool_calls"),
    }
    chunk: dict[str, Any] = {"id": "ollama", "choices": [{"delta": delta, "finish_reason": None}]}
    if said.get("done"):
        chunk["choices"][0]["finish_reason"] = said.get("done_reason") or "stop"
        chunk["usage"] = {
            "prompt_tokens": said.get("prompt_eval_count"),
            "completion_tokens": said.get("eval_count"),
        }
        chunk["timings"] = _read_timings(said, cold=cold)
    return json.dumps(chunk)


def _read_timings(said: Mapping[str, Any], *, cold: bool) -> dict[str, Any]:
    """Ollama's numbers as they came, and beside them those in milliseconds under llama.cpp's names.

    ``eval_duration`` is llama.cpp's ``predicted_ms``: it begins with the first token.
    """
    timings: dict[str, Any] = {name: said[name] for name in _RAW if name in said}
    durations = {"load_ms": "load_duration", "prompt_ms": "prompt_eval_duration", "predicted_ms": "eval_duration"}
    timings |= {ours: said[theirs] / _NS_PER_MS for ours, theirs in durations.items() if theirs in said}
    if cold and "prompt_eval_count" in said:
        timings["prompt_n"] = said["prompt_eval_count"]
    return timings
