"""Room 6: what a baseline says: its level, and how much an unchanged host differs from session to session."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pytest_boobench.aggregate import Aggregate
from pytest_boobench.metrics import Metric, find_metric
from pytest_boobench.record import APART_S, Baseline, BaselineRun, HostLook

Timed = TypeVar("Timed", BaselineRun, HostLook)
"""A measurement with its session and its time."""

ENOUGH_SESSIONS = 3
"""With this many sessions, the noise between sessions is measured; with fewer, it is assumed."""
ASSUMED_NOISE = 0.02
"""Standard deviation between the sessions of a typical host."""
LEAST_NOISE = 0.01
"""A smaller noise is luck with few sessions."""
SUITE_WEIGHT = 4
"""The suite's noise counts as much as this many sessions of the cell."""
NOISIER = 3.0
"""A cell with more than this many times its suite's variance is judged by its own noise alone: of cells with five
sessions, one in fifty exceeds this by luck."""


def group_sessions(runs: Iterable[Timed]) -> list[tuple[Timed, ...]]:
    """Group measurements by session, oldest first.

    Sessions less than half an hour apart, from the end of one to the start of the next, count as one.
    """
    by_session: dict[str, list[Timed]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.measured_at):
        by_session[run.session].append(run)
    found: list[tuple[Timed, ...]] = []
    ended = -math.inf
    for session in by_session.values():
        if session[0].measured_at - ended < APART_S:
            found[-1] += tuple(session)
        else:
            found.append(tuple(session))
        ended = max(ended, session[-1].measured_at)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One metric of a baseline. Level and fast side are in the metric's unit; noise and scatter are of logarithms."""

    level: float
    """Median over the sessions of the runs' medians."""
    fast: float | None
    """The same for the edge of the fastest tenth; None if it cannot be divided by."""
    scatter: float
    """Interquartile range of a run's samples, median over the runs."""
    requests: int
    """Of all runs together."""
    requests_of_run: int
    """Median over the runs."""
    sessions: int
    known_sessions: int
    """Includes the later sessions, from which only the noise is measured."""
    run_noise: float
    """Standard deviation of an unchanged host's medians between sessions, measured or assumed."""
    host_sessions: int = 0
    """From so many sessions of the host, whatever their suites, part of the noise was learnt."""
    share: float | None = None
    """For a metric that counts good requests: the share of them."""

    @property
    def assumed(self) -> bool:
        """Whether there are too few sessions to measure the noise."""
        return self.known_sessions < ENOUGH_SESSIONS


def consult(metric: Metric, baseline: Baseline, spread: float = 0.0) -> Reference | None:
    """Return what a baseline says about a metric; None if no run has a usable number.
    ``spread`` is the suite's noise between sessions: that of one cell with few sessions is often small by luck."""
    key = metric.key
    saved = _keep_usable(baseline.runs, key)
    if not saved:
        return None
    sessions = group_sessions(saved)
    fast = statistics.median(_condense(sessions, lambda run: fast_side(metric, run.aggregates[key])))
    requests = [count_requests(run.aggregates, key) for run in saved]
    known = _find_levels([*baseline.runs, *baseline.later], key)
    shares = [run.aggregates["slo_share"].mean for run in saved if metric.binomial and "slo_share" in run.aggregates]
    return Reference(
        level=statistics.median(_condense(sessions, lambda run: run.aggregates[key].median)),
        fast=fast if usable(fast) and not metric.of_block else None,
        scatter=statistics.median(_condense(sessions, lambda run: scatter_of(metric, run.aggregates[key]))),
        requests=sum(requests),
        requests_of_run=statistics.median_low(requests),
        sessions=len(sessions),
        known_sessions=len(known),
        run_noise=_estimate_noise(known, mix_noise(baseline, key, spread), metric.assumed_noise or ASSUMED_NOISE),
        host_sessions=count_host_sessions(baseline, key),
        share=statistics.median(shares) if shares else None,
    )


def mix_noise(baseline: Baseline, metric: str, spread: float) -> float:
    """Return the noise between sessions that a cell with few sessions most likely has.

    The suite's (``spread``) and the host's variance count alike: the first is of cells like this one, but of few
    sessions; the second is of many sessions, but also of other cells. If one is unknown, the other alone counts.
    """
    host = baseline.host_noise.by_metric.get(metric, 0.0) if baseline.host_noise is not None else 0.0
    if not spread or not host:
        return max(spread, host)
    return math.sqrt((spread**2 + host**2) / 2)


def count_host_sessions(baseline: Baseline, metric: str) -> int:
    """Return from how many sessions of the host its noise of this metric was learnt; 0 if it was not."""
    noise = baseline.host_noise
    return noise.sessions if noise is not None and metric in noise.by_metric else 0


def level(metric: str, baseline: Baseline) -> float | None:
    """Return the median over the baseline's sessions of the runs' medians; None if no run has a usable number."""
    found = _find_levels(baseline.runs, metric)
    return statistics.median(found) if found else None


def measure_spread(baselines: Iterable[Baseline]) -> dict[str, dict[str, float]]:
    """Return suite -> metric -> noise between sessions: the median over its cells with three sessions or more.

    The few sessions of one cell say little. The median keeps some unsteady cells from counting for the steady ones.
    """
    variances: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for baseline in baselines:
        runs = (*baseline.runs, *baseline.later)
        for metric in {metric for run in runs for metric in run.aggregates}:
            levels = _find_levels(runs, metric)
            if len(levels) >= ENOUGH_SESSIONS:
                # The median of chi square over its degrees of freedom (Wilson and Hilferty 1931): by this factor the
                # median of sample variances is smaller than the true variance.
                share = (1 - 2 / (9 * (len(levels) - 1))) ** 3
                variances[baseline.suite][metric].append(_deviation(levels) ** 2 / share)
    return {
        suite: {metric: math.sqrt(statistics.median(found)) for metric, found in of_suite.items()}
        for suite, of_suite in variances.items()
    }


def usable(value: float) -> bool:
    """Whether a number is finite and far enough above zero (ms, tok/s) to divide by."""
    return math.isfinite(value) and value > 1e-9


def fast_side(metric: Metric, aggregate: Aggregate) -> float:
    """Return where the fastest tenth begins. Disturbance can only slow, so this side is the steadier one."""
    return aggregate.p90 if metric.better == "higher" else aggregate.p10


def scatter(aggregate: Aggregate) -> float:
    """Return the interquartile range of the logarithms; infinite if a quartile has no logarithm and differs."""
    if aggregate.p25 == aggregate.p75:
        return 0.0
    if not usable(aggregate.p25) or not usable(aggregate.p75):
        return math.inf
    return math.log(aggregate.p75 / aggregate.p25)


def scatter_of(metric: Metric, aggregate: Aggregate) -> float:
    """Return the scatter of a metric's samples; zero for one that counts requests, whose noise is binomial."""
    return 0.0 if metric.binomial else scatter(aggregate)


def count_requests(aggregates: Mapping[str, Aggregate], metric: str) -> int:
    """Count the independent requests behind a metric's values: the many gaps of one request count once, and a share
    of a block stands for the block's requests."""
    values, whole = aggregates[metric].n, aggregates.get("e2e_ms")
    if find_metric(metric).binomial:
        every = whole or aggregates.get("connect_ms")  # a host that does not keep up has no steady times
        return every.n if every is not None else values
    return min(values, whole.n) if whole is not None else values


def _keep_usable(runs: Iterable[BaselineRun], metric: str) -> list[BaselineRun]:
    return [run for run in runs if metric in run.aggregates and usable(run.aggregates[metric].median)]


def _condense(sessions: Iterable[tuple[BaselineRun, ...]], read: Callable[[BaselineRun], float]) -> list[float]:
    """The median over the runs of each session."""
    return [statistics.median(map(read, session)) for session in sessions]


def _find_levels(runs: Iterable[BaselineRun], metric: str) -> list[float]:
    return _condense(group_sessions(_keep_usable(runs, metric)), lambda run: run.aggregates[metric].median)


def _estimate_noise(levels: Sequence[float], spread: float, assumed: float) -> float:
    """The noise of a cell with these levels: its own if that is clearly larger than its suite's.
    Otherwise both together (the moderated variance of Smyth 2004), and at least the suite's."""
    own, freedom, few = _deviation(levels), len(levels) - 1, len(levels) < ENOUGH_SESSIONS
    if not few and own**2 > NOISIER * spread**2:
        return max(own, LEAST_NOISE)
    suite = max(spread, assumed) if few else spread
    # pulled towards the suite's: else every eighth cell of five sessions would seem a third noisier than it is
    together = (freedom * own**2 + SUITE_WEIGHT * suite**2) / (freedom + SUITE_WEIGHT)
    return max(suite, math.sqrt(together), LEAST_NOISE)


def _deviation(levels: Sequence[float]) -> float:
    """Sample standard deviation of the logarithms; zero for fewer than two."""
    if len(levels) < 2:
        return 0.0
    logs = list(map(math.log, levels))
    mean = math.fsum(logs) / len(logs)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in logs) / (len(logs) - 1))
