"""``boobench baseline measure``: real sessions, interrupted, failed, and gone on with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pytest_boobench.cli import boobench, measured_sessions
from pytest_boobench.record import BaselineRun
from pytest_boobench.store import Store
from tests.conftest import BenchFolder
from tests.forking import run_pytest

Child = Callable[[Sequence[str], Mapping[str, str]], int]


@pytest.fixture
def children(bench: BenchFolder, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines of the sessions, each a fork that measures for real."""
    bench.write_suite(grid={"prompt_tokens": [16], "output_tokens": [4]})
    bench.prepare_apart()
    monkeypatch.chdir(bench.path)
    seen: list[list[str]] = []

    def run(arguments: Sequence[str], env: Mapping[str, str]) -> int:
        seen.append(list(arguments))
        plugins = ("-p", "no:cacheprovider", "-o", "filterwarnings=")
        return int(run_pytest([*arguments, *plugins], bench.path, {**bench.environ, **env}).ret)

    monkeypatch.setattr(measured_sessions, "run_child", run)
    return seen


def call(*arguments: str) -> Result:
    return CliRunner().invoke(boobench, ["baseline", "measure", "--every=0s", *arguments], standalone_mode=False)


def list_runs(folder: Path) -> list[BaselineRun]:
    with Store.open(str(folder / ".boobench" / "store.db"), create=False) as store:
        (baseline,) = store.baselines("main").values()
    return list(baseline.runs)


def test_sessions_add_up_and_an_interrupted_plan_goes_on(
    children: list[list[str]], bench: BenchFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, begun = measured_sessions.run_child, []

    def interrupt(arguments: Sequence[str], env: dict[str, str]) -> int:
        begun.append(arguments)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return real(arguments, env)

    monkeypatch.setattr(measured_sessions, "run_child", interrupt)
    stopped = call("--sessions=2", "smoke.boobench.yaml")
    assert stopped.return_value == 130, stopped.output
    assert "sessions less than 30 minutes apart count as one" in stopped.stderr
    assert "interrupted; the same command goes on" in stopped.stderr
    assert (
        ") in force as baseline main\n  llama: 1 cell added; one session yet; proves what is allowed in"
        in stopped.stdout
    )
    ended = call("--sessions=2", "smoke.boobench.yaml")
    assert ended.return_value == 0, ended.output
    first, second = ended.stdout.split("session 2 of 2 (")[1].splitlines()[1:]
    assert first.startswith("  llama: 1 cell added; sessions differ by ")
    assert second == "baseline main: 2 sessions in force; another --reason begins anew"
    before = {run.session for run in list_runs(bench.path)}
    assert len(before) == 2
    again = call("--sessions=2", "smoke.boobench.yaml")
    assert (again.return_value, len(children)) == (0, 2), "nothing more is measured"
    anew = call("--sessions=1", "--reason=new driver", "smoke.boobench.yaml")
    assert anew.return_value == 0
    (only,) = list_runs(bench.path)
    assert only.session not in before
    assert "--boobench-save-baseline" not in " ".join(children[-1])


def test_a_session_with_a_flaw_is_tried_again_and_spoils_nothing(
    children: list[list[str]], bench: BenchFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tries = measured_sessions.run_child, []

    def fail_once(arguments: Sequence[str], env: dict[str, str]) -> int:
        tries.append(arguments)
        broken = ["--boobench-hosts", "gone.yaml"] if len(tries) == 1 else []
        return real([*arguments, *broken], env)

    (bench.path / "gone.yaml").write_text(
        "hosts: {llama: {server: llama-server, url: 'http://127.0.0.1:9', shared: false}}\n", encoding="utf-8"
    )
    monkeypatch.setattr(measured_sessions, "run_child", fail_once)
    found = call("--sessions=1", "smoke.boobench.yaml")
    assert found.return_value == 0, found.output
    assert "session 1 of 1, attempt 1 of 3: " in found.stderr
    assert "is the server running" in found.stderr
    assert len(list_runs(bench.path)) == 1


def test_three_failures_end_it_and_once_waits_for_its_time(
    children: list[list[str]], bench: BenchFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("--once", "smoke.boobench.yaml").return_value == 0
    waits = call("--once", "--every=1h", "smoke.boobench.yaml")
    assert (waits.return_value, len(children)) == (0, 1)
    assert waits.stdout.startswith("next session at 2")
    monkeypatch.setattr(measured_sessions, "run_child", lambda arguments, env: 1)
    failed = call("smoke.boobench.yaml")
    assert failed.return_value == 1
    assert failed.stderr.splitlines()[-2:] == [
        "session 2 of 5, attempt 3 of 3: pytest ended with exit code 1",
        "session 2 of 5: nothing could be measured; the same command goes on here",
    ]
    monkeypatch.setattr(measured_sessions, "run_child", lambda arguments, env: 5)
    assert call("smoke.boobench.yaml").return_value == 2
    assert len(list_runs(bench.path)) == 1


def test_options_that_it_sets_itself_are_refused() -> None:
    result = call("--boobench-save-baseline=add", "suites/")
    assert "--boobench-save-baseline: leave it out; this verb has --store and --baseline" in str(
        getattr(result.exception, "message", result.exception)
    )
