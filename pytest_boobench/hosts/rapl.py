"""Room 2: the energy of the processor packages by RAPL, as Linux shows it in ``/sys/class/powercap`` (Intel and AMD).

``energy_uj`` counts microjoules and starts again at zero behind ``max_energy_range_uj``. Since Linux 5.10 only root may
read it, because it can betray what others compute (CVE-2020-8694).
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from pytest_boobench.hosts.readings import FoundSensors, SensorReading

POWERCAP = Path("/sys/class/powercap")


class RaplPackage:
    """One processor package: its cores, caches and memory controller."""

    source = "rapl"
    is_gpu = False
    counter_lag_s = 0.001
    gauge_lag_s = 0.0

    def __init__(self, zone: Path) -> None:
        """Raises OSError or ValueError if its counter cannot be read."""
        self._counter = zone / "energy_uj"
        self._range_uj = int((zone / "max_energy_range_uj").read_text())
        self._last_uj = int(self._counter.read_text())
        self._total_uj = 0
        self.name = (zone / "name").read_text().strip()

    def read(self) -> SensorReading:
        """Read the counter; often enough that it starts again only once in between."""
        try:
            now_uj = int(self._counter.read_text())
        except (OSError, ValueError):
            return SensorReading()
        step_uj = now_uj - self._last_uj
        self._total_uj += step_uj if step_uj >= 0 else step_uj + self._range_uj
        self._last_uj = now_uj
        return SensorReading(energy_j=self._total_uj / 1e6)

    def measure_mb(self, pids: Collection[int]) -> None:
        """It has no memory of its own."""

    def close(self) -> None:
        """Nothing is open."""


def find_packages(powercap: Path | None = None) -> FoundSensors:
    """The packages, or why there are none; an empty reason where the system has no RAPL."""
    folder = POWERCAP if powercap is None else powercap
    found: list[RaplPackage] = []
    reason = ""
    for zone in sorted(folder.glob("intel-rapl:*")):
        name = ""
        with suppress(OSError):
            name = (zone / "name").read_text().strip()
        if zone.name.count(":") != 1 or not name.startswith("package"):  # its parts are in it already
            continue
        try:
            found.append(RaplPackage(zone))
        except PermissionError:
            reason = f"{zone / 'energy_uj'} may be read by root alone: let this user read it"
        except (OSError, ValueError):
            reason = f"{zone / 'energy_uj'} cannot be read"
    return FoundSensors(tuple(found), reason)
