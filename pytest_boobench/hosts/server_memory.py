"""Room 2: memory of a server on this machine: resident memory from the kernel, GPU memory from its driver."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from pytest_boobench.hosts.amd_smi import find_amd
from pytest_boobench.hosts.nvml import find_nvidia

_MB = 1e6
_HIGH_WATER = re.compile(r"^VmHWM:\s+(\d+) kB", re.MULTILINE)


def find_peak_mb(processes: Iterable[psutil.Process]) -> float | None:
    """Peak resident memory in MB: the sum of these processes' own peaks. None if none is known.

    Linux keeps each process's peak (VmHWM, proc(5)); on other systems it is the current value.
    """
    found = [size for process in processes if (size := _find_peak(process)) is not None]
    return sum(found) / _MB if found else None


def _find_peak(process: psutil.Process) -> int | None:
    try:
        told = _HIGH_WATER.search(Path(f"/proc/{process.pid}/status").read_text())
        return int(told[1]) * 1024 if told else int(process.memory_info().rss)
    except (OSError, psutil.Error):
        return None


def find_gpu_mb(pids: Collection[int]) -> float | None:
    """GPU memory in MB of these processes on all GPUs together; None if no driver tells it."""
    found = (*find_nvidia().sensors, *find_amd().sensors)
    sizes = [size for gpu in found if (size := gpu.measure_mb(pids)) is not None]
    for gpu in found:
        gpu.close()
    return sum(sizes) if sizes else None


def find_resident_mb(pids: Collection[int]) -> float | None:
    """Resident memory of these processes together, now, in MB; None if none of them tells."""
    sizes = []
    for pid in pids:
        with suppress(psutil.Error):
            sizes.append(psutil.Process(pid).memory_info().rss)
    return sum(sizes) / _MB if sizes else None
