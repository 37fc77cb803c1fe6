"""Door 2: how fast a loaded model is, roughly: a few requests, sent only where somebody asks for it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from pytest_boobench import measure
from pytest_boobench.aggregate import median_of, summarize
from pytest_boobench.blocks.requests import make_calls, make_load, read_answers, require_sense
from pytest_boobench.errors import HostError
from pytest_boobench.hosts.watching.choose import choose
from pytest_boobench.metrics import Kind
from pytest_boobench.servers.interface import Server
from pytest_boobench.suite.cell import Cell, Plan

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
    taken = await measure.take_samples(make_load(server, cell, calls), lanes=1, count=_REQUESTS)
    samples = read_answers(server, cell, taken)
    require_sense(samples, taken, cell)
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
