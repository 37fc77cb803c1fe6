"""Room 6: the pairs of a duet for one metric, and the interval that holds the true gain."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from pytest_boobench.aggregate import counted, counted_reference, measured
from pytest_boobench.conversations import list_conversations
from pytest_boobench.gate.comparison import find_gain
from pytest_boobench.gate.reference import usable
from pytest_boobench.metrics import Metric, Sample
from pytest_boobench.record import CellRecord, Pairing
from pytest_boobench.suite.objectives import is_good

FEWEST: Mapping[Pairing, int] = {"requests": 20, "conversations": 10, "windows": 10, "starts": 10}
"""Fewest pairs that can show a regression, by what a pair is; as many are added at a time. With ten, all of which
agree, chance is just below the sign test's 0.001; requests are cheap."""
LOOKS = (1, 2, 3, 5, 7, 11, 16, 24, 36, 54)
"""After so many times the fewest pairs a duet that goes on is looked at: about half as many more each time."""
P_MISSED = 0.04
"""Greatest chance that one of the intervals of all looks misses the true gain. Less than the 5 % that an interval of
95 % may have: neighbouring pairs resemble each other, and so real intervals miss a little more often."""
P_LOOK = P_MISSED / len(LOOKS)
"""The same for each look, whatever the others said (Bonferroni 1936): so it does not matter why a duet stops."""
P_PROVEN = 0.05
"""Chance that the bound of a proven pass lies on the wrong side of the true gain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """The pairs of one metric. Gains are logarithms of ratios to the other side, above zero where ours is better."""

    gains: tuple[float, ...]
    """Ascending; at least one."""
    now: float
    other: float
    """Medians of both halves, in the metric's unit."""
    fewest: int = FEWEST["requests"]
    """Fewer pairs show no regression."""
    of: str = ""
    """What they are pairs of, as in `` of starts``; empty for requests."""

    @property
    def gain(self) -> float:
        return statistics.median(self.gains)

    @property
    def slower(self) -> int:
        return sum(gain < 0 for gain in self.gains)

    @property
    def faster(self) -> int:
        return sum(gain > 0 for gain in self.gains)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Holds the true gain with 95 % confidence at all looks together; None where there are too few pairs.

        Two order statistics (Conover 1999, chapter 3.2), at the level of one look. The true gain is the median of
        all gains: nothing else is assumed of their distribution.
        """
        rank = find_rank(len(self.gains), P_LOOK / 2)
        return (self.gains[rank - 1], self.gains[-rank]) if rank else None

    @property
    def bound(self) -> float:
        """Lower bound of the true gain with 95 % confidence; the interval's where there were more than two looks."""
        usual = len(self.gains) <= LOOKS[1] * self.fewest
        rank = find_rank(len(self.gains), P_PROVEN if usual else P_LOOK / 2)
        return self.gains[rank - 1] if rank else -math.inf


def chance_of(successes: int, of: int) -> float:
    """The chance of so many or more successes, each as likely as not: the sign test (Conover 1999, chapter 3.4)."""
    ways = sum(math.comb(of, number) for number in range(successes, of + 1))
    return ways / (1 << of)


@cache
def find_rank(number: int, chance: float) -> int:
    """The largest r for which fewer than r successes of ``number``, each as likely as not, are no likelier than
    ``chance``; 0 where there is none."""
    ways = total = 1
    for successes in range(number):
        if total / (1 << number) > chance:
            return successes
        ways = ways * (number - successes) // (successes + 1)
        total += ways
    return number


def pair_up(record: CellRecord, metric: Metric) -> Pairs | None:
    """The pairs in which both sides gave this metric; None where there are none.

    A pair is a round, one request or conversation down each lane of each side, with the medians of its requests:
    requests that run at the same time are not independent, and nor are the turns of a conversation. Where servers are
    started anew it is two turns, at a rate two windows, with the medians or shares of theirs. A share of zero counts as
    half a request or token; a pair in which both are zero tells nothing.
    """
    pairing = record.pairing or "requests"
    sides = counted(record.samples), counted_reference(record.samples)
    least = _find_least(metric, record, [*sides[0], *sides[1]])
    if metric.binomial:
        ours, theirs = (_list_shares(record, metric, reference=reference) for reference in (False, True))
    else:
        ours, theirs = (_list_medians(record, samples, metric, zero=least > 0) for samples in sides)
    both = [(ours[key], theirs[key]) for key in ours if key in theirs]
    both = [pair for pair in both if max(pair) > 0]
    if not both:
        return None
    return Pairs(
        gains=tuple(sorted(find_gain(metric, max(now, least), max(other, least)) for now, other in both)),
        now=statistics.median(now for now, _ in both),
        other=statistics.median(other for _, other in both),
        fewest=FEWEST[pairing],
        of="" if pairing == "requests" else f" of {pairing}",
    )


def _find_least(metric: Metric, record: CellRecord, good: Sequence[Sample]) -> float:
    """What counts in place of zero: half a request or token; 0 for metrics that are never zero."""
    if metric.binomial:
        windows = Counter((sample.block, sample.attempt, sample.reference) for sample in _list_all(record))
        return 0.5 / max(windows.values(), default=1) * _find_unit(record, metric)
    if metric.base == "cached_share":
        return 0.5 / max((sample.prompt_tokens or 1 for sample in good), default=1)
    return 0.0


def _find_unit(record: CellRecord, metric: Metric) -> float:
    """What a share of one is in the metric's unit."""
    return float(record.identity.get("rate") or 0.0) if metric.key == "goodput_rps" else 1.0


def _list_all(record: CellRecord) -> list[Sample]:
    """The measured samples of both sides, with failed ones."""
    reference = [sample for sample in record.samples if sample.reference and sample.phase == "measure"]
    return [*measured(record.samples), *reference]


def _list_shares(record: CellRecord, metric: Metric, *, reference: bool) -> dict[tuple[int, int, int], float]:
    """(block, attempt, 0) of a window -> the good ones of its planned requests, in the metric's unit.

    Leaves out windows of which nobody can tell.
    """
    slo = record.identity.get("slo") or {}
    windows: dict[tuple[int, int, int], list[bool | None]] = defaultdict(list)
    for sample in _list_all(record):
        if sample.reference is reference:
            windows[sample.block, sample.attempt, 0].append(is_good(sample, slo))
    unit = _find_unit(record, metric)
    return {key: good.count(True) / len(good) * unit for key, good in windows.items() if None not in good}


def _list_medians(
    record: CellRecord, samples: Sequence[Sample], metric: Metric, *, zero: bool
) -> dict[tuple[int, int, int], float]:
    """(block, attempt, number) of a round -> the median of its requests; a turn or window is one round.

    A metric of all turns is taken of whole conversations only: turns differ.
    """
    lanes, turns = int(record.identity.get("concurrency") or 1), int(record.identity.get("turns") or 1)
    size = 0 if record.pairing in ("starts", "windows") else lanes * turns
    if turns > 1 and not metric.turn:
        whole = [talk for talk in list_conversations(samples) if len(talk) == turns]
        samples = [sample for talk in whole for sample in talk]
    values: dict[tuple[int, int, int], list[float]] = defaultdict(list)
    for sample in samples:
        number = sample.index // size if size else 0
        values[sample.block, sample.attempt, number].extend(metric.values(sample))
    medians = {key: statistics.median(found) for key, found in values.items() if found}
    return {key: median for key, median in medians.items() if usable(median) or (zero and median == 0)}
