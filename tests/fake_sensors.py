"""Sensors whose truth is known: scripted ones, and fakes of the libraries and of the tree that the real ones read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from enum import Enum
from itertools import chain, repeat
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from pytest_boobench.hosts.readings import SensorReading


class ScriptedSensor:
    """Tells one reading after another; the last one again and again."""

    def __init__(
        self, *readings: SensorReading, is_gpu: bool = True, source: str = "fake", own_mb: float | None = None
    ) -> None:
        self.name = "a fake"
        self.source = source
        self.is_gpu = is_gpu
        self.counter_lag_s = 0.0
        self.gauge_lag_s = 0.0
        self.own_mb = own_mb
        self.asked = 0
        self.closed = 0
        self._readings = chain(readings, repeat(readings[-1]))

    def read(self) -> SensorReading:
        self.asked += 1
        return next(self._readings)

    def measure_mb(self, pids: Collection[int]) -> float | None:
        return self.own_mb if pids else None

    def close(self) -> None:
        self.closed += 1


class NVMLError(Exception):
    """As pynvml's."""


def make_pynvml(gpus: Sequence[Mapping[str, Any]]) -> Any:
    """A module as pynvml: GPUs are call -> its answer, without the part ``nvmlDeviceGet``; other calls fail."""
    fake: Any = ModuleType("pynvml")
    fake.__spec__ = SimpleNamespace()
    fake.NVMLError = NVMLError
    fake.open = 0
    fake.broken = ""

    def count_open(step: int) -> None:
        if fake.broken == "nvmlInit":
            raise NVMLError("driver not loaded")
        fake.open += step

    def answer(call: str) -> Callable[..., Any]:
        def answered(gpu: int, *_: Any) -> Any:
            found = gpus[gpu].get(call, NVMLError("not supported"))
            if isinstance(found, Exception):
                raise found
            return found(*_) if callable(found) else found

        return answered

    fake.nvmlInit = lambda: count_open(1)
    fake.nvmlShutdown = lambda: count_open(-1)
    fake.nvmlDeviceGetCount = lambda: len(gpus)
    fake.nvmlDeviceGetHandleByIndex = lambda index: index
    for call in {call for gpu in gpus for call in gpu} | {"Name", "ClockInfo", "PowerUsage"}:
        setattr(fake, f"nvmlDeviceGet{call}", answer(call))
    return fake


class AmdSmiException(Exception):
    """As amdsmi's."""


def make_amdsmi(*gpus: Mapping[str, Any]) -> Any:
    """A module as amdsmi: GPUs are call -> its answer, without the part ``amdsmi_get_``; other calls fail."""
    fake: Any = ModuleType("amdsmi")
    fake.__spec__ = SimpleNamespace()
    fake.AmdSmiException = AmdSmiException
    fake.AmdSmiClkType = Enum("AmdSmiClkType", "GFX MEM")
    fake.AmdSmiTemperatureType = Enum("AmdSmiTemperatureType", "EDGE HOTSPOT")
    fake.AmdSmiTemperatureMetric = Enum("AmdSmiTemperatureMetric", "CURRENT")
    fake.open = 0

    def answer(call: str) -> Callable[..., Any]:
        def answered(gpu: int, *given: Any) -> Any:
            found = gpus[gpu].get(call, AmdSmiException("not supported"))
            if isinstance(found, Exception):
                raise found
            return found(*given) if callable(found) else found

        return answered

    def start() -> None:
        fake.open += 1

    fake.amdsmi_init = start
    fake.amdsmi_shut_down = lambda: None
    fake.amdsmi_get_processor_handles = lambda: list(range(len(gpus)))
    for call in {call for gpu in gpus for call in gpu}:
        setattr(fake, f"amdsmi_get_{call}", answer(call))
    return fake


def write_zone(powercap: Path, zone: str, name: str, energy_uj: int, range_uj: int = 262_143_328_850) -> Path:
    """A zone of RAPL as Linux shows it; returns its counter."""
    folder = powercap / zone
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "max_energy_range_uj").write_text(f"{range_uj}\n")
    counter = folder / "energy_uj"
    counter.write_text(f"{energy_uj}\n")
    return counter
