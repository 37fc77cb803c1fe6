"""Door 2: what llama.cpp's servers tell beyond what sessions need, and how fast a loaded model is, roughly."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import httpx

from pytest_boobench.aggregate import median_of, summarize
from pytest_boobench.errors import HostError
from pytest_boobench.facts import ModelFacts
from pytest_boobench.hosts.open_host import choose
from pytest_boobench.measure.block import make_calls, read_answers, require_good, run_calls
from pytest_boobench.metrics import Kind
from pytest_boobench.servers.clients import Server
from pytest_boobench.servers.llama_server import LlamaRouter, LlamaServer
from pytest_boobench.suite.cell import Cell, Plan
from pytest_boobench.untrusted import Fault, parse_json, to_object, to_objects

Embeddings = Literal["on", "off", "unpooled"]
"""Unpooled: a vector for each token, which OpenAI's interface has no answer for."""

_AUTO_SLOTS = 4
"""What a llama-server without ``--parallel`` has; they share its context."""
_MOST_DIGITS = 9


async def ask_embeddings(server: Server) -> Embeddings | None:
    """By a request without an input, for which no model runs; None for other kinds of server.

    Neither ``/props`` nor ``/v1/models`` says anything of ``--embedding``.
    """
    if server.kind != LlamaServer.kind:
        return None
    try:
        answer = await server.clients.control.post("/v1/embeddings", json={})
    except httpx.HTTPError:
        return None
    if answer.status_code == httpx.codes.NOT_IMPLEMENTED:
        return "off"
    if "input" in answer.text:
        return "on"
    return "unpooled" if "Pooling type 'none'" in answer.text else None


async def read_options(server: Server, facts: ModelFacts) -> ModelFacts:
    """With context and slots by the options that a router will start the model with; else as they are."""
    if server.kind != LlamaRouter.kind or facts.n_ctx is not None:
        return facts
    try:
        listed = parse_json((await server.clients.control.get("/models")).content)
    except (httpx.HTTPError, Fault):
        return facts
    options = find_options(listed, facts.name)
    n_ctx, slots = _read_number(options, "--ctx-size"), _read_number(options, "--parallel")
    if n_ctx is None:
        return facts
    if slots is not None and "--kv-unified" not in options:
        n_ctx //= slots
    return replace(facts, n_ctx=n_ctx, slots=slots or _AUTO_SLOTS)


def find_options(listed: Any, model: str) -> Sequence[str]:
    """A model's command line in a router's list of models, empty where there is none."""
    entries = to_objects(to_object(listed).get("data"))
    entry: Mapping[str, Any] = next((entry for entry in entries if entry.get("id") == model), {})
    options = to_object(entry.get("status")).get("args")
    return [option for option in options if isinstance(option, str)] if isinstance(options, list) else []


def _read_number(options: Sequence[str], name: str) -> int | None:
    """The positive whole number behind an option."""
    if name not in options[:-1]:
        return None
    value = options[options.index(name) + 1]
    return (int(value) or None) if value.isdecimal() and len(value) <= _MOST_DIGITS else None


_REQUESTS = 4
_PROMPT_TOKENS, _OUTPUT_TOKENS = 256, 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Tokens per second as a few requests saw them; blanks are what they did not show."""

    prompt_tok_s: float | None
    """Of the prompt: prefill, or the whole request of an embedding."""
    decode_tok_s: float | None


async def probe(server: Server, host: str, model: str, kind: Kind, n_ctx: int | None) -> Speed:
    """Send the model a few requests, one after the other. HostError where it fails, or others use the host."""
    watcher = choose(server, model)
    try:
        sighting = await watcher.look()
    finally:
        await watcher.close()
    if sighting.in_flight:
        raise HostError(f"{host}: not measured: others use it now: {', '.join(map(str, sighting.in_flight))}")
    cell = _make_cell(host, model, kind, n_ctx)
    calls = await make_calls(server, cell, uuid.uuid4().hex, _REQUESTS)
    taken = await run_calls(server, cell, calls, "measure")
    samples = read_answers(server, cell, taken)
    require_good(samples, taken, cell)
    found = summarize(samples, kind)
    return Speed(
        prompt_tok_s=median_of(found, "embed_tok_s" if kind == "embedding" else "prefill_tok_s"),
        decode_tok_s=median_of(found, "decode_tok_s"),
    )


def _make_cell(host: str, model: str, kind: Kind, n_ctx: int | None) -> Cell:
    """Small enough for the context."""
    room = n_ctx or _PROMPT_TOKENS + _OUTPUT_TOKENS
    prompt_tokens = min(_PROMPT_TOKENS, room * 3 // 4)
    return Cell(
        suite="boobench-init",
        host=host,
        model=model,
        kind=kind,
        prompt_tokens=prompt_tokens,
        output_tokens=None if kind == "embedding" else min(_OUTPUT_TOKENS, room - prompt_tokens),
        concurrency=1,
        sampling={} if kind == "embedding" else {"temperature": 0.0},
        request={},
        cache="cold",
        plan=Plan(samples=_REQUESTS),
        id="probe",
        line=1,
    )
