"""Room 6: which of a row of candidates is the first slow one: from what was told so far to the next comparison.

The first candidate is the good one. A step compares a candidate with it, and is told by the interval of its gain: good
or bad where the interval lies wholly on one side of the threshold. The threshold is half of the loss of the last one:
as far from "no loss" as from "the whole loss", so that either is mistaken for the other least often.
Gains are logarithms of ratios to the first one, below zero where slower.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Told = Literal["good", "bad", "untold"]
"""As fast as the first one, slower, or not to tell: it does not build or start, or its interval holds the threshold."""
FINEST = 5
"""Intervals are measured until they are, to each side, this part of the loss. With a fourth, every interval that holds
the truth tells, be the truth no loss or the whole one; a fifth leaves room for what differs from start to start."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A gain with its 95 % interval."""

    gain: float
    low: float
    high: float

    def tell(self, threshold: float) -> Told:
        """On which side of a threshold the truth lies."""
        if self.high < threshold:
            return "bad"
        return "good" if self.low > threshold else "untold"


@dataclass(frozen=True, slots=True)
class Range:
    """Where the loss came in: after ``good`` and with ``bad`` at the latest, as places in the row."""

    good: int
    bad: int

    @property
    def narrow(self) -> bool:
        """Whether nothing is left between."""
        return self.bad == self.good + 1


@dataclass(frozen=True, slots=True)
class Walk:
    """A walk over a row of candidates, two at least, so far."""

    candidates: int
    looks: Mapping[int, Estimate | None]
    """Place -> what its comparison with the first one gave; None where it could not be measured."""

    @property
    def last(self) -> int:
        """The place of the last candidate, which is compared before all others."""
        return self.candidates - 1

    @property
    def loss(self) -> float | None:
        """The last candidate's gain; None as long as it is not known."""
        look = self.looks.get(self.last)
        return None if look is None else look.gain

    @property
    def threshold(self) -> float | None:
        """Half of the loss: gains below it are bad."""
        return None if self.loss is None else self.loss / 2

    @property
    def told(self) -> Mapping[int, Told]:
        """Place -> its side, for what was compared."""
        threshold = self.threshold
        if threshold is None:
            return dict.fromkeys(self.looks, "untold")
        return {place: look.tell(threshold) if look else "untold" for place, look in self.looks.items()}

    @property
    def found(self) -> Range:
        """The smallest range that is proven, if the first one is good and the last one bad."""
        told = self.told
        bad = min((place for place, side in told.items() if side == "bad"), default=self.last)
        good = max((place for place, side in told.items() if side == "good" and place < bad), default=0)
        return Range(good, bad)

    @property
    def certain(self) -> bool:
        """Whether the first slow one is proven: one that is good, and the next one is bad."""
        found = self.found
        return found.narrow and self.told.get(found.bad) == "bad"

    @property
    def most(self) -> int:
        """How many comparisons it may take, log2(n) + 2 rounded down; those that could not be measured are not counted.

        One is for the last candidate and log2(n - 1), rounded up, are for halving: one is left for a comparison that
        tells nothing, or none.
        """
        return int(math.log2(self.candidates)) + 2

    @property
    def over(self) -> bool:
        """Whether it has taken all comparisons that it may."""
        return sum(look is not None for look in self.looks.values()) >= self.most

    def choose(self) -> int | None:
        """The place to compare next: the last one, then of those not tried the nearest to the middle of the range.

        What was not to tell is passed over, as git does. None where the range is narrow, or nothing is left to try.
        """
        if self.last not in self.looks:
            return self.last
        found = self.found
        left = [place for place in range(found.good + 1, found.bad) if place not in self.looks]
        middle = (found.good + found.bad) / 2
        return None if self.over else min(left, key=lambda place: abs(place - middle), default=None)
