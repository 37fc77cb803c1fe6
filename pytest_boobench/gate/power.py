"""Room 6: what a baseline can prove, and what would let it prove more."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from pytest_boobench.gate.comparison import (
    CLEAR,
    FEWEST_REQUESTS,
    SCATTER,
    Z_BELIEVED,
    Comparison,
    estimate_deviation,
    find_limit,
    find_run_noise,
    median_error,
    to_change,
)
from pytest_boobench.gate.reference import ENOUGH_LOOKS, LEAST_NOISE, Reference, consult, scatter
from pytest_boobench.metrics import METRICS
from pytest_boobench.record import Baseline
from pytest_boobench.units import count, percent

MOST_SESSIONS = 10
"""Advice to measure more sessions than this is none."""
_CALMER = "longer outputs, quieter host, or --boobench-duet"
_HOW = "with --boobench-save-baseline=add, half an hour apart"


def provable_drop(baseline: Baseline, metric: str, allowed: float, spread: Mapping[str, float]) -> float | None:
    """The smallest worsening, a ratio, that this baseline can prove with samples like its own; never below ``allowed``.

    It is the noise floor of `judge`: a true worsening of just so much is found every other time. Infinite where samples
    scatter without end, as times do that reach zero; None where no run gives the metric.
    """
    was = consult(METRICS[metric], baseline, spread.get(metric, 0.0))
    if was is None:
        return None
    loss = _least_loss(was)
    return max(allowed, abs(to_change(-loss, METRICS[metric]))) if math.isfinite(loss) else math.inf


def remedy(baseline: Baseline, metric: str, allowed: float, spread: Mapping[str, float]) -> str:
    """What would let the baseline prove the allowed worsening, in one line; empty where it can, or says nothing."""
    was = consult(METRICS[metric], baseline, spread.get(metric, 0.0))
    if was is None:
        return ""
    limit = -find_limit(METRICS[metric], allowed)
    if _is_too_scattered(was):
        missing = count(ENOUGH_LOOKS - was.known_looks, "more session")
        return f"samples scatter by {percent(math.expm1(was.scatter))}: {missing} {_HOW}, {_CALMER}"
    if _noise(was) <= limit:
        return ""
    return _advise_sessions(was, limit) or _advise_samples(was, limit) or _advise_otherwise(was)


def _is_too_scattered(was: Reference) -> bool:
    return was.assumed and was.scatter >= SCATTER


def _least_loss(was: Reference) -> float:
    """Of a server whose samples scatter as the baseline's do, as a logarithm."""
    return max(_noise(was), was.scatter / CLEAR) if _is_too_scattered(was) else _noise(was)


def _noise(was: Reference) -> float:
    run_noise = find_run_noise(was, was.scatter)
    return Z_BELIEVED * estimate_deviation(was, run_noise, was.scatter, was.requests_of_run)


def _advise_sessions(was: Reference, limit: float) -> str:
    for more in range(1, MOST_SESSIONS - was.looks + 1):
        known = was.known_looks + more
        if known >= ENOUGH_LOOKS and _noise(replace(was, looks=was.looks + more, known_looks=known)) <= limit:
            return f"{count(more, 'more session')} {_HOW}"
    return ""


def _advise_samples(was: Reference, limit: float) -> str:
    for factor in (2, 4, 8):
        if _noise(_with_more_samples(was, factor)) <= limit:
            return f"{was.requests_of_run * factor} samples a cell instead of {was.requests_of_run}, or longer outputs"
    return ""


def _with_more_samples(was: Reference, factor: int) -> Reference:
    """The baseline with runs so many times as long. What the samples add to a measured noise shrinks with them."""
    error = median_error(was.scatter, was.requests_of_run)
    gone = 0.0 if was.assumed else error**2 * (1 - 1 / factor)
    return replace(
        was,
        run_noise=max(LEAST_NOISE, math.sqrt(max(0.0, was.run_noise**2 - gone))),
        requests=was.requests * factor,
        requests_of_run=was.requests_of_run * factor,
    )


def _advise_otherwise(was: Reference) -> str:
    """Against what is larger: the noise between sessions, or that of the samples."""
    if median_error(was.scatter, was.requests_of_run) > was.run_noise:
        return f"samples scatter by {percent(math.expm1(was.scatter))}: {_CALMER}"
    return f"sessions differ by {percent(math.expm1(was.run_noise))}: quieter host, or --boobench-duet"


CALMER = "quieter host, longer outputs, or --boobench-duet"
MORE_SESSIONS = "more sessions with --boobench-save-baseline=add, or --boobench-duet"


def explain(comparison: Comparison, *, blocks: int, slow_machine: str, name: str) -> str:
    """Why a metric of which one key or both are worse than allowed is no regression; empty where it is one.

    ``slow_machine`` says that the canary explains it, empty where it does not; ``name`` is the baseline's.
    """
    doubt = _find_disagreement(comparison) or slow_machine or _find_poor_samples(comparison)
    if doubt:
        return f"{_distance(comparison.change)} baseline {name}, but {doubt}"
    if comparison.gain >= -comparison.noise:
        noise = percent(to_change(-comparison.noise, comparison.metric))
        remedy = MORE_SESSIONS if comparison.was.assumed else CALMER
        return f"{_distance(comparison.change)} baseline {name}, within the noise of {noise}; {remedy}"
    if blocks < 2:
        return f"{_distance(comparison.change)} baseline {name} in one block: a second one would decide"
    return ""


def _find_disagreement(comparison: Comparison) -> str:
    """That only one of the two keys is worse than allowed."""
    samples = count(comparison.requests, "sample")
    fast = comparison.fast_change
    if not comparison.slower:
        return f"the fastest tenth {_distance(fast)}: the two disagree ({samples}); {CALMER}"
    if not comparison.fast_slower:
        same_side = (fast < 0) == (comparison.change < 0)
        distance = f"only {percent(fast)}" if same_side else _distance(fast)
        return f"the fastest tenth {distance}: the samples scatter too much to judge ({samples}); {CALMER}"
    return ""


def _find_poor_samples(comparison: Comparison) -> str:
    """That there are too few samples, or that they scatter too much."""
    if comparison.requests < FEWEST_REQUESTS:
        return f"{count(comparison.requests, 'sample')} are too few to judge; more samples or more blocks"
    if comparison.clean:
        return ""
    now, was, most = scatter(comparison.now), comparison.was.scatter, comparison.most_scatter
    if now < most:
        return f"the baseline's samples scatter by {_width(was)}, over {_width(most)}; {MORE_SESSIONS}"
    return f"the samples scatter by {_width(now)}, over {_width(most)}; {CALMER}"


def _width(scatter_of_logs: float) -> str:
    """By how much the upper quartile is above the lower one."""
    return percent(math.expm1(scatter_of_logs))


def _distance(change: float) -> str:
    return f"{percent(change)} {'below' if change < 0 else 'above'}"
