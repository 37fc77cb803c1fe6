"""Room 6: what a baseline can prove, and what would let it prove more."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from pytest_boobench.gate.comparison import (
    CLEAR,
    SCATTER,
    Z_BELIEVED,
    estimate_deviation,
    find_limit,
    find_run_noise,
    median_error,
    to_change,
)
from pytest_boobench.gate.reference import ENOUGH_LOOKS, LEAST_NOISE, Reference, consult
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
