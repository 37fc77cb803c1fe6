"""Prompts behind a context that the server's cache keeps: ``depth_tokens`` that all requests of a lane begin with.

A lane's context is the beginning of one endless text, the same for all cells, depths and runs, so that the next cell
finds it in the cache. It ends with a line's end, where tokenizers part words, so that no token holds the end of the
context and the start of a prompt. The depth is what any two requests of a lane have in common: in a chat, the tokens of
the template before the user's text belong to it, and those after it to the prompt.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from pytest_boobench.errors import HostError
from pytest_boobench.servers.clients import Prompt
from pytest_boobench.servers.control import Ids
from pytest_boobench.servers.prompts import fit, make_nonce, make_opening, make_text
from pytest_boobench.suite.cell import Cell

Tokenize = Callable[[str], Awaitable[Ids]]

_LANE_TEXT = "context of lane"
"""All lanes of all runs: the seed of their texts."""
_PROBES = (make_opening(0), make_opening(1))
"""Two prompts that differ in their first letter."""
_OTHER = "zero"
"""A prompt with a first letter that no other has."""
_SHORT_CONTEXT = 64
"""Characters of the context behind which prompts are counted: a whole one would be sent for each try."""
_SIMILAR = 4
"""llama-server gives a request the slot whose content is at least a tenth of it, and otherwise the slot that rested
longest. A context of a quarter of the prompt and more surely finds its slot again."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """The context of one lane: text for a chat, token ids for a completion."""

    text: str = ""
    ids: Ids = ()


@dataclass(slots=True)
class Prefixes:
    """Makes the prompts of cells with a depth, and keeps the contexts that it made for a server."""

    _made: dict[tuple[object, ...], Prefix] = field(default_factory=dict)
    _opened: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Prompts made so far, by model and lane."""
    _proven: set[tuple[object, ...]] = field(default_factory=set)

    async def make_prompts(
        self, cell: Cell, nonces: Sequence[str], tokenize: Tokenize, tokenize_chat: Tokenize
    ) -> list[Prompt]:
        """One prompt per nonce; request number i belongs to lane i modulo the number of lanes.

        ``tokenize`` adds nothing to a text; ``tokenize_chat`` counts a user's message with the chat template. Raises
        PromptError if no exact text is found, HostError if the tokens of a context depend on the prompt behind it.
        """
        nonces = [f"{self._open(cell, number % cell.concurrency)} {nonce}" for number, nonce in enumerate(nonces)]
        lanes = [await self._find(cell, lane, tokenize, tokenize_chat) for lane in range(cell.concurrency)]
        # a server with cache, but without slots, ignores the number
        pinned = cell.concurrency == 1 or _SIMILAR * cell.depth_tokens < cell.prompt_tokens
        if cell.kind == "completion":
            made = await _make_ids(cell, nonces, tokenize)
            prompts = [Prompt(ids=lanes[number % len(lanes)].ids + ids) for number, ids in enumerate(made)]
        else:
            texts = await _make_texts(cell, nonces, tokenize_chat)
            prompts = [Prompt(text=f"{lanes[number % len(lanes)].text}{text}") for number, text in enumerate(texts)]
            for lane, first in enumerate(prompts[: len(lanes)]):
                await self._require_whole(cell, lane, first.text or "", tokenize_chat)
        return [
            Prompt(text=prompt.text, ids=prompt.ids, slot=number % len(lanes) if pinned else None)
            for number, prompt in enumerate(prompts)
        ]

    def _open(self, cell: Cell, lane: int) -> str:
        """A first word: two cold prompts of a lane that follow each other differ from the first letter on."""
        if cell.cache == "warm":
            return make_opening(0)
        self._opened[cell.model, lane] += 1
        return make_opening(self._opened[cell.model, lane])

    async def _find(self, cell: Cell, lane: int, tokenize: Tokenize, tokenize_chat: Tokenize) -> Prefix:
        key = _name(cell, lane)
        if key not in self._made:
            nonce = make_nonce(_LANE_TEXT, lane)
            if cell.kind == "completion":
                ids = await tokenize(make_text(nonce, 8 * cell.depth_tokens + len(nonce)))
                self._made[key] = Prefix(ids=ids[: cell.depth_tokens])
            else:
                self._made[key] = Prefix(text=await _fit_context(cell, nonce, tokenize_chat))
        return self._made[key]

    async def _require_whole(self, cell: Cell, lane: int, text: str, tokenize_chat: Tokenize) -> None:
        """Raise HostError if a whole request is not as long as its parts, or has not the depth in common with others.

        Asked once for each lane and length: the server counts every request again when it answers.
        """
        key = (*_name(cell, lane), cell.prompt_tokens)
        if key in self._proven:
            return
        context = text[: text.index("\n") + 1]
        whole, other = await tokenize_chat(text), await tokenize_chat(f"{context}{_OTHER}")
        common = count_common(whole, other)
        if (len(whole), common) != (cell.input_tokens, cell.depth_tokens):
            raise HostError(
                f"{cell.host}: depth_tokens: this model's tokens change with the text after them: {len(whole)} tokens "
                f"with {common} of them in common, asked are {cell.input_tokens} and {cell.depth_tokens}; measure it "
                "with kind: completion"
            )
        self._proven.add(key)


def _name(cell: Cell, lane: int) -> tuple[object, ...]:
    """What the text of a context depends on; fields of the request may change the chat template's text."""
    fields = json.dumps(cell.request, sort_keys=True, default=str)
    return cell.model, cell.kind, cell.depth_tokens, lane, fields


async def _fit_context(cell: Cell, nonce: str, tokenize_chat: Tokenize) -> str:
    """A text, a line's end included, that adds up to the depth with the template's tokens before it."""

    async def count(text: str) -> int:
        return await _count_common(f"{text}\n", tokenize_chat)

    return f"{await fit(count, cell.depth_tokens, nonce, what='depth_tokens')}\n"


async def _count_common(context: str, tokenize_chat: Tokenize) -> int:
    """How many tokens two requests with this context have in common at their start."""
    one, other = [await tokenize_chat(f"{context}{probe}") for probe in _PROBES]
    return count_common(one, other)


async def _make_texts(cell: Cell, nonces: Sequence[str], tokenize_chat: Tokenize) -> list[str]:
    """Texts of exactly the cell's prompt tokens, with the template's tokens after them."""
    context = f"{make_text(make_nonce(_LANE_TEXT, 0), _SHORT_CONTEXT)}\n"
    before = await _count_common(context, tokenize_chat)

    async def count(text: str) -> int:
        return len(await tokenize_chat(f"{context}{text}")) - before

    made: dict[str, str] = {}
    guess: int | None = None
    for nonce in dict.fromkeys(nonces):
        made[nonce] = await fit(count, cell.prompt_tokens, nonce, guess=guess)
        guess = len(made[nonce])
    return [made[nonce] for nonce in nonces]


async def _make_ids(cell: Cell, nonces: Sequence[str], tokenize: Tokenize) -> list[Ids]:
    """The ids of texts without the first tokens that all texts have, such as a blank's."""
    one, other = [await tokenize(probe) for probe in _PROBES]
    skipped = count_common(one, other)
    length = skipped + cell.prompt_tokens
    made = {
        nonce: (await tokenize(make_text(nonce, 8 * length + len(nonce))))[skipped:length]
        for nonce in dict.fromkeys(nonces)
    }
    return [made[nonce] for nonce in nonces]


def count_common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences have in common at their start."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
