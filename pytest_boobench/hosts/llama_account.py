"""Room 2: one llama-server's book for one window: whom it was seen working for, which of its tokens are not ours."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from pytest_boobench.facts import OwnTraffic, Traffic
from pytest_boobench.hosts.llama_counters import NO_SEED, LlamaCounters, Slot, name_slots
from pytest_boobench.units import count

_RECENT_S = 60.0


class RecentlyEnded:
    """Compares each look with the one before it. Times are seconds since 1970 UTC."""

    def __init__(self) -> None:
        self._shown: dict[str, set[int | None]] = {}
        self._totals: dict[str, int] = {}
        self._lines: deque[tuple[float, str]] = deque()

    def see_slots(self, name: str, slots: Collection[Slot], now_s: float) -> None:
        """A slot shows its last request until the next one begins."""
        idle = {slot.task for slot in slots if not slot.processing}
        for task in sorted(task for task in idle - self._shown.get(name, idle) if task is not None):
            self._add(f"{name}, task {task}", now_s)
        self._shown[name] = idle

    def see_total(self, name: str, total: int, noun: str, now_s: float) -> None:
        """A counter that grows by ended requests, or by the tokens of such."""
        more = total - self._totals.get(name, total)
        if more > 0:
            self._add(f"{name}, {count(more, noun)}", now_s)
        self._totals[name] = total

    def tell(self, now_s: float) -> tuple[str, ...]:
        """One line each, the latest first; always the same line for the same request."""
        while self._lines and now_s - self._lines[0][0] > _RECENT_S:
            self._lines.popleft()
        return tuple(line for _, line in reversed(self._lines))

    def forget(self) -> None:
        """What ends from now on may be ours."""
        self._shown.clear()
        self._totals.clear()

    def _add(self, line: str, now_s: float) -> None:
        self._lines.append((now_s, f"{line} (ended {datetime.fromtimestamp(now_s, UTC):%H:%M:%S} UTC)"))


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnRequests:
    """Seeds, as slots show them."""

    seeds: frozenset[int] = frozenset()
    """Each of a single request of ours: nobody else sends them."""
    shared: frozenset[int] = frozenset()
    """The one that the suite names for all its requests: others may send it too. -1 is shown as it is where none is."""
    seedless: bool = False
    """Whether the requests of this window carry none: embeddings."""

    @classmethod
    def by(cls, seeds: Iterable[int], known: Iterable[int] = ()) -> Self:
        """Of the seeds that a window's requests carry; ``known`` are single ones of windows before."""
        shown = frozenset(seed & NO_SEED for seed in seeds)  # 32 bits, no sign
        shared = shown if len(shown) == 1 else frozenset[int]()
        return cls(seeds=shown - shared | frozenset(known), shared=shared, seedless=not shown)

    @property
    def sure(self) -> bool:
        """Whether each request of this window carries a mark of its own."""
        return not (self.shared or self.seedless)

    def has(self, slot: Slot) -> bool:
        """Whether the slot's request is ours for certain."""
        return slot.seed in self.seeds

    def looks_like(self, slot: Slot) -> bool:
        """Whether it could be, for all that the slot shows; some builds show no seeds."""
        if self.seedless:
            return slot.bare and not slot.decoded_tokens
        return slot.seed is None or slot.seed in self.shared


SHOWN = 5
"""Foreign requests that a Traffic names; the rest are counted."""
_ALIKE_BY_SEED = (
    "the suite names the seed, so foreign requests with the same one are told from ours by their number only"
)
_ALIKE_WITHOUT_SEEDS = "these slots show no seeds, so foreign requests are told from ours by their number only"
_ALIKE = "embeddings carry no mark, so foreign ones are told from ours by their number only"


class LlamaAccount:
    """Opened with a stock, fed with looks at the slots, closed with a stock. Arithmetic only.

    A slot shows its last request until the next one begins, so requests shorter than the time between two looks are
    found too, but for those whose slot was used again meanwhile: these leave only their tokens. Where others look as we
    do, those beyond our own number are foreign.
    """

    def __init__(self, opening: LlamaCounters, ours: OwnRequests, model: str) -> None:
        self._opening = opening
        self._ours = ours
        self._model = model
        self._at_start = [slot for slot in opening.working if not ours.has(slot)]
        self._foreign = {(0, slot.task): slot for slot in self._at_start}
        self._alike: dict[tuple[int, int | None], Slot] = {}
        """Requests that look as ours do, ours among them."""
        self._bygone = {(0, slot.task) for slot in opening.slots or ()}
        self._fresh = _all_fresh(opening.slots)
        self._restarts = 0
        """How often the slots were seen to start from nothing."""

    def see(self, slots: Collection[Slot]) -> None:
        """One look at the slots, between opening and closing."""
        fresh = _all_fresh(slots)
        self._restarts += fresh and not self._fresh
        self._fresh = fresh
        for slot in slots:
            self._add(slot)

    def close(self, closing: LlamaCounters, own: OwnTraffic) -> Traffic:
        """What was not ours. Tokens are exact or blank."""
        if closing.slots is not None:
            self.see(closing.slots)
        if own.exact:  # all of ours are answered
            self._expose(closing.working)
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
            notes.append("foreign tokens, but no look at the slots shows whose: at least 1 foreign request")
        elif closing.slots is not None and tokens != 0 and not self._ours.sure:
            notes.append(_ALIKE_BY_SEED if self._ours.shared else _ALIKE)
        elif any(slot.seed is None for slot in self._alike.values()):
            notes.append(_ALIKE_WITHOUT_SEEDS)
        return Traffic(
            in_flight_at_start=_in_flight(self._opening, len(self._at_start)),
            concurrent_foreign_requests=requests,
            foreign_tokens=tokens,
            server_restarts=restarts,
            requests=name_slots(self._foreign.values(), self._model)[:SHOWN],
            notes=tuple(notes),
        )

    def _add(self, slot: Slot) -> None:
        key = (self._restarts, slot.task)
        if slot.task is None or key in self._bygone or self._ours.has(slot):
            return
        if not self._ours.looks_like(slot):
            self._foreign.setdefault(key, slot)
            self._alike.pop(key, None)
        elif key not in self._foreign:
            self._alike.setdefault(key, slot)

    def _expose(self, slots: Collection[Slot]) -> None:
        """These only look as ours do."""
        for slot in slots:
            key = (self._restarts, slot.task)
            if key in self._alike:
                self._foreign[key] = self._alike.pop(key)

    def _count_requests(self, closing: LlamaCounters, own: OwnTraffic) -> int | None:
        """Distinct ones. Without slots the most that were in flight at either end."""
        at_start = _in_flight(self._opening, len(self._at_start))
        at_end = _in_flight(closing, 0)
        if at_start is None and at_end is None and not self._foreign:
            return None
        too_many = max(0, len(self._alike) - own.requests)
        seen = len(self._foreign) + too_many + (at_end or 0)
        return max(seen, at_start or 0)


def _all_fresh(slots: Collection[Slot] | None) -> bool:
    """Whether no slot has ever worked since the server was started."""
    return bool(slots) and all(slot.fresh for slot in slots or ())


def _in_flight(stock: LlamaCounters, at_work: int) -> int | None:
    """Requests in flight besides ours; ``at_work`` of them are in slots, where slots are told."""
    if stock.slots is not None:
        return at_work + (stock.counters.queued if stock.counters else 0)
    return stock.counters.processing + stock.counters.queued if stock.counters else None


def _has_restarted(opening: LlamaCounters, closing: LlamaCounters) -> bool:
    was, now = opening.counters, closing.counters
    if was is None or now is None:
        return False
    another = was.process is not None and was.process != now.process
    return another or now.prompt_tokens < was.prompt_tokens or now.predicted_tokens < was.predicted_tokens


def _find_doubt(opening: LlamaCounters, closing: LlamaCounters, own: OwnTraffic, restarts: int) -> str:
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


def _subtract(opening: LlamaCounters, closing: LlamaCounters, own: OwnTraffic) -> tuple[int, int]:
    """(prompt, generated) tokens that the server was at between the stocks, less ours."""
    was, now = opening.counters, closing.counters
    prompt_tokens = now.prompt_tokens - was.prompt_tokens if was and now else 0
    return prompt_tokens - own.prompt_tokens, closing.generated_tokens - opening.generated_tokens - own.output_tokens
