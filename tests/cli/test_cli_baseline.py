"""``boobench baseline``: list, show, set, clear, export, import."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pytest_boobench import baseline_file
from pytest_boobench.cli import boobench, main
from pytest_boobench.facts import Traffic
from pytest_boobench.record import Verdict
from pytest_boobench.store import Selection, Store
from tests.stored import ELSEWHERE, FOUR, ONE, add_session, name_uid

REASON = ("--reason", "accepted")


def run(*args: str) -> Result:
    return CliRunner().invoke(boobench, ["baseline", *args], standalone_mode=False)


def run_json(*args: str) -> dict[str, Any]:
    result = run(*args, "--json")
    assert result.exception is None, result.exception
    found: dict[str, Any] = json.loads(result.output)
    return found


def refusal(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert main(["baseline", *args]) == 2
    return capsys.readouterr().err


def in_force(store: Store, name: str = "main") -> dict[str, list[str]]:
    """Cell -> the sessions whose measurements are in force, oldest first."""
    found: dict[str, list[str]] = {}
    for one in store.measurements(Selection(baselines=(name,))):
        found.setdefault(one.node_id.rpartition("::")[2], []).append(one.run.session)
    return found


# --- list


def test_names_with_counts(store: Store) -> None:
    assert run("list").output == (
        f"{store.address}: no baseline; store one with pytest --boobench --boobench-save-baseline\n"
    )
    assert run_json("list") == {"baselines": []}
    add_session(store, "a", (ONE, 50.0), (FOUR, 20.0), save_as="main")
    add_session(store, "b", (ONE, 50.0), day=1, save_as="main")
    add_session(store, "c", (ONE, 50.0), day=2, save_as="release")
    store.clear_baseline("main", [FOUR.key])
    head, *rows = run("list").output.splitlines()
    assert head == "name     cells  runs  replaced  last saved (UTC)"
    assert [row.split()[:4] for row in rows] == [["main", "1", "2", "1"], ["release", "1", "1", "0"]]
    assert [(one["name"], one["cells"]) for one in run_json("list")["baselines"]] == [("main", 1), ("release", 1)]


# --- show


def test_what_a_baseline_rests_on(store: Store) -> None:
    for day, speed in enumerate((50.0, 51.0, 49.0)):
        add_session(store, f"s{day}", (ONE, speed), day=day, save_as="main")
    passed = (Verdict(metric="decode_tok_s", outcome="pass", allowed=0.1),)
    add_session(store, "later", (ONE, 50.5), day=4, verdicts=passed)
    result = run("show")
    assert result.return_value == 0
    title, decode, prefill, runs, head, *rows = result.output.splitlines()
    assert title == "smoke  rack-1::qwen[pp64-tg8-c1]"
    assert decode == "  decode 50.0 tok/s: proves a drop of 10 %"
    assert prefill == "  prefill 2000 tok/s: proves a drop of 10 %"
    assert runs == "  3 runs, 3 sessions, 1 later run that passed"
    assert head.split("  ")[1] == "measured (UTC)"
    assert [row.split()[2] for row in rows] == [name_uid(f"session s{day}")[:8] for day in range(3)]
    assert [row.split()[5] for row in rows] == ["50.0", "51.0", "49.0"]


def test_a_weak_baseline_says_what_would_help(store: Store) -> None:
    for day, speed in enumerate((50.0, 70.0, 35.0)):
        add_session(store, f"s{day}", (ONE, speed), day=day, save_as="main")
    line = run("show").output.splitlines()[1]
    assert line.startswith("  decode 50.0 tok/s: proves a drop of ")
    assert ", 10 % allowed; " in line
    (cell,) = run_json("show")["cells"]
    (decode, _) = cell["metrics"]
    assert decode["metric"] == "decode_tok_s"
    assert decode["provable"] > decode["allowed"] == 0.1
    assert decode["remedy"]


def test_show_narrows_and_speaks_json(store: Store) -> None:
    add_session(store, "a", (ONE, 50.0), (FOUR, 20.0), (ELSEWHERE, 60.0), save_as="main")
    found = run_json("show", "-k", "c1", "--host", "rack-1")
    (cell,) = found["cells"]
    assert (found["baseline"], cell["host"], cell["concurrency"], cell["sessions"]) == ("main", "rack-1", 1, 1)
    (one,) = cell["runs"]
    assert (one["session"], one["medians"]["decode_tok_s"]) == (name_uid("session a"), 50.0)
    assert len(run_json("show")["cells"]) == 3


def test_a_metric_that_no_run_gives(store: Store) -> None:
    judged = (Verdict(metric="embed_tok_s", outcome="no baseline", allowed=0.1),)
    add_session(store, "a", (ONE, 50.0), save_as="main", verdicts=judged)
    assert run("show").output.splitlines()[1] == "  embed: no run gives it"


@pytest.mark.parametrize("verb", [["show"], ["export", "-"]])
def test_nothing_in_force(store: Store, capsys: pytest.CaptureFixture[str], verb: list[str]) -> None:
    assert "nothing of that is in force as baseline nightly; see boobench baseline list" in refusal(
        capsys, *verb, "--baseline", "nightly"
    )


# --- set


def test_a_slower_session_is_accepted(store: Store) -> None:
    add_session(store, "fast", (ONE, 50.0), (FOUR, 20.0), save_as="main")
    slow = add_session(store, "slow", (ONE, 30.0), (FOUR, 12.0), day=1)
    result = run("set", "--session", slow[:6], *REASON)
    assert (result.return_value, result.output) == (0, "2 measurements set as baseline main, 2 replaced\n")
    assert in_force(store) == {"qwen[pp64-tg8-c1]": [slow], "qwen[pp64-tg8-c4]": [slow]}
    assert {save.reason for save in store.saves("main")} == {"accepted"}


def test_the_newest_of_each_cell_is_taken_and_may_stand_beside_the_others(store: Store) -> None:
    fast = add_session(store, "fast", (ONE, 50.0), save_as="main")
    add_session(store, "one", (ONE, 49.0), (FOUR, 20.0), day=1)
    two = add_session(store, "two", (ONE, 48.0), day=2)
    result = run("set", "--since", "2026-11-19", "-k", "c1", "--add", *REASON)
    assert result.output == "1 measurement set as baseline main, 0 replaced\n"
    assert in_force(store) == {"qwen[pp64-tg8-c1]": [fast, two]}
    run("set", "--since", "2026-11-19", "--last", "2", "--baseline", "both", *REASON)
    assert [len(sessions) for sessions in in_force(store, "both").values()] == [2, 1]
    run("set", "--since", "1970-01-01", "--last", "3", "--baseline", "all", *REASON)
    assert [len(sessions) for sessions in in_force(store, "all").values()] == [3, 1], "second 0 is a moment"


def test_what_cannot_be_a_baseline_is_told(store: Store) -> None:
    add_session(store, "a", (ONE, 50.0), (ELSEWHERE, 60.0), traffic=Traffic(model_swaps=1))
    add_session(store, "b", (FOUR, 50.0), error="rack-1: died")
    duet = add_session(store, "c", (ONE, 50.0), day=1, reference_host="rack-2")
    result = run("set", "--run", name_uid("run a rack-1 smoke"), "--run", name_uid("run b rack-1 smoke"), *REASON)
    assert result.return_value == 1
    assert sorted(result.output.splitlines()) == [
        "0 measurements set as baseline main, 0 replaced",
        "not set: rack-1::qwen[pp64-tg8-c1]: disturbed: 1 model swap",
        "not set: rack-1::qwen[pp64-tg8-c4]: rack-1: died",
    ]
    assert run("set", "--run", name_uid("run a rack-1 smoke"), "--spoiled", *REASON).return_value == 0
    assert run("set", "--session", duet, *REASON).output.startswith(
        "not set: rack-1::qwen[pp64-tg8-c1]: measured in turns with rack-2, which another session cannot repeat\n"
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("-k", "c1", *REASON), "say which with --session, --run, --commit or --since; boobench history shows them"),
        (("--session", "ffff", *REASON), "nothing of that was measured; boobench history shows what was"),
        (("--session", "ffff"), "Missing option '--reason'."),
    ],
)
def test_set_is_told_what_is_meant(
    store: Store, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], message: str
) -> None:
    assert message in refusal(capsys, "set", *args)


# --- clear


def test_what_is_cleared_can_be_set_again(store: Store) -> None:
    session = add_session(store, "a", (ONE, 50.0), (FOUR, 20.0), save_as="main")
    result = run("clear", "-k", "c4", "--reason", "a new GPU")
    assert (result.return_value, result.output) == (0, "1 measurement of 1 cell out of force as baseline main\n")
    assert list(in_force(store)) == ["qwen[pp64-tg8-c1]"]
    saves = store.past_saves([one.id for one in store.measurements(Selection())])
    assert sorted((save.cleared_reason or "", save.replaced_at is None) for save in saves) == [
        ("", True),
        ("a new GPU", False),
    ]
    assert run("clear", "-k", "c4").return_value == 1
    assert run("clear").output == "1 measurement of 1 cell out of force as baseline main\n"
    assert in_force(store) == {}
    run("set", "--session", session, *REASON)
    assert len(in_force(store)) == 2


# --- export, import


def test_a_baseline_is_carried_from_project_to_project(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for day in range(2):
        add_session(store, f"s{day}", (ONE, 50.0), (FOUR, 20.0), day=day, save_as="main")
    assert run("export", "b.yaml").output == "wrote 4 measurements of 2 cells to b.yaml\n"
    text = (tmp_path / "b.yaml").read_text()
    assert run("export", "-").output == text
    assert run("export", "-", "-k", "c4").output.count("- suite:") == 1
    assert run("import", "b.yaml", "--store", "other.db").output == (
        "4 measurements of b.yaml in force as baseline main, 0 replaced\n"
    )
    assert run("import", "b.yaml", "--store", "other.db").output.startswith("0 measurements of b.yaml in force")
    assert run("export", "-", "--store", "other.db").output == text
    newer = add_session(store, "new", (ONE, 51.0), day=3, save_as="main")
    assert run("import", "--add", "--baseline", "team", "b.yaml").output == (
        "4 measurements of b.yaml in force as baseline team, 0 replaced\n"
    )
    assert run("import", "b.yaml").output == "0 measurements of b.yaml in force as baseline main, 1 replaced\n"
    assert newer not in in_force(store)["qwen[pp64-tg8-c1]"]


def test_a_file_with_mistakes_changes_nothing(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_session(store, "a", (ONE, 50.0), save_as="main")
    run("export", "b.yaml")
    file = tmp_path / "b.yaml"
    file.write_text(file.read_text().replace("concurrency: 1", "concurrency: one"))
    assert refusal(capsys, "import", "b.yaml") == (
        "b.yaml:19: cells[0].concurrency: expected a whole number from 1, got 'one'\n"
    )
    assert len(in_force(store)) == 1


def test_export_where_nothing_can_be_written(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    add_session(store, "a", (ONE, 50.0), save_as="main")
    assert "cannot write gone/b.yaml: No such file or directory" in refusal(capsys, "export", "gone/b.yaml")


def test_what_is_exported_is_what_sessions_read(store: Store, tmp_path: Path) -> None:
    add_session(store, "a", (ONE, 50.0), save_as="main")
    run("export", "b.yaml")
    exported = baseline_file.read(tmp_path / "b.yaml", "").baselines()
    stored = store.baselines("main")
    assert exported.keys() == stored.keys()
    assert exported[ONE.key].runs[0].aggregates["decode_tok_s"].median == pytest.approx(50.0)
