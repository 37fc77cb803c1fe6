"""Room 6: the drift of a host, by the reference of its machine: divided out of the baseline before they are compared.

A run of the baseline is multiplied by what the reference is faster now than it was then. What is left is the change of
the measured server alone, with the noise of the reference added.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

from pytest_boobench.aggregate import Aggregate
from pytest_boobench.facts import REFERENCE_RATES, ReferenceRates
from pytest_boobench.gate.reference import measure_spread
from pytest_boobench.metrics import Metric, find_metric
from pytest_boobench.plain import list_facts
from pytest_boobench.record import Baseline, BaselineRun, CellRecord, HostNoise
from pytest_boobench.units import number, percent

RATE_OF: Mapping[str, str] = {
    "decode_tok_s": "decode",
    "steps_per_s": "decode",
    "itl_ms": "decode",
    "e2e_ms": "decode",
    "lanes_tok_s": "decode",
    "prefill_tok_s": "prefill",
    "embed_tok_s": "prefill",
    "ttft_ms": "prefill",
    "ttfo_ms": "prefill",
    "prompt_ms": "prefill",
}
"""Metric -> the rate of the reference that says how the host's drift changes it. All others are left as they are."""
LIKENESS = 0.15
"""Standard deviation of how differently two models feel one drift, as a share of the drift."""
SHOWN = 0.01
"""A smaller drift is not worth a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostDrift:
    """By how much a host is faster than with the baseline, as its reference says."""

    name: str = ""
    """``HOST::MODEL`` of the reference."""
    gains: Mapping[str, float] = field(default_factory=dict)
    """Rate -> logarithm of now / then; empty if nothing is divided out."""
    errors: Mapping[str, float] = field(default_factory=dict)
    """Rate -> standard deviation of its logarithm."""
    trouble: str = ""
    """Why nothing is divided out, though there is a reference."""

    @property
    def summary(self) -> str:
        """All that is divided out, in a clause; empty if it is not worth a word."""
        shown = {rate: _describe_gain(gain) for rate, gain in self.gains.items() if abs(gain) >= SHOWN}
        parts = " and ".join(f"{rate} {words}" for rate, words in shown.items())
        return f"the reference {self.name} became {parts}: divided out of the verdicts" if parts else ""

    def covers(self, metric: Metric) -> bool:
        """Whether the drift of this metric is divided out."""
        return RATE_OF.get(metric.base) in self.gains

    def find_error(self, metric: Metric) -> float:
        """Return the standard deviation that the division adds to the metric's gain."""
        return self.errors[RATE_OF[metric.base]] if self.covers(metric) else 0.0

    def decides(self, metric: Metric, gain: float, limit: float) -> bool:
        """Whether a gain is below the limit only because the host became faster."""
        return self.covers(metric) and gain < limit <= gain + self.gains[RATE_OF[metric.base]]

    def describe(self, metric: Metric, level: float) -> str:
        """Return a clause for the metric whose divided level is ``level``; empty if there is nothing to say."""
        if not self.covers(metric):
            return self.trouble if metric.base in RATE_OF else ""
        gain = self.gains[RATE_OF[metric.base]]
        if abs(gain) < SHOWN:
            return ""
        stored = number(level / _find_factor(metric, gain))
        change = _describe_gain(gain)
        return f"the reference {self.name} is {change} than with the baseline: divided out of its {stored}"


_NONE = HostDrift()


def _describe_gain(gain: float) -> str:
    return f"{percent(abs(math.expm1(gain)))} {'slower' if gain < 0 else 'faster'}"


def divide_out(record: CellRecord, baseline: Baseline) -> tuple[Baseline, HostDrift]:
    """Return the baseline as it would be on the host of now, and the drift; the baseline itself if that is unknown."""
    now = record.reference_rates
    if now is None:
        return baseline, _NONE
    if now.trouble:
        return baseline, HostDrift(name=now.name, trouble=f"judged without the reference {now.name}: {now.trouble}")
    if trouble := _find_obstacle(now, baseline.runs):
        return baseline, HostDrift(name=now.name, trouble=f"the host's drift is not divided out: {trouble}")
    return _divide(baseline, now)


def expect_drift(baseline: Baseline) -> tuple[Baseline, HostDrift]:
    """Return what `divide_out` gives for a measurement whose reference is as fast and as sure as the newest run's.

    So the drift between the baseline's own runs is divided out; the baseline itself if they have no common reference.
    """
    newest = baseline.runs[-1].reference_rates
    if newest is None or _find_obstacle(newest, baseline.runs):
        return baseline, _NONE
    return _divide(baseline, newest)


class SuiteNoise:
    """The noise between the sessions of each suite, by baselines that stay as they are."""

    def __init__(self, baselines: Iterable[Baseline]) -> None:
        self._baselines = tuple(baselines)
        self._found = cache(self._measure)

    def find(self, suite: str, now: ReferenceRates | None) -> Mapping[str, float]:
        """Return metric -> noise; for a measurement with a reference, what the references leave of it."""
        return self._found(now is not None and not now.trouble).get(suite, {})

    def _measure(self, referenced: bool) -> Mapping[str, Mapping[str, float]]:
        if not referenced:
            return measure_spread(self._baselines)
        return measure_spread(expect_drift(baseline)[0] for baseline in self._baselines)


def _divide(baseline: Baseline, now: ReferenceRates) -> tuple[Baseline, HostDrift]:
    later = tuple(run for run in baseline.later if not _find_obstacle(now, [run]))
    drift = _measure(now, baseline.runs)
    level = replace(
        baseline,
        runs=tuple(_move(run, now) for run in baseline.runs),
        later=tuple(_move(run, now) for run in later),
        host_noise=_leave_out(baseline.host_noise, drift),
    )
    return level, drift


def _leave_out(noise: HostNoise | None, drift: HostDrift) -> HostNoise | None:
    """The noise of a host without what it is of the drift that is divided out."""
    if noise is None:
        return None
    left = {key: value for key, value in noise.by_metric.items() if not drift.covers(find_metric(key))}
    return replace(noise, by_metric=left)


def _find_obstacle(now: ReferenceRates, runs: Sequence[BaselineRun]) -> str:
    """Why the reference cannot be compared with that of the runs; empty if it can."""
    for run in reversed(runs):
        was = run.reference_rates
        if was is None or was.trouble:
            return f"the baseline has a measurement without the reference {now.name}; save it anew"
        if was.name != now.name:
            return f"the reference is {now.name}, was {was.name}"
        for what, today, then in (("build", now.build, was.build), ("model file", now.file, was.file)):
            if None not in (today, then) and today != then:
                return f"the reference {now.name} changed: {what} {today}, was {then}"
    return ""


def _measure(now: ReferenceRates, runs: Sequence[BaselineRun]) -> HostDrift:
    """The drift between the runs, each of which has the same reference, and now."""
    then = [run.reference_rates for run in runs if run.reference_rates is not None]
    sessions = len({run.session for run in runs})
    gains, errors = dict[str, float](), dict[str, float]()
    for rate in REFERENCE_RATES:
        today = now.find_rate(rate)
        past = [found for each in then if (found := each.find_rate(rate)) is not None]
        if today is None or len(past) < len(then):
            continue
        gains[rate] = math.log(today[0] / statistics.median(value for value, _ in past))
        then_error = math.sqrt(statistics.fmean(error**2 for _, error in past) / sessions)
        errors[rate] = math.hypot(today[1], then_error, LIKENESS * gains[rate])
    return HostDrift(name=now.name, gains=gains, errors=errors)


def _move(run: BaselineRun, now: ReferenceRates) -> BaselineRun:
    """The run as it would be with the reference of now. Rates that one side does not know move nothing."""
    was = run.reference_rates
    if was is None:
        return run
    pairs = {rate: (now.find_rate(rate), was.find_rate(rate)) for rate in REFERENCE_RATES}
    gains = {rate: math.log(new[0] / old[0]) for rate, (new, old) in pairs.items() if new and old}
    moved = {
        key: _scale(aggregate, _find_factor(find_metric(key), gains.get(RATE_OF.get(find_metric(key).base, ""), 0.0)))
        for key, aggregate in run.aggregates.items()
    }
    return replace(run, aggregates=moved)


def _find_factor(metric: Metric, gain: float) -> float:
    """By what a metric changes when its host gains: a rate grows, a time shrinks."""
    return math.exp(gain if metric.better == "higher" else -gain)


def _scale(aggregate: Aggregate, factor: float) -> Aggregate:
    found = {name: getattr(aggregate, name) for name in list_facts(Aggregate) if name != "n"}
    return replace(aggregate, **{name: value and value * factor for name, value in found.items()})
