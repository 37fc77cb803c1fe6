"""The sensors of a machine: NVML, AMD SMI and RAPL as fakes, and the windows over scripted sensors."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_boobench.facts import Hardware
from pytest_boobench.hosts import amd_smi, nvml, rapl, sensors
from pytest_boobench.hosts.readings import FoundSensors, SensorReading
from pytest_boobench.hosts.sensor_windows import find_energy, summarize_window
from pytest_boobench.hosts.sensors import Sensors
from pytest_boobench.hosts.server_process import ElsewhereError, find_listening
from tests.fake_sensors import AmdSmiException, NVMLError, ScriptedSensor, make_amdsmi, make_pynvml, write_zone

RTX = {
    "Name": "NVIDIA GeForce RTX 4090",
    "ClockInfo": lambda kind: {1: 2625, 2: 10501}[kind],
    "Temperature": 61,
    "PowerUsage": 215_400,
    "TotalEnergyConsumption": 7_000_500,
    "EnforcedPowerLimit": 300_000,
    "CurrentClocksThrottleReasons": 0x04 | 0x40 | 0x100,
    "UtilizationRates": SimpleNamespace(gpu=97, memory=60),
    "ComputeRunningProcesses": [SimpleNamespace(pid=7, usedGpuMemory=3_000_000)],
}
RADEON = {
    "gpu_asic_info": {"market_name": "Radeon RX 7900 XTX"},
    "power_info": {"socket_power": 0, "current_socket_power": "N/A", "average_socket_power": 250},
    "energy_count": {"energy_accumulator": 2_000_000, "counter_resolution": 15.3, "timestamp": 1},
    "power_cap_info": {"power_cap": 327_000_000},
    "clock_info": lambda kind: {"clk": {"GFX": 2400, "MEM": 1249}[kind.name]},
    "temp_metric": lambda place, _: {"HOTSPOT": 72, "EDGE": 55}[place.name],
    "gpu_activity": {"gfx_activity": 99, "umc_activity": "N/A"},
    "gpu_process_list": [
        {"pid": 7, "memory_usage": {"vram_mem": 5_000_000}},
        {"pid": 9, "memory_usage": {"vram_mem": 9_000_000}},
    ],
}


def install(monkeypatch: pytest.MonkeyPatch, fake: Any) -> Any:
    monkeypatch.setitem(sys.modules, fake.__name__, fake)
    return fake


class TestNvidia:
    def test_a_gpu_that_tells_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fake = install(monkeypatch, make_pynvml([RTX]))
        (gpu,) = nvml.find_nvidia().sensors
        assert gpu.name == "NVIDIA GeForce RTX 4090"
        assert gpu.read() == SensorReading(
            clock_mhz=2625,
            memory_clock_mhz=10501,
            temperature_c=61,
            power_w=pytest.approx(215.4),
            energy_j=pytest.approx(7000.5),
            limit_w=300,
            throttled=frozenset({"power cap", "hardware thermal slowdown"}),
            busy=True,
        )
        assert (gpu.measure_mb({7}), gpu.measure_mb({8})) == (3.0, None)
        gpu.close()
        assert fake.open == 0

    @pytest.mark.parametrize("trouble", [NVMLError("lost"), "not supported", float("nan"), -1, None])
    def test_what_a_driver_does_not_tell_is_blank(self, monkeypatch: pytest.MonkeyPatch, trouble: Any) -> None:
        install(monkeypatch, make_pynvml([dict.fromkeys(RTX, trouble) | {"UtilizationRates": NVMLError()}]))
        (gpu,) = nvml.find_nvidia().sensors
        assert gpu.read() == SensorReading()

    def test_an_old_library_without_these_calls(self, monkeypatch: pytest.MonkeyPatch) -> None:
        install(monkeypatch, make_pynvml([{"Name": b"Tesla K80"}]))
        (gpu,) = nvml.find_nvidia().sensors
        assert (gpu.name, gpu.read(), gpu.measure_mb({7})) == ("Tesla K80", SensorReading(), None)

    def test_a_driver_that_is_not_loaded(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        fake = install(monkeypatch, make_pynvml([RTX]))
        fake.broken = "nvmlInit"
        assert nvml.find_nvidia(tmp_path) == FoundSensors(reason="NVML does not answer (driver not loaded)")
        assert nvml.find_nvidia(tmp_path / "none") == FoundSensors()

    def test_the_extra_is_named_where_there_is_a_driver(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        assert nvml.find_nvidia(tmp_path).reason == "NVML needs pip install 'pytest-boobench[gpu]'"
        assert nvml.find_nvidia(tmp_path / "none") == FoundSensors()


class TestAmd:
    def test_a_gpu_that_tells_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        install(monkeypatch, make_amdsmi(RADEON))
        (gpu,) = amd_smi.find_amd().sensors
        assert (gpu.name, gpu.source) == ("Radeon RX 7900 XTX", "amdsmi")
        assert gpu.read() == SensorReading(
            clock_mhz=2400,
            memory_clock_mhz=1249,
            temperature_c=72,
            power_w=250,
            energy_j=pytest.approx(30.6),
            limit_w=327,
            busy=True,
        )
        assert gpu.measure_mb({7, 8}) == 5.0

    @pytest.mark.parametrize(
        ("changed", "fact", "value"),
        [
            ({"temp_metric": 61_000}, "temperature_c", 61),
            ({"power_info": {"average_socket_power": "N/A"}}, "power_w", None),
            ({"power_cap_info": {"power_cap": 327}}, "limit_w", None),
            ({"energy_count": {"power": 4_000_000, "counter_resolution": 15.3}}, "energy_j", pytest.approx(61.2)),
            ({"energy_count": {"energy_accumulator": 0, "counter_resolution": 15.3}}, "energy_j", None),
            ({"energy_count": AmdSmiException("virtual machine")}, "energy_j", None),
            ({"gpu_activity": {"gfx_activity": 3}}, "busy", False),
        ],
    )
    def test_versions_and_gpus_differ(
        self, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], fact: str, value: Any
    ) -> None:
        install(monkeypatch, make_amdsmi({**RADEON, **changed}))
        (gpu,) = amd_smi.find_amd().sensors
        assert getattr(gpu.read(), fact) == value

    def test_a_library_that_does_not_answer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fake = install(monkeypatch, make_amdsmi(RADEON))

        def fail() -> None:
            raise AmdSmiException("no amdgpu")

        fake.amdsmi_init = fail
        assert amd_smi.find_amd() == FoundSensors(reason="amdsmi does not answer (no amdgpu)")


class TestRapl:
    def test_packages_count_and_start_again_at_zero(self, tmp_path: Path) -> None:
        counter = write_zone(tmp_path, "intel-rapl:0", "package-0", 900_000, range_uj=1_000_000)
        write_zone(tmp_path, "intel-rapl:0:0", "core", 5)
        write_zone(tmp_path, "intel-rapl:1", "psys", 5)
        found = rapl.find_packages(tmp_path)
        (package,) = found.sensors
        assert (package.name, package.is_gpu, found.reason) == ("package-0", False, "")
        told = []
        for energy_uj in (950_000, 100_000, 350_000, 50_000):
            counter.write_text(f"{energy_uj}\n")
            told.append(package.read().energy_j)
        assert told == pytest.approx([0.05, 0.2, 0.45, 1.15])

    def test_a_counter_that_goes_away_tells_nothing(self, tmp_path: Path) -> None:
        counter = write_zone(tmp_path, "intel-rapl:0", "package-0", 900_000)
        (package,) = rapl.find_packages(tmp_path).sensors
        counter.unlink()
        assert package.read() == SensorReading()

    @pytest.mark.parametrize(
        ("error", "reason"),
        [(PermissionError, "may be read by root alone: let this user read it"), (OSError, "cannot be read")],
    )
    def test_a_counter_for_root_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[OSError], reason: str
    ) -> None:
        counter = write_zone(tmp_path, "intel-rapl:0", "package-0", 1)

        def refuse(*_: Any) -> None:
            raise error

        monkeypatch.setattr(rapl.RaplPackage, "__init__", refuse)
        assert rapl.find_packages(tmp_path) == FoundSensors(reason=f"{counter} {reason}")

    def test_a_system_without_rapl(self, tmp_path: Path) -> None:
        assert rapl.find_packages(tmp_path / "none") == FoundSensors()


def at(*readings: SensorReading, every_s: float = 1.0) -> list[tuple[float, SensorReading]]:
    return [(100 + every_s * number, reading) for number, reading in enumerate(readings)]


def gpu(**told: Any) -> SensorReading:
    return SensorReading(**{"clock_mhz": 2600.0, "power_w": 200.0, "limit_w": 300.0, "busy": True, **told})


class TestWindows:
    @pytest.mark.parametrize(
        ("readings", "lags_s", "energy_j"),
        [
            ([gpu(energy_j=10.0), gpu(), gpu(energy_j=310.0)], (0.1, 1.0), 300.0),
            ([gpu(energy_j=10.0), gpu(energy_j=310.0)], (0.2, 9.0), None),  # too short for its counter
            ([gpu(power_w=100.0), gpu(power_w=200.0), gpu(power_w=200.0)], (0.0, 0.2), 350.0),  # trapezoids
            ([gpu(), gpu(power_w=None), gpu()], (0.0, 0.0), None),
            ([gpu(energy_j=0.0), gpu(energy_j=0.0)], (0.0, 0.0), 200.0),  # the counter stands: its power
            ([gpu(energy_j=9.0), gpu(energy_j=3.0)], (0.0, 0.0), 200.0),  # the driver was loaded anew
            ([gpu(power_w=None, energy_j=None)] * 2, (0.0, 0.0), None),
        ],
    )
    def test_energy(
        self, readings: Sequence[SensorReading], lags_s: tuple[float, float], energy_j: float | None
    ) -> None:
        sensor = ScriptedSensor(SensorReading())
        sensor.counter_lag_s, sensor.gauge_lag_s = lags_s
        assert find_energy(sensor, at(*readings)) == (None if energy_j is None else pytest.approx(energy_j))

    def test_two_gpus(self) -> None:
        idle = gpu(clock_mhz=210.0, busy=False)
        first = at(idle, gpu(temperature_c=61.0), gpu(temperature_c=59.0), gpu(clock_mhz=2610.0), gpu())
        second = at(*[gpu(clock_mhz=1275.0, throttled=frozenset({"power cap"}))] * 4, gpu(clock_mhz=1290.0))
        sensors_ = [ScriptedSensor(SensorReading()), ScriptedSensor(SensorReading())]
        seen = summarize_window(dict(zip(sensors_, (first, second), strict=True)), vram_mb=9.0)
        assert seen.hardware == Hardware(
            gpu_clock_mhz=1275.0,
            gpu_temperature_c=61.0,
            power_w=400.0,
            power_limit_w=600.0,
            throttled="power cap",
            source="fake",
        )
        assert (seen.energy_j, seen.no_energy, seen.vram_mb) == (1600.0, "", 9.0)

    @pytest.mark.parametrize(("held", "told"), [(1, None), (2, "power cap")])
    def test_a_limit_that_hardly_holds_is_not_told(self, held: int, told: str | None) -> None:
        readings = [gpu(throttled=frozenset({"power cap"}))] * held + [gpu()] * (20 - held)
        seen = summarize_window({ScriptedSensor(SensorReading()): at(*readings)})
        assert seen.hardware is not None
        assert seen.hardware.throttled == told

    def test_a_short_window_says_how_long_it_must_be(self) -> None:
        sensor = ScriptedSensor(SensorReading())
        sensor.gauge_lag_s = 1.0
        seen = summarize_window({sensor: at(gpu(), gpu())})
        assert seen.energy_j is None
        assert seen.no_energy == (
            "the block took 1.00 s, and its power sensor needs 10.0 s: more samples or longer outputs"
        )
        assert seen.hardware is not None
        assert seen.hardware.power_w is None

    def test_a_gpu_without_power(self) -> None:
        seen = summarize_window({ScriptedSensor(SensorReading()): at(*[gpu(power_w=None)] * 2)})
        assert seen.no_energy == "a fake does not report its power"


def find(monkeypatch: pytest.MonkeyPatch, *found: ScriptedSensor, reason: str = "") -> None:
    monkeypatch.setattr(sensors, "find_sensors", lambda: (FoundSensors(found), FoundSensors(reason=reason)))


class TestSensors:
    PIDS = frozenset({7})

    def watch(self, pids: frozenset[int] = PIDS) -> Any:
        watched = Sensors(lambda: pids)
        watched.begin()
        seen = watched.end()
        watched.close()
        return seen

    def test_a_thread_reads_while_the_window_is_open(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sensors, "EVERY_S", 0.002)
        one = ScriptedSensor(gpu(energy_j=1.0), gpu(energy_j=4.0), own_mb=5.0)
        find(monkeypatch, one)
        watched = Sensors(lambda: self.PIDS)
        watched.begin()
        end_s = time.monotonic() + 10
        while one.asked < 5 and time.monotonic() < end_s:
            time.sleep(0.001)
        seen = watched.end()
        asked = one.asked
        time.sleep(0.02)
        assert one.asked == asked >= 5, "it reads outside of the window"
        assert (seen.energy_j, seen.vram_mb) == (3.0, 5.0)
        watched.close()
        assert one.closed == 1

    def test_without_sensors_there_is_no_thread_and_one_sentence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        find(monkeypatch, reason="/sys/x may be read by root alone: let this user read it")
        watched = Sensors(lambda: pytest.fail("asks for processes"))
        watched.begin()
        assert not [one for one in threading.enumerate() if one.name == "boobench-sensors"]
        said = watched.end().no_energy
        assert said == (
            "no sensor on this machine reports power: /sys/x may be read by root alone: let this user read it"
        )

    def test_the_gpu_that_has_the_server_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        its = ScriptedSensor(gpu(energy_j=0.0, busy=False), gpu(energy_j=2.0, busy=False), own_mb=5.0)
        busy = ScriptedSensor(gpu(energy_j=0.0), gpu(energy_j=9.0))
        find(monkeypatch, busy, its)
        assert self.watch().energy_j == 2.0

    def test_without_a_list_of_processes_the_gpu_that_works_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        idle = ScriptedSensor(gpu(energy_j=0.0, busy=False), gpu(energy_j=2.0, busy=False))
        busy = ScriptedSensor(gpu(energy_j=0.0), gpu(energy_j=9.0))
        find(monkeypatch, idle, busy)
        assert self.watch(frozenset()).energy_j == 9.0

    def test_without_a_gpu_of_its_own_the_processors_count(self, monkeypatch: pytest.MonkeyPatch) -> None:
        idle = ScriptedSensor(gpu(energy_j=0.0, busy=False), gpu(energy_j=2.0, busy=False))
        package = ScriptedSensor(SensorReading(energy_j=0.0), SensorReading(energy_j=7.0), is_gpu=False, source="rapl")
        find(monkeypatch, idle, package)
        seen = self.watch()
        assert (seen.energy_j, seen.hardware and seen.hardware.source) == (7.0, "rapl")

    def test_a_server_whose_process_is_not_known_is_not_taken_for_one_of_this_machine(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        find(monkeypatch, ScriptedSensor(SensorReading(energy_j=0.0), SensorReading(energy_j=7.0), is_gpu=False))
        seen = self.watch(frozenset())
        assert (seen.energy_j, seen.hardware) == (None, None)
        assert seen.no_energy == "the server's process is not known, so no sensor is known to be the server's"

    def test_an_idle_gpu_and_no_rapl(self, monkeypatch: pytest.MonkeyPatch) -> None:
        find(monkeypatch, ScriptedSensor(gpu(busy=False)), reason="RAPL is for root")
        said = "the server uses no GPU, and no sensor of the processor reports power: RAPL is for root"
        assert self.watch().no_energy == said

    def test_a_tunnel_leads_elsewhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        find(monkeypatch, ScriptedSensor(gpu()))

        def find_pids() -> frozenset[int]:
            raise ElsewhereError("port 9292 is a tunnel (ssh): measure on the machine where the server runs")

        watched = Sensors(find_pids)
        watched.begin()
        seen = watched.end()
        assert (seen.hardware, seen.no_energy) == (
            None,
            "port 9292 is a tunnel (ssh): measure on the machine where the server runs",
        )


class TestServerProcess:
    @pytest.fixture
    def connections(self, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        """This process listens on 9292, and another user's on 80."""
        found = [
            SimpleNamespace(pid=os.getpid(), status="LISTEN", laddr=SimpleNamespace(port=9292)),
            SimpleNamespace(pid=None, status="LISTEN", laddr=SimpleNamespace(port=80)),
            SimpleNamespace(pid=1, status="ESTABLISHED", laddr=SimpleNamespace(port=9292)),
            SimpleNamespace(pid=1, status="LISTEN", laddr=()),
        ]
        monkeypatch.setattr("psutil.net_connections", lambda kind: found)
        return found

    def test_who_listens(self, connections: list[Any]) -> None:
        assert os.getpid() in find_listening(9292)
        assert 1 not in find_listening(9292)
        assert find_listening(80) == frozenset()

    def test_a_tunnel(self, connections: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("psutil.Process.name", lambda self: "ssh")
        with pytest.raises(ElsewhereError) as raised:
            find_listening(9292)
        assert str(raised.value) == "port 9292 is a tunnel (ssh): measure on the machine where the server runs"
