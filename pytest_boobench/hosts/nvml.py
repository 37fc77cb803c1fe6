"""Room 2: NVIDIA's GPUs by NVML, with the package `nvidia-ml-py` of the extra ``gpu``; nothing without a driver."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pytest_boobench.hosts.readings import FoundSensors, SensorReading, scale

DRIVER = Path("/proc/driver/nvidia")
_THROTTLES: Mapping[int, str] = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
"""Bits of NVML's clock event reasons (nvml.h) that mean a limit; idleness and set clocks are none."""
_BUSY_PERCENT = 20


class NvidiaGpu:
    """One GPU. What its driver does not tell is None."""

    source = "nvml"
    is_gpu = True
    counter_lag_s = 0.1
    """Its energy counter moves every 20 to 100 ms."""
    gauge_lag_s = 1.0
    """Its power is a mean over up to one second."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle
        told = self._ask("nvmlDeviceGetName")
        self.name = told.decode("utf-8", "replace") if isinstance(told, bytes) else str(told or "a GPU")

    def read(self) -> SensorReading:
        """Ask the driver; some tens of microseconds for each number."""
        nvml = self._nvml
        reasons = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        load = self._ask("nvmlDeviceGetUtilizationRates")
        return SensorReading(
            clock_mhz=scale(self._ask("nvmlDeviceGetClockInfo", getattr(nvml, "NVML_CLOCK_SM", 1))),
            memory_clock_mhz=scale(self._ask("nvmlDeviceGetClockInfo", getattr(nvml, "NVML_CLOCK_MEM", 2))),
            temperature_c=scale(self._ask("nvmlDeviceGetTemperature", getattr(nvml, "NVML_TEMPERATURE_GPU", 0))),
            power_w=scale(self._ask("nvmlDeviceGetPowerUsage"), 1e-3),
            energy_j=scale(self._ask("nvmlDeviceGetTotalEnergyConsumption"), 1e-3),
            limit_w=scale(self._ask("nvmlDeviceGetEnforcedPowerLimit"), 1e-3),
            throttled=_name_throttles(reasons),
            busy=None if load is None else load.gpu >= _BUSY_PERCENT,
        )

    def measure_mb(self, pids: Collection[int]) -> float | None:
        """Its memory that these processes use, 10^6 bytes; None if it lists none of them."""
        return add_up_mb(self._list_running(), pids)

    def close(self) -> None:
        """Each GPU was found by an initialization of its own."""
        with suppress(self._nvml.NVMLError):
            self._nvml.nvmlShutdown()

    def _list_running(self) -> Iterable[Any]:
        """A process may use it for compute and graphics; list it once."""
        compute = self._ask("nvmlDeviceGetComputeRunningProcesses") or []
        graphics = self._ask("nvmlDeviceGetGraphicsRunningProcesses") or []
        return {running.pid: running for running in (*compute, *graphics)}.values()

    def _ask(self, call: str, *given: Any) -> Any:
        try:
            return getattr(self._nvml, call)(self._handle, *given)
        except (self._nvml.NVMLError, AttributeError, OSError, ValueError):  # no such sensor, call or GPU
            return None


def _name_throttles(reasons: Any) -> frozenset[str]:
    if not isinstance(reasons, int) or reasons < 0:
        return frozenset()
    return frozenset(name for bit, name in _THROTTLES.items() if reasons & bit)


def add_up_mb(running: Iterable[Any], pids: Collection[int]) -> float | None:
    """The memory of those processes that NVML knows."""
    used = [one.usedGpuMemory for one in running if one.pid in pids and one.usedGpuMemory is not None]
    return sum(used) / 1e6 if used else None


def find_nvidia(driver: Path = DRIVER) -> FoundSensors:
    """The GPUs, or why there are none; an empty reason without an NVIDIA driver."""
    if importlib.util.find_spec("pynvml") is None:
        missing = "NVML needs pip install 'pytest-boobench[gpu]'" if driver.exists() else ""
        return FoundSensors(reason=missing)
    import pynvml  # noqa: PLC0415  # only there with the extra gpu

    found: list[NvidiaGpu] = []
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return FoundSensors(reason=f"NVML does not answer ({error})" if driver.exists() else "")
    try:
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            pynvml.nvmlInit()  # counted: the library stays until the last GPU is closed
            found.append(NvidiaGpu(pynvml, handle))
    except pynvml.NVMLError as error:
        return FoundSensors(tuple(found), f"NVML does not list the GPUs ({error})")
    finally:
        pynvml.nvmlShutdown()
    return FoundSensors(tuple(found), "" if found else "NVML lists no GPU")
