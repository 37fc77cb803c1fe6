"""Contexts before prompts: exact for any tokenizer, and with nothing but them in common."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from itertools import pairwise

import pytest

from pytest_boobench.errors import HostError, PromptError
from pytest_boobench.servers.clients import Prompt
from pytest_boobench.servers.prefixes import Prefixes, count_common
from pytest_boobench.suite.cell import Cell
from tests.making import make_cell

Tokenizer = Callable[[str], list[str]]
BEFORE, AFTER = "<|user|>", "<|end|><|assistant|>"


def by_character(text: str) -> list[str]:
    return list(text)


def by_piece(text: str) -> list[str]:
    """Like a BPE with a pre-tokenizer: a blank belongs to the word after it, a line's end is its own."""
    return re.findall(r"<\|\w+\|>| ?\w{1,3}|\n", text)


def by_blank(text: str) -> list[str]:
    """Like SentencePiece: every text begins with a blank of its own."""
    return ["_", *re.findall(r"<\|\w+\|>| |\w{1,2}|\n", text)]


def from_the_end(text: str) -> list[str]:
    """Cuts from the right, so that each token depends on all text behind it."""
    return [text[max(0, end - 3) : end] for end in range(len(text), 0, -3)][::-1]


class Counting:
    """The two ways to ask a server for the tokens of a text, and what they were asked."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: dict[str, int] = {}
        self.longest = 0
        self.asked = 0

    def ids_of(self, text: str) -> tuple[int, ...]:
        return tuple(self._ids.setdefault(token, len(self._ids)) for token in self._tokenizer(text))

    async def tokenize(self, text: str) -> tuple[int, ...]:
        self.asked += 1
        return self.ids_of(text)

    async def tokenize_chat(self, text: str) -> tuple[int, ...]:
        self.asked += 1
        return self.ids_of(f"{BEFORE}{text}{AFTER}")

    def read(self, prompt: Prompt) -> tuple[int, ...]:
        """The tokens of a whole request."""
        return prompt.ids if prompt.ids is not None else self.ids_of(f"{BEFORE}{prompt.text}{AFTER}")

    def make(self, cell: Cell, names: list[str], prefixes: Prefixes) -> list[tuple[int, ...]]:
        made = asyncio.run(prefixes.make_prompts(cell, names, self.tokenize, self.tokenize_chat))
        return [self.read(prompt) for prompt in made]


@pytest.mark.parametrize("kind", ["chat", "completion"])
@pytest.mark.parametrize("tokenizer", [by_character, by_piece, by_blank])
@pytest.mark.parametrize("depth", [25, 200, 1000])
def test_all_that_requests_of_a_lane_have_in_common_is_the_depth(kind: str, tokenizer: Tokenizer, depth: int) -> None:
    cell = make_cell(kind=kind, depth_tokens=depth, prompt_tokens=40, concurrency=2)
    counting, prefixes = Counting(tokenizer), Prefixes()
    series = [counting.make(cell, [f"{name} word" for name in names], prefixes) for names in ("abcd", "ef", "gh")]
    requests = [request for each in series for request in each]
    assert {len(request) for request in requests} == {depth + 40}
    for lane in (0, 1):
        own = requests[lane::2]
        assert [count_common(one, other) for one, other in pairwise(own)] == [depth] * 3
    assert count_common(requests[0], requests[1]) < depth / 2


@pytest.mark.parametrize("kind", ["chat", "completion"])
def test_a_deeper_context_begins_as_a_shallow_one(kind: str) -> None:
    """Also behind another cell's prompts, and made by another session."""
    shallow = make_cell(kind=kind, depth_tokens=100, prompt_tokens=40)
    deep = make_cell(kind=kind, depth_tokens=400, prompt_tokens=60)
    counting = Counting(by_character)
    (one,), (other,) = counting.make(shallow, ["a"], Prefixes()), counting.make(deep, ["b"], Prefixes())
    assert 99 <= count_common(one, other) <= 100


def test_a_context_is_made_once_and_short_texts_are_counted_behind_it() -> None:
    cell = make_cell(depth_tokens=5000, prompt_tokens=40)
    counting, prefixes = Counting(by_piece), Prefixes()
    counting.make(cell, ["a"], prefixes)
    before = counting.asked
    counting.make(cell, list("bcdefgh"), prefixes)
    assert counting.asked - before <= 7 * 3 + 6


def test_warm_prompts_are_all_equal() -> None:
    cell = make_cell(depth_tokens=100, prompt_tokens=40, cache="warm")
    counting, prefixes = Counting(by_character), Prefixes()
    assert len({*counting.make(cell, ["a", "a"], prefixes), *counting.make(cell, ["a"], prefixes)}) == 1


@pytest.mark.parametrize(
    ("lanes", "depth", "slots"), [(1, 5000, [0, 0, 0]), (2, 5000, [None, None, None]), (2, 9, [0, 1, 0])]
)
def test_a_slot_is_named_where_the_server_would_not_find_it(lanes: int, depth: int, slots: list[int | None]) -> None:
    cell = make_cell(kind="completion", depth_tokens=depth, prompt_tokens=40, concurrency=lanes)
    counting = Counting(by_piece)
    made = asyncio.run(Prefixes().make_prompts(cell, ["a", "b", "c"], counting.tokenize, counting.tokenize_chat))
    assert [prompt.slot for prompt in made] == slots


def test_a_depth_shorter_than_the_template_is_refused() -> None:
    with pytest.raises(
        PromptError, match=r"^depth_tokens: the chat template alone takes 9 tokens, asked are 5; ask for"
    ):
        Counting(by_character).make(make_cell(depth_tokens=5, prompt_tokens=40), ["a"], Prefixes())


def test_tokens_that_depend_on_the_prompt_are_an_error() -> None:
    with pytest.raises(
        (HostError, PromptError), match=r"depth_tokens: (this model's tokens change|no text of exactly)"
    ):
        Counting(from_the_end).make(make_cell(depth_tokens=100, prompt_tokens=41), ["a"], Prefixes())
