"""Room 6: where the history of a cell's medians changed, at once or gradually. Reported, never gating.

The history is cut into level and sloping pieces. The cut minimizes the sum of squared residuals of the logarithms
plus a price per piece (optimal partitioning, Jackson et al. 2005; price per piece, Yao 1988; its size by simulation).
Sloping pieces find a slow slide, which no comparison with the previous run shows. Outliers are first moved towards
their neighbours (Hampel 1974), and the price is in units of the history's own noise.

No library fits: ruptures cannot mix levels and slopes, apache-otava brings clients of BigQuery and Slack.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

WORTH = 0.03
"""Smaller changes are not reported, even if they are significant."""
NEWEST = 400
"""How many of the newest points are used: the work grows with their square."""
_FEWEST = 3
"""Fewest points of a piece."""
_KINDS = ((False, _FEWEST, 16.0), (True, 6, 26.0))
"""Kinds of pieces: (whether it slopes, fewest points, price in squared noise). A sloping piece has one more free
parameter, and two of them fit a step too easily."""
_NOISE_FLOOR = 0.01
"""Least noise between runs of an unchanged host."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a history: a step if ``last`` is ``index``, else a slide from ``index`` to ``last``."""

    index: int
    """For a step, the first value after it; for a slide, its first value."""
    last: int
    before: float
    """The level before it, in the values' unit; for a slide, its fitted start."""
    after: float
    """The level after it; for a slide, its fitted end."""

    @property
    def ratio(self) -> float:
        """after / before - 1."""
        return self.after / self.before - 1

    @property
    def gradual(self) -> bool:
        """Whether it is a slide."""
        return self.last > self.index


def find_changes(values: Sequence[float | None], worth: float = WORTH) -> tuple[Change, ...]:
    """Return the changes of at least ``worth`` (a ratio) in a history, oldest first. Deterministic.

    ``values`` are one cell's medians of one metric, oldest first. Skips None and values that are not finite and above
    zero; indexes still count them.
    """
    known = [(place, value) for place, value in enumerate(values) if value and math.isfinite(value) and value > 0]
    places = [place for place, _ in known[-NEWEST:]]
    if len(places) < 2 * _FEWEST:
        return ()
    logs = [math.log(value) for _, value in known[-NEWEST:]]
    noise = _measure_noise(logs)
    pieces = _cut(_Fits(_pull_in(logs, noise)), noise)
    return tuple(_name_changes(pieces, places, math.log1p(worth), noise))


@dataclass(frozen=True, slots=True)
class _Piece:
    """A piece of the history: its points ``begin`` to ``end - 1``, and the fitted logarithms of these two."""

    begin: int
    end: int
    first: float
    final: float


def _measure_noise(logs: Sequence[float]) -> float:
    """Standard deviation between runs, without steps and slopes: the largest over distances of one to three runs,
    since runs close in time resemble each other."""
    found = [_NOISE_FLOOR]
    for lag in (1, 2, 3):
        gaps = [later - earlier for earlier, later in zip(logs, logs[lag:], strict=False)]
        middle = statistics.median(gaps)
        found.append(1.4826 * statistics.median(abs(gap - middle) for gap in gaps) / math.sqrt(2))
    return max(found)


def _pull_in(logs: Sequence[float], noise: float) -> list[float]:
    """Limit each value to three times the noise from the median of its five neighbours."""
    near = [statistics.median(logs[max(0, at - 2) : at + 3]) for at in range(len(logs))]
    return [min(max(value, middle - 3 * noise), middle + 3 * noise) for value, middle in zip(logs, near, strict=True)]


class _Fits:
    """Least squares over any piece of a history in constant time, from running sums."""

    def __init__(self, logs: Sequence[float]) -> None:
        self.size = len(logs)
        # differences from the middle: sums of squares of large numbers would lose digits
        self._middle = statistics.fmean(logs)
        shifted = [value - self._middle for value in logs]
        self._y = [0.0, *accumulate(shifted)]
        self._yy = [0.0, *accumulate(value * value for value in shifted)]
        self._xy = [0.0, *accumulate(at * value for at, value in enumerate(shifted))]

    def slope(self, begin: int, end: int) -> float:
        """Of the fitted line, per point."""
        size = end - begin
        centre = (begin + end - 1) / 2
        together = self._xy[end] - self._xy[begin] - centre * (self._y[end] - self._y[begin])
        return together / (size * (size * size - 1) / 12)

    def leave(self, begin: int, end: int, *, sloping: bool) -> float:
        """Sum of squared residuals."""
        size = end - begin
        level = self._yy[end] - self._yy[begin] - (self._y[end] - self._y[begin]) ** 2 / size
        return level - self.slope(begin, end) ** 2 * size * (size * size - 1) / 12 if sloping else level

    def fit(self, begin: int, end: int, *, sloping: bool) -> _Piece:
        level = self._middle + (self._y[end] - self._y[begin]) / (end - begin)
        half = self.slope(begin, end) * (end - begin - 1) / 2 if sloping else 0.0
        return _Piece(begin, end, level - half, level + half)


def _cut(fits: _Fits, noise: float) -> list[_Piece]:
    """Return the cheapest pieces of the whole history, in order."""
    kinds = [(sloping, least, price * noise**2) for sloping, least, price in _KINDS]
    cost = [0.0] + [math.inf] * fits.size
    newest = [(0, False)] * (fits.size + 1)
    for end in range(_FEWEST, fits.size + 1):
        cost[end], newest[end] = min(
            (cost[begin] + price + fits.leave(begin, end, sloping=sloping), (begin, sloping))
            for sloping, least, price in kinds
            for begin in (0, *range(_FEWEST, end - least + 1))
            if end - begin >= least
        )
    pieces: list[_Piece] = []
    end = fits.size
    while end:
        begin, sloping = newest[end]
        pieces.append(fits.fit(begin, end, sloping=sloping))
        end = begin
    return pieces[::-1]


def _name_changes(pieces: Sequence[_Piece], places: Sequence[int], worth: float, noise: float) -> Iterator[Change]:
    """Yield steps between pieces and slides along them that are large enough.

    A step counts from the level that was reported last, so that small ones add up.
    """
    level = pieces[0].first
    for number, piece in enumerate(pieces):
        # The ends of a fitted line are known only to within three times the noise.
        fitted = any(near.first != near.final for near in pieces[max(0, number - 1) : number + 1])
        if abs(piece.first - level) >= (max(worth, 3 * noise) if fitted else worth):
            yield Change(places[piece.begin], places[piece.begin], math.exp(level), math.exp(piece.first))
            level = piece.first
        if abs(piece.final - piece.first) >= worth:
            yield Change(places[piece.begin], places[piece.end - 1], math.exp(piece.first), math.exp(piece.final))
            level = piece.final
