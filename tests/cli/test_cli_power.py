"""``boobench power``: what baselines can prove."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pytest_boobench.cli import boobench, main
from pytest_boobench.record import Verdict
from pytest_boobench.store import Store
from tests.making import make_sample
from tests.stored import ELSEWHERE, FOUR, ONE, add_session


def run(*args: str) -> Result:
    return CliRunner().invoke(boobench, ["power", *args], standalone_mode=False)


def test_a_steady_baseline_can_prove_what_is_allowed(store: Store) -> None:
    for day in range(3):
        add_session(store, f"day {day}", (ONE, 50.0 + day / 10), day=day, save_as="main")
    result = run()
    assert result.return_value == 0
    head, *rows, _, summary = result.output.splitlines()
    assert head.split() == ["suite", "cell", "metric", "sessions", "allowed", "provable", "what", "would", "help"]
    assert [row.split() for row in rows] == [
        ["smoke", "rack-1::qwen[pp64-tg8-c1]", "decode", "3", "10", "%", "10", "%"],
        ["smoke", "rack-1::qwen[pp64-tg8-c1]", "prefill", "3", "10", "%", "10", "%"],
    ]
    assert summary == "baseline main can prove what is allowed in 2 of 2 gated numbers"


def test_the_weakest_come_first_with_what_would_help(store: Store) -> None:
    for day, speed in enumerate((40.0, 50.0, 60.0)):
        add_session(store, f"day {day}", (ONE, speed), (FOUR, 20.0), day=day, save_as="main")
    cells = json.loads(run("--json").output)["cells"]
    first, *others = cells
    assert (first["cell"], first["metric"]) == ("rack-1::qwen[pp64-tg8-c1]", "decode_tok_s")
    assert first["provable"] > 0.2
    assert first["remedy"]
    assert not first["enough"]
    assert [each["provable"] for each in cells] == sorted((each["provable"] for each in cells), reverse=True)
    assert any(each["enough"] for each in others)
    (row,) = [line for line in run().output.splitlines() if "[pp64-tg8-c1]  decode" in line]
    assert row.endswith(first["remedy"])


def test_samples_that_scatter_prove_only_large_drops(store: Store) -> None:
    scattered = [make_sample(index=index, decode_tok_s=10.0 * (1 + index), prefill_tok_s=100.0) for index in range(10)]
    add_session(store, "one", (ONE, 50.0), samples=scattered, save_as="main")
    cells = json.loads(run("--json").output)["cells"]
    assert (cells[0]["metric"], cells[0]["enough"]) == ("decode_tok_s", False)
    assert cells[0]["provable"] == pytest.approx(0.866, abs=0.001)
    (row,) = [line for line in run().output.splitlines() if "  decode  " in line]
    assert "  86.6 %  samples scatter by " in row


def test_times_that_reach_zero_prove_nothing(store: Store) -> None:
    judged = (Verdict(metric="connect_ms", outcome="no baseline", allowed=0.5),)
    connected = [make_sample(index=index, connect_ms=0.0 if index < 4 else 9.0) for index in range(10)]
    add_session(store, "one", (ONE, 50.0), samples=connected, save_as="main", verdicts=judged)
    assert json.loads(run("--json").output)["cells"][0]["provable"] is None
    assert "  none  samples scatter by " in run().output.splitlines()[1]


def test_a_metric_without_a_number(store: Store) -> None:
    judged = (Verdict(metric="itl_ms", outcome="no baseline", allowed=0.5),)
    add_session(store, "one", (ONE, 50.0), samples=[make_sample(decode_tok_s=9.0)], save_as="main", verdicts=judged)
    result = run()
    assert result.output.splitlines()[1].split() == [
        *["smoke", "rack-1::qwen[pp64-tg8-c1]", "ITL"],
        *["1", "50", "%", "–"],
    ]
    assert json.loads(run("--json").output)["cells"][0]["provable"] is None


def test_what_is_to_be_proven(store: Store) -> None:
    add_session(store, "one", (ONE, 50.0), (ELSEWHERE, 50.0), save_as="release")
    options = ("--baseline", "release", "--host", "rack-2", "--max-drop", "40")
    found = json.loads(run(*options, "--json").output)
    assert found["baseline"] == "release"
    assert {(each["cell"], each["allowed"]) for each in found["cells"]} == {("rack-2::qwen[pp64-tg8-c1]", 0.4)}
    assert all(each["enough"] and not each["remedy"] for each in found["cells"])


def test_the_baseline_that_is_meant(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_session(store, "one", (ONE, 50.0), save_as="release")
    (tmp_path / "pytest.ini").write_text("[pytest]\nboobench_baseline = release\n")
    assert run().output.splitlines()[-1].startswith("baseline release can prove ")
    monkeypatch.setenv("BOOBENCH_BASELINE", "other")
    assert isinstance(run().exception, Exception)


def test_no_baseline(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["power"]) == 2
    error = capsys.readouterr().err
    assert "Error: no baseline main is stored; save one: pytest --boobench --boobench-save-baseline\n" in error
