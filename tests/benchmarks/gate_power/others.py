"""What other gates would say of the same samples. Each is handed the baseline's runs and the new blocks."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence

Runs = Sequence[Sequence[float]]
Rule = Callable[[Runs, Runs], bool | None]
"""(baseline's runs, new blocks) -> whether it is red; None where the rule needs more runs than there are."""

_U_CRITICAL = 23
"""Two-sided 5 % for ten against ten (Mann and Whitney 1947)."""
_T_95 = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812)
"""Student's t, one-sided 95 %, for 1 to 10 degrees of freedom."""


def compare_means(baseline: Runs, new: Runs) -> bool | None:
    """Point against point: the mean of ten new samples more than 10 % below the mean of one stored run."""
    return statistics.fmean(new[0]) < 0.9 * statistics.fmean(baseline[-1])


def mann_whitney(baseline: Runs, new: Runs) -> bool | None:
    """Ten new samples are slower than the ten of one stored run, with p < 0.05 (benchstat, google/benchmark)."""
    faster = sum((now > was) + (now == was) / 2 for now in new[0] for was in baseline[-1])
    return faster <= _U_CRITICAL


def mann_whitney_and_ten(baseline: Runs, new: Runs) -> bool | None:
    """The same, and the median more than 10 % below."""
    slower = statistics.median(new[0]) < 0.9 * statistics.median(baseline[-1])
    return slower and mann_whitney(baseline, new)


def inference_doctor(baseline: Runs, new: Runs) -> bool | None:
    """inference-doctor 0.4.1: of three runs or more on both sides, the 90 % interval of the ratio of means lies below
    0.9 as a whole; log ratio, delta method, degrees of freedom by Welch and Satterthwaite."""
    if len(baseline) < 3:
        return None
    sides = [[statistics.fmean(run) for run in runs] for runs in (baseline, new[:3])]
    (was, error_was), (now, error_now) = map(_mean_and_error, sides)
    total = error_was + error_now
    freedom = total**2 / (error_was**2 / (len(sides[0]) - 1) + error_now**2 / (len(sides[1]) - 1))
    return math.log(now / was) + _t_95(freedom) * math.sqrt(total) <= math.log(0.9)


def _mean_and_error(means: Sequence[float]) -> tuple[float, float]:
    """Mean, and the variance of its logarithm."""
    mean = sum(means) / len(means)
    variance = sum((value - mean) ** 2 for value in means) / (len(means) - 1)
    return mean, variance / (len(means) * mean**2)


def _t_95(freedom: float) -> float:
    """Linear between whole degrees of freedom."""
    low = min(max(int(freedom), 1), len(_T_95))
    high = min(low + 1, len(_T_95))
    return _T_95[low - 1] + (_T_95[high - 1] - _T_95[low - 1]) * min(max(freedom - low, 0.0), 1.0)


RULES: Mapping[str, Rule] = {
    "mean of ten, 10 %": compare_means,
    "Mann-Whitney, p < 0.05": mann_whitney,
    "Mann-Whitney and 10 %": mann_whitney_and_ten,
    "inference-doctor": inference_doctor,
}
