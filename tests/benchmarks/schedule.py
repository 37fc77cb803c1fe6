"""When a stream's events are due, and the bytes of llama.cpp's chat stream with room for the truth in them."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_CHUNK = {"id": "chatcmpl-truth", "object": "chat.completion.chunk", "created": 1_795_500_000, "model": "truth"}
_HOLE = "%19d"
"""Where a nanosecond is filled in, always as wide, so that the length of an event is known before its time."""
_MARK = 8_888_888_888_888_888_888
"""Stands where a hole will be; nothing else in an event is this number."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """One stream: the first event after ``ttft_ms``, the others ``gap_ms`` apart, each moved by up to ``jitter_ms``."""

    ttft_ms: float = 50.0
    gap_ms: float = 10.0
    tokens: int = 64
    jitter_ms: float = 0.0
    tokens_per_event: int = 1

    def token_counts(self) -> list[int]:
        """Tokens of each event, in order; the last one may hold fewer."""
        full, rest = divmod(self.tokens, self.tokens_per_event)
        return [self.tokens_per_event] * full + [rest] * bool(rest)

    def due_ns(self) -> list[int]:
        """When each event is due after the request's arrival, ascending; the same for equal schedules."""
        chance = random.Random(self.tokens)
        count = len(self.token_counts())
        grid_ms = (self.ttft_ms + number * self.gap_ms for number in range(count))
        return sorted(round((at + chance.uniform(-1, 1) * self.jitter_ms) * 1e6) for at in grid_ms)


def read_schedule(body: Mapping[str, Any], default: Schedule) -> Schedule:
    """The schedule that a request's body asks for; ``max_tokens`` counts where it names no ``tokens``."""
    asked = {"tokens": body.get("max_tokens") or body.get("max_completion_tokens")} | dict(body)
    known = {field.name: asked[field.name] for field in fields(Schedule) if asked.get(field.name) is not None}
    return Schedule(**{**asdict(default), **known})


@dataclass(frozen=True, slots=True)
class Script:
    """A schedule as bytes: templates for ``%``, each one send."""

    due_ns: Sequence[int]
    events: Sequence[bytes]
    """Each wants ``sent_ns``; the first brings the role-only delta with it, as llama.cpp's does."""
    end: bytes
    """Finish reason, usage and timings, ``[DONE]``; wants ``sent_ns, asked_ns, read_ns, late_ns``."""


@functools.cache
def write_script(schedule: Schedule, prompt_tokens: int) -> Script:
    """The bytes of one stream but for the nanoseconds."""
    due_ns = schedule.due_ns()
    events = [_delta(content="x" * count, sent_ns=_MARK) for count in schedule.token_counts()]
    events[0] = _delta(role="assistant", content=None) + events[0]
    return Script(due_ns, events, _end(schedule, prompt_tokens, due_ns))


def _delta(finish_reason: str | None = None, sent_ns: int | None = None, **delta: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return _frame({**_CHUNK, "choices": [choice], **({"sent_ns": sent_ns} if sent_ns else {})})


def _end(schedule: Schedule, prompt_tokens: int, due_ns: Sequence[int]) -> bytes:
    tokens, prompt_ms, predicted_ms = schedule.tokens, due_ns[0] / 1e6, (due_ns[-1] - due_ns[0]) / 1e6
    last = {
        "choices": [],
        "usage": usage(prompt_tokens, tokens),
        "timings": {
            "cache_n": 0,
            "prompt_n": prompt_tokens,
            "prompt_ms": prompt_ms,
            "predicted_n": tokens,
            "predicted_ms": predicted_ms,
            "predicted_per_second": (tokens - 1) / predicted_ms * 1000 if predicted_ms else 0.0,
        },
        **dict.fromkeys(("sent_ns", "asked_ns", "read_ns", "late_ns"), _MARK),
    }
    return _delta("length") + _frame({**_CHUNK, **last}) + _frame("[DONE]") + b"0\r\n\r\n"


def usage(prompt_tokens: int, output_tokens: int) -> dict[str, int]:
    """The ``usage`` object of an answer."""
    total = prompt_tokens + output_tokens
    return {"prompt_tokens": prompt_tokens, "completion_tokens": output_tokens, "total_tokens": total}


def _frame(value: object) -> bytes:
    """One server-sent event as one chunk of a chunked body; marks become holes."""
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    data = f"data: {text}\n\n"
    return f"{len(data):x}\r\n{data}\r\n".replace(str(_MARK), _HOLE).encode()
