"""Room 2: AMD's GPUs by the Python package `amdsmi` of ROCm; nothing where it is not installed.

The package, and not its command ``amd-smi``: that one starts a Python for each look.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

from pytest_boobench.hosts.readings import FoundSensors, SensorReading, scale
from pytest_boobench.untrusted import to_object, to_objects

_BUSY_PERCENT = 20
_MOST_C = 200
"""Some versions tell thousandths of a degree."""
_LEAST_UW = 1_000_000
"""A smaller power cap is in another unit than the documented one."""


class AmdGpu:
    """One GPU. What its driver does not tell is None."""

    source = "amdsmi"
    is_gpu = True
    counter_lag_s = 0.1
    gauge_lag_s = 1.0

    def __init__(self, smi: Any, handle: Any) -> None:
        self._smi = smi
        self._handle = handle
        self.name = str(self._ask("amdsmi_get_gpu_asic_info").get("market_name") or "an AMD GPU")

    def read(self) -> SensorReading:
        """Ask the driver."""
        power, energy = self._ask("amdsmi_get_power_info"), self._ask("amdsmi_get_energy_count")
        powers = map(scale, map(power.get, ("socket_power", "current_socket_power", "average_socket_power")))
        load = scale(self._ask("amdsmi_get_gpu_activity").get("gfx_activity"))
        cap_uw = scale(self._ask("amdsmi_get_power_cap_info").get("power_cap"))
        return SensorReading(
            clock_mhz=self._read_clock("GFX"),
            memory_clock_mhz=self._read_clock("MEM"),
            temperature_c=self._read_temperature(),
            power_w=next((watts for watts in powers if watts), None),  # zero means that it has no such number
            energy_j=_count_joules(energy),
            limit_w=cap_uw / 1e6 if cap_uw is not None and cap_uw >= _LEAST_UW else None,
            busy=None if load is None else load >= _BUSY_PERCENT,
        )

    def measure_mb(self, pids: Collection[int]) -> float | None:
        """Its memory that these processes use, 10^6 bytes; None if it lists none of them."""
        listed = self._call("amdsmi_get_gpu_process_list")
        own = [one for one in to_objects(listed) if one.get("pid") in pids]
        sizes = [scale(to_object(one.get("memory_usage")).get("vram_mem")) for one in own]
        known = [size for size in sizes if size is not None]
        return sum(known) / 1e6 if known else None

    def close(self) -> None:
        """The library stays until the process ends: it has one state for all GPUs."""

    def _read_clock(self, kind: str) -> float | None:
        return scale(self._ask("amdsmi_get_clock_info", _name(self._smi, "AmdSmiClkType", kind)).get("clk"))

    def _read_temperature(self) -> float | None:
        now = _name(self._smi, "AmdSmiTemperatureMetric", "CURRENT")
        for place in ("HOTSPOT", "EDGE"):
            told = scale(self._call("amdsmi_get_temp_metric", _name(self._smi, "AmdSmiTemperatureType", place), now))
            if told is not None:
                return told / 1000 if told > _MOST_C else told
        return None

    def _ask(self, call: str, *given: Any) -> Mapping[str, Any]:
        return to_object(self._call(call, *given))

    def _call(self, call: str, *given: Any) -> Any:
        try:
            return getattr(self._smi, call)(self._handle, *given)
        except (self._smi.AmdSmiException, AttributeError, OSError, ValueError):
            return None


def _name(smi: Any, enumeration: str, member: str) -> Any:
    """A member of one of its enumerations; None in a version without it."""
    return getattr(getattr(smi, enumeration, None), member, None)


def _count_joules(energy: Mapping[str, Any]) -> float | None:
    """Counter times resolution in microjoules; older versions call the counter ``power``."""
    counted = scale(energy.get("energy_accumulator", energy.get("power")))
    step_uj = scale(energy.get("counter_resolution"))
    return counted * step_uj / 1e6 if counted and step_uj else None


def find_amd() -> FoundSensors:
    """The GPUs, or why there are none; an empty reason without the package."""
    if importlib.util.find_spec("amdsmi") is None:
        return FoundSensors()
    try:
        import amdsmi  # noqa: PLC0415  # comes with ROCm
    except (ImportError, OSError, AttributeError, KeyError) as error:  # it loads a library of ROCm's
        return FoundSensors(reason=f"amdsmi cannot be loaded ({error})")
    found: list[AmdGpu] = []
    reason = ""
    try:
        amdsmi.amdsmi_init()
        found = [AmdGpu(amdsmi, handle) for handle in amdsmi.amdsmi_get_processor_handles()]
    except (amdsmi.AmdSmiException, OSError) as error:
        reason = f"amdsmi does not answer ({error})"
        with suppress(amdsmi.AmdSmiException, OSError):
            amdsmi.amdsmi_shut_down()
    return FoundSensors(tuple(found), reason)
