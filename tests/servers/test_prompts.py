"""Prompts of exactly N tokens, for tokenizers of every temper."""

from __future__ import annotations

import asyncio
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_boobench.errors import PromptError
from pytest_boobench.servers.prompts import fit, make_nonce, make_text


def by_character(text: str) -> int:
    return len(text)


def by_word(text: str) -> int:
    return len(text.split())


def by_piece(text: str) -> int:
    """Like a BPE: words of up to five letters are one token, longer runs are cut."""
    return len(re.findall(r" ?\w{1,3}", text))


TOKENIZERS = [by_character, by_word, by_piece]


def fitted(tokenizer, tokens: int, nonce: str, overhead: int = 0, guess: int | None = None) -> tuple[str, int]:
    calls = 0

    async def count(text: str) -> int:
        nonlocal calls
        calls += 1
        return tokenizer(text) + overhead

    return asyncio.run(fit(count, tokens, nonce, guess=guess)), calls


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@pytest.mark.parametrize("overhead", [0, 11])
@given(tokens=st.integers(min_value=12, max_value=600), number=st.integers(min_value=0, max_value=10_000))
@settings(max_examples=30)
def test_exact_for_every_tokenizer(tokenizer, overhead: int, tokens: int, number: int) -> None:
    nonce = make_nonce("run", number)
    text, calls = fitted(tokenizer, tokens, nonce, overhead)
    assert tokenizer(text) + overhead == tokens
    assert calls <= 25
    assert make_text(nonce, 10_000).startswith(text[:-1])


def test_a_good_guess_needs_one_try() -> None:
    text, _ = fitted(by_character, 200, make_nonce("run", 0))
    _, calls = fitted(by_character, 200, make_nonce("run", 1), guess=len(text))
    assert calls == 1


def test_nonces_differ_between_runs_and_requests_and_repeat_for_the_same() -> None:
    made = {make_nonce(run, number) for run in ("a", "b") for number in range(500)}
    assert len(made) == 1000
    assert make_nonce("a", 3) == make_nonce("a", 3)
    assert re.fullmatch(r"([a-z]{4} ){5}[a-z]{4}", make_nonce("a", 3))


def test_text_is_a_prefix_of_itself_and_never_ends_in_a_blank() -> None:
    nonce = make_nonce("run", 0)
    whole = make_text(nonce, 500)
    assert len(whole) == 500
    for characters in range(500):
        text = make_text(nonce, characters)
        assert len(text) == characters
        assert whole.startswith(text[:-1])
        assert not text.endswith(" ")


def test_a_template_that_is_too_long_says_what_would_do() -> None:
    with pytest.raises(
        PromptError,
        match=r"^prompt_tokens: the chat template alone takes 20 tokens, asked are 16; ask for at least 21$",
    ):
        fitted(by_character, 16, "nonce", overhead=20)


def test_a_tokenizer_that_counts_in_twos_has_no_odd_text() -> None:
    with pytest.raises(PromptError, match=r"^prompt_tokens: no text of exactly 33 tokens found .*nearest: 32.*$"):
        fitted(lambda text: len(text) // 2 * 2, 33, make_nonce("run", 0))


def test_a_tokenizer_that_never_counts_more_is_given_up() -> None:
    with pytest.raises(PromptError, match=r"no text of exactly 50 tokens found"):
        fitted(lambda text: 3, 50, make_nonce("run", 0))


def test_a_mark_fills_the_gap_where_one_character_adds_two_tokens() -> None:
    """A tokenizer of letters alone adds a blank and the first letter of a word at once."""

    async def count(text: str) -> int:
        return 2 * len(text.split()) + sum(text.count(mark) for mark in ",.;")

    text = asyncio.run(fit(count, 41, "able area army away back ball"))
    assert text.endswith(",")
    assert asyncio.run(count(text)) == 41
