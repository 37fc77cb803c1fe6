"""Room 5: a baseline as a text file: the same text for the same baseline, all of its mistakes at once, gates on it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_boobench import baseline_file
from pytest_boobench.aggregate import condense, summarize
from pytest_boobench.baseline_file import BaselineFile, SavedRun
from pytest_boobench.errors import DocumentError
from pytest_boobench.facts import Canary
from pytest_boobench.record import CellRecord, HostNoise, RunFacts
from pytest_boobench.suite.cell import AXES, NEVER, make_key
from tests.conftest import BenchFolder
from tests.making import make_cell, make_model, make_record, make_sample
from tests.plugin.test_session import scale_baselines

T0 = 1_795_000_000.0


def make_saved(uid: str = "a1", at: float = T0, **changed: Any) -> SavedRun:
    cell = changed.pop("cell", make_cell(sampling={"temperature": 0.0, "seed": 42}))
    samples = [
        make_sample(phase="warmup", decode_tok_s=1.0),
        *(
            make_sample(
                index=index,
                started_at=at,
                clock="kernel",
                decode_tok_s=41.23456 + index,
                prefill_tok_s=123456.7,
                ttft_ms=20.12345,
                prompt_ms=15.5,
                ttfo_ms=21.0 if index else None,
                chunk_ms=(20.0, 40.5, 61.0),
                output_tokens=3,
            )
            for index in range(3)
        ),
        make_sample(index=3, failure="status", failure_text="500"),
    ]
    run = RunFacts(
        uid=uid, session=f"s-{uid}", suite=cell.suite, host=cell.host, started_at=T0 - 1, machine="desk", cpu="Z80",
        git_commit="0c0ffee", git_dirty=True, workers=2, plugin_version="0.1.0", user="ann", ci={"job": "secret"},
    )  # fmt: skip
    record = make_record(cell, **{"samples": samples, "started_at": at, "total_tok_s": 77.123456, **changed})
    return SavedRun(run=run, record=record, saved_at=at + 60, reason='"first": one')


WHOLE = """\
# A baseline of pytest-boobench. `boobench baseline export` writes it, and so does pytest with --boobench-baseline-file
# and --boobench-save-baseline; a gate on it needs no database. Numbers stand in the order of the requests.
boobench_baseline: 1
name: main
runs:
  a1:
    session: s-a1
    started_at: 2026-11-18T11:06:39Z
    machine: desk
    cpu: Z80
    workers: 2
    git_commit: "0c0ffee"
    git_dirty: true
    plugin_version: "0.1.0"
cells:
- suite: smoke
  host: rack-1
  model: qwen
  kind: chat
  prompt_tokens: 64
  output_tokens: 8
  concurrency: 1
  sampling: {temperature: 0.0, seed: 42}
  request: {}
  cache: cold
  node_id: "chat.boobench.yaml::rack-1::qwen[pp64-tg8-c1]"
  measured:
  - run: a1
    measured_at: 2026-11-18T11:06:40Z
    saved_at: 2026-11-18T11:07:40Z
    reason: "\\"first\\": one"
    engine_build: b11549
    model: {name: qwen, n_params: 8000000, size_bytes: 16000000, quantisation: Q8_0}
    clock: kernel
    canary: {copy_mb_s: 9123.5, hash_mb_s: 400}
    total_tok_s: 77.123
    metrics:
      decode_tok_s: [41.235, 42.235, 43.235]
      prefill_tok_s: [1.2346e+05, 1.2346e+05, 1.2346e+05]
      ttft_ms: [20.123, 20.123, 20.123]
      ttfo_ms: [null, 21, 21]
      queue_ms: {n: 3, mean: 4.623, median: 4.623, stdev: 0, min: 4.623, max: 4.623, p10: 4.623, p25: 4.623, \
p50: 4.623, p75: 4.623, p90: 4.623, p95: 4.623, p99: 4.623}
      prompt_ms: [15.5, 15.5, 15.5]
      itl_ms: {n: 6, mean: 20.5, median: 20.5, stdev: 0, min: 20.5, max: 20.5, p10: 20.5, p25: 20.5, p50: 20.5, \
p75: 20.5, p90: 20.5, p95: 20.5, p99: 20.5}
"""
CANARY = (Canary(copy_mb_s=9123.456, hash_mb_s=400.0),)


def read(path: Path, text: str) -> BaselineFile:
    path.write_text(text, encoding="utf-8")
    return baseline_file.read(path, "baseline.yaml")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "baseline.yaml"


# --- there and back


def test_the_text(path: Path) -> None:
    saved = make_saved(canaries=CANARY)
    baseline_file.write(path, BaselineFile(name="main", runs=(saved,)))
    assert path.read_text() == WHOLE
    assert [file.name for file in path.parent.iterdir()] == ["baseline.yaml"]
    assert yaml.safe_load(WHOLE)["cells"][0]["measured"][0]["metrics"]["ttfo_ms"] == [None, 21, 21]


def test_what_the_model_said_comes_back(path: Path) -> None:
    saved = make_saved(text_digest="0f3a5b7c9d1e2f40")
    baseline_file.write(path, BaselineFile(name="main", runs=(saved,)))
    found = read(path, path.read_text())
    assert found.runs[0].record.text_digest == "0f3a5b7c9d1e2f40"
    assert [run.text_digest for run in found.baselines()[saved.record.cell_key].runs] == ["0f3a5b7c9d1e2f40"]


def test_the_noise_of_hosts_comes_back(path: Path) -> None:
    saved = make_saved()
    noise = {"rack-1": HostNoise(sessions=7, by_metric={"ttft_ms": 0.052, "decode_tok_s": 0.021})}
    baseline_file.write(path, BaselineFile(name="main", runs=(saved,), host_noise=noise))
    assert (
        "host_noise:\n  rack-1: {sessions: 7, by_metric: {decode_tok_s: 0.021, ttft_ms: 0.052}}\n" in path.read_text()
    )
    found = read(path, path.read_text())
    assert found.host_noise == noise
    assert found.baselines()[saved.record.cell_key].host_noise == noise["rack-1"]
    with pytest.raises(DocumentError, match=r"host_noise.rack-1.by_metric.ttft_ms: expected a number"):
        read(path, path.read_text().replace("ttft_ms: 0.052", "ttft_ms: wide"))


def test_all_that_the_gate_uses_comes_back(path: Path) -> None:
    saved = make_saved(canaries=CANARY)
    found = read(path, WHOLE)
    (one,) = found.runs
    record = saved.record
    assert (found.name, one.saved_at, one.reason) == ("main", saved.saved_at, saved.reason)
    assert one.run == replace(saved.run, user=None, ci={})
    assert (one.record.cell_key, one.record.identity, one.record.node_id) == (
        record.cell_key,
        record.identity,
        record.node_id,
    )
    assert (one.record.started_at, one.record.model, one.record.clock) == (T0, make_model(), "kernel")
    assert one.record.canary == Canary(copy_mb_s=9123.5, hash_mb_s=400.0)
    assert one.record.aggregates.keys() == record.aggregates.keys()
    for metric, aggregate in record.aggregates.items():
        for field in ("median", "p10", "p25", "p75", "p90"):
            assert getattr(one.record.aggregates[metric], field) == pytest.approx(getattr(aggregate, field), rel=1e-4)
        assert one.record.aggregates[metric].n == aggregate.n
    (baseline,) = found.baselines().values()
    (run,) = baseline.runs
    assert (run.session, run.engine_build, run.git_commit, run.client.cpu, run.client.workers) == (
        "s-a1",
        "b11549",
        "0c0ffee",
        "Z80",
        2,
    )
    assert (baseline.name, baseline.suite, baseline.cell_key, baseline.later) == ("main", "smoke", record.cell_key, ())


def test_what_is_not_known_is_left_out_and_stays_blank(path: Path) -> None:
    bare = SavedRun(
        run=RunFacts(uid="a", session="s", suite="smoke", host="rack-1", started_at=T0),
        record=make_record(server=None, model=None, aggregates={"decode_tok_s": condense([1.0])}, started_at=T0),
        saved_at=T0,
    )
    text = baseline_file.render(BaselineFile(name="main", runs=(bare,)))
    assert "engine_build" not in text
    (one,) = read(path, text).runs
    assert one.record.samples == ()
    assert one.record.aggregates == bare.record.aggregates
    assert (one.record.server, one.record.model, one.record.canary, one.record.clock) == (None, None, None, None)
    assert one.run == bare.run
    assert one.reason == ""


EMBEDDING = make_cell(kind="embedding", output_tokens=None, id="pp64-c1")
FOUR = make_cell(concurrency=4, id="pp64-tg8-c4")
SEVERAL = [
    make_saved("b2", T0 + 50),
    make_saved("a1"),
    make_saved("b2", T0 + 51, cell=FOUR),
    make_saved("a1", T0 + 1, cell=make_cell(host="rack-0")),
    make_saved("0c", T0 + 60, cell=EMBEDDING, samples=[make_sample(embed_tok_s=5.0, clock="user")]),
    make_saved("0c", T0 + 61, cell=make_cell(prompt_tokens=512)),
]


@pytest.mark.parametrize("runs", list(itertools.permutations(SEVERAL))[::97])
def test_the_same_measurements_give_the_same_text(path: Path, runs: tuple[SavedRun, ...]) -> None:
    text = baseline_file.render(BaselineFile(name="main", runs=runs))
    assert text == baseline_file.render(BaselineFile(name="main", runs=tuple(SEVERAL)))
    assert baseline_file.render(read(path, text)) == text


def test_one_more_run_changes_few_lines() -> None:
    def lines(*runs: SavedRun) -> list[str]:
        return baseline_file.render(BaselineFile(name="main", runs=runs)).splitlines()

    before, after = (
        lines(make_saved("a1"), make_saved("a1", T0 + 1, cell=FOUR)),
        lines(make_saved("a1"), make_saved("a1", T0 + 1, cell=FOUR), make_saved("b2", T0 + 60)),
    )
    added = [line for line in after if line not in before]
    assert [line for line in before if line not in after] == []
    assert len(after) - len(before) < 30
    assert all("b2" in line or "T11:0" in line for line in added), added


TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
HARD = [
    "no",
    "1e3",
    "12:30",
    "~",
    "null",
    "a: b",
    "# x",
    "- a",
    '"',
    "'",
    "\\",
    "é\u2028\x85\x7f",
    "🦙",
    "\0\r\n\t",
    " a ",
]


@settings(deadline=None, max_examples=50)
@given(TEXTS | st.sampled_from(HARD), st.dictionaries(TEXTS, TEXTS | st.booleans() | st.none() | st.lists(TEXTS)))
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, text: str, request: dict[str, Any]) -> None:
    cell = make_cell(model=text, request=request)
    saved = replace(make_saved(cell=cell), reason=text)
    path = tmp_path_factory.getbasetemp() / "any-text.yaml"
    (found,) = read(path, baseline_file.render(BaselineFile(name=text, runs=(saved,)))).runs
    assert (found.record.identity, found.record.cell_key, found.reason) == (cell.identity, cell.key, text)


def test_numbers_keep_their_kind_since_the_cell_s_key_hangs_on_it(path: Path) -> None:
    cell = make_cell(sampling={"temperature": 1.0, "top_p": 1, "min_p": 1e-05, "seed": 2**32 - 1})
    (found,) = read(path, baseline_file.render(BaselineFile(name="main", runs=(make_saved(cell=cell),)))).runs
    assert found.record.cell_key == cell.key == make_key(cell.identity)


def test_an_empty_baseline(path: Path) -> None:
    assert read(path, baseline_file.render(BaselineFile(name="main"))) == BaselineFile(name="main")


# --- what is put into it


@pytest.mark.parametrize(
    ("add", "uids"),
    [(False, ["a1/4", "new/1", "new/512"]), (True, ["a1/1", "a1/4", "new/1", "new/512"])],
)
def test_new_measurements_replace_those_of_their_cells_or_stand_beside_them(add: bool, uids: list[str]) -> None:
    file = BaselineFile(name="main", runs=(make_saved("a1"), make_saved("a1", cell=FOUR)))
    new = [make_saved("new"), make_saved("new", cell=make_cell(prompt_tokens=512, concurrency=512))]
    found = file.with_runs(new, add=add).with_runs(new, add=add)
    assert sorted(f"{one.run.uid}/{one.record.identity['concurrency']}" for one in found.runs) == uids


# --- mistakes


@pytest.mark.parametrize(
    ("old", "new", "messages"),
    [
        ("boobench_baseline: 1", "boobench_baseline: 2",
         ["3: its format 2 is newer than the 1 of this pytest-boobench; upgrade it"]),
        ("boobench_baseline: 1\n", "", ["3: boobench_baseline: is missing; expected a whole number from 1"]),
        ("name: main", "name: main\nnmae: x", ["5: nmae: unknown key; did you mean 'name'?"]),
        ("  - run: a1", "  - run: b2", ["28: cells[0].measured[0].run: no such run under runs: 'b2'"]),
        ("saved_at: 2026-11-18T11:07:40Z", "saved_at: yesterday",
         ["30: cells[0].measured[0].saved_at: expected a time such as 2026-11-24T09:30:00Z, got 'yesterday'"]),
        ("saved_at: 2026-11-18T11:07:40Z", "saved_at: 2026-11-18T11:07:40",
         ["30: cells[0].measured[0].saved_at: expected a time such as 2026-11-24T09:30:00Z, "
          "got '2026-11-18T11:07:40'"]),
        ("[null, 21, 21]", "[21, 21]",
         ["41: cells[0].measured[0].metrics.ttfo_ms: 2 numbers, but decode_tok_s has 3; "
          "expected one for each request, or null"]),
        ("[null, 21, 21]", "[x, 21, .nan]",
         ["41: cells[0].measured[0].metrics.ttfo_ms[0]: expected a number, got 'x'",
          "41: cells[0].measured[0].metrics.ttfo_ms[2]: expected a number, got .nan"]),
        ("[null, 21, 21]", "21",
         ["41: cells[0].measured[0].metrics.ttfo_ms: expected a list of numbers, or a summary of them, got 21"]),
        ("{n: 6, mean: 20.5, ", "{", ["44: cells[0].measured[0].metrics.itl_ms: lacks mean, n"]),
        ("{n: 6, mean: 20.5, ", "{n: 0, mean: true, ",
         ["44: cells[0].measured[0].metrics.itl_ms.mean: expected a number, got true",
          "44: cells[0].measured[0].metrics.itl_ms.n: expected a whole number from 1, got 0"]),
        ("prompt_ms: [15.5, 15.5, 15.5]", "queue: []",
         ["43: cells[0].measured[0].metrics.queue: unknown key; did you mean 'queue_ms'?"]),
        ("{copy_mb_s: 9123.5, hash_mb_s: 400}", "{copy_mb_s: 9123.5}",
         ["35: cells[0].measured[0].canary: expected copy_mb_s and hash_mb_s"]),
        ("sampling: {temperature: 0.0, seed: 42}", "sampling: none",
         ["23: cells[0].sampling: expected a mapping of a request's fields, got 'none'"]),
        ("cells:\n", "cells: {}\nmore:\n",
         ["15: cells: expected a list, each of it a mapping with suite, host, model, kind, concurrency, "
          "cache, node_id, measured, got an empty mapping",
          "16: more: unknown key; known are boobench_baseline, name, runs, host_noise, cells"]),
        (WHOLE, "", ["1: the file is empty"]),
    ],
)  # fmt: skip
def test_mistakes_name_line_and_field(path: Path, old: str, new: str, messages: list[str]) -> None:
    assert old in WHOLE
    with pytest.raises(DocumentError) as caught:
        read(path, WHOLE.replace(old, new))
    assert str(caught.value).splitlines() == [f"baseline.yaml:{message}" for message in messages]


def skip_deeper(lines: list[str], than: str) -> Iterator[str]:
    def indent(line: str) -> int:
        return len(line) - len(line.lstrip("- "))

    return itertools.dropwhile(lambda line: indent(line) > indent(than), lines)


@pytest.mark.parametrize("value", ["3", "~", "[]", "[x, {}]", "{}", "{a: [1]}", "'\\ud800'", ".nan"])
def test_no_file_makes_a_traceback(path: Path, value: str) -> None:
    """Whatever stands in the place of a value, the file is read or told to be wrong in that line."""
    lines = WHOLE.splitlines()
    refused = 0
    for place, line in enumerate(lines):
        key, colon, _ = line.partition(":")
        if colon and not line.startswith("#"):
            try:
                read(path, "\n".join((*lines[:place], f"{key}: {value}", *skip_deeper(lines[place + 1 :], line))))
            except DocumentError as error:
                refused += 1
                assert all(said.startswith("baseline.yaml:") for said in str(error).splitlines())
    assert refused > 20


def test_a_cell_stands_once(path: Path) -> None:
    cell = WHOLE[WHOLE.index("- suite") :]
    with pytest.raises(DocumentError) as caught:
        read(path, WHOLE + cell)
    assert str(caught.value) == (
        "baseline.yaml:45: cells[1]: the same cell as on line 16; put its measurements together"
    )


def test_a_summary_may_stand_for_any_metric_but_a_list_not(path: Path) -> None:
    text = WHOLE.replace("itl_ms: {n: 6", "itl_ms: [1]\n      e2e_ms: {n: 6")
    with pytest.raises(DocumentError) as caught:
        read(path, text)
    assert str(caught.value) == (
        "baseline.yaml:44: cells[0].measured[0].metrics.itl_ms: expected a summary of its numbers, got a list"
    )


def test_the_schema_knows_every_field() -> None:
    schema = baseline_file.schema()
    cell = schema["properties"]["cells"]["items"]
    measured = cell["properties"]["measured"]["items"]
    whole = yaml.safe_load(WHOLE)
    assert {*whole, "host_noise"} == schema["properties"].keys()
    late = {one.name for one in AXES if one.axis.absent is not NEVER}
    assert {*whole["cells"][0], *late} == cell["properties"].keys()
    assert {
        *whole["cells"][0]["measured"][0],
        "text_digest",
        "command",
        "driver",
        "hardware",
        "logprobs",
        "reference_rates",
    } == measured["properties"].keys()
    assert {"decode_tok_s", "itl_ms"} <= measured["properties"]["metrics"]["properties"].keys()
    assert measured["properties"]["metrics"]["properties"]["itl_ms"]["required"][:2] == ["max", "mean"]
    assert cell["properties"]["sampling"]["type"] == "object"
    assert [form.get("type") for form in measured["properties"]["metrics"]["properties"]["ttft_ms"]["anyOf"]] == [
        "array",
        "object",
    ]


# --- sessions on it


def run_with_file(bench: BenchFolder, *args: str) -> pytest.RunResult:
    """A session on a machine that forgot its store."""
    for left in (bench.path / ".boobench").glob("store.db*"):
        left.unlink()
    return bench.run("--boobench-baseline-file", "bench/baseline.yaml", *args)


def test_a_gate_with_no_database_kept_anywhere(bench: BenchFolder) -> None:
    bench.write_suite(samples=6, grid={"prompt_tokens": [16], "output_tokens": [64]})
    (bench.path / "bench").mkdir()
    file = bench.path / "bench" / "baseline.yaml"
    result = run_with_file(bench)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "--boobench-baseline-file: there is no bench/baseline.yaml; make it with --boobench-save-baseline or " in (
        "\n".join(result.errlines + result.outlines)
    )

    run_with_file(bench, "--boobench-save-baseline").assert_outcomes(passed=1)
    first = baseline_file.read(file, "")
    assert [saved.record.suite for saved in first.runs] == ["smoke"]
    run_with_file(bench).stdout.re_match_lines([r".*(pass|improvement|regression|inconclusive).*"])
    assert baseline_file.read(file, "") == first, "only a session that saves writes it"

    run_with_file(bench, "--boobench-save-baseline=add", "--boobench-max-drop", "99%").assert_outcomes(passed=1)
    assert len(baseline_file.read(file, "").runs) == 2

    fast = [replace(saved, record=speed_up(saved.record)) for saved in first.runs]
    noise = {first.runs[0].record.host: HostNoise(sessions=9, by_metric={"decode_tok_s": 2.0})}
    baseline_file.write(file, BaselineFile(name="main", runs=tuple(fast), host_noise=noise))
    result = run_with_file(bench, "-v")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*of this host, from 9 sessions*"])
    baseline_file.write(file, BaselineFile(name="main", runs=tuple(fast)))
    result = run_with_file(bench, "--boobench-policy", "literal")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*below baseline main*"])


def speed_up(record: CellRecord) -> CellRecord:
    samples = tuple(
        replace(sample, decode_tok_s=sample.decode_tok_s * 20) for sample in record.samples if sample.decode_tok_s
    )
    return replace(record, samples=samples, aggregates=summarize(samples, "chat"))


def test_the_store_has_the_baseline_too(bench: BenchFolder) -> None:
    bench.write_suite()
    (bench.path / "bench").mkdir()
    run_with_file(bench, "--boobench-save-baseline").assert_outcomes(passed=2)
    scale_baselines(bench, 200.0)
    bench.run("--boobench-policy", "literal").assert_outcomes(failed=2)


@pytest.mark.parametrize("place", ["ini", "environment"])
def test_the_file_may_be_named_for_good(bench: BenchFolder, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.write_suite()
    if place == "ini":
        bench.pytester.makeini("[pytest]\nboobench_baseline_file = lasting.yaml\n")
    else:
        monkeypatch.setenv("BOOBENCH_BASELINE_FILE", "lasting.yaml")
    bench.run("--boobench-save-baseline").assert_outcomes(passed=2)
    assert len(baseline_file.read(bench.path / "lasting.yaml", "").runs) == 2


def test_a_file_of_another_name_or_with_mistakes_ends_the_session_before_it_begins(bench: BenchFolder) -> None:
    bench.write_suite()
    file = bench.path / "baseline.yaml"
    baseline_file.write(file, BaselineFile(name="release"))
    result = bench.run("--boobench-baseline-file", "baseline.yaml")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "baseline.yaml: holds the baseline release, not main; ask for it with --boobench-baseline release" in (
        "\n".join(result.errlines + result.outlines)
    )
    file.write_text("name: 1\n")
    result = bench.run("--boobench-baseline-file", "baseline.yaml")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert 'baseline.yaml:1: name: expected text, got 1; write "1" in quotes' in (
        "\n".join(result.errlines + result.outlines)
    )


def test_a_file_that_cannot_be_written_is_no_green_session(bench: BenchFolder) -> None:
    bench.write_suite()
    result = bench.run("--boobench-baseline-file", "gone/baseline.yaml", "--boobench-save-baseline")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["cannot write gone/baseline.yaml: No such file or directory; its new baselines are in the store only"]
    )


def test_workers_are_given_what_the_file_has(bench: BenchFolder) -> None:
    bench.write_suite(hosts=["llama"])
    bench.run("--boobench-baseline-file", "b.yaml", "--boobench-save-baseline").assert_outcomes(passed=2)
    found = baseline_file.read(bench.path / "b.yaml", "")
    fast = tuple(replace(saved, record=speed_up(saved.record)) for saved in found.runs)
    baseline_file.write(bench.path / "b.yaml", replace(found, runs=fast))
    result = bench.run_workers("--boobench-baseline-file", "b.yaml", "--boobench-policy", "literal", "-n", "1")
    result.assert_outcomes(failed=2)
