"""Room 6: the highest rate at which an SLO holds: from what was told so far to the next probe.

A probe sends requests at a rate, and so many of them are within the SLO. It tells with some certainty on which side of
the knee its rate lies, and so moves what is believed of the knee: the probabilistic bisection of Horstein (1963),
analysed by Waeber, Frazier and Henderson (2013). All that is assumed is that the share falls as the rate rises.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_boobench.gate.floors import chance_of_fewer

ALIKE = 8.0
"""Neighbouring requests wait in the same queue: so many of them tell as much as one that is independent."""
MOST_CERTAIN = 0.95
"""What a probe may say at most: the host may have been slow for another reason."""
BELOW, ABOVE = 1 / 8, 128.0
"""Where the knee is looked for, as multiples of the rate of one lane: requests that follow each other."""
LEFT_BEHIND = 0.95
"""A host that answers less than this share of the requests meanwhile is left behind."""
NEAR, ELSEWHERE = 0.15, 0.15
"""The knee is looked for near what such a host answers: standard deviation of its logarithm, and how likely each other
rate is beside the likeliest."""
NARROW = 0.05
"""An interval of the knee that is narrower, as a ratio of its ends, needs no further probe."""
_STEPS = 4000


@dataclass(frozen=True, slots=True)
class Probe:
    """Requests at one rate."""

    rate: float
    """Per second."""
    good: int
    """Within the SLO."""
    requests: int
    """0: the host could not keep up at all."""
    answered_rps: float | None = None
    """How many requests the host answered per second meanwhile."""

    @property
    def share(self) -> float:
        """Of good requests."""
        return self.good / self.requests if self.requests else 0.0

    def find_chance(self, share: float) -> float:
        """The chance that the SLO holds at this rate: that at least ``share`` of all requests would be good.

        By Bayes' rule, within `MOST_CERTAIN`. Before the probe it is as likely as not; if it holds, every true share
        from ``share`` to 1 is as likely, and if not, every one below.
        """
        requests = round(self.requests / ALIKE)
        good = min(requests, round(self.good / ALIKE))
        below = 1 - chance_of_fewer(good, requests + 1, share)  # the part of a beta distribution below ``share``
        held, missed = (1 - below) / (1 - share), below / share
        return min(max(held / (held + missed), 1 - MOST_CERTAIN), MOST_CERTAIN)


@dataclass(frozen=True, slots=True)
class Knee:
    """What is believed of the highest rate."""

    rate: float
    low: float
    high: float
    """The rates that the probes leave likely; 0 and infinity: below or above all rates that were asked for. It is too
    narrow for servers whose requests differ much in length: see ``capacity.md``."""


@dataclass(frozen=True, slots=True)
class Search:
    """A search for the knee so far."""

    lowest: float
    highest: float
    """Rates between which it is looked for, per second."""
    share: float
    """Of the requests that must be good, below 1."""
    probes: Sequence[Probe] = ()

    @property
    def knee(self) -> Knee:
        """The median of what is believed, and the middle 95 % of it."""
        edges, sums = self._believe()
        low, middle, high = (_find(edges, sums, part) for part in (0.025, 0.5, 0.975))
        return Knee(min(max(middle, self.lowest), self.highest), low, high)

    @property
    def over(self) -> bool:
        """Whether the interval is narrow, or lies outside the rates that are asked for."""
        knee = self.knee
        return knee.low >= self.highest or knee.high <= self.lowest or knee.high / max(knee.low, 1e-9) < 1 + NARROW

    def choose(self) -> float:
        """The rate to probe next: it is as likely below the knee as above it."""
        return self.knee.rate

    def _expect(self, rate: float) -> float:
        """How likely a rate is the knee before the probes tell, any constant factor apart.

        As likely as its double, and more likely if a host that was left behind answered about so many.
        """
        behind = [found for probe in self.probes if (found := probe.answered_rps) and found < LEFT_BEHIND * probe.rate]
        if not behind:
            return 1.0
        return math.exp(-((math.log(rate / max(behind)) / NEAR) ** 2) / 2) + ELSEWHERE

    def _believe(self) -> tuple[list[float], list[float]]:
        """Ascending rates, and the chance that the knee is at most each of them.

        The knee may also lie outside: as likely as within one of twenty equal parts of the range, at either end.
        """
        step = (math.log(self.highest) - math.log(self.lowest)) / _STEPS
        edges = [self.lowest * math.exp(step * number) for number in range(_STEPS + 1)]
        # of each part the chance so far: below all, between two edges, above all
        parts = [_STEPS / 20, *map(self._expect, edges[1:]), _STEPS / 20]
        for probe in self.probes:
            at = bisect.bisect_left(edges, probe.rate * (1 - 1e-12))
            holds = probe.find_chance(self.share)
            parts = [part * (holds if number > at else 1 - holds) for number, part in enumerate(parts)]
        whole = math.fsum(parts)
        sums = list(itertools.accumulate(part / whole for part in parts))
        return edges, sums


def start_search(alone_ms: float, share: float, max_rate: float | None = None) -> Search:
    """A search on a host whose requests take ``alone_ms`` while nothing else runs; ``max_rate`` is the highest."""
    one_lane = 1000 / alone_ms
    highest = one_lane * ABOVE if max_rate is None else max_rate
    return Search(min(one_lane * BELOW, highest / 2), highest, share)


def _find(edges: Sequence[float], sums: Sequence[float], part: float) -> float:
    """The rate below which the knee lies with this chance; 0 or infinity outside of the edges."""
    place = bisect.bisect_left(sums, part)
    if place == 0:
        return 0.0
    if place > len(edges) - 1:
        return math.inf
    return edges[place]
