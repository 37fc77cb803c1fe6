"""Room 2: the foreign requests and tokens of one llama-server in one window."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Self

from pytest_boobench.facts import OwnTraffic, Traffic
from pytest_boobench.hosts.llama_counters import NO_SEED, LlamaCounters, Slot, name_slots

SHOWN = 5
"""How many foreign requests a Traffic names; it counts the rest."""
_ALIKE_BY_SEED = "the suite sets the seed, so foreign requests with the same seed are found only by their number"
_ALIKE_WITHOUT_SEEDS = "these slots show no seeds, so foreign requests are found only by their number"
_ALIKE = "embeddings carry no mark, so foreign ones are found only by their number"


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnRequests:
    """The seeds of our requests, as slots show them."""

    seeds: frozenset[int] = frozenset()
    """Seeds that only one request of ours has; nobody else sends them."""
    shared: frozenset[int] = frozenset()
    """The seed that the suite sets for all its requests: others may send it too."""
    seedless: bool = False
    """Whether the requests of this window have no seeds: embeddings."""

    @classmethod
    def by(cls, seeds: Iterable[int], known: Iterable[int] = ()) -> Self:
        """Make it from the seeds of a window's requests; ``known`` are the ``seeds`` of earlier windows."""
        shown = frozenset(seed & NO_SEED for seed in seeds)  # 32 bits, unsigned
        shared = shown if len(shown) == 1 else frozenset[int]()
        return cls(seeds=shown - shared | frozenset(known), shared=shared, seedless=not shown)

    def has(self, slot: Slot) -> bool:
        """Whether the slot's request is certainly ours."""
        return slot.seed in self.seeds

    def looks_like(self, slot: Slot) -> bool:
        """Whether it may be ours; some builds show no seeds."""
        if self.seedless:
            return slot.bare and not slot.decoded_tokens
        return slot.seed is None or slot.seed in self.shared


class LlamaAccount:
    """Compares the counters at both ends of a window and the looks at the slots in between. Does no I/O.

    A slot shows its last request until the next one begins. So even a request between two looks is found, unless its
    slot is used again before the next look: then only its tokens are found. If foreign requests look like ours, those
    beyond our own number are foreign.
    """

    def __init__(self, opening: LlamaCounters, ours: OwnRequests, model: str) -> None:
        self._opening = opening
        self._ours = ours
        self._model = model
        at_start = [slot for slot in opening.working if not ours.has(slot)]
        self._in_flight_at_start = _in_flight(opening, len(at_start))
        self._foreign = {(0, slot.task): slot for slot in at_start}
        self._alike: dict[tuple[int, int | None], Slot] = {}
        """Requests that look like ours, including ours."""
        self._before = {(0, slot.task) for slot in opening.slots or ()}
        self._fresh = _all_fresh(opening.slots)
        self._restarts = 0
        """How often all slots were fresh again, as after a restart."""

    def see(self, slots: Collection[Slot]) -> None:
        """Add one look at the slots, between opening and closing."""
        fresh = _all_fresh(slots)
        self._restarts += fresh and not self._fresh
        self._fresh = fresh
        for slot in slots:
            self._add(slot)

    def close(self, closing: LlamaCounters, own: OwnTraffic) -> Traffic:
        """Return the traffic that is not ours. Tokens are exact or None."""
        if closing.slots is not None:
            self.see(closing.slots)
        if own.exact:  # all of ours are answered, so a request still at work only looks like ours
            for key in ((self._restarts, slot.task) for slot in closing.working):
                if key in self._alike:
                    self._foreign[key] = self._alike.pop(key)
        notes = list(dict.fromkeys((*self._opening.notes, *closing.notes)))
        restarts = max(self._restarts, int(_has_restarted(self._opening, closing)))
        tokens: int | None = None
        if self._opening.counters and closing.counters:
            why_blank = _find_doubt(self._opening, closing, own, restarts)
            notes += [why_blank] if why_blank else []
            tokens = None if why_blank else sum(_subtract(self._opening, closing, own))
        requests = self._count_requests(closing, own)
        if tokens and not requests:
            requests = 1
            notes.append("foreign tokens, but no look at the slots showed their request: at least 1 foreign request")
        elif closing.slots is not None and tokens != 0 and (self._ours.shared or self._ours.seedless):
            notes.append(_ALIKE_BY_SEED if self._ours.shared else _ALIKE)
        elif any(slot.seed is None for slot in self._alike.values()):
            notes.append(_ALIKE_WITHOUT_SEEDS)
        return Traffic(
            in_flight_at_start=self._in_flight_at_start,
            concurrent_foreign_requests=requests,
            foreign_tokens=tokens,
            server_restarts=restarts,
            requests=name_slots(self._foreign.values(), self._model)[:SHOWN],
            notes=tuple(notes),
        )

    def _add(self, slot: Slot) -> None:
        key = (self._restarts, slot.task)
        if slot.task is None or key in self._before or self._ours.has(slot):
            return
        if not self._ours.looks_like(slot):
            self._foreign.setdefault(key, slot)
            self._alike.pop(key, None)
        elif key not in self._foreign:
            self._alike.setdefault(key, slot)

    def _count_requests(self, closing: LlamaCounters, own: OwnTraffic) -> int | None:
        """The number of foreign requests; without slots, the most in flight at either end."""
        at_end = _in_flight(closing, 0)
        if self._in_flight_at_start is None and at_end is None and not self._foreign:
            return None
        too_many = max(0, len(self._alike) - own.requests)
        return max(len(self._foreign) + too_many + (at_end or 0), self._in_flight_at_start or 0)


def _all_fresh(slots: Collection[Slot] | None) -> bool:
    """Whether no slot has had a request since the server started."""
    return bool(slots) and all(slot.fresh for slot in slots or ())


def _in_flight(at: LlamaCounters, at_work: int) -> int | None:
    """Foreign requests in flight; ``at_work`` of them are in slots, if the server shows slots."""
    if at.slots is not None:
        return at_work + (at.counters.queued if at.counters else 0)
    return at.counters.processing + at.counters.queued if at.counters else None


def _has_restarted(opening: LlamaCounters, closing: LlamaCounters) -> bool:
    was, now = opening.counters, closing.counters
    if was is None or now is None:
        return False
    another = was.process is not None and was.process != now.process
    return another or now.prompt_tokens < was.prompt_tokens or now.predicted_tokens < was.predicted_tokens


def _find_doubt(opening: LlamaCounters, closing: LlamaCounters, own: OwnTraffic, restarts: int) -> str:
    """Why the counters' growth minus our tokens is not the foreign tokens; empty if it is."""
    if restarts:
        return "the server restarted, so its count of tokens is lost"
    if not own.exact:
        return "a request of ours broke off, so its tokens cannot be separated from foreign ones"
    if not (opening.settled and closing.settled):
        return "requests came and went too fast for an exact count of foreign tokens"
    for end in (opening, closing):
        if end.slots is None and end.counters and end.counters.processing:
            return "without /slots, the tokens of requests that began before or ended after the cell are not known"
    if min(_subtract(opening, closing, own)) < 0:
        return "the server counted fewer tokens than it reported to us, so foreign ones are not known"
    return ""


def _subtract(opening: LlamaCounters, closing: LlamaCounters, own: OwnTraffic) -> tuple[int, int]:
    """(prompt, generated) tokens of the server between opening and closing, minus ours."""
    was, now = opening.counters, closing.counters
    prompt_tokens = now.prompt_tokens - was.prompt_tokens if was and now else 0
    return prompt_tokens - own.prompt_tokens, closing.generated_tokens - opening.generated_tokens - own.output_tokens
