"""Deterministic text of exactly N tokens, for any tokenizer that counts on request.

The text is a nonce (so that no cache knows it) and then common words. We search for the number of characters. One more
character mostly adds one token or none. So between a text with fewer than N tokens and one with more, there is one with
N. Where a character adds two at once, as the first one of a word may, a mark at the end of the shorter text adds one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable

from pytest_boobench.errors import PromptError

Count = Callable[[str], Awaitable[int]]
"""Text -> tokens of the whole request, with the template."""

_WORDS = (
    "able area army away back ball band bank base bear beat bell best bird blow blue boat body bone book both "
    "burn bush call calm camp card care case cash city clay club coal coat cold cook cool copy corn cost crew "
    "crop dark data date deal deep deer desk door down draw drop dust duty each earn east easy edge else even "
    "ever face fact fair fall farm fast fear feed feel file fill film find fine fire firm fish five flag flat "
    "flow food foot form four free from fuel full fund gain game gate gift girl give glad goal gold good gray "
    "grow hall hand hang hard have head hear heat help here high hill hold hole home hope hour idea inch iron "
    "item join jump just keep kind king knee know lake lamp land last late lead leaf left lend less life lift "
    "like line list live load loan long look loss loud love main make many mark meal mean meat meet mile milk "
    "mind mine miss moon more most move much must name near neck need nest news next nice nine noon nose note "
    "obey once only open over page pain pair park part pass past path pick plan play plus pond pool port post "
    "pull pure push race rain rank rate"
).split()
_OPENINGS = tuple({word[0]: word for word in reversed(_WORDS)}.values())
"""A word for each first letter."""
_LONGEST_TOKEN = 24
"""Characters per token at which the search gives up."""
_TRIES = 40
_MARKS = (",", ".", ";", "?", "!", "1", "q", "Z")
"""Ends of a text that mostly are a token of their own."""


class NoFit(PromptError):  # noqa: N818  # what came of a search
    """No length of text has the requested number of tokens."""


def make_nonce(run_uid: str, number: int) -> str:
    """Return six common words that no other request of any run starts with: 46 bits of SHA-256 over run and number.

    All have four letters, since most of these have the same number of tokens.
    """
    digest = hashlib.sha256(f"{run_uid}/{number}".encode()).digest()
    return " ".join(_WORDS[int.from_bytes(digest[2 * i : 2 * i + 2], "big") % len(_WORDS)] for i in range(6))


def make_opening(number: int) -> str:
    """Return a word whose first letter, and so first token, differs from that of the numbers before and after."""
    return _OPENINGS[number % len(_OPENINGS)]


def make_seed(run_uid: str, number: int) -> int:
    """Return a sampling seed of 31 bits for a request, different from all others."""
    return int.from_bytes(hashlib.sha256(f"{run_uid}/{number}/seed".encode()).digest()[:4], "big") >> 1


def make_text(nonce: str, characters: int) -> str:
    """Return the first characters of the nonce and an endless, fixed series of words; never ends in a blank."""
    words = (_WORDS[step * 67 % len(_WORDS)] for step in range(1, characters // 5 + 2))  # five characters each
    text = " ".join([nonce, *words])[:characters]
    return f"{text[:-1]}s" if text.endswith(" ") else text


async def fit(
    count: Count, tokens: int, nonce: str, *, guess: int | None = None, slack: int = 0, what: str = "prompt_tokens"
) -> str:
    """Find a text that the server counts as exactly ``tokens``, by bracketing its length in characters.

    ``guess`` is the first length to try, ``what`` the field that asks for it. If no length fits, return the nearest
    within ``slack`` tokens. Raises PromptError if the template alone is too long or nothing fits.
    """
    low = low_count = high_count = template = 0
    high: int | None = None
    length = guess or 5 * tokens
    for attempt in range(_TRIES):
        text = make_text(nonce, length)
        counted = await count(text)
        if counted == tokens:
            return text
        if attempt == 0:
            low_count = template = await count("")
            if template > tokens:
                raise PromptError(
                    f"{what}: the chat template alone takes {template} tokens, asked are {tokens}; "
                    f"ask for at least {template + 1}"
                )
        if counted < tokens:
            low, low_count = length, counted
        else:
            high, high_count = length, counted
        if high is None:
            # not longer than its own tokens suggest: if counting runs the model, a text that is too long is an error
            length += max(1, (tokens - counted) * length // max(counted - template, 1))
            if length > _LONGEST_TOKEN * (tokens + 64):
                break
        elif high - low <= 1:
            break
        else:
            # interpolate inside the bracket, but not at its ends, so that it always shrinks
            share = (tokens - low_count) / (high_count - low_count)
            length = min(max(low + round((high - low) * share), low + 1), high - 1)
    near = [(abs(off), at) for off, at in ((low_count - tokens, low), (high_count - tokens, high)) if at]
    if near and min(near)[0] <= slack:
        return make_text(nonce, min(near)[1])
    if marked := await _mark(count, tokens, make_text(nonce, low) if high and low_count == tokens - 1 else ""):
        return marked
    raise NoFit(
        f"{what}: no text of exactly {tokens} tokens found for this model (nearest: {low_count}); "
        f"try {low_count} or another length"
    )


async def _mark(count: Count, tokens: int, text: str) -> str:
    """The text with a mark that makes it as long as asked; empty if none does, or if there is no text."""
    for mark in _MARKS if text else ():
        if await count(f"{text}{mark}") == tokens:
            return f"{text}{mark}"
    return ""
