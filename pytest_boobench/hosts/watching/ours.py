"""Room 2: by what the requests in a llama-server's slots are known to be ours."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from pytest_boobench.hosts.watching.stock import NO_SEED, Slot


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
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
