"""Room 2: what the sensors of this machine told during a window, in one number each. Arithmetic only."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pytest_boobench.facts import Hardware
from pytest_boobench.hosts.readings import Sensor, SensorReading
from pytest_boobench.units import number

Series = Sequence[tuple[float, SensorReading]]
"""Readings of one sensor with their times, seconds of the monotonic clock; one at each end of the window."""

LEAST_LAGS = 10
"""A window shorter than so many times the lag of its sensor has no energy: a tenth of it could be of before."""
THROTTLED = 0.1
"""A limit that holds in a smaller share of the readings is not told."""
BUSY = 0.5
"""A GPU that works in this share of the readings is taken for the server's where no driver lists processes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """The machine during a window."""

    hardware: Hardware | None = None
    energy_j: float | None = None
    """Of the GPUs that the server uses; without any, of the processor packages."""
    no_energy: str = ""
    """Why there is no energy, a sentence; empty where there is."""
    vram_mb: float | None = None
    """GPU memory of the server's processes, 10^6 bytes."""


def is_busy(series: Series) -> bool:
    """Whether a GPU worked during the window."""
    known = [reading.busy for _, reading in series if reading.busy is not None]
    return bool(known) and sum(known) >= BUSY * len(known)


def summarize_window(used: Mapping[Sensor, Series], vram_mb: float | None = None) -> Observed:
    """Condense the readings of the sensors that count: GPUs or processor packages, at least one."""
    energies = [find_energy(sensor, series) for sensor, series in used.items()]
    energy_j = sum(energy for energy in energies if energy is not None) if None not in energies else None
    span_s = max(series[-1][0] - series[0][0] for series in used.values())
    at_work = [[reading for _, reading in series if reading.busy is not False] for series in used.values()]
    latest = [series[-1][1] for series in used.values()]
    hardware = Hardware(
        gpu_clock_mhz=_find_slowest([reading.clock_mhz for reading in of] for of in at_work),
        memory_clock_mhz=_find_slowest([reading.memory_clock_mhz for reading in of] for of in at_work),
        gpu_temperature_c=max(_known(one.temperature_c for series in used.values() for _, one in series), default=None),
        power_w=energy_j / span_s if energy_j is not None and span_s > 0 else None,
        power_limit_w=_add_up([reading.limit_w for reading in latest]),
        throttled=", ".join(sorted(frozenset[str]().union(*map(_find_limits, at_work)))) or None,
        source="+".join(sorted({sensor.source for sensor in used})),
    )
    why = "" if energy_j is not None else _explain(used, span_s)
    return Observed(hardware=hardware, energy_j=energy_j, no_energy=why, vram_mb=vram_mb)


def find_energy(sensor: Sensor, series: Series) -> float | None:
    """Joules of a window: by the sensor's counter, or else its power over time (trapezoids); None if both are missing
    or too late for so short a window."""
    span_s = series[-1][0] - series[0][0]
    first, last = series[0][1].energy_j, series[-1][1].energy_j
    if first is not None and last is not None and last > first and span_s >= LEAST_LAGS * sensor.counter_lag_s:
        return last - first
    powers = [(at_s, reading.power_w) for at_s, reading in series]
    if span_s < LEAST_LAGS * sensor.gauge_lag_s or any(power is None for _, power in powers):
        return None
    return sum((end - begin) * ((power or 0.0) + (then or 0.0)) / 2 for (begin, power), (end, then) in pairwise(powers))


def _explain(used: Mapping[Sensor, Series], span_s: float) -> str:
    for sensor, series in used.items():
        counts = series[-1][1].energy_j is not None
        if not counts and series[-1][1].power_w is None:
            return f"{sensor.name} does not report its power"
    least_s = max(LEAST_LAGS * _find_lag_s(sensor, series) for sensor, series in used.items())
    return (
        f"the block took {number(span_s)} s, and its power sensor needs {number(float(least_s))} s: "
        "more samples or longer outputs"
    )


def _find_lag_s(sensor: Sensor, series: Series) -> float:
    return sensor.counter_lag_s if series[-1][1].energy_j is not None else sensor.gauge_lag_s


def _find_limits(readings: Sequence[SensorReading]) -> frozenset[str]:
    """The limits that held in a tenth of the readings."""
    seen = [limit for reading in readings for limit in reading.throttled]
    return frozenset(limit for limit in seen if seen.count(limit) >= THROTTLED * len(readings))


def _find_slowest(clocks: Iterable[Sequence[float | None]]) -> float | None:
    """The median clock of each GPU, and of these the lowest."""
    known = [list(_known(of)) for of in clocks]
    return min((statistics.median(of) for of in known if of), default=None)


def _add_up(values: Sequence[float | None]) -> float | None:
    """Their sum; None if one is unknown."""
    known = list(_known(values))
    return sum(known) if len(known) == len(values) else None


def _known(values: Iterable[float | None]) -> Iterable[float]:
    return (value for value in values if value is not None)
