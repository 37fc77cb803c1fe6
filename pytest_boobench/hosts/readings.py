"""Room 2: what a sensor of this machine tells at one moment, and what all sensors have in common."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorReading:
    """One moment of one GPU or processor; None for what it does not tell."""

    clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    energy_j: float | None = None
    """A counter: only differences mean something."""
    limit_w: float | None = None
    throttled: frozenset[str] = frozenset()
    """The limits that hold its clock down now."""
    busy: bool | None = None
    """Whether it works; None if it does not tell."""


class Sensor(Protocol):
    """A GPU, or a processor package. Its methods never raise for what the machine does."""

    name: str
    source: str
    """Whose numbers these are, as in ``nvml``."""
    is_gpu: bool
    counter_lag_s: float
    """By how much its energy counter may be late."""
    gauge_lag_s: float
    """By how much its power may be late."""

    def read(self) -> SensorReading:
        """Ask it now."""
        ...

    def measure_mb(self, pids: Collection[int]) -> float | None:
        """Its memory that these processes use, 10^6 bytes; None if it knows none of them."""
        ...

    def close(self) -> None:
        """Release it."""
        ...


@dataclass(frozen=True, slots=True)
class FoundSensors:
    """The sensors of one kind."""

    sensors: tuple[Sensor, ...] = ()
    reason: str = ""
    """Why there are none, or not all; empty if such a machine is not expected to have any."""


def scale(told: Any, factor: float = 1.0) -> float | None:
    """A sensor's number in our unit; None for texts such as ``N/A``, for no number, and for less than zero."""
    if isinstance(told, bool) or not isinstance(told, int | float) or not math.isfinite(told) or told < 0:
        return None
    return told * factor
