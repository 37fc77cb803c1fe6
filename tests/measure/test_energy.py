"""The machine beside the requests: energy of a token, memory, and what a block says where no sensor is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from pytest_boobench.facts import Hardware
from pytest_boobench.hosts import sensors
from pytest_boobench.hosts.readings import FoundSensors, SensorReading
from pytest_boobench.hosts.sensor_windows import Observed
from pytest_boobench.measure.energy import MachineWindow, list_machine_facts
from pytest_boobench.metrics import Kind, Sample
from tests.conftest import BenchFolder
from tests.fake_sensors import ScriptedSensor
from tests.making import make_record, make_sample

SAMPLES = [make_sample(index=index, output_tokens=25, prompt_tokens=100) for index in range(4)]
WATTS = {"grid": {"prompt_tokens": 16, "output_tokens": 8}, "samples": 4, "gate": {"joule_per_token": "10%"}}


@pytest.mark.parametrize(
    ("kind", "samples", "joules", "why"),
    [
        ("chat", SAMPLES, 2.0, ""),
        ("embedding", SAMPLES, 0.5, ""),
        ("chat", [*SAMPLES, make_sample(failure="status")], None, "a request failed, and its tokens are not known"),
        ("chat", [make_sample(output_tokens=0)], None, "no token was generated"),
    ],
)
def test_the_energy_of_a_token(kind: Kind, samples: Sequence[Sample], joules: float | None, why: str) -> None:
    window = MachineWindow(Observed(energy_j=200.0, vram_mb=3000.0), span_s=10.0)
    facts, reason = list_machine_facts(make_record(), window, samples, kind)
    assert facts["of_blocks"].get("joule_per_token", (None,)) == (joules,)
    assert (reason, facts["vram_peak_mb"]) == (why, 3000.0)


def test_what_the_server_reports_fills_what_no_sensor_sees() -> None:
    window = MachineWindow(Observed(no_energy="elsewhere"), span_s=10.0)
    window.add_report(None)
    assert window.observed.no_energy == "elsewhere"
    window.add_report(Hardware(power_w=200.0, source="llama-swap"))
    assert (window.observed.energy_j, window.observed.no_energy) == (2000.0, "")
    own = MachineWindow(Observed(hardware=Hardware(power_w=90.0, source="nvml"), energy_j=900.0), span_s=10.0)
    own.add_report(Hardware(power_w=200.0, kv_usage_share=0.5, source="vllm"))
    assert own.observed.hardware == Hardware(power_w=90.0, kv_usage_share=0.5, source="nvml")
    assert own.observed.energy_j == 900.0


def test_blocks_are_merged() -> None:
    record = make_record()
    for clock, degrees, limit in ((2600.0, 60.0, None), (1200.0, 80.0, "power cap"), (2500.0, 70.0, None)):
        hardware = Hardware(gpu_clock_mhz=clock, gpu_temperature_c=degrees, throttled=limit, source="nvml")
        facts, _ = list_machine_facts(record, MachineWindow(Observed(hardware=hardware, energy_j=1.0)), SAMPLES, "chat")
        record = make_record(**facts)
    assert record.of_blocks["gpu_clock_mhz"] == (2600.0, 1200.0, 2500.0)
    assert record.hardware == Hardware(
        gpu_clock_mhz=2500.0, gpu_temperature_c=80.0, throttled="power cap", source="nvml"
    )


def test_a_session_with_a_gpu(bench: BenchFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    readings = [
        SensorReading(energy_j=joules, clock_mhz=2625.0, temperature_c=61.0, busy=True) for joules in (100.0, 164.0)
    ]
    opened: list[Any] = []

    def find() -> tuple[FoundSensors, ...]:
        opened.append(ScriptedSensor(*readings, own_mb=3000.0))
        return (FoundSensors((opened[-1],)),)

    monkeypatch.setattr(sensors, "find_sensors", find)
    bench.write_suite("watts", **WATTS)
    result = bench.run("--boobench-save-baseline", "-v", "--boobench-json=out.json")
    result.assert_outcomes(passed=1)
    (cell,) = json.loads((bench.path / "out.json").read_text())["cells"]
    assert cell["aggregates"]["joule_per_token"]["median"] == 64.0 / 32
    assert cell["hardware"]["gpu_clock_mhz"] == 2625.0
    assert cell["vram_peak_mb"] == 3000.0
    assert "GPU 2625 MHz, 61 °C" in result.stdout.str()
    assert [sensor.closed for sensor in opened] == [1]


def test_a_session_without_sensors_says_why(bench: BenchFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensors, "find_sensors", lambda: (FoundSensors(reason="NVML lists no GPU"),))
    bench.write_suite("watts", **WATTS)
    result = bench.run("-rs")
    result.assert_outcomes(skipped=1)
    assert "no sensor on this machine reports power: NVML lists no GPU" in result.stdout.str()
