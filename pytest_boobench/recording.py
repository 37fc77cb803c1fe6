"""Room 0: requests of a recording: numbers only, and which of them continue which. Pure arithmetic.

Nobody tells which requests are one conversation. But a later turn sends all that was said before, so its server has
that in its cache, and the count of cached tokens is as long as the request that it continues.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

NEAR = 32
"""So many tokens may a cache have less than was said: its last block, or the end of a chat template."""
OVER = 4
"""So many may it have more: marks of a chat template that nobody counted."""
SLACK_MS = 1500
"""So much may a turn seem to begin before the end of the last one: a log's times are whole seconds."""
_MOST_OPEN = 1000
"""Conversations that may still go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """One finished request of a model. Times are milliseconds since 1970 UTC, by our clock."""

    prompt_tokens: int
    """The whole prompt, with what was cached."""
    output_tokens: int
    cached_tokens: int | None = None
    """None if the server does not tell."""
    began_ms: int
    ended_ms: int
    conversation: int = 0
    """Number of the conversation, from 1; 0 if the server does not tell what was cached."""
    turn: int = 0
    """Number of the turn in it, from 1."""

    def to_line(self, zero_ms: int) -> dict[str, Any]:
        """The request as a line of the file; its times count from ``zero_ms``."""
        line: dict[str, Any] = {
            "prompt_tokens": self.prompt_tokens,
            "output_tokens": self.output_tokens,
            "at_s": (self.began_ms - zero_ms) / 1000,
        }
        if self.conversation:
            line |= {"conversation": f"c{self.conversation}", "turn": self.turn}
        if self.turn > 1:
            line["cached_tokens"] = self.cached_tokens
        return line


def read_line(line: Mapping[str, Any], zero_ms: int) -> Spoken:
    """The request of a line that `to_line` made; its end is not known and is its beginning. Raises KeyError, TypeError
    or ValueError for any other line."""
    began_ms = zero_ms + round(line["at_s"] * 1000)
    return Spoken(
        prompt_tokens=int(line["prompt_tokens"]),
        output_tokens=int(line["output_tokens"]),
        cached_tokens=line.get("cached_tokens"),
        began_ms=began_ms,
        ended_ms=began_ms,
        conversation=int(line.get("conversation", "c0").removeprefix("c")),
        turn=int(line.get("turn", 0)),
    )


@dataclass(slots=True)
class Turns:
    """Finds out which request continues which, in the order in which they ended."""

    _open: deque[Spoken] = field(default_factory=lambda: deque(maxlen=_MOST_OPEN))
    """The last request of each conversation, the latest at the end."""
    _conversations: int = 0

    def remember(self, known: Spoken) -> None:
        """Take a request whose turn is known already."""
        self._conversations = max(self._conversations, known.conversation)
        for last in [last for last in self._open if last.conversation == known.conversation]:
            self._open.remove(last)
        if known.conversation:
            self._open.append(known)

    def place(self, request: Spoken) -> Spoken:
        """Return the request with its conversation and turn; without both if what was cached is not known.

        A turn begins when the last one has ended, or later.
        """
        if request.cached_tokens is None:
            return request
        last = self._find_last(request)
        if last is None:
            placed = replace(request, conversation=self._conversations + 1, turn=1)
        else:
            began_ms = max(request.began_ms, last.ended_ms)
            placed = replace(request, conversation=last.conversation, turn=last.turn + 1, began_ms=began_ms)
        self.remember(placed)
        return placed

    def _find_last(self, request: Spoken) -> Spoken | None:
        """The request that this one continues: the one whose length is the nearest to what was cached."""
        found = [(miss, last) for last in reversed(self._open) if (miss := _find_miss(last, request)) is not None]
        return min(found, key=lambda each: each[0])[1] if found else None


def _find_miss(last: Spoken, request: Spoken) -> int | None:
    """How many tokens the cache had more or less than ``last`` had left there; None for another conversation.

    Either prompt and answer are cached, or only the prompt: templates of thinking models rewrite the answer.
    """
    if request.prompt_tokens < last.prompt_tokens or request.began_ms < last.ended_ms - SLACK_MS:
        return None
    cached = request.cached_tokens or 0
    misses = [whole - cached for whole in (last.prompt_tokens + last.output_tokens, last.prompt_tokens)]
    near = [abs(miss) for miss in misses if -OVER <= miss <= NEAR]
    return min(near) if cached > 0 and near else None
