"""Room 2: reads the sensors of this machine in a thread of its own while a server on it is measured."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

from pytest_boobench.hosts.amd_smi import find_amd
from pytest_boobench.hosts.nvml import find_nvidia
from pytest_boobench.hosts.rapl import find_packages
from pytest_boobench.hosts.readings import FoundSensors, Sensor, SensorReading
from pytest_boobench.hosts.sensor_windows import Observed, is_busy, summarize_window
from pytest_boobench.hosts.server_process import ElsewhereError

EVERY_S = 0.2
"""Between two readings."""
NOTHING_THERE = "there is neither NVML, amdsmi nor RAPL"


def find_sensors() -> tuple[FoundSensors, ...]:
    """All sensors of this machine, opened. Imports a vendor's package only if it is installed."""
    return find_nvidia(), find_amd(), find_packages()


def explain_nothing(found: Sequence[FoundSensors]) -> str:
    """Why nothing here reports power."""
    reasons = "; ".join(one.reason for one in found if one.reason)
    return f"no sensor on this machine reports power: {reasons or NOTHING_THERE}"


class Sensors:
    """The sensors of this machine for one server, in windows that never overlap; opened with the first."""

    def __init__(self, find_pids: Callable[[], Collection[int]]) -> None:
        """``find_pids`` finds the server's processes; it raises ElsewhereError if the server is on another machine."""
        self._find_pids = find_pids
        self._found: tuple[FoundSensors, ...] | None = None
        self._pids: Collection[int] = ()
        self._elsewhere = ""
        self._series: dict[Sensor, list[tuple[float, SensorReading]]] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Open a window: read once, then again and again in a thread. Without sensors there is no thread."""
        if self._found is None:
            self._found = find_sensors()
        self._series = {sensor: [] for one in self._found for sensor in one.sensors}
        self._elsewhere, self._pids = "", ()
        if not self._series:
            return
        try:
            self._pids = self._find_pids()
        except ElsewhereError as why:
            self._elsewhere, self._series = str(why), {}
            return
        self._read()
        self._stop.clear()
        self._thread = threading.Thread(target=self._keep_reading, name="boobench-sensors", daemon=True)
        self._thread.start()

    def end(self) -> Observed:
        """Close the window."""
        self._end_thread()
        if self._elsewhere:
            return Observed(no_energy=self._elsewhere)
        if not self._series:
            return Observed(no_energy=explain_nothing(self._found or ()))
        self._read()
        memory = {sensor: size for sensor in self._series if (size := sensor.measure_mb(self._pids)) is not None}
        vram_mb = sum(memory.values()) if memory else None
        gpus = [sensor for sensor in self._series if sensor.is_gpu]
        used = [gpu for gpu in gpus if memory.get(gpu)] or [gpu for gpu in gpus if is_busy(self._series[gpu])]
        if not used and self._pids:  # else nothing shows that the server runs on this machine
            used = [sensor for sensor in self._series if not sensor.is_gpu]
        if not used:
            return Observed(no_energy=self._explain_unused(), vram_mb=vram_mb)
        return summarize_window({sensor: self._series[sensor] for sensor in used}, vram_mb)

    def close(self) -> None:
        """Release the sensors."""
        self._end_thread()
        for one in self._found or ():
            for sensor in one.sensors:
                sensor.close()
        self._found = None

    def _explain_unused(self) -> str:
        if not self._pids:
            return "the server's process is not known, so no sensor is known to be the server's"
        reason = next((f": {one.reason}" for one in reversed(self._found or ()) if one.reason), "")
        return f"the server uses no GPU, and no sensor of the processor reports power{reason}"

    def _keep_reading(self) -> None:
        while not self._stop.wait(EVERY_S):
            self._read()

    def _read(self) -> None:
        """One look at each sensor; its time is the middle of the look."""
        for sensor, series in self._series.items():
            began_s = time.monotonic()
            reading = sensor.read()
            series.append(((began_s + time.monotonic()) / 2, reading))

    def _end_thread(self) -> None:
        if self._thread is not None:
            self._stop.set()
            with suppress(RuntimeError):  # it never started
                self._thread.join()
            self._thread = None
