"""``boobench export``: rows of the same form always, and a form that another program reads."""

from __future__ import annotations

import csv
import io
import json
import math
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pytest_boobench.aggregate import Aggregate
from pytest_boobench.cli import boobench, main
from pytest_boobench.cli.export_command import NUMBER_COLUMNS, SAMPLE_COLUMNS
from pytest_boobench.facts import Traffic
from pytest_boobench.metrics import METRICS, Sample
from pytest_boobench.record import Measurement, RunFacts, Verdict
from pytest_boobench.store import Store
from tests.making import make_cell, make_sample
from tests.stored import ELSEWHERE, FOUR, ONE, add_session, make_samples, name_uid


def run(*args: str) -> Result:
    return CliRunner().invoke(boobench, ["export", *args], standalone_mode=False)


def read_jsonl(*args: str) -> list[dict[str, Any]]:
    result = run(*args)
    assert result.exception is None, result.exception
    return [json.loads(line) for line in result.stdout.splitlines()]


def read_csv(*args: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(run("--format", "csv", *args).stdout)))


JUDGED = (Verdict(metric="decode_tok_s", outcome="pass", allowed=0.1, change=0.02, baseline_name="main"),)


def test_measurements_as_json_lines(store: Store) -> None:
    add_session(store, "old", (ONE, 50.0), verdicts=JUDGED, save_as="main", run={"user": "me", "ci": {"job": "7"}})
    (row,) = read_jsonl()
    assert list(row)[:12] == [
        *["measurement", "started_at", "suite", "host", "node_id", "cell_key", "run", "session"],
        *["model", "kind", "prompt_tokens", "output_tokens"],
    ]
    assert list(row)[-2:] == ["aggregates", "verdicts"]
    assert row["started_at"] == "2026-11-18T11:06:40.000000Z"
    assert (row["suite"], row["host"], row["model"], row["user"], row["ci"]) == (
        *("smoke", "rack-1", "qwen", "me", {"job": "7"}),
    )
    assert row["model_facts"]["quantisation"] == "Q8_0"
    assert (row["samples"], row["blocks"], row["clock"], row["baselines"]) == (20, 2, "kernel", ["main"])
    assert list(row["aggregates"]["decode_tok_s"]) == [field.name for field in fields(Aggregate)]
    assert row["aggregates"]["decode_tok_s"]["median"] == 50.0
    assert [verdict["outcome"] for verdict in row["verdicts"]] == ["pass"]


def test_no_fact_is_left_out(store: Store) -> None:
    add_session(store, "old", (ONE, 50.0))
    (row,) = read_jsonl()
    renamed = {"id": "measurement", "model": "model_facts", "identity": "model", "run": "run"}
    assert {renamed.get(field.name, field.name) for field in fields(Measurement)} <= set(row)
    assert {field.name for field in fields(RunFacts)} - {"uid"} <= set(row)
    (sample, *_) = read_jsonl("--samples")
    assert {field.name for field in fields(Sample)} <= set(sample)


def test_numbers_as_csv(store: Store) -> None:
    add_session(store, "old", (ONE, 50.0), verdicts=JUDGED)
    add_session(store, "dead", (ONE, 50.0), day=1, samples=(), error="rack-1: no answer")
    rows = read_csv()
    assert list(rows[0]) == list(NUMBER_COLUMNS)
    assert [row["metric"] for row in rows] == ["decode_tok_s", "prefill_tok_s", "ttft_ms", "itl_ms", "e2e_ms", ""]
    decode, *_, dead = rows
    assert {"unit": "tok/s", "n": "20", "median": "50.0", "outcome": "pass", "change": "0.02"}.items() <= decode.items()
    assert (decode["samples"], decode["blocks"]) == ("20", "2")  # the measurement's, not the verdict's
    assert (dead["error"], dead["median"], dead["outcome"]) == ("rack-1: no answer", "", "")
    assert [METRICS[row["metric"]].unit for row in rows[:-1]] == [row["unit"] for row in rows[:-1]]


def test_samples(store: Store) -> None:
    warm = make_sample(phase="warmup", decode_tok_s=9.0)
    odd = make_sample(decode_tok_s=math.inf, failure="stalled", failure_text='said "no",\nand left')
    add_session(store, "old", (ONE, 50.0), samples=[warm, odd, *make_samples(50.0, blocks=1)])
    rows = read_jsonl("--samples")
    assert [row["phase"] for row in rows[:2]] == ["warmup", "measure"]
    assert rows[1]["decode_tok_s"] is None
    assert (rows[2]["decode_tok_s"], rows[2]["chunk_ms"], rows[2]["block"]) == (50.0, [40.0, 41.5, 43.0], 1)
    assert rows[2]["started_at"].endswith("Z")
    assert {row["run"] for row in rows} == {name_uid("run old rack-1 smoke")}
    in_csv = read_csv("--samples")
    assert list(in_csv[0]) == list(SAMPLE_COLUMNS)
    assert in_csv[1]["failure_text"] == 'said "no",\nand left'
    assert len(in_csv) == len(rows) == 12


def test_samples_of_many_measurements(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_boobench.cli.export_command._SAMPLES_AT_ONCE", 2)
    for day in range(5):
        add_session(store, f"day {day}", (ONE, 50.0), day=day, blocks=1)
    rows = read_jsonl("--samples")
    assert [row["measurement"] for row in rows] == [number for number in range(1, 6) for _ in range(10)]


def test_what_is_chosen(store: Store) -> None:
    other = make_cell(suite="nightly", model="gemma", id="pp64-tg8-c1")
    add_session(store, "old", (ONE, 50.0), (FOUR, 20.0), save_as="main")
    new = add_session(store, "new", (ONE, 50.0), (ELSEWHERE, 9.0), (other, 7.0), day=2)
    commit = read_jsonl("--session", new)[0]["git_commit"]

    def chosen(*args: str) -> list[int]:
        return [row["measurement"] for row in read_jsonl(*args)]

    assert chosen() == [1, 2, 3, 4, 5]
    assert chosen("--host", "rack-2") == [4]
    assert chosen("--host", "rack-2", "--host", "rack-1") == [1, 2, 3, 4, 5]
    assert chosen("--suite", "nightly") == chosen("--model", "gemma") == [5]
    assert chosen("-k", "C4]") == [2]
    assert chosen("--session", new[:8]) == chosen("--commit", commit[:7]) == [3, 4, 5]
    assert chosen("--run", name_uid("run new rack-2 smoke")) == [4]
    assert chosen("--baseline", "main") == [1, 2]
    assert chosen("--last", "1") == [2, 3, 4, 5]
    assert chosen("--since", "2026-11-19") == chosen("--since", "2026-11-19T00:00+00:00") == [3, 4, 5]
    assert chosen("--since", "10000w") == [1, 2, 3, 4, 5]
    assert chosen("--since", "2030-01-01") == []


def test_to_a_file(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_session(store, "old", (ONE, 50.0), (FOUR, 20.0))
    assert main(["export", "-o", "out.jsonl"]) == 0
    assert capsys.readouterr().err == "wrote out.jsonl: 2 rows\n"
    assert len(Path("out.jsonl").read_text().splitlines()) == 2
    assert main(["export", "-o", "no/such/folder.jsonl"]) == 2
    assert "Error: --output: cannot write no/such/folder.jsonl: no such file or directory" in capsys.readouterr().err


def test_who_reads_the_output_may_stop(store: Store) -> None:
    add_session(store, "old", *[(ONE, 50.0)] * 50, blocks=1)
    command = f"{sys.executable} -m pytest_boobench.cli export --samples | head -n 1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], check=False, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (141, b"")
    assert done.stdout.count(b"\n") == 1


def test_the_same_store_gives_the_same_bytes(store: Store) -> None:
    add_session(store, "old", (ONE, 50.0), (FOUR, 20.0))
    for form in ("jsonl", "csv"):
        assert run("--format", form).stdout == run("--format", form).stdout


def test_normalized(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    embedder = make_cell(kind="embedding", output_tokens=None, model="a/b:c", id="pp64-c1")
    embeddings = [make_sample(index=index, embed_tok_s=640.0, e2e_ms=100.0, prompt_tokens=64) for index in range(3)]
    add_session(store, "old", (ONE, 50.0))
    add_session(store, "embed", (embedder, 0.0), day=1, samples=embeddings, total_tok_s=640.0)
    add_session(store, "foreign", (FOUR, 9.0), day=2, traffic=Traffic(concurrent_foreign_requests=1))
    assert main(["export", "--format", "normalized", "-o", "out"]) == 0
    assert capsys.readouterr().err == "wrote 2 files below out; 1 measurement left out: not measured, or spoiled\n"
    chat, embedding = sorted(Path("out").rglob("*.normalized.json"), key=lambda path: path.name)
    assert chat.parts[1:] == (f"smoke-rack-1-qwen-pp64-tg8-c1-{ONE.key[:8]}", "20261118T110640-1.normalized.json")
    assert embedding.parts[1] == f"smoke-rack-1-a-b-c-pp64-c1-{embedder.key[:8]}"
    found = json.loads(chat.read_text())
    assert found["schema_version"] == "1"
    assert found["environment"] == {"gpu": "rack-1", "vllm_version": "b11549", "model": "qwen", "image": None}
    assert found["benchmark_parameters"]["tool"] == "pytest-boobench"
    assert not {"host", "model"} & set(found["benchmark_parameters"])
    metrics = found["metrics"]
    assert (metrics["ttft_ms"]["median"], metrics["tpot_ms"], metrics["requests"]) == (
        *(40.0, {"median": 20.0}),
        {"successful": 20, "failed": 0},
    )
    of_embedding = json.loads(embedding.read_text())["metrics"]
    assert (of_embedding["texts_per_second"], of_embedding["request_throughput"]) == (10.0, 10.0)
    assert (of_embedding["total_token_throughput"], of_embedding["output_token_throughput"]) == (640.0, None)
    assert (of_embedding["ttft_ms"], of_embedding["tpot_ms"]) == ({}, {})


def test_normalized_without_a_rate_for_all_lanes(store: Store) -> None:
    add_session(store, "old", (ONE, 50.0), total_tok_s=None)
    assert main(["export", "--format", "normalized", "-o", "out"]) == 0
    (path,) = Path("out").rglob("*.json")
    metrics = json.loads(path.read_text())["metrics"]
    assert (metrics["request_throughput"], metrics["total_token_throughput"]) == (None, None)


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (
            ["--format", "normalized"],
            "--format normalized: writes a file for each measurement; expected --output FOLDER, no --samples",
        ),
        (["--since", "soon"], "expected a day such as 2026-11-24, or an age such as 12h, 30d or 8w, got 'soon'"),
        (["--last", "0"], "0 is not in the range x>=1"),
    ],
)
def test_wrong_use(store: Store, capsys: pytest.CaptureFixture[str], args: list[str], text: str) -> None:
    assert main(["export", *args]) == 2
    assert text in " ".join(capsys.readouterr().err.split())


def test_hostile_names_stay_in_their_folder(store: Store) -> None:
    hostile = replace(make_cell(model="../../etc/x", id="pp64-tg8-c1"))
    add_session(store, "old", (hostile, 50.0))
    assert main(["export", "--format", "normalized", "-o", "out"]) == 0
    (path,) = Path().rglob("*.normalized.json")
    assert path.parts[0] == "out"
    assert len(path.parts) == 3
