"""Depth, turns, rates, own prompts, quality, drafts and capacity on a vLLM, held against its own counters."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pytest_boobench.hosts.watcher import sum_metrics
from tests.real.report import median, number, show_sessions, show_step, table
from tests.real.serving import Running
from tests.real.trying import HOST, Place, Session
from tests.real.vllm_bench import MODEL

_FIXED = {"temperature": 0.0, "seed": 42}
_COUNTERS = {
    "requests": "vllm:request_success_total",
    "prompt tokens": "vllm:prompt_tokens_total",
    "cached": "vllm:prefix_cache_hits_total",
    "generated": "vllm:generation_tokens_total",
    "steps with drafts": "vllm:spec_decode_num_drafts_total",
    "drafted": "vllm:spec_decode_num_draft_tokens_total",
    "accepted": "vllm:spec_decode_num_accepted_tokens_total",
}
_LOGGED_DRAFTS = re.compile(
    r"Mean acceptance length: ([\d.]+).*Accepted: (\d+) tokens, Drafted: (\d+) tokens", re.IGNORECASE
)


def _suite(name: str, grid: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"suite": name, "models": [MODEL], "grid": dict(grid), "sampling": _FIXED, **more}


DEPTH = _suite(
    "depth",
    {"prompt_tokens": [64], "output_tokens": [64], "depth_tokens": [0, 512, 2048], "concurrency": [1, 2]},
    samples=8,
)
DEPTH_OF_TEXT = _suite(
    "depth-completion",
    {"prompt_tokens": [64], "output_tokens": [64], "depth_tokens": [512, 2048]},
    kind="completion",
    samples=8,
)
TURNS = _suite(
    "turns",
    {"prompt_tokens": [256], "output_tokens": [24]},
    turns=4,
    samples=48,
    gate={
        "decode_tok_s": "10%",
        "ttft_ms.turn[last]": "<= 3 x turn[2]",
        "cached_share.turn[last]": {"at_least": "0.9 x turn[2]"},
    },
)
RATES = _suite(
    "rates",
    {"prompt_tokens": [64], "output_tokens": [16]},
    rate=[1, 3],
    duration="20s",
    slo={"ttft_ms": 500, "itl_ms": 100},
    gate={"slo_share": {"at_least": "95%"}},
)
OWN = _suite("own", {"output_tokens": [16]}, prompts="own.jsonl", samples=12)
OWN_LINES = (
    {"text": "Write a haiku about a slow computer."},
    {
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}],
        "output_tokens": 32,
    },
    {"prompt_tokens": 300},
)
QUALITY = _suite(
    "quality", {"prompt_tokens": [64], "output_tokens": [32]}, quality="kld", samples=8, gate={"kld": {"at_most": 0.01}}
)
DRAFTS = _suite("drafts", {"prompt_tokens": [256], "output_tokens": [128], "concurrency": [1, 2]}, samples=12)
LONG = _suite("long", {"prompt_tokens": [1024], "output_tokens": [512], "concurrency": [2]}, samples=4)


def read_counters(running: Running) -> dict[str, float]:
    """vLLM's own counts, by our names of them."""
    connection = http.client.HTTPConnection(urlsplit(running.url).netloc, timeout=30)
    connection.request("GET", "/metrics")
    values = sum_metrics(connection.getresponse().read().decode())
    connection.close()
    return {name: values[counter] for name, counter in _COUNTERS.items() if counter in values}


def try_suites(
    place: Place, running: Running, suites: Mapping[str, Mapping[str, Any]], *arguments: str
) -> Iterator[str]:
    """A session for each suite in an existing place, and vLLM's counters beside the samples."""
    for name in suites:
        before = read_counters(running)
        session = place.session(f"{name}.boobench.yaml", *arguments)
        after = read_counters(running)
        yield f"#### {name}"
        yield ""
        yield from show_sessions({name: session})
        yield from _count(session, before, after)
        yield from show_step(session.step, lines=80)


def _count(session: Session, before: Mapping[str, float], after: Mapping[str, float]) -> Iterator[str]:
    """The samples' sums, warm-up included, and what vLLM counted meanwhile.

    vLLM's are higher by the plugin's own questions: contexts that are filled, and the canary.
    """
    samples = [sample for cell in session.cells for sample in cell.get("samples", ())]
    cached = sum(sample.get("cached_tokens") or 0 for sample in samples)
    ours = {
        "requests": len(samples),
        "prompt tokens": cached + sum(sample.get("prompt_tokens") or 0 for sample in samples),
        "cached": cached,
        "generated": sum(sample.get("output_tokens") or 0 for sample in samples),
    }
    rows = [[name, str(ours.get(name, "–")), number(after[name] - before[name])] for name in after]
    yield from table(("count", "samples", "vLLM"), rows)
    for cell in session.cells:
        kept = {name: median(cell, name) for name in ("cached_share", "accepted_len", "draft_accept_share", "kld")}
        kept |= {name: median(cell, name) for name in ("slo_share", "goodput_rps")}
        shown = ", ".join(f"{name} {number(value)}" for name, value in kept.items() if value is not None)
        yield f"- {cell['node_id']}: {shown}; hardware {cell.get('hardware')}; blanks {cell.get('blanks')}"
    yield ""


def logged_drafts(log: Path) -> Iterator[str]:
    """What vLLM's log says of drafts, added up."""
    found = _LOGGED_DRAFTS.findall(log.read_text(errors="replace"))
    accepted, drafted = (sum(int(line[at]) for line in found) for at in (1, 2))
    yield f"vLLM's log, {len(found)} lines: {accepted} of {drafted} draft tokens accepted"
    yield from (f"- mean acceptance length {line[0]}: {line[1]} of {line[2]}" for line in found)
    yield ""


def make_place(folder: Path, host: Mapping[str, Any], suites: Sequence[Mapping[str, Any]]) -> Place:
    """A folder with the suites, and the own prompts beside them."""
    place = Place(folder)
    place.write(host, suites)
    (place.folder / "own.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in OWN_LINES))
    return place


def search_capacity(place: Place) -> Iterator[str]:
    """``boobench capacity``, short probes."""
    limits = ("--slo", "ttft_ms=1000", "--prompt-tokens", "64", "--output-tokens", "16")
    step = place.boobench("capacity", HOST, "--model", MODEL, *limits, "--duration", "8s", "--probes", "6")
    yield from show_step(step, lines=60)
