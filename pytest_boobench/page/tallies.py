"""Door 3: votes on the answers of models, counted for each pair, with an interval."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from pytest_boobench.page.past_types import Tally
from pytest_boobench.record import Vote

_WILSON_Z = 1.959964


def name_side(side: Mapping[str, str]) -> str:
    """``host::model``."""
    return f"{side['host']}::{side['model']}"


def count_votes(votes: Sequence[Vote]) -> list[Tally]:
    """A tally for each pair with a vote. The winner among several wins against each other side."""
    found: dict[tuple[str, str], list[str]] = {}
    for vote in votes:
        for first, second, word in _list_pairs(vote):
            a, b = sorted((first, second))
            swapped = {"a": "b", "b": "a"}.get(word, word)
            found.setdefault((a, b), []).append(word if (a, b) == (first, second) else swapped)
    return [make_tally(a, b, words) for (a, b), words in sorted(found.items())]


def _list_pairs(vote: Vote) -> Iterator[tuple[str, str, str]]:
    """(first, second, word) for each pair of different sides that the vote says something of."""
    for (place, first), (other, second) in combinations(enumerate(map(name_side, vote.sides)), 2):
        letters = {"abcd"[place]: "a", "abcd"[other]: "b"}
        word = letters.get(vote.vote, vote.vote if vote.vote in ("tie", "both bad") else None)
        if word is not None and first != second:
            yield first, second, word


def make_tally(a: str, b: str, words: Sequence[str]) -> Tally:
    """The tally of a pair; each word is one vote."""
    a_wins, b_wins = words.count("a"), words.count("b")
    low, high = find_wilson(a_wins, a_wins + b_wins)
    return Tally(
        a=a,
        b=b,
        a_wins=a_wins,
        b_wins=b_wins,
        ties=words.count("tie"),
        both_bad=words.count("both bad"),
        n=len(words),
        share=a_wins / (a_wins + b_wins) if a_wins + b_wins else None,
        low=low,
        high=high,
    )


def find_wilson(wins: int, n: int) -> tuple[float | None, float | None]:
    """The interval of a share with 95 % confidence, by Wilson (1927), uncorrected; None without a vote."""
    if not n:
        return None, None
    share, z2 = wins / n, _WILSON_Z**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _WILSON_Z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)
