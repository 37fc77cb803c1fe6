"""Room 6: what a baseline can prove, how to prove more, and why a worse number is not believed."""

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
    describe_distance,
    estimate_deviation,
    find_limit,
    median_error,
    to_change,
)
from pytest_boobench.gate.host_drift import expect_drift
from pytest_boobench.gate.reference import ENOUGH_SESSIONS, LEAST_NOISE, Reference, consult, scatter
from pytest_boobench.metrics import find_metric
from pytest_boobench.record import Baseline
from pytest_boobench.units import count, percent

MOST_SESSIONS = 10
"""No advice asks for more sessions than this."""
_CALMER_BASELINE = "longer outputs, quieter host, or --boobench-duet"
_HOW = "with --boobench-save-baseline=add, half an hour apart"
_CALMER = "quieter host, longer outputs, or --boobench-duet"
_MORE_SESSIONS = "more sessions with --boobench-save-baseline=add, or --boobench-duet"


def provable_drop(baseline: Baseline, metric: str, allowed: float, spread: Mapping[str, float]) -> float | None:
    """Return the smallest worsening, a ratio, that this baseline can prove with samples like its own.

    Never below ``allowed``. `judge` finds a true worsening of this size every other time. Where the runs have a
    reference, a later measurement is taken to have one, too. Infinite if the samples' scatter is; None if no run has
    the metric.
    """
    was, error = _foresee(baseline, metric, spread)
    if was is None:
        return None
    noise = _noise(was, error)
    loss = max(noise, was.scatter / CLEAR) if _is_too_scattered(was) else noise
    return max(allowed, abs(to_change(-loss, find_metric(metric)))) if math.isfinite(loss) else math.inf


def remedy(baseline: Baseline, metric: str, allowed: float, spread: Mapping[str, float]) -> str:
    """Say in one line how the baseline could prove the allowed worsening; empty if it can, or has no number."""
    was, error = _foresee(baseline, metric, spread)
    if was is None:
        return ""
    limit = -find_limit(find_metric(metric), allowed)
    if _is_too_scattered(was):
        missing = count(ENOUGH_SESSIONS - was.known_sessions, "more session")
        return f"samples scatter by {_width(was.scatter)}: {missing} {_HOW}, {_CALMER_BASELINE}"
    return "" if _noise(was, error) <= limit else _advise(was, error, limit)


def _foresee(baseline: Baseline, key: str, spread: Mapping[str, float]) -> tuple[Reference | None, float]:
    """What the baseline will say of the metric, and the standard deviation that the machine's reference will add."""
    metric = find_metric(key)
    level, drift = expect_drift(baseline)
    return consult(metric, level, spread.get(key, 0.0)), drift.find_error(metric)


def _advise(was: Reference, error: float, limit: float) -> str:
    """Advise more sessions, or else more samples; if neither is enough, how to lower the largest of the noises."""
    for more in range(max(1, ENOUGH_SESSIONS - was.known_sessions), MOST_SESSIONS - was.sessions + 1):
        longer = replace(was, sessions=was.sessions + more, known_sessions=was.known_sessions + more)
        if _noise(longer, error) <= limit:
            return f"{count(more, 'more session')} {_HOW}"
    for factor in (2, 4, 8):
        if _noise(_with_more_samples(was, factor), error) <= limit:
            return f"{was.requests_of_run * factor} samples a cell instead of {was.requests_of_run}, or longer outputs"
    if error > max(was.run_noise, median_error(was.scatter, was.requests_of_run)):
        return f"the reference of the machine is unsure by {_width(error)}: {_CALMER}"
    if median_error(was.scatter, was.requests_of_run) > was.run_noise:
        return f"samples scatter by {_width(was.scatter)}: {_CALMER_BASELINE}"
    return f"sessions differ by {_width(was.run_noise)}: quieter host, or --boobench-duet"


def _is_too_scattered(was: Reference) -> bool:
    return was.assumed and was.scatter >= SCATTER


def _noise(was: Reference, error: float) -> float:
    """How much worse a server may seem if its samples scatter as the baseline's do, as a logarithm."""
    return Z_BELIEVED * math.hypot(estimate_deviation(was, was.scatter, was.requests_of_run, was.share), error)


def _with_more_samples(was: Reference, factor: int) -> Reference:
    """The baseline with ``factor`` times the samples, which lowers their share of a measured noise."""
    error = median_error(was.scatter, was.requests_of_run)
    gone = 0.0 if was.assumed else error**2 * (1 - 1 / factor)
    return replace(
        was,
        run_noise=max(LEAST_NOISE, math.sqrt(max(0.0, was.run_noise**2 - gone))),
        requests=was.requests * factor,
        requests_of_run=was.requests_of_run * factor,
    )


def explain(comparison: Comparison, *, decided: bool, slow_machine: str, name: str) -> str:
    """Explain why a metric whose median or fastest tenth is worse than allowed is no regression; empty if it is one.

    ``decided``: there is a second block, or there can be none. ``slow_machine`` is the canary's explanation, or empty.
    """
    finding = f"{describe_distance(comparison.change)} baseline {name}"
    if doubt := _find_disagreement(comparison) or slow_machine or _find_poor_samples(comparison):
        return f"{finding}, but {doubt}"
    if comparison.gain >= -comparison.noise:
        noise = percent(to_change(-comparison.noise, comparison.metric))
        return f"{finding}, within the noise of {noise}; {_MORE_SESSIONS if comparison.was.assumed else _CALMER}"
    if not decided and not comparison.metric.of_start:
        return f"{finding} in one block: a second one would decide"
    return ""


def _find_disagreement(comparison: Comparison) -> str:
    samples = count(comparison.requests, "sample")
    fast = comparison.fast_change
    if not comparison.slower:
        return f"the fastest tenth {describe_distance(fast)}: the two disagree ({samples}); {_CALMER}"
    if not comparison.fast_slower:
        same_side = (fast < 0) == (comparison.change < 0)
        distance = f"only {percent(fast)}" if same_side else describe_distance(fast)
        return f"the fastest tenth {distance}: the samples scatter too much to judge ({samples}); {_CALMER}"
    return ""


def _find_poor_samples(comparison: Comparison) -> str:
    if comparison.requests < FEWEST_REQUESTS and not (comparison.metric.of_start or comparison.metric.of_block):
        return f"{count(comparison.requests, 'sample')} are too few to judge; more samples or more blocks"
    if comparison.clean:
        return ""
    now, was, most = scatter(comparison.now), comparison.was.scatter, comparison.most_scatter
    if now < most:
        return f"the baseline's samples scatter by {_width(was)}, over {_width(most)}; {_MORE_SESSIONS}"
    return f"the samples scatter by {_width(now)}, over {_width(most)}; {_CALMER}"


def _width(of_logs: float) -> str:
    return percent(math.expm1(of_logs))
