"""The memory of a server that we started; NVML is a fake here, with the answers that its documentation names."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import psutil
import pytest

from pytest_boobench.hosts.server_memory import find_gpu_mb, find_peak_mb


class NVMLError(Exception):
    """As pynvml's."""


def running(pid: int, size: int | None) -> SimpleNamespace:
    return SimpleNamespace(pid=pid, usedGpuMemory=size)


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two GPUs; ``compute`` and ``graphics`` say who uses them, ``broken`` is the call that fails."""
    fake: Any = ModuleType("pynvml")
    fake.__spec__ = SimpleNamespace()
    fake.NVMLError = NVMLError
    fake.compute = [[], []]
    fake.graphics = [[], []]
    fake.broken = ""
    fake.open = 0

    def call(name: str, answer: Any) -> None:
        def answered(*given: Any) -> Any:
            if fake.broken == name:
                raise NVMLError
            return answer(*given)

        setattr(fake, name, answered)

    def count_open(step: int) -> None:
        fake.open += step

    call("nvmlInit", lambda: count_open(1))
    call("nvmlShutdown", lambda: count_open(-1))
    call("nvmlDeviceGetCount", lambda: 2)
    call("nvmlDeviceGetHandleByIndex", lambda index: index)
    call("nvmlDeviceGetComputeRunningProcesses", lambda index: fake.compute[index])
    call("nvmlDeviceGetGraphicsRunningProcesses", lambda index: fake.graphics[index])
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


@pytest.mark.parametrize(
    ("compute", "graphics", "found"),
    [
        ([[running(7, 3_000_000)], [running(8, 1_000_000), running(9, 5_000_000)]], [[], []], 4.0),
        ([[running(7, 3_000_000)], []], [[running(7, 3_000_000)], []], 3.0),
        ([[running(7, None)], []], [[], []], None),
        ([[running(7, None), running(8, 2_000_000)], []], [[], []], 2.0),
        ([[running(9, 5_000_000)], []], [[], []], None),
        ([[], []], [[], []], None),
    ],
)
def test_gpu_memory(
    nvml: Any, compute: Sequence[Sequence[Any]], graphics: Sequence[Sequence[Any]], found: float | None
) -> None:
    nvml.compute, nvml.graphics = compute, graphics
    assert find_gpu_mb({7, 8}) == found
    assert nvml.open == 0


@pytest.mark.parametrize("broken", ["nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetComputeRunningProcesses"])
def test_a_driver_that_does_not_answer_tells_nothing(nvml: Any, broken: str) -> None:
    nvml.compute, nvml.broken = [[running(7, 3_000_000)], []], broken
    assert find_gpu_mb({7}) is None
    assert nvml.open == 0


def test_without_the_extra_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert find_gpu_mb({7}) is None


def test_peaks_of_processes_add_up() -> None:
    own = psutil.Process()
    one = find_peak_mb([own])
    assert one is not None
    assert one >= own.memory_info().rss / 1e6 * 0.5
    both = find_peak_mb([own, own])
    assert both is not None
    assert both >= 2 * one


def test_a_process_that_is_gone_tells_nothing() -> None:
    class Gone:
        pid = 2**22 + 5

        def memory_info(self) -> None:
            raise psutil.NoSuchProcess(self.pid)

    gone: Any = Gone()
    assert find_peak_mb([gone]) is None
