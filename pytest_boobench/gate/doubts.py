"""Room 6: why a number that is worse than allowed is not believed, in words that begin with the finding."""

from __future__ import annotations

import math

from pytest_boobench.gate.comparison import FEWEST_REQUESTS, Comparison, to_change
from pytest_boobench.gate.reference import scatter
from pytest_boobench.units import count, percent

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
