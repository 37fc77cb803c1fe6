"""Room 2: memory of a server that we started: resident memory from the kernel, GPU memory from NVML if installed."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import psutil

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
    """GPU memory in MB of these processes on all GPUs together; None without NVML or GPU, or if NVML does not know."""
    if importlib.util.find_spec("pynvml") is None:
        return None
    import pynvml  # noqa: PLC0415  # only there with the extra gpu

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        used = [
            running.usedGpuMemory
            for index in range(pynvml.nvmlDeviceGetCount())
            for running in _list_running(pynvml, pynvml.nvmlDeviceGetHandleByIndex(index))
            if running.pid in pids
        ]
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()
    known = [size for size in used if size is not None]
    return sum(known) / _MB if known else None


def _list_running(pynvml: Any, device: Any) -> Iterable[Any]:
    """A process may use a device for compute and graphics; list it once."""
    both = [*pynvml.nvmlDeviceGetComputeRunningProcesses(device), *pynvml.nvmlDeviceGetGraphicsRunningProcesses(device)]
    return {running.pid: running for running in both}.values()
