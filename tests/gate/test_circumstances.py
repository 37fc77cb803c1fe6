"""What changed beside the speed: which flags differ, what is said of it, and where nothing is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from pytest_boobench.facts import Canary, ClientFacts, Hardware, ModelFacts, ServerFacts
from pytest_boobench.gate import Rules, judge
from pytest_boobench.gate.flags import compare_commands
from pytest_boobench.record import CellRecord, Verdict
from pytest_boobench.reports.sentences import sentence
from tests.making import aggregate_of, make_baseline, make_model, make_record, make_sample

ALLOWED = {"decode_tok_s": 0.1}
SAME_BUILD = {"engine_build": "b11549"}


@pytest.mark.parametrize(
    ("was", "now", "changes"),
    [
        ("s -c 1 -b 2", "s -b 2 -c 1", []),
        ("s -c 1", "s --ctx-size 1", []),
        ("s -c=1", "s -c 1", []),
        ("s -ctk f16 -c 1", "s -ctk q8_0 -c 1", ["-ctk q8_0, was f16"]),
        ("s --cache-type-k f16", "s -ctk q8_0", ["-ctk q8_0, was f16"]),
        ("s -c 1", "s -c 1 --mlock -ngl 99", ["--mlock added", "-ngl 99 added"]),
        ("s --mlock -ngl 99", "s", ["--mlock removed", "-ngl 99 removed"]),
        ("s -fa", "s -fa on", ["-fa on, was without a value"]),
        ("s -fa on", "s -fa", ["-fa without a value, was on"]),
        ("s -ngl -1", "s -ngl 0", ["-ngl 0, was -1"]),
        ("s --lora a --lora b", "s --lora a --lora c", ["--lora a c, was a b"]),
        ("/a/s -c 1", "/b/s -c 1", ["program /b/s, was /a/s"]),
        ("A=1 s", "A=2 s", ["A 2, was 1"]),
        ("s", "A=2 s", ["A 2 added"]),
        ("env A=1 B=x=y s", "env A=1 B=x=z s", ["B x=z, was x=y"]),
        ("s -m 'a b.gguf'", "s -m c.gguf", ["-m c.gguf, was a b.gguf"]),
        ("sh -c 'exec s -b 1 -c 2'", "sh -c 'exec s -b 3 -c 2'", ["-b 3, was 1"]),
        ("docker run -p 1:8 i:1 -c 1", "docker run -p 1:8 i:2 -c 1", ["-p 1:8 i:2, was 1:8 i:1"]),
        ("s --api-key *** -c 1", "s -c 1", ["--api-key *** removed"]),
        ("s -m 'cut off", "s -m 'cut of", ["-m 'cut of, was 'cut off"]),
        ("", "", []),
    ],
)  # fmt: skip
def test_flags_that_differ(was: str, now: str, changes: list[str]) -> None:
    assert list(map(str, compare_commands(was, now))) == changes


def measure(decode_tok_s: float, **facts: Any) -> CellRecord:
    samples = [
        make_sample(block=block, index=index, decode_tok_s=decode_tok_s * (1 + 0.001 * index), e2e_ms=300.0)
        for block in (1, 2)
        for index in range(10)
    ]
    return make_record(samples=samples, **facts)


def verdict_of(record: CellRecord, **then: Any) -> Verdict:
    (verdict,) = judge(record, make_baseline(50.0, 50.1, 50.2, **then), ALLOWED, Rules())
    return verdict


def note_of(record: CellRecord, **then: Any) -> str:
    note = verdict_of(record, **then).note
    return note.removesuffix("noise assumed: 1 of 3 sessions").removesuffix("; ")


def build(name: str) -> ServerFacts:
    return ServerFacts(kind="llama-server", url="http://x", engine_build=name)


@pytest.mark.parametrize(
    ("now", "then", "note"),
    [
        ({}, {}, "engine b11549, was b11000"),
        ({"command": "s -ctk q8_0"}, {**SAME_BUILD, "command": "s -ctk f16"}, "flags: -ctk q8_0, was f16"),
        (
            {"command": "/b/s -ctk q8_0 --mlock", "driver": "nvidia 560.2"},
            {"command": "/a/s -ctk f16 -b 64", "driver": "nvidia 550.1"},
            "engine b11549, was b11000; program /b/s, was /a/s; "
            "flags: -ctk q8_0, was f16, --mlock added, -b 64 removed; driver nvidia 560.2, was nvidia 550.1",
        ),
        (
            {"model": make_model(path="/b.gguf"), "command": "s -m b.gguf"},
            {**SAME_BUILD, "model": make_model(path="/a.gguf"), "command": "s -m a.gguf"},
            "model file /b.gguf, was /a.gguf",
        ),
        (
            {"model": make_model(kv_type="fp8", speculative="on", gpu_percent=80)},
            {**SAME_BUILD, "model": make_model(kv_type="auto", speculative="off", gpu_percent=100)},
            "KV type fp8, was auto; speculative decoding on, was off; percent on the GPU 80, was 100",
        ),
        (
            {"client": ClientFacts(machine="b", workers=2)},
            {**SAME_BUILD, "client": ClientFacts(machine="a", workers=1)},
            "client b, was a; workers 2, was 1",
        ),
        ({"text_digest": "b"}, {**SAME_BUILD, "text_digest": "a"}, "the model says something else to the same prompt"),
        # nothing changed
        ({}, SAME_BUILD, "nothing known has changed: same build and model"),
        ({"command": "s"}, {**SAME_BUILD, "command": "s"}, "nothing known has changed: same build, flags and model"),
        (
            {"command": "s", "driver": "d"},
            {**SAME_BUILD, "command": "s", "driver": "d"},
            "nothing known has changed: same build, flags, driver and model",
        ),
        # what one side does not know is no change, and is not said to be the same
        ({"command": "s", "driver": "d"}, SAME_BUILD, "nothing known has changed: same build and model"),
        ({}, {**SAME_BUILD, "command": "s"}, "nothing known has changed: same build and model"),
        ({"command": "s"}, {"engine_build": None, "command": "s"}, ""),
        ({"command": "s"}, {**SAME_BUILD, "command": "s", "model": None}, ""),
        ({"model": ModelFacts(name="qwen")}, SAME_BUILD, ""),
    ],
)
def test_a_red_line_says_what_changed(now: Mapping[str, Any], then: Mapping[str, Any], note: str) -> None:
    record = measure(30.0, **now)
    assert verdict_of(record, **then).outcome == "regression"
    assert note_of(record, **then) == note
    assert note in sentence(verdict_of(record, **then))


def test_a_cell_that_is_not_red_does_not_say_that_nothing_changed() -> None:
    assert verdict_of(measure(50.0), **SAME_BUILD).outcome == "pass"
    assert note_of(measure(50.0), **SAME_BUILD) == ""
    assert note_of(measure(50.0, server=build("b2")), **SAME_BUILD) == "engine b2, was b11549"


def test_what_else_changed_is_said_where_nothing_can_be_compared() -> None:
    record = measure(30.0, model=make_model(n_ctx=512, slots=2), command="s -c 1024 -b 2", server=build("b2"))
    verdict = verdict_of(record, **SAME_BUILD, model=make_model(n_ctx=256, slots=2), command="s -c 512 -b 2")
    assert sentence(verdict) == (
        "decode 30.1 tok/s, not comparable: another model: context 512, was 256; "
        "engine b2, was b11549; flags: -c 1024, was 512"
    )


def test_a_line_names_eight_flags() -> None:
    record = measure(30.0, command=f"s {' '.join(f'--f{number} 2' for number in range(10))}")
    note = note_of(record, **SAME_BUILD, command="s")
    assert note == f"flags: {', '.join(f'--f{number} 2 added' for number in range(8))}, and 2 more flags"


def test_another_processor_is_said_once() -> None:
    canary = Canary(copy_mb_s=1000.0, hash_mb_s=1000.0)
    record = measure(30.0, canaries=(canary,), client=ClientFacts(cpu="fast"))
    verdict = verdict_of(record, client=ClientFacts(cpu="slow"))
    assert (verdict.reason, verdict.note) == ("another processor: fast, was slow", "engine b11549, was b11000")
    assert note_of(measure(30.0, client=ClientFacts(cpu="fast")), **SAME_BUILD, client=ClientFacts(cpu="slow")) == (
        "nothing known has changed: same build and model"
    )


def test_the_newest_run_that_knows_a_fact_counts() -> None:
    baseline = make_baseline(50.0, 50.1, 50.2, **SAME_BUILD)
    first, second, third = baseline.runs
    runs = (replace(first, command="s -b 1"), replace(second, command="s -b 2"), third)
    (verdict,) = judge(measure(30.0, command="s -b 3"), replace(baseline, runs=runs), ALLOWED, Rules())
    assert verdict.note.startswith("flags: -b 3, was 2; ")


# --- clocks and limits of a GPU

QUIET = Canary(copy_mb_s=1000.0, hash_mb_s=1000.0)
THEN = Hardware(gpu_clock_mhz=2625.0, memory_clock_mhz=10501.0, power_limit_w=450.0, source="nvml")


@pytest.mark.parametrize(
    ("decode", "now", "outcome", "words"),
    [
        (30.0, {"gpu_clock_mhz": 1275.0}, "inconclusive", "GPU at 1275 MHz, 2625 with the baseline"),
        (30.0, {"gpu_clock_mhz": 1275.0, "throttled": "power cap"}, "inconclusive", "1275 MHz (power cap), 2625 with"),
        (30.0, {"memory_clock_mhz": 5000.0}, "inconclusive", "GPU memory at 5000 MHz, 10501 with the baseline"),
        (
            5.0,
            {"throttled": "thermal slowdown"},
            "inconclusive",
            "the GPU at 2625 MHz was throttled (thermal slowdown), and not with the baseline",
        ),
        (15.0, {"gpu_clock_mhz": 2000.0}, "regression", "GPU clock 2000 MHz, was 2625 MHz"),
        (30.0, {"gpu_clock_mhz": 2600.0}, "regression", "nothing known has changed"),
        (30.0, {"throttled": "power cap"}, "regression", "nothing known has changed"),
        (30.0, {"power_limit_w": 300.0}, "regression", "power limit 300 W, was 450 W"),
        (50.0, {"gpu_clock_mhz": 1275.0}, "pass", "GPU clock 1275 MHz, was 2625 MHz"),
    ],
)  # fmt: skip
def test_a_slower_gpu_explains_as_much_as_its_clock(
    decode: float, now: Mapping[str, Any], outcome: str, words: str
) -> None:
    record = measure(decode, canaries=(QUIET,), hardware=replace(THEN, **now))
    verdict = verdict_of(record, **SAME_BUILD, canary=QUIET, hardware=THEN)
    assert verdict.outcome == outcome
    assert words in f"{verdict.reason}; {verdict.note}"


@pytest.mark.parametrize("hardware", [None, Hardware(power_w=200.0, source="llama-swap")])
def test_where_no_clock_is_known_nothing_is_explained(hardware: Hardware | None) -> None:
    record = measure(30.0, canaries=(QUIET,), hardware=hardware)
    verdict = verdict_of(record, **SAME_BUILD, canary=QUIET, hardware=THEN)
    assert verdict.outcome == "regression"
    record = measure(30.0, hardware=replace(THEN, gpu_clock_mhz=1275.0))
    assert verdict_of(record, **SAME_BUILD, hardware=THEN).outcome == "regression", "of a machine that is not this one"


def test_energy_of_another_sensor_is_not_compared() -> None:
    allowed = {"joule_per_token": 0.1}
    record = measure(50.0, hardware=Hardware(power_w=90.0, source="rapl"))
    record = replace(record, aggregates={**record.aggregates, "joule_per_token": aggregate_of(2.0)})
    baseline = make_baseline(1.0, metric="joule_per_token", hardware=THEN)
    (verdict,) = judge(record, baseline, allowed, Rules())
    assert (verdict.outcome, verdict.reason) == ("not comparable", "energy by rapl, was by nvml")
