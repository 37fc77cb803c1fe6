"""``boobench import``: files of other tools, and what the other verbs then say of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pytest_boobench.cli import boobench, main
from pytest_boobench.store import Selection, Store
from tests.other_tools.test_tool_files import LLAMA_BENCH

OFFSETS = (0.0, 0.004, -0.003, 0.002, -0.001)


def run(verb: str, *args: str) -> Result:
    return CliRunner().invoke(boobench, [verb, *args], standalone_mode=False)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BOOBENCH_STORE", "store.db")
    return tmp_path


def write_bench(name: str, day: int, *speeds: tuple[Mapping[str, Any], float], build: int = 9000) -> None:
    """A file of llama-bench: each test with its fields, at about so many tokens a second."""
    tests = []
    for number, (change, tok_s) in enumerate(speeds):
        test = {**LLAMA_BENCH, "build_number": build, "test_time": f"2026-11-{day:02}T09:30:{number:02}Z", **change}
        tokens = test["n_prompt"] + test["n_gen"]
        test["samples_ns"] = [round(1e9 * tokens / tok_s * (1 + off)) for off in OFFSETS]
        tests.append(test)
    Path(name).write_text(json.dumps(tests), encoding="utf-8")


PP: Mapping[str, Any] = {"n_prompt": 512, "n_gen": 0}
TG: Mapping[str, Any] = {"n_prompt": 0, "n_gen": 128}
DEEP: Mapping[str, Any] = {"n_prompt": 0, "n_gen": 128, "n_depth": 4096, "type_k": "q8_0"}


def test_two_files_and_exit_code_1() -> None:
    write_bench("old.json", 20, (PP, 1000.0), (TG, 50.0), (DEEP, 40.0))
    write_bench("new.json", 24, (PP, 1010.0), (TG, 40.0), (DEEP, 39.8), build=9100)
    assert main(["import", "--baseline", "before", "old.json"]) == 0
    assert main(["import", "new.json"]) == 0
    result = run("compare", "before", "--fail", "-v")
    assert result.return_value == 1
    lines = result.output.splitlines()
    assert [" ".join(line.split()) for line in lines[4:7]] == [
        "llama-bench imported::qwen3-8b-q4_k_m[tg128-c1-t8] decode tok/s 50.0 40.0 −20.0 % regression",
        "llama-bench imported::qwen3-8b-q4_k_m[pp512-c1-t8] prefill tok/s 1000 1010 +1.0 % pass",
        "llama-bench imported::qwen3-8b-q4_k_m[tg128-c1-d4096-ctkq8_0-t8] decode tok/s 40.0 39.8 −0.5 % pass",
    ]
    assert "engine b9000-0a1b2c3" in lines[0]
    assert any("imported: no second block could confirm it" in line for line in lines)
    assert lines[-1] == "1 regression, 2 pass"
    assert main(["compare", "before", "--fail", "--max-drop", "25%"]) == 0


def test_a_second_import_adds_nothing() -> None:
    write_bench("old.json", 20, (PP, 1000.0))
    first = run("import", "old.json").output
    Path("old.json").rename("other.json")
    second = run("import", "other.json").output
    assert first.startswith("old.json: 1 measurement of llama-bench in store.db, run ")
    assert second.startswith("other.json: nothing new: store.db has it as run ")
    assert first.split()[-1] == second.split()[-1]
    with Store.open("store.db") as store:
        assert len(store.measurements(Selection())) == 1
        assert len(store.runs(Selection())) == 1


def test_under_other_names_it_is_another_run() -> None:
    write_bench("old.json", 20, (PP, 1000.0))
    run("import", "old.json")
    run("import", "--host", "rack-1", "--suite", "builds", "--model", "qwen", "old.json")
    with Store.open("store.db") as store:
        _, one = store.measurements(Selection())
    assert one.node_id == "llama-bench::rack-1::qwen[pp512-c1-t8]"
    assert (one.run.suite, one.run.host, one.run.cpu) == ("builds", "rack-1", "Some CPU")
    assert run("compare", "host:imported", "host:rack-1").output.splitlines()[-1] == "no cell is on both sides"


def test_what_a_cell_is() -> None:
    """Usual values go without saying, unless a file has several of them."""
    write_bench("old.json", 20, ({**PP, "n_gpu_layers": 99}, 1000.0))
    write_bench("new.json", 21, ({**PP, "n_gpu_layers": -1, "fit_target": 0}, 1000.0))
    write_bench("sweep.json", 22, *(({**PP, "n_gpu_layers": layers}, 1000.0) for layers in (-1, 99, 0)))
    run("import", "old.json", "new.json", "sweep.json")
    with Store.open("store.db") as store:
        found = store.measurements(Selection())
    ids = [one.node_id.partition("[")[2] for one in found]
    assert ids == ["pp512-c1-t8]", "pp512-c1-t8]", "pp512-c1-ngl-1-t8]", "pp512-c1-ngl99-t8]", "pp512-c1-ngl0-t8]"]
    assert found[0].cell_key == found[1].cell_key
    assert len({one.cell_key for one in found}) == 4


def test_the_same_test_twice_in_a_file_is_measured_twice() -> None:
    write_bench(
        "old.json",
        20,
        ({**PP, "test_time": "2026-11-20T09:30:00Z"}, 1000.0),
        ({**PP, "test_time": "2026-11-20T09:30:00Z"}, 900.0),
    )
    run("import", "old.json")
    with Store.open("store.db") as store:
        assert [round(one.aggregates["prefill_tok_s"].median) for one in store.measurements(Selection())] == [1000, 900]


def test_a_test_of_prompt_and_generation_has_the_time_of_both() -> None:
    write_bench("old.json", 20, ({"n_prompt": 512, "n_gen": 128}, 640.0), ({**PP, "embeddings": True}, 512.0))
    run("import", "old.json")
    with Store.open("store.db") as store:
        both, embedding = store.measurements(Selection())
    assert both.node_id.endswith("[pp512-tg128-c1-t8]")
    assert {key: round(one.median) for key, one in both.aggregates.items()} == {"e2e_ms": 1000}
    assert embedding.identity["kind"] == "embedding"
    assert {key: round(one.median) for key, one in embedding.aggregates.items()} == {"embed_tok_s": 512, "e2e_ms": 1000}
    run("import", "--baseline", "main", "old.json")
    assert run("compare", "main").output.splitlines()[-1] == "2 pass"


def test_dry_run() -> None:
    write_bench("old.json", 20, (PP, 1000.0), (TG, 50.0))
    result = run("import", "--dry-run", "old.json")
    assert result.output.splitlines() == [
        "old.json: 2 measurements of llama-bench",
        "  imported::qwen3-8b-q4_k_m[pp512-c1-t8]  prefill 1000 tok/s (n 5)  prompt 512 ms (n 5)",
        "  imported::qwen3-8b-q4_k_m[tg128-c1-t8]  decode 50.0 tok/s (n 5)",
    ]
    assert not Path("store.db").exists()


def test_the_other_verbs() -> None:
    write_bench("old.json", 20, (PP, 1000.0), (TG, 50.0))
    run("import", "--baseline", "main", "old.json")
    history = run("history", "-k", "pp512").output
    assert "prefill tok/s" in history
    assert "baseline main; imported from llama-bench" in history
    assert "of 2 cells" in run("baseline", "export", "main.yaml").output
    assert main(["baseline", "import", "--store", "second.db", "main.yaml"]) == 0
    with Store.open("second.db") as store:
        assert {one.run.imported_from for one in store.measurements(Selection())} == {"llama-bench"}
    assert main(["report", "-o", "page.html"]) == 0
    assert "imported from" in Path("page.html").read_text(encoding="utf-8")
    (first, _) = map(json.loads, run("export").output.splitlines())
    assert first["imported_from"] == "llama-bench"
    assert main(["power"]) == 0
    session = first["session"]
    assert main(["baseline", "set", "--session", session, "--reason", "again", "--baseline", "other"]) == 0


def test_the_baseline_keeps_what_is_in_force_with_add() -> None:
    write_bench("old.json", 20, (PP, 1000.0))
    write_bench("new.json", 24, (PP, 1010.0))
    run("import", "--baseline", "main", "old.json")
    assert run("import", "--baseline", "main", "--add", "new.json").output.splitlines()[1] == (
        "1 measurement set as baseline main, 0 replaced"
    )
    assert main(["import", "--add", "new.json"]) == 2
