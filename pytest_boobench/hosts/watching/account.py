"""Room 2: one llama-server's book for one window: whom it was seen working for, which of its tokens are not ours."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from pytest_boobench.facts import OwnTraffic, Traffic
from pytest_boobench.hosts.watching.naming import name_slots
from pytest_boobench.hosts.watching.stock import Slot, Stock

SHOWN = 5
"""Foreign requests that a Traffic names; the rest are counted."""


@dataclass(frozen=True, slots=True)
class Ours:
    """By what slots are known to be ours."""

    seeds: frozenset[int] = frozenset()
    """All that requests of ours ever carried, as slots show them."""
    seedless: bool = False
    """Whether the requests of this window carry none: embeddings."""

    def may_be(self, slot: Slot) -> bool:
        """Whether the slot's request is ours for all that it shows."""
        return slot.seed in self.seeds or (self.seedless and slot.bare and not slot.decoded_tokens)


class Account:
    """Opened with a stock, fed with looks at the slots, closed with a stock. Arithmetic only.

    A slot shows its last request until the next one begins, so requests shorter than the time between two looks are
    found too, but for those whose slot was used again meanwhile: these leave only their tokens.
    """

    def __init__(self, opening: Stock, ours: Ours, model: str) -> None:
        self._opening = opening
        self._ours = ours
        self._model = model
        self._at_start = [slot for slot in opening.working if slot.seed not in ours.seeds]
        self._foreign = {(0, slot.task): slot for slot in self._at_start}
        self._bygone = {(0, slot.task) for slot in opening.slots or ()}
        self._fresh = _all_fresh(opening.slots)
        self._restarts = 0
        """How often the slots were seen to start from nothing."""

    def see(self, slots: Collection[Slot]) -> None:
        """One look at the slots, between opening and closing."""
        fresh = _all_fresh(slots)
        self._restarts += fresh and not self._fresh
        self._fresh = fresh
        self._add(slots, self._ours)

    def close(self, closing: Stock, own: OwnTraffic) -> Traffic:
        """What was not ours. Tokens are exact or blank."""
        if closing.slots is not None:
            self.see(closing.slots)
        nothing_runs = Ours(self._ours.seeds, seedless=self._ours.seedless and not own.exact)
        self._add(closing.working, nothing_runs)
        notes = list(dict.fromkeys((*self._opening.notes, *closing.notes)))
        restarts = max(self._restarts, int(_has_restarted(self._opening, closing)))
        tokens: int | None = None
        if self._opening.counters and closing.counters:
            why_blank = _find_doubt(self._opening, closing, own, restarts)
            notes += [why_blank] if why_blank else []
            tokens = None if why_blank else sum(_subtract(self._opening, closing, own))
        requests = self._count_requests(closing)
        if tokens and not requests:
            requests = 1
            notes.append("foreign tokens, but no look at the slots shows whose: at least 1 foreign request")
        return Traffic(
            in_flight_at_start=_in_flight(self._opening, len(self._at_start)),
            concurrent_foreign_requests=requests,
            foreign_tokens=tokens,
            server_restarts=restarts,
            requests=name_slots(self._foreign.values(), self._model)[:SHOWN],
            notes=tuple(notes),
        )

    def _add(self, slots: Collection[Slot], ours: Ours) -> None:
        for slot in slots:
            key = (self._restarts, slot.task)
            if slot.task is not None and key not in self._bygone and not ours.may_be(slot):
                self._foreign.setdefault(key, slot)

    def _count_requests(self, closing: Stock) -> int | None:
        """Distinct ones. Without slots the most that were in flight at either end."""
        at_start = _in_flight(self._opening, len(self._at_start))
        at_end = _in_flight(closing, 0)
        if at_start is None and at_end is None and not self._foreign:
            return None
        seen = len(self._foreign) + (at_end or 0)
        return max(seen, at_start or 0)


def _all_fresh(slots: Collection[Slot] | None) -> bool:
    """Whether no slot has ever worked since the server was started."""
    return bool(slots) and all(slot.fresh for slot in slots or ())


def _in_flight(stock: Stock, at_work: int) -> int | None:
    """Requests in flight besides ours; ``at_work`` of them are in slots, where slots are told."""
    if stock.slots is not None:
        return at_work + (stock.counters.queued if stock.counters else 0)
    return stock.counters.processing + stock.counters.queued if stock.counters else None


def _has_restarted(opening: Stock, closing: Stock) -> bool:
    was, now = opening.counters, closing.counters
    if was is None or now is None:
        return False
    another = was.process is not None and was.process != now.process
    return another or now.prompt_tokens < was.prompt_tokens or now.predicted_tokens < was.predicted_tokens


def _find_doubt(opening: Stock, closing: Stock, own: OwnTraffic, restarts: int) -> str:
    """Why what the counters grew by, less ours, is not what foreign requests were charged; empty where it is."""
    if restarts:
        return "the server restarted, so its count of tokens is lost"
    if not own.exact:
        return "a request of ours broke off, so its tokens can't be told from foreign ones"
    if not (opening.settled and closing.settled):
        return "requests came and went too fast for an exact count of foreign tokens"
    for stock in (opening, closing):
        if stock.slots is None and stock.counters and stock.counters.processing:
            return "without /slots, what requests across the window's ends were charged inside of it is not known"
    if min(_subtract(opening, closing, own)) < 0:
        return "the server counted fewer tokens than its answers to us, so foreign ones can't be told"
    return ""


def _subtract(opening: Stock, closing: Stock, own: OwnTraffic) -> tuple[int, int]:
    """(prompt, generated) tokens that the server was at between the stocks, less ours."""
    was, now = opening.counters, closing.counters
    prompt_tokens = now.prompt_tokens - was.prompt_tokens if was and now else 0
    return prompt_tokens - own.prompt_tokens, closing.generated_tokens - opening.generated_tokens - own.output_tokens
