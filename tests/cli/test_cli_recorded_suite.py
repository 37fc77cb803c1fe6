"""``boobench record --suite``: the suite that it writes, and its replay."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pytest_boobench import suite
from pytest_boobench.cli import main
from tests.cli.test_cli_record import lines, record, wait_for, write_hosts
from tests.conftest import BenchFolder
from tests.kinds_stand_in import KindServer
from tests.llama_swap_stand_in import LlamaSwapStandIn
from tests.plugin.test_session import query
from tests.talking_server import Talking

SUITE = Path("replay.boobench.yaml")
MODEL = "http://127.0.0.1:9"
"""Of a stand-in whose model is never asked."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_boobench.hosts.swap_events._PRIMED_S", 0.5)


def test_a_recording_is_replayed_by_its_suite(bench: BenchFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bench.path)
    with LlamaSwapStandIn({"m": MODEL}) as swap:
        write_hosts(swap.url)

        def act() -> None:
            for done, (tokens, cached) in enumerate([((60, 8), 0), ((41, 3), 67), ((96, 5), -1)], start=1):
                swap.log(tokens, cached, model="m", duration_ms=0)
                wait_for(lambda done=done: len(lines()) == done)  # type: ignore[misc]

        assert record(act, monkeypatch, "--model", "m", "--suite", str(SUITE)) == 0
    recorded = lines()
    assert [line.get("turn") for line in recorded] == [1, 2, None]
    (cell,) = suite.load(SUITE, display=str(SUITE), known_hosts=["rack-1"]).cells
    assert (cell.host, cell.model, cell.id, cell.plan.samples) == ("rack-1", "m", "prompts-day", 3)
    with KindServer(Talking()) as server:
        bench.write_hosts(**{"rack-1": {"server": "llama-server", "url": server.url, "shared": False}})
        bench.run(str(SUITE)).assert_outcomes(passed=1)
    columns = "prompt_tokens, output_tokens, offset_ms, failure_text"
    found = query(bench, f"select {columns} from bench_samples where phase = 'measure' order by \"index\"")
    assert [row[3] for row in found] == [None] * 3
    assert [row[:2] for row in found] == [(line["prompt_tokens"], line["output_tokens"]) for line in recorded]
    assert [row[2] for row in found] == pytest.approx([line["at_s"] * 1000 for line in recorded], abs=0.001)


def test_a_suite_that_cannot_be_written_is_said_before_the_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_hosts(MODEL)

    def complain(*args: str) -> str:
        assert main(["record", "rack-1", *args]) == 2
        return capsys.readouterr().err.splitlines()[-1].removeprefix("Error: --suite: ")

    named = ("--model", "qwen", "--suite")
    assert complain("--suite", str(SUITE)) == ("a suite replays the recording of one model; say which with --model")
    assert complain(*named, "day.yaml") == "expected a file named *.boobench.yaml or *.boobench.yml, got 'day.yaml'"
    assert complain(*named, "no/day.boobench.yaml") == "no folder no; make it, or name another one"
    SUITE.write_text("mine")
    assert complain(*named, str(SUITE)) == (
        "replay.boobench.yaml is there, and is never overwritten; leave --suite out, or name a new file"
    )
    assert SUITE.read_text() == "mine"


def test_a_suite_finds_its_recording_in_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("suites").mkdir()
    asked = ("--past", "--for", "10ms", "--model", "alias", "--suite", "suites/day.boobench.yaml")
    with LlamaSwapStandIn({"org/qwen": MODEL}, aliases={"alias": "org/qwen"}) as swap:
        write_hosts(swap.url)
        assert main(["record", "rack-1", *asked]) == 1
        assert not Path("suites/day.boobench.yaml").exists(), "nothing was recorded"
        swap.log((10, 5), 0, model="org/qwen")
        assert main(["record", "rack-1", *asked]) == 0
    assert capsys.readouterr().out.endswith(
        "suites/day.boobench.yaml: replays it, by pytest --boobench suites/day.boobench.yaml\n"
    )
    written = yaml.safe_load(Path("suites/day.boobench.yaml").read_text())
    assert (written["prompts"], written["models"]) == ("../rack-1.jsonl", ["alias"])
    suite.load(Path("suites/day.boobench.yaml"), display="day", known_hosts=None)
