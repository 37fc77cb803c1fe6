"""Door 3: a comparison again and again, for a difference with its interval."""

from __future__ import annotations

import asyncio
import math
import statistics
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pytest_boobench.errors import BoobenchError
from pytest_boobench.gate.gains import Pairs
from pytest_boobench.metrics import Sample
from pytest_boobench.page.talk import Talker, TalkRequest, UsedByRun, converse
from pytest_boobench.page.talk_types import DifferenceAnswer, RepeatedEvent

COMPARED = ("ttft_ms", "decode_tok_s")
"""What does not depend on how long the answers are."""
Round = tuple[Sample, ...]
"""One answer of each side."""


@dataclass(eq=False)
class Repetition:
    """More rounds of an exchange, side after side, forth and back: A B, B A, A B."""

    exchange: str
    requests: Sequence[TalkRequest]
    times: int
    rounds: list[Round]
    """All that were taken so far; grows."""
    wait: bool
    events: asyncio.Queue[tuple[str, Any] | None] = field(default_factory=asyncio.Queue)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    work: Future[None] | None = None

    async def run(self, talker: Talker) -> None:
        """In the thread of the exchanges. It ends with the first round that is not whole, and keeps the others."""
        try:
            for done in range(self.times):
                taken = await self._take_round(talker, backwards=len(self.rounds) % 2 == 1)
                if taken is None:
                    return
                self.rounds.append(taken)
                told = RepeatedEvent(
                    exchange=self.exchange, done=done + 1, of=self.times, differences=find_differences(self.rounds)
                )
                self._tell("repeated", told)
        finally:
            self.end()

    async def _take_round(self, talker: Talker, *, backwards: bool) -> Round | None:
        places = range(len(self.requests))
        taken: dict[int, Sample] = {}
        for place in reversed(places) if backwards else places:
            request = self.requests[place]

            def tell(kind: str, data: Any, place: int = place) -> None:
                if kind == "waiting":
                    self._tell(kind, {"exchange": self.exchange, "side": place, **data})

            try:
                async with talker.use([request], tell, wait=self.wait) as (grant,):
                    talked = await converse(grant, request, tell)
            except UsedByRun as used:
                told = {"exchange": self.exchange, "side": place, "who": list(used.who), "message": str(used)}
                self._tell("refused", told)
                return None
            except BoobenchError as error:
                self._fail(place, "host", str(error))
                return None
            if talked.sample.failure is not None:
                self._fail(place, talked.sample.failure, talked.sample.failure_text or talked.sample.failure)
                return None
            taken[place] = talked.sample
        return tuple(taken[place] for place in places)

    def _fail(self, place: int, kind: str, message: str) -> None:
        self._tell("failed", {"exchange": self.exchange, "side": place, "kind": kind, "message": message})

    def _tell(self, kind: str, data: Any) -> None:
        with suppress(RuntimeError):  # the server's loop is closed
            self.loop.call_soon_threadsafe(self.events.put_nowait, (kind, data))

    def stop(self) -> None:
        """Abort the round that goes on."""
        if self.work is not None:
            self.work.cancel()

    def end(self) -> None:
        """No more events."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.events.put_nowait, None)


def find_differences(rounds: Sequence[Round]) -> tuple[DifferenceAnswer, ...]:
    """How each side differs from the first one, by the arithmetic of a duet (`Pairs.interval`)."""
    sides = range(1, len(rounds[0])) if rounds else ()
    found = ((metric, side, _list_ratios(rounds, metric, side)) for metric in COMPARED for side in sides)
    return tuple(_describe(metric, side, ratios) for metric, side, ratios in found if ratios)


def _list_ratios(rounds: Sequence[Round], metric: str, side: int) -> list[tuple[float, float]]:
    """(the side's value, the first one's), of rounds that have both."""
    values = ((getattr(taken[side], metric), getattr(taken[0], metric)) for taken in rounds)
    return [(value, first) for value, first in values if value and first]


def _describe(metric: str, side: int, ratios: Sequence[tuple[float, float]]) -> DifferenceAnswer:
    logs = sorted(math.log(value / first) for value, first in ratios)
    pairs = Pairs(
        gains=tuple(logs),
        now=statistics.median(value for value, _ in ratios),
        other=statistics.median(first for _, first in ratios),
    )
    low, high = pairs.interval or (None, None)
    return DifferenceAnswer(
        metric=metric,
        side=side,
        value=pairs.now,
        first=pairs.other,
        change=math.expm1(pairs.gain),
        low=None if low is None else math.expm1(low),
        high=None if high is None else math.expm1(high),
        pairs=len(logs),
    )
