"""``boobench history``: courses of cells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pytest_boobench.cli import boobench, main
from pytest_boobench.facts import ServerFacts, Traffic
from pytest_boobench.record import Verdict
from pytest_boobench.store import Store
from tests.making import make_cell, make_sample
from tests.stored import FOUR, ONE, add_session, name_uid

REGRESSION = (Verdict(metric="decode_tok_s", outcome="regression"),)


def run(*args: str) -> Result:
    result = CliRunner().invoke(boobench, ["history", *args], standalone_mode=False)
    assert result.exception is None, result.exception
    return result


def courses(*args: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run(*args, "--json").output)["cells"]
    return found


def add_course(store: Store, *speeds: float, cell: Any = ONE) -> None:
    for day, speed in enumerate(speeds):
        build = ServerFacts(kind="llama-server", url="", engine_build="b2" if day >= 8 else "b1")
        add_session(store, f"{cell.id} {day}", (cell, speed), day=day, server=build)


STEADY = (50.0, 50.5, 49.5, 50.2, 49.8, 50.1, 49.9, 50.0)
SLOWER = (40.0, 40.4, 39.6, 40.1, 39.9, 40.2, 39.8, 40.0)


def test_one_cell_measurement_by_measurement(store: Store) -> None:
    add_course(store, *STEADY, *SLOWER)
    title, course, head, *rows, step = run().output.splitlines()
    assert title == "smoke  rack-1::qwen[pp64-tg8-c1]"
    assert course == "decode tok/s  ██▇█████▁▂▁▁▁▁▁▁  16 measurements"
    assert head.split("  ")[0] == "measured (UTC)"
    assert rows[0].split() == ["2026-11-18", "11:06", name_uid("session pp64-tg8-c1 0")[:8], rows[0].split()[3], "b1",
                               "50.0", "–", "–"]  # fmt: skip
    assert rows[1].split()[6:] == ["+1.0", "%", "–"]
    assert rows[8].split()[6:] == ["−20.0", "%", "–", "step", "−20.0", "%"]
    assert step == "step −20.0 % on 2026-11-26: 50.0 to 40.0 tok/s, engine b1 to b2"


def test_a_slow_slide_is_told(store: Store) -> None:
    add_course(store, *(50.0 * 0.98**day for day in range(20)))
    *_, last = run().output.splitlines()
    assert last.startswith("slide −")
    assert " from 2026-11-18 to " in last
    (course,) = courses()
    (slide,) = course["changes"]
    assert slide["gradual"]
    assert slide["ratio"] < -0.2


def test_what_is_told_of_a_measurement(store: Store) -> None:
    add_session(store, "base", (ONE, 50.0), save_as="main")
    add_session(store, "red", (ONE, 40.0), day=1, verdicts=REGRESSION, run={"git_dirty": True, "git_commit": "c0ffee"})
    add_session(store, "swap", (ONE, 41.0), day=2, traffic=Traffic(model_swaps=1))
    add_session(store, "gone", (ONE, 1.0), day=3, samples=(), error="rack-1: no answer", server=None)
    add_session(store, "bare", (ONE, 51.0), day=4, run={"git_commit": None})
    *_, base, red, swap, gone, bare = run().output.splitlines()
    assert base.endswith("baseline main")
    assert red.split()[3] == "c0ffee*"
    assert red.endswith("−20.0 %  regression")
    assert swap.endswith("disturbed: 1 model swap")
    assert gone.split()[4:] == ["–", "–", "–", "error", "rack-1:", "no", "answer"]
    assert bare.split()[3] == "–"
    assert bare.split()[6:8] == ["+24.4", "%"], "since the last one with a number"
    assert "▇▁▂ █" in run().output.splitlines()[1]


def test_several_cells_with_a_line_each(store: Store) -> None:
    add_course(store, *STEADY, *SLOWER)
    add_course(store, 20.0, 20.1, cell=FOUR)
    head, one, four, hint = run().output.splitlines()
    assert head.split() == ["suite", "cell", "metric", "newest", "verdict", "course"]
    assert one.endswith("step −20.0 % on 2026-11-26: 50.0 to 40.0 tok/s, engine b1 to b2")
    assert four.split() == ["smoke", "rack-1::qwen[pp64-tg8-c4]", "decode", "20.1", "tok/s", "–", "▁█"]
    assert hint == "2 cells; one of them measurement by measurement: boobench history -k TEXT"
    assert run("-v").output.count("measured (UTC)") == 2
    assert run("-k", "c4").output.splitlines()[1] == "decode tok/s  ▁█  2 measurements"


def test_thirty_measurements_where_nobody_says_how_many(store: Store) -> None:
    for day in range(32):
        add_session(store, str(day), (ONE, 50.0), day=day)
    assert len(courses()[0]["measurements"]) == 30
    assert len(courses("--last", "2")[0]["measurements"]) == 2


def test_another_metric_and_json(store: Store) -> None:
    session = add_session(store, "a", (ONE, 50.0), save_as="main")
    (course,) = courses("--metric", "ttft_ms")
    (one,) = course["measurements"]
    assert (course["metric"], course["unit"], course["host"], course["cell_key"]) == (
        "ttft_ms",
        "ms",
        "rack-1",
        ONE.key,
    )
    assert (one["session"], one["median"], one["n"], one["change"]) == (session, 40.0, 20, None)
    assert (one["verdict"], one["baselines"], one["error"]) == ("–", ["main"], None)


def test_embeddings_have_their_own_metric(store: Store) -> None:
    cell = make_cell(kind="embedding", output_tokens=None, id="pp64-c1")
    add_session(store, "a", (cell, 1.0), samples=[make_sample(embed_tok_s=900.0)])
    assert run().output.splitlines()[1] == "embed tok/s  ▁  1 measurement"


def test_a_metric_without_numbers(store: Store) -> None:
    add_session(store, "a", (ONE, 50.0))
    assert courses("--metric", "embed_tok_s")[0]["measurements"][0]["n"] == 0
    assert run("--metric", "embed_tok_s").output.splitlines()[1] == "embed tok/s     1 measurement"


def test_nothing_of_that_was_measured(store: Store) -> None:
    assert run("--host", "rack-9").output == f"{store.address}: nothing of that was measured\n"
    assert courses("--host", "rack-9") == []


def test_no_store_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    monkeypatch.chdir(tmp_path)
    assert main(["history"]) == 2
    assert "there is no store, let pytest --boobench make one" in capsys.readouterr().err
