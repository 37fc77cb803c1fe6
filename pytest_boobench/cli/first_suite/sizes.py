"""Door 2: prompts and outputs of a first suite: within the context, and long enough to be judged."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pytest_boobench.cli.first_suite.discovery import Chosen
from pytest_boobench.metrics import Kind
from pytest_boobench.units import quantity

PROMPT_MS, OUTPUT_MS = 100, 200
"""Shorter prompts and outputs scatter more than what a gate is to see."""
_PROMPT_TOKENS: dict[Kind, int] = {"chat": 512, "embedding": 128}
"""Where nobody measured."""
_LONGEST: dict[Kind, int] = {"chat": 8192, "embedding": 512}
"""llama.cpp embeds no more than 512 tokens where nobody asks for larger batches."""
_LONGER = 4
"""How many times as long the second prompt is."""
_OUTPUT_TOKENS = 128
_LANES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """A grid, and why it is as it is, in words."""

    prompt_tokens: tuple[int, ...]
    prompt_reason: str
    output_tokens: int | None
    """Blank for embeddings."""
    output_reason: str
    concurrency: tuple[int, ...]
    lanes_reason: str
    too_long: tuple[int, ...]
    """Prompts of which several at once may not fit. llama.cpp's slots share one context where nobody said how many
    there are to be, and no answer of the server tells whether they do."""


def choose_sizes(model: Chosen) -> Sizes:
    """The grid for a model's first suite."""
    output, output_reason = (None, "") if model.kind == "embedding" else _choose_output(model)
    prompts, prompt_reason = _choose_prompts(model, output or 0)
    slots = _LANES if model.facts.slots is None else min(_LANES, model.facts.slots)
    lanes = _limit_lanes(model, prompts[0] + (output or 0), slots)
    shared = _find_shared(model)
    return Sizes(
        prompt_tokens=prompts,
        prompt_reason=prompt_reason,
        output_tokens=output,
        output_reason=output_reason,
        concurrency=(1, lanes) if lanes > 1 else (1,),
        lanes_reason="requests in flight at once" if lanes == slots else f"more may not fit into {shared} tokens",
        too_long=tuple(
            length for length in prompts if lanes > 1 and shared and lanes * (length + (output or 0)) > shared
        ),
    )


def _limit_lanes(model: Chosen, shortest: int, lanes: int) -> int:
    """So many that requests of the shortest size fit into a slot's context all at once, see `Sizes.too_long`."""
    return max(1, min(lanes, (_find_shared(model) or lanes * shortest) // shortest))


def _find_shared(model: Chosen) -> int | None:
    """The context that slots may have to share, tokens."""
    return None if model.facts.slots is None else model.facts.n_ctx


def _choose_output(model: Chosen) -> tuple[int, str]:
    speed = model.speed.decode_tok_s if model.speed else None
    if speed is None:
        wanted, reason = _OUTPUT_TOKENS, f"should take {OUTPUT_MS} ms or more: boobench init --measure finds out"
    else:
        wanted = _round_up(OUTPUT_MS / 1000 * speed)
        reason = f"take {quantity(wanted / speed * 1000, 'ms')} at the {quantity(speed, 'tok/s')} that were seen"
    n_ctx = model.facts.n_ctx
    if n_ctx is not None and wanted > n_ctx // 4:
        return max(1, n_ctx // 4), f"leave room for prompts in {n_ctx} tokens of context"
    return wanted, reason


def _choose_prompts(model: Chosen, output_tokens: int) -> tuple[tuple[int, ...], str]:
    """One length, and a longer one where there is room for it."""
    speed = model.speed.prompt_tok_s if model.speed else None
    base = _PROMPT_TOKENS[model.kind] if speed is None else _round_up(PROMPT_MS / 1000 * speed)
    room = _LONGEST[model.kind]
    for context in (model.facts.n_ctx, model.facts.n_ctx_train):
        if context is not None:
            room = max(1, min(room, context - output_tokens))
    lengths = tuple(length for length in (base, _LONGER * base) if length <= room) or (_round_down(room),)
    if model.facts.n_ctx is None and model.ready is False:
        together = _LANES * (base + output_tokens)
        return (base,), f"its context is not known before it is loaded: {together} tokens must fit"
    if model.facts.n_ctx is None:
        return lengths, f"the server does not tell its context: {lengths[-1] + output_tokens} tokens must fit"
    return lengths, f"{model.facts.n_ctx} tokens of context have room for them"


def _round_up(tokens: float) -> int:
    """The next power of two, 32 at least."""
    return int(2 ** math.ceil(math.log2(max(32.0, tokens))))


def _round_down(tokens: int) -> int:
    """The power of two below."""
    return 1 << (tokens.bit_length() - 1)
