"""Data of the scripted page: a tree, a history, hosts. Its texts are as bad as those of hosts and models may be."""

from __future__ import annotations

from typing import Any

HOSTILE = "<img src=x onerror=\"document.title='hit'\"><script>document.title='hit'</script>"
T0 = 1_795_000_000.0

HOSTS: list[dict[str, Any]] = [
    {
        "name": "embedded", "kind": "embedded", "url": None, "machine": "here", "reachable": True, "why": None,
        "busy": None, "models": [
            {"name": "tiny", "state": "ready", "vision": True, "embeds": False},
            {"name": "small", "state": "unloaded", "vision": None, "embeds": False},
            {"name": "vectors", "state": "unloaded", "vision": None, "embeds": True},
        ],
    },
    {
        "name": "rack-1", "kind": "llama-swap", "url": "http://10.0.0.5:9292", "machine": None, "reachable": False,
        "why": "no connection within 2 s", "busy": None,
        "models": [{"name": "lost", "state": "unknown", "vision": None, "embeds": None}],
    },
    {
        "name": "rack-2", "kind": "llama-server", "url": "http://10.0.0.6:8080", "machine": "rack-2", "reachable": True,
        "why": None, "busy": {"by": ["a running measurement of this page"]},
        "models": [{"name": HOSTILE, "state": "ready", "vision": None, "embeds": False}],
    },
]  # fmt: skip

SAMPLING: list[dict[str, Any]] = [
    {"name": "temperature", "type": "number", "minimum": 0, "maximum": 5, "default": None},
    {"name": "top_k", "type": "integer", "minimum": 0, "maximum": None, "default": None},
    {"name": "seed", "type": "integer", "minimum": 0, "maximum": None, "default": None},
]

SAMPLE: dict[str, Any] = {
    "ttft_ms": 81.25, "ttfo_ms": 301.5, "prefill_tok_s": 512.3, "decode_tok_s": 23.456, "e2e_ms": 2810.0,
    "prompt_tokens": 41, "cached_tokens": 32, "output_tokens": 64, "accepted_len": None, "draft_accept_share": None,
    "rate_source": "client", "clock": "kernel", "blanks": {},
}  # fmt: skip
TALK = [
    ("start", {"exchange": "x1", "model": "tiny", "host": "embedded"}),
    ("delta", {"text": "The user greets.", "reasoning": True, "at_ms": 40}),
    ("delta", {"text": "Hello ", "reasoning": False, "at_ms": 80}),
    ("delta", {"text": HOSTILE, "reasoning": False, "at_ms": 90}),
    ("live", {"tokens": 12, "tok_s": 23.0}),
    ("done", {"exchange": "x1", "sample": SAMPLE, "finish_reason": "stop", "curl": "curl -d @-", "python": "import httpx",
              "suite": "suite: tried"}),
]  # fmt: skip
DUEL = [
    ("start", {"side": 0, "exchange": "d1", "model": None, "host": None, "seed": 7}),
    ("delta", {"side": 0, "text": "Short.", "reasoning": False, "at_ms": 80}),
    ("done", {"side": 0, "exchange": "d1", "sample": SAMPLE, "finish_reason": "stop"}),
    ("start", {"side": 1, "exchange": "d1", "model": None, "host": None, "seed": 7}),
    ("delta", {"side": 1, "text": "A longer answer.", "reasoning": False, "at_ms": 80}),
    ("done", {"side": 1, "exchange": "d1", "sample": SAMPLE | {"decode_tok_s": 25.8016}, "finish_reason": "stop"}),
]  # fmt: skip


def make_cell(suite: str, host: str, model: str, cell: str, **facts: Any) -> dict[str, Any]:
    node_id = f"suites/{suite}.boobench.yaml::{host}::{model}[{cell}]"
    return {"node_id": node_id, "id": cell, "key": cell, "marks": [], "selected": True, "last": None, "estimate_s": None} | facts


def make_last(outcome: str, decode_tok_s: float | None = 45.0) -> dict[str, Any]:
    return {"outcome": outcome, "at": T0, "decode_tok_s": decode_tok_s, "change": None}


def make_tree(cells: int | None = None) -> dict[str, Any]:
    """Seven cells in two suites; or one suite of so many."""
    if cells is not None:
        many = [make_cell("big", "embedded", "tiny", f"pp{number}-tg32-c1", estimate_s=2.0) for number in range(cells)]
        suites = [make_suite("big", {"embedded": {"tiny": many}})]
    else:
        chat = {
            "embedded": {"tiny": [
                make_cell("chat", "embedded", "tiny", "pp64-tg32-c1", last=make_last("pass"), estimate_s=40.0),
                make_cell("chat", "embedded", "tiny", "pp512-tg32-c1", last=make_last("regression", 31.2), estimate_s=65.0),
                make_cell("chat", "embedded", "tiny", "pp512-tg32-c4", last=make_last("improvement", 60.0), estimate_s=80.0),
            ]},
            "rack-1": {"lost": [make_cell("chat", "rack-1", "lost", "pp64-tg32-c1", last=make_last("error", None), marks=["slow"])]},
        }
        vectors = {"embedded": {"vectors": [
            make_cell("vectors", "embedded", "vectors", f"pp{size}-c1", last=make_last("no baseline", None)) for size in (64, 256)
        ] + [make_cell("vectors", "embedded", "vectors", "pp1024-c1")]}}
        suites = [make_suite("chat", chat), make_suite("vectors", vectors)]
    return {"collected_at": T0, "problems": [], "errors": None, "suites": suites}  # fmt: skip


def make_suite(name: str, hosts: dict[str, dict[str, list[dict[str, Any]]]]) -> dict[str, Any]:
    return {
        "name": name, "path": f"suites/{name}.boobench.yaml", "description": None,
        "hosts": [{"name": host, "kind": "embedded" if host == "embedded" else "llama-swap",
                   "models": [{"name": model, "cells": cells} for model, cells in models.items()]}
                  for host, models in hosts.items()],
    }  # fmt: skip


def make_history() -> dict[str, Any]:
    courses = [make_course("pp512-tg32-c1", falls=True), make_course("pp64-tg32-c1", falls=False)]
    metrics = [
        {"key": "decode_tok_s", "title": "decode", "unit": "tok/s", "better": "higher"},
        {"key": "ttft_ms", "title": "TTFT", "unit": "ms", "better": "lower"},
    ]
    filters = {"suites": ["chat", "vectors"], "hosts": ["embedded", "rack-1"], "models": ["tiny"], "metrics": metrics}
    sessions = [
        {"session": f"2026-11-{20 + day}", "started_at": T0 + 86_400 * day, "runs": ["run"], "cells": 12,
         "regressions": day == 1, "improvements": 0, "errors": 0} for day in (1, 0)
    ]  # fmt: skip
    row = {
        "node_id": "suites/chat.boobench.yaml::embedded::tiny[pp512-tg32-c1]", "metric": "decode_tok_s", "unit": "tok/s",
        "was": 45.0, "now": 36.9, "change": -0.18, "low": -0.2, "high": -0.16, "outcome": "regression", "sentence": "slower",
    }  # fmt: skip
    return {
        "filters": filters, "courses": courses, "sessions": sessions,
        "compare": {"a": "2026-11-20", "b": "2026-11-21", "rows": [row, row | {"metric": "ttft_ms", "outcome": "pass"}],
                    "changes": [{"what": "engine build", "was": "b4000", "now": "b4100"}]},
        "tallies": [{"a": "embedded::tiny", "b": "embedded::small", "a_wins": 7, "b_wins": 3, "ties": 1, "both_bad": 0,
                     "n": 11, "share": 0.7, "low": 0.397, "high": 0.892}],
    }  # fmt: skip


def make_course(cell: str, *, falls: bool) -> dict[str, Any]:
    points = [
        {
            "measurement": place, "at": T0 + 86_400 * place, "session": f"2026-11-{place + 1}", "run": "run",
            "value": (value := 45.0 + place % 3 * 0.4 - (8.1 if falls and place > 13 else 0)), "low": value - 1, "high": value + 1,
            "outcome": "no baseline" if place == 0 else "regression" if value < 40 else "pass",
            "flag": "regression" if value < 40 else None, "engine_build": "b4000" if place < 14 else "b4100",
            "git_commit": f"{place // 4:040x}", "baselines": ["main"] if place == 0 else [], "command": "pytest --boobench",
            "level": 45.0 if place else None, "limit": 42.75 if place else None,
        }
        for place in range(18)
    ]  # fmt: skip
    change = {"first": 14, "last": 14, "before": 45.4, "after": 37.3, "at": T0 + 14 * 86_400, "ratio": -0.178,
              "sentence": "−17.8 % at b4100"}  # fmt: skip
    return {
        "key": cell, "node_id": f"suites/chat.boobench.yaml::embedded::tiny[{cell}]", "suite": "chat", "host": "embedded",
        "model": "tiny", "cell": cell, "metric": "decode_tok_s", "unit": "tok/s", "better": "higher", "points": points,
        "baseline": {"name": "main", "level": 45.0, "limit": 42.75}, "changes": [change] if falls else [],
    }  # fmt: skip
