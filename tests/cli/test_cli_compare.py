"""``boobench compare``: what words name, what is judged, what is printed."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pytest_boobench import gate
from pytest_boobench.cli import boobench, main
from pytest_boobench.facts import REFERENCE_SUITE, Canary, ClientFacts, ServerFacts, Traffic
from pytest_boobench.record import Verdict
from pytest_boobench.store import Store
from tests.making import make_cell, make_model, make_record
from tests.stored import ELSEWHERE, FOUR, ONE, add_session, make_samples, name_uid


def run(*args: str) -> Result:
    return CliRunner().invoke(boobench, ["compare", *args], standalone_mode=False)


def compare(*args: str) -> dict[str, Any]:
    result = run(*args, "--json")
    assert result.exception is None, result.exception
    found: dict[str, Any] = json.loads(result.output)
    return found


def outcomes(found: dict[str, Any]) -> dict[tuple[str, str], str]:
    return {(pair["cell"], pair["verdict"]["metric"]): pair["verdict"]["outcome"] for pair in found["pairs"]}


def commit_of(name: str) -> str:
    return hashlib.sha1(name.encode()).hexdigest()[:10]


SLOW_ONE = {("rack-1::qwen[pp64-tg8-c1]", "decode_tok_s"): "regression"}


def test_the_newest_session_with_a_baseline(store: Store) -> None:
    add_session(store, "old", (ONE, 50.0), (FOUR, 20.0), save_as="main")
    add_session(store, "new", (ONE, 40.0), (FOUR, 22.0), day=1)
    result = run("main", "newest")
    assert result.return_value == 0
    a, b, _, head, *table, _, same, summary = result.output.splitlines()
    assert a == f"A  baseline:main  2026-11-18 11:06 UTC  1 session  engine b11549  commit {commit_of('old')}"
    assert b.startswith(f"B  session:{name_uid('session new')[:10]}  2026-11-19 11:06 UTC  1 session  engine b11549")
    assert b.endswith(commit_of("new"))
    assert head.split() == ["suite", "cell", "metric", "unit", "A", "B", "change", "verdict"]
    assert [line.split() for line in table] == [
        ["smoke", "rack-1::qwen[pp64-tg8-c1]", "decode", "tok/s", "50.0", "40.0", "−20.0", "%", "regression"],
        ["smoke", "rack-1::qwen[pp64-tg8-c4]", "decode", "tok/s", "20.0", "22.0", "+10.0", "%", "improvement"],
        ["smoke", "rack-1::qwen[pp64-tg8-c1]", "prefill", "tok/s", "2000", "2000", "+0.0", "%", "pass"],
        ["smoke", "rack-1::qwen[pp64-tg8-c4]", "e2e", "ms", "300", "300", "+0.0", "%", "pass"],
    ]
    assert same == "rack-1 qwen: nothing known has changed: same build and model"
    assert summary == "1 regression, 1 improvement, 2 pass"


def test_the_reference_of_a_machine_is_no_cell(store: Store) -> None:
    pinned = make_cell(suite=REFERENCE_SUITE)
    add_session(store, "old", (ONE, 50.0), save_as="main")
    add_session(store, "new", (ONE, 50.0), (pinned, 90.0), day=1)
    found = compare("main", "newest")
    assert {pair["suite"] for pair in found["pairs"]} == {"smoke"}
    assert "only in" not in run("main", "newest").output


def test_what_changed_is_listed_once_for_each_host_and_model(store: Store) -> None:
    server = ServerFacts(kind="llama-server", url="http://x", engine_build="b2")
    was = {"command": "/a/s -m q.gguf -ctk f16 --mlock", "model": make_model(path="/q.gguf", slots=4)}
    add_session(store, "old", (ONE, 50.0), (FOUR, 20.0), save_as="main", driver="nvidia 550.1", **was)
    now = {"command": "/a/s -ctk q8_0 -m q.gguf -fa", "model": make_model(path="/q.gguf", slots=2)}
    add_session(store, "new", (ONE, 40.0), (FOUR, 20.0), day=1, server=server, driver="nvidia 560.2", **now)
    lines = run("main").output.splitlines()
    at = lines.index("rack-1 qwen: what changed")
    assert lines[at + 1 : at + 9] == [
        "  engine        b11549 -> b2",
        "  flag -ctk     f16 -> q8_0",
        "  flag -fa      (not there) -> (no value)",
        "  flag --mlock  (no value) -> (not there)",
        "  driver        nvidia 550.1 -> nvidia 560.2",
        "  slots         4 -> 2",
        "",
        "4 not comparable",
    ]
    (group,) = compare("main")["changes"]
    assert {key: group[key] for key in ("host", "model", "cells", "same")} == {
        "host": "rack-1",
        "model": "qwen",
        "cells": 2,
        "same": "",
    }
    assert group["changed"][1:3] == [
        {"what": "flag -ctk", "before": "f16", "after": "q8_0", "cells": 2},
        {"what": "flag -fa", "before": None, "after": "", "cells": 2},
    ]


def test_a_change_of_some_cells_says_of_how_many(store: Store) -> None:
    add_session(store, "old", (ONE, 50.0), (FOUR, 20.0), command="s -b 1", save_as="main")
    add_session(store, "new", (ONE, 40.0), day=1, command="s -b 2")
    add_session(store, "newer", (FOUR, 20.0), day=2, command="s -b 1")
    assert "  flag -b  1 -> 2  (in 1 of 2 cells)" in run("main", "host:rack-1").output.splitlines()


def test_what_one_side_does_not_know_has_not_changed(store: Store) -> None:
    add_session(store, "old", (ONE, 50.0), save_as="main", model=None, server=None)
    add_session(store, "new", (ONE, 40.0), day=1, command="s -b 2", driver="nvidia 560.2")
    assert compare("main")["changes"] == [
        {"host": "rack-1", "model": "qwen", "cells": 1, "changed": [], "same": ""},
    ]
    assert "changed" not in run("main").output


def test_exit_codes(store: Store) -> None:
    add_session(store, "old", (ONE, 50.0), save_as="main")
    add_session(store, "new", (ONE, 40.0), day=1)
    assert main(["compare", "main"]) == 0
    assert main(["compare", "main", "--fail"]) == 1
    assert main(["compare", "main", "--fail", "--max-drop", "25%"]) == 0
    assert main(["compare", "main", "main", "--fail"]) == 0


def test_sentences(store: Store) -> None:
    add_session(store, "old", (ONE, 50.0), save_as="main")
    add_session(store, "new", (ONE, 40.0), day=1)
    lines = run("main", "-v").output.splitlines()
    assert any(
        line.startswith("rack-1::qwen[pp64-tg8-c1]: decode 40.0 tok/s, 20 % below baseline main (50.0), 10 % allowed; ")
        for line in lines
    )


def test_commits_sessions_and_runs(store: Store) -> None:
    old = add_session(store, "old", (ONE, 50.0))
    new = add_session(store, "new", (ONE, 40.0), day=1)
    commits = [each.run.git_commit or "" for each in store.measurements(_everything())]
    for a, b in (
        (old, new),
        (old[:8], new[:8]),
        (commits[0], commits[1]),
        (commits[0][:7], f"commit:{commits[1][:7]}"),
        (name_uid("run old rack-1 smoke"), f"run:{name_uid('run new rack-1 smoke')[:12]}"),
    ):
        found = compare(a, b)
        assert outcomes(found).items() >= SLOW_ONE.items()
    assert (found["a"]["kind"], found["b"]["kind"]) == ("run", "run")


def _everything() -> Any:
    from pytest_boobench.store import Selection

    return Selection()


def test_git_names(store: Store, tmp_path: Path) -> None:
    def git(*words: str) -> str:
        command = ["git", "-c", "user.name=x", "-c", "user.email=x@y", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path).stdout.strip()

    git("init", "--quiet")
    commits = []
    for number in range(2):
        git("commit", "--quiet", "--allow-empty", "-m", str(number))
        commits.append(git("rev-parse", "HEAD"))
    git("tag", "v1", "HEAD~1")
    add_session(store, "old", (ONE, 50.0), run={"git_commit": commits[0]})
    add_session(store, "new", (ONE, 40.0), day=1, run={"git_commit": commits[1]})
    assert outcomes(compare("v1", "HEAD")).items() >= SLOW_ONE.items()
    assert compare("commit:HEAD~1", "commit:HEAD")["a"] == {"kind": "commit", "name": commits[0], "measurements": [1]}


def test_hosts_are_compared_cell_by_cell(store: Store) -> None:
    """Their processors differ, which is no obstacle here; that their clients do is said."""
    canary = Canary(copy_mb_s=900.0, hash_mb_s=400.0)
    add_session(store, "old", (ONE, 9.0), day=-1)
    add_session(store, "one", (ONE, 50.0), (FOUR, 20.0), run={"cpu": "slow"}, canaries=(canary,))
    add_session(store, "two", (ELSEWHERE, 40.0), run={"cpu": "fast"}, canaries=(canary,))
    found = compare("rack-1", "rack-2")
    assert outcomes(found)["rack-2::qwen[pp64-tg8-c1]", "decode_tok_s"] == "regression"
    assert found["pairs"][0]["a"] == 50.0
    assert found["only_in_a"] == ["rack-1::qwen[pp64-tg8-c4]"]
    assert found["only_in_b"] == []
    assert compare("rack-1", "host:rack-1")["pairs"][0]["change"] == 0.0


def test_the_processor_of_a_local_host_is_an_obstacle(store: Store) -> None:
    canary = Canary(copy_mb_s=900.0, hash_mb_s=400.0)
    old = add_session(store, "old", (ONE, 50.0), run={"cpu": "slow"}, canaries=(canary,))
    add_session(store, "new", (ONE, 60.0), day=1, run={"cpu": "fast"}, canaries=(canary,))
    pair = compare(old)["pairs"][0]
    assert (pair["verdict"]["outcome"], pair["verdict"]["reason"]) == (
        "not comparable",
        "another processor: fast, was slow",
    )
    assert round(pair["change"], 2) == 0.2  # shown all the same


def test_another_model_is_not_comparable(store: Store) -> None:
    old = add_session(store, "old", (ONE, 50.0))
    add_session(store, "new", (ONE, 80.0), day=1, model=make_model(quantisation="Q4_0"))
    result = run(old)
    assert "not comparable" in result.output
    assert result.output.splitlines()[-1] == "2 not comparable"


def test_one_block_is_not_enough_but_where_the_point_decides(store: Store) -> None:
    old = add_session(store, "old", (ONE, 50.0))
    add_session(store, "new", (ONE, 40.0), day=1, blocks=1)
    assert set(outcomes(compare(old)).values()) == {"inconclusive", "pass"}
    assert outcomes(compare(old, "--literal")).items() >= SLOW_ONE.items()


def test_spoiled_measurements_are_no_reference_and_are_not_judged(store: Store) -> None:
    disturbed = Traffic(concurrent_foreign_requests=2)
    old = add_session(store, "old", (ONE, 5.0), traffic=disturbed)
    add_session(store, "new", (ONE, 40.0), day=1)
    assert set(outcomes(compare(old)).values()) == {"no baseline"}
    (first, *_) = compare("newest", old)["pairs"]
    assert first["verdict"]["outcome"] == "inconclusive"
    assert first["verdict"]["reason"] == "disturbed: 2 foreign requests"


def test_samples_that_were_still_warming_up(store: Store) -> None:
    old = add_session(store, "old", (ONE, 50.0))
    rising = [sample_at(index) for index in range(12)]
    add_session(store, "new", (ONE, 50.0), day=1, samples=rising)
    (first, *_) = compare(old)["pairs"]
    assert first["verdict"]["outcome"] == "inconclusive"
    assert first["verdict"]["reason"].startswith("still warming up: ")


def sample_at(index: int) -> Any:
    from dataclasses import replace

    return replace(make_samples(50.0)[0], index=index, e2e_ms=400.0 - 20 * index)


def test_cells_that_failed_or_stand_alone(store: Store) -> None:
    new_cell = make_cell(concurrency=8, id="pp64-tg8-c8")
    old = add_session(store, "old", (ONE, 50.0), (FOUR, 20.0))
    add_session(store, "new", (new_cell, 9.0), day=1)
    add_session(store, "newer", (ONE, 50.0), day=2, error="rack-1: died", samples=())
    lines = run(old).output.splitlines()
    assert lines[-3:] == [
        "not measured: rack-1::qwen[pp64-tg8-c1]: rack-1: died",
        "only in A: rack-1::qwen[pp64-tg8-c4]",
        "no cell is on both sides",
    ]
    assert compare(old)["not_measured"] == [{"cell": "rack-1::qwen[pp64-tg8-c1]", "error": "rack-1: died"}]
    assert "only in B: rack-1::qwen[pp64-tg8-c8]" in run(old, name_uid("session new")).output.splitlines()


def test_what_was_allowed_when_it_was_measured_is_allowed(store: Store) -> None:
    old = add_session(store, "old", (ONE, 50.0))
    judged = (Verdict(metric="decode_tok_s", outcome="no baseline", allowed=0.3),)
    add_session(store, "new", (ONE, 40.0), day=1, verdicts=judged)
    assert outcomes(compare(old)) == {("rack-1::qwen[pp64-tg8-c1]", "decode_tok_s"): "pass"}
    assert outcomes(compare(old, "--max-drop", "10")).items() >= SLOW_ONE.items()


def test_regressions_come_first_and_the_worst_before_the_others(store: Store) -> None:
    add_session(store, "old", (ONE, 50.0), (FOUR, 20.0), save_as="main")
    add_session(store, "new", (ONE, 40.0), (FOUR, 10.0), day=1)
    pairs = compare("main")["pairs"]
    assert [pair["verdict"]["outcome"] for pair in pairs] == ["regression", "regression", "pass", "pass"]
    assert [pair["cell"][-3:-1] for pair in pairs[:2]] == ["c4", "c1"]
    assert pairs[0]["change"] < pairs[1]["change"]


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (
            ["nothing"],
            "nothing is stored of 'nothing'; expected a baseline, a host, a commit, a session or a run, or 'newest'; "
            "see boobench history",
        ),
        (["rack-1"], "'rack-1' may be a baseline or a host; say baseline:rack-1 or host:rack-1"),
        (["main", "--max-drop", "much"], "expected a percentage such as 10%, got 'much'"),
    ],
)
def test_wrong_use(store: Store, capsys: pytest.CaptureFixture[str], args: list[str], text: str) -> None:
    add_session(store, "old", (ONE, 50.0), save_as="rack-1")
    assert main(["compare", *args]) == 2
    assert text in capsys.readouterr().err


def test_an_empty_store(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "newest"]) == 2
    assert "nothing is stored of 'newest'" in capsys.readouterr().err


def test_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "main"]) == 2
    assert "there is no store, let pytest --boobench make one" in capsys.readouterr().err


def test_without_git(store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    add_session(store, "old", (ONE, 50.0))
    monkeypatch.setenv("PATH", "")
    assert main(["compare", "HEAD"]) == 2
    assert "nothing is stored of 'HEAD'" in capsys.readouterr().err


@pytest.mark.parametrize("speed", [50.0, 47.0, 44.0, 30.0, 58.0])
@pytest.mark.parametrize("blocks", [1, 2])
def test_the_verdict_is_the_one_that_pytest_gives(store: Store, speed: float, blocks: int) -> None:
    for day, level in enumerate((49.0, 50.0, 51.0)):
        add_session(store, f"day {day}", (ONE, level), day=day, save_as="main")
    baselines = store.baselines("main")
    record = make_record(ONE, samples=make_samples(speed, blocks=blocks), client=ClientFacts(machine="bench"))
    allowed = gate.limits("chat", None, gate.Rules())
    spread = gate.measure_spread(baselines.values())["smoke"]
    judged = gate.judge(record, baselines[ONE.key], allowed, spread=spread)
    add_session(store, "now", (ONE, speed), day=9, blocks=blocks)
    by_metric = {pair["verdict"]["metric"]: pair["verdict"] for pair in compare("main")["pairs"]}
    assert by_metric == {verdict.metric: asdict(verdict) for verdict in judged}
