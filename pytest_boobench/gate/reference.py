"""Room 6: what a baseline says: its level, and how much an unchanged host differs from one look to the next."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pytest_boobench.aggregate import Aggregate
from pytest_boobench.metrics import Metric
from pytest_boobench.record import APART_S, Baseline, BaselineRun

Look = tuple[BaselineRun, ...]


def looks(baseline: Baseline) -> list[Look]:
    """The runs by look, oldest first. Runs of one session are one look, and so are sessions less than half an hour
    apart: from the end of one to the begin of the next."""
    return group(baseline.runs)


def group(runs: Iterable[BaselineRun]) -> list[Look]:
    """As `looks`, of any runs of one cell."""
    sessions: dict[str, list[BaselineRun]] = {}
    for run in sorted(runs, key=lambda run: run.measured_at):
        sessions.setdefault(run.session, []).append(run)
    found: list[Look] = []
    ended = -math.inf
    for session in sessions.values():
        if session[0].measured_at - ended < APART_S:
            found[-1] += tuple(session)
        else:
            found.append(tuple(session))
        ended = max(ended, session[-1].measured_at)
    return found


ENOUGH_LOOKS = 3
"""From so many on the noise between looks is measured; below it is assumed."""
ASSUMED_NOISE = 0.02
"""Standard deviation between looks where it is not known: typical hosts."""
LEAST_NOISE = 0.01
"""Smaller ones come from luck with few looks."""
SUITE_WEIGHT = 4
"""How many looks of its own a cell needs until they count as much as the noise of its suite."""
NOISIER = 3.0
"""A cell with more than so many times its suite's variance is another sort of cell: by luck it is one of fifty, with
five looks."""
_NOTHING = 1e-9
"""Milliseconds, or tokens a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One metric of a baseline. Level and fast side in the metric's unit; noise and scatter of logarithms."""

    level: float
    """Median over the looks of the runs' medians."""
    fast: float | None
    """The same of the fastest tenth's edge; blank where no ratio to it can be taken."""
    scatter: float
    """Interquartile range of a run's samples, median over the runs."""
    requests: int
    """In all runs together."""
    requests_of_run: int
    """Median over the runs."""
    looks: int
    known_looks: int
    """With those after it, which teach the noise."""
    run_noise: float
    """Standard deviation of an unchanged host's medians between looks, measured or assumed."""

    @property
    def assumed(self) -> bool:
        """Whether there are too few looks to measure the noise."""
        return self.known_looks < ENOUGH_LOOKS


def consult(metric: Metric, baseline: Baseline, spread: float = 0.0) -> Reference | None:
    """What a baseline says of a metric; None where no run has a usable number.

    ``spread`` is the suite's own noise between looks: with few looks, a cell's alone is small by luck too often.
    """
    key = metric.key
    saved = _keep_usable(baseline.runs, key)
    if not saved:
        return None
    grouped = group(saved)
    fast = statistics.median(_over(grouped, lambda run: fast_side(metric, run.aggregates[key])))
    requests = [count_requests(run.aggregates, key) for run in saved]
    known = _levels(group([*saved, *_keep_usable(baseline.later, key)]), key)
    return Reference(
        level=statistics.median(_levels(grouped, key)),
        fast=fast if usable(fast) else None,
        scatter=statistics.median(_over(grouped, lambda run: scatter(run.aggregates[key]))),
        requests=sum(requests),
        requests_of_run=statistics.median_low(requests),
        looks=len(grouped),
        known_looks=len(known),
        run_noise=_estimate_noise(known, spread),
    )


def level(metric: str, baseline: Baseline) -> float | None:
    """The baseline's level: median over its looks of the median over the look's runs of each run's median; blank where
    no run has a usable number."""
    found = _levels(group(_keep_usable(baseline.runs, metric)), metric)
    return statistics.median(found) if found else None


def measure_spread(baselines: Iterable[Baseline]) -> dict[str, dict[str, float]]:
    """Suite -> metric -> noise between looks of the suite's typical cell, over cells with three looks or more.

    One cell's standard deviation of three or five numbers says little; those of a suite's cells together do. Their
    median, and not their mean: a suite of steady cells and some unsteady ones, such as those of several lanes, must not
    take its steady cells for unsteady.
    """
    variances: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for baseline in baselines:
        runs = (*baseline.runs, *baseline.later)
        for metric in {metric for run in runs for metric in run.aggregates}:
            levels = _levels(group(_keep_usable(runs, metric)), metric)
            if len(levels) >= ENOUGH_LOOKS:
                variances[baseline.suite][metric].append(_deviation(levels) ** 2 / _median_share(len(levels) - 1))
    return {
        suite: {metric: math.sqrt(statistics.median(found)) for metric, found in of_suite.items()}
        for suite, of_suite in variances.items()
    }


def _median_share(freedom: int) -> float:
    """The median of sample variances is smaller than the true one by this factor: that of chi square over its degrees
    of freedom, (1 - 2 / 9 f)^3 (Wilson and Hilferty 1931)."""
    return (1 - 2 / (9 * freedom)) ** 3


def usable(value: float) -> bool:
    """Whether a number can stand under a division: finite, and not so near zero that its ratios are none."""
    return math.isfinite(value) and value > _NOTHING


def fast_side(metric: Metric, aggregate: Aggregate) -> float:
    """Where the fastest tenth begins. Interference only slows, so that this side is the steadier one."""
    return aggregate.p90 if metric.better == "higher" else aggregate.p10


def scatter(aggregate: Aggregate) -> float:
    """Interquartile range of the logarithms; infinite where there is none."""
    if not usable(aggregate.p25) or not usable(aggregate.p75):
        return math.inf
    return math.log(aggregate.p75 / aggregate.p25)


def count_requests(aggregates: Mapping[str, Aggregate], metric: str) -> int:
    """Over how many requests a metric's values are spread: the gaps within one request are no looks of their own."""
    whole = aggregates.get("e2e_ms")
    values = aggregates[metric].n
    return min(values, whole.n) if whole is not None else values


def _keep_usable(runs: Iterable[BaselineRun], metric: str) -> list[BaselineRun]:
    return [run for run in runs if metric in run.aggregates and usable(run.aggregates[metric].median)]


def _over(grouped: Iterable[Look], read: Callable[[BaselineRun], float]) -> list[float]:
    """One number for each look: the median over its runs."""
    return [statistics.median(map(read, look)) for look in grouped]


def _levels(grouped: Iterable[Look], metric: str) -> list[float]:
    return _over(grouped, lambda run: run.aggregates[metric].median)


def _estimate_noise(levels: Sequence[float], spread: float) -> float:
    """Of a cell with such levels in a suite with such a spread: the cell's own where it is clearly larger; otherwise
    both together, and with few looks what is assumed in the place of the suite's."""
    own = _deviation(levels)
    if len(levels) < ENOUGH_LOOKS:
        return _moderate(own, len(levels) - 1, max(spread, ASSUMED_NOISE))
    if own**2 > NOISIER * spread**2:
        return max(own, LEAST_NOISE)
    return max(_moderate(own, len(levels) - 1, spread), LEAST_NOISE)


def _moderate(own: float, freedom: int, spread: float) -> float:
    """A cell's noise drawn towards its suite's (the moderated variance of Smyth 2004), and no less than that. Without
    it every eighth cell of five looks would be taken for noisier than it is by a third, and prove as much less."""
    together = (freedom * own**2 + SUITE_WEIGHT * spread**2) / (freedom + SUITE_WEIGHT)
    return max(spread, math.sqrt(together))


def _deviation(levels: Sequence[float]) -> float:
    """Sample standard deviation of the logarithms; zero where there are fewer than two."""
    if len(levels) < 2:
        return 0.0
    logs = [math.log(value) for value in levels]
    mean = math.fsum(logs) / len(logs)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in logs) / (len(logs) - 1))
