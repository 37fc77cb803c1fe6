"""Room 3: the context before the prompts of a cell: evaluated once per lane, then kept by the server's cache.

Each later request proves by the server's own count that its context came from the cache (`servers.answers`). Here the
client's clock checks that count: a server that evaluates the context again takes as long for it as it took at first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pytest_boobench.errors import HostError
from pytest_boobench.measure import Observe
from pytest_boobench.metrics import Sample
from pytest_boobench.servers.clients import Server
from pytest_boobench.servers.prompts import make_nonce, make_seed
from pytest_boobench.suite.cell import Cell
from pytest_boobench.units import quantity, span

_SLACK_MS = 250.0
"""What a request may take besides its tokens without being suspected: a busy machine answers late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilledDepth:
    """The contexts of a cell's lanes, in the server's cache."""

    took_ms: float
    """How long their evaluation took, all lanes together, by the client's clock; 0 for what was in the cache before."""
    tok_s: float | None
    """How fast it was; None if most of it was in the cache before."""
    seeds: frozenset[int]
    """Of our requests."""


async def fill_depth(server: Server, cell: Cell, series: str, observe: Observe) -> FilledDepth:
    """Send each lane's context once, lane after lane, with a prompt that asks for one token.

    Raises HostError where the server has no room for them, or cannot evaluate them in time.
    """
    await _require_room(server, cell)
    lanes = range(cell.concurrency)
    prompts = await server.make_prompts(cell, [make_nonce(series, lane) for lane in lanes])
    whole = _without_depth(cell)
    seeds = [make_seed(series, lane) for lane in lanes]
    took_ms, speeds = 0.0, []
    for lane, prompt in enumerate(prompts):
        observe("warmup", lane, cell.concurrency)
        answer = await server.send(server.call(whole, replace(prompt, seed=seeds[lane])), whole)
        blank = Sample(phase="warmup", lane=lane, index=lane, started_at=answer.sent_at, offset_ms=0.0)
        sample = server.read(blank, answer, whole)
        if not sample.ok or sample.e2e_ms is None:
            raise HostError(f"{cell.host}: depth_tokens: {_explain(sample, cell, whole)}")
        evaluated = cell.input_tokens - (sample.cached_tokens or 0)
        missing = max(0, evaluated - cell.prompt_tokens)
        took_ms += sample.e2e_ms * missing / max(evaluated, 1)
        if 2 * missing > cell.depth_tokens:
            speeds.append(evaluated / sample.e2e_ms * 1000)
    return FilledDepth(took_ms=took_ms, tok_s=min(speeds, default=None), seeds=frozenset(seeds))


async def _require_room(server: Server, cell: Cell) -> None:
    """Raise HostError if a slot's context is known to be too small, or if there are fewer slots than lanes."""
    facts = await server.model_facts(cell.model)
    output = cell.output_tokens or 0
    needed = cell.input_tokens + output
    if facts.n_ctx is not None and needed > facts.n_ctx:
        raise HostError(
            f"{cell.host}: depth_tokens: a request needs {needed} tokens of context ({cell.depth_tokens} of depth, "
            f"{cell.prompt_tokens} of the prompt, {output} of output), and a slot has {facts.n_ctx}; start the server "
            "with more context (llama-server: a larger -c, or a smaller -np), or ask for a smaller depth"
        )
    if facts.cache_block is not None and cell.depth_tokens < facts.cache_block:
        raise HostError(
            f"{cell.host}: depth_tokens: the server's cache keeps whole blocks of {facts.cache_block} tokens, and so "
            f"nothing of {cell.depth_tokens}; ask for {facts.cache_block} or a multiple of it"
        )
    if facts.slots is not None and cell.concurrency > facts.slots:
        raise HostError(
            f"{cell.host}: depth_tokens: {cell.concurrency} lanes keep a context each, and the server has "
            f"{facts.slots} slots to keep one; start it with -np {cell.concurrency}, or lower grid.concurrency"
        )


def _without_depth(cell: Cell) -> Cell:
    """A cell whose one request is context and prompt, and may take from the cache what there is.

    Nothing may come for as long as the evaluation takes: only the whole request has a time limit.
    """
    limits = cell.plan.timeouts
    patient = {name: max(getattr(limits, name), limits.request_s) for name in ("first_byte_s", "stall_s")}
    return replace(
        cell,
        prompt_tokens=cell.input_tokens,
        depth_tokens=0,
        cache="warm",
        output_tokens=1,
        concurrency=1,
        plan=cell.plan.model_copy(update={"timeouts": limits.model_copy(update=patient)}),
    )


def _explain(sample: Sample, cell: Cell, whole: Cell) -> str:
    if sample.failure in ("timeout", "stalled"):
        limit_s = whole.plan.timeouts.request_s
        return (
            f"{cell.depth_tokens} tokens of context were not evaluated in {span(limit_s)}; give them more time with "
            f"timeouts: {{request: {math.ceil(2 * limit_s)}s}} in the suite, or ask for a smaller depth"
        )
    return f"{sample.failure}: {sample.failure_text}"


def require_cache(filled: FilledDepth | None, samples: Sequence[Sample], cell: Cell) -> None:
    """Raise HostError if even the fastest first token came too late for a context that was in the cache.

    A prompt's tokens may take twice as long at this depth as those of the context did on average, and those of all
    lanes may come first. With half of the context beside them, the context was evaluated again.
    """
    times = [sample.ttft_ms for sample in samples if sample.ok and sample.ttft_ms is not None]
    if filled is None or filled.tok_s is None or not times:
        return
    tokens = 2 * cell.prompt_tokens * cell.concurrency + cell.depth_tokens / 2
    if min(times) <= tokens / filled.tok_s * 1000 + _SLACK_MS:
        return
    again_ms = cell.input_tokens / filled.tok_s * 1000
    raise HostError(
        f"{cell.host}: depth_tokens: the server says that {cell.depth_tokens} tokens came from its cache, and no first "
        f"token came before {quantity(min(times), 'ms')}, while evaluating all tokens takes it "
        f"{quantity(again_ms, 'ms')}: it evaluates them again, and its count cannot be right"
    )
