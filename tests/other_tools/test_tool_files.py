"""Files that the other tools made: what comes in, by hand; and everything that can be wrong with one."""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as some

from pytest_boobench.cli import OUR_BUG, boobench, main
from pytest_boobench.record import Measurement
from pytest_boobench.store import Selection, Store
from tests.other_tools.test_vllm_bench import DETAILED

FILES = Path(__file__).parent / "files"
NAMES = sorted(path.name for path in FILES.glob("*.json*"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BOOBENCH_STORE", "store.db")
    return tmp_path


def run(*args: str | Path) -> Result:
    result = CliRunner().invoke(boobench, ["import", *map(str, args)], standalone_mode=False)
    assert result.exception is None or not isinstance(result.exception, AssertionError)
    return result


def bring(*names: str) -> list[Measurement]:
    """Import these files into the folder's store; gives back all that it has."""
    for name in names:
        shutil.copy(FILES / name, name)
    result = run(*names)
    assert result.exception is None, result.exception
    with Store.open("store.db") as store:
        return store.measurements(Selection())


def cells(found: list[Measurement]) -> dict[str, Measurement]:
    """The bracketed part of the node id -> the measurement."""
    return {one.node_id.partition("[")[2].removesuffix("]"): one for one in found}


def load(name: str) -> Any:
    return json.loads((FILES / name).read_text(encoding="utf-8"))


# --- what comes in


def test_llama_bench(folder: Path) -> None:
    found = cells(bring("llama-bench.json"))
    assert list(found) == [
        "pp32-c1-t1",
        "tg8-c1-t1",
        "pp32-tg8-c1-t1",
        "pp32-c1-d64-t1",
        "tg8-c1-d64-t1",
        "pp32-tg8-c1-d64-t1",
    ]
    for one, own in zip(found.values(), load("llama-bench.json"), strict=True):
        key = "e2e_ms" if own["n_prompt"] and own["n_gen"] else "prefill_tok_s" if own["n_prompt"] else "decode_tok_s"
        times = own["samples_ns"]
        values = [time / 1e6 for time in times] if key == "e2e_ms" else own["samples_ts"]
        assert one.aggregates[key].median == pytest.approx(statistics.median(values), rel=1e-4)
        assert one.aggregates[key].n == one.samples == 5
        assert one.engine_build == "b11434", "its commit is unknown"
        assert one.model is not None
        assert (one.model.size_bytes, one.model.n_params) == (848384, 1297664)
        assert (one.identity["kind"], one.identity["cache"]) == ("completion", "cold")
    one = found["tg8-c1-d64-t1"]
    assert one.identity["launch"] == {"n_depth": "64", "n_threads": "1"}
    assert (one.identity["prompt_tokens"], one.identity["output_tokens"]) == (1, 8)
    assert (one.run.cpu, one.run.metadata) == ("AMD EPYC", {"backends": "CPU"})


def test_two_real_files_end_with_exit_code_1(folder: Path) -> None:
    """The second run was braked to a quarter of its time."""
    for name in ("llama-bench-before.jsonl", "llama-bench-after.jsonl"):
        shutil.copy(FILES / name, name)
    assert main(["import", "--baseline", "before", "llama-bench-before.jsonl"]) == 0
    assert main(["import", "llama-bench-after.jsonl"]) == 0
    assert main(["compare", "before", "--fail"]) == 1


def test_llama_benchy(folder: Path) -> None:
    found = cells(bring("llama-benchy.json"))
    assert list(found) == ["pp256-tg32-c1", "pp256-tg32-c2", "pp256-tg32-c1-d128", "pp256-tg32-c2-d128"]
    wrote = load("llama-benchy.json")["benchmarks"]
    for one, own in zip(found.values(), wrote, strict=True):
        for theirs, ours in (
            ("tg_req_throughput", "decode_tok_s"),
            ("pp_req_throughput", "prefill_tok_s"),
            ("e2e_ttft", "ttft_ms"),
        ):
            aggregate, values = one.aggregates[ours], own[theirs]["values"]
            assert aggregate.n == len(values)
            assert aggregate.median == pytest.approx(statistics.median(values))
            assert aggregate.mean == pytest.approx(own[theirs]["mean"])
    one = found["pp256-tg32-c2-d128"]
    assert one.node_id == "llama-benchy::imported::tiny-chat[pp256-tg32-c2-d128]"
    assert one.run.imported_from == "llama-benchy"
    assert one.run.metadata == {"latency_mode": "none", "latency_ms": 0.0, "tool_version": "0.4.0"}
    assert one.identity["launch"] == {"context_size": "128"}
    assert (one.identity["cache"], one.identity["length"], one.identity["kind"]) == ("warm", "natural", "chat")
    assert one.samples == 10
    with Store.open("store.db") as store:
        lanes = [sample.lane for sample in store.samples([one.id])[one.id]]
    assert lanes == [0, 1] * 5


def test_a_list_without_some_requests_counts_by_itself(folder: Path) -> None:
    report = load("llama-benchy.json")
    del report["benchmarks"][1:]
    values = report["benchmarks"][0]["tg_req_throughput"]["values"] = [40.0, 41.0]
    Path("short.json").write_text(json.dumps(report), encoding="utf-8")
    result = run("short.json")
    assert result.return_value == 0
    assert "tg_req_throughput has values of 2 of 5 requests: llama-benchy drops the others" in result.output
    with Store.open("store.db") as store:
        (one,) = store.measurements(Selection())
        samples = store.samples([one.id])[one.id]
    assert one.aggregates["decode_tok_s"].median == statistics.median(values)
    assert [sample.decode_tok_s for sample in samples] == [None] * 5


def read_requests(name: str) -> list[Mapping[str, Any]]:
    return [json.loads(line) for line in (FILES / name).read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("first", ["aiperf-c2.jsonl", "aiperf-c2_aiperf.json"])
def test_aiperf_with_its_requests(folder: Path, first: str) -> None:
    """Either file finds the other one."""
    for name in ("aiperf-c2.jsonl", "aiperf-c2_aiperf.json"):
        shutil.copy(FILES / name, name)
    assert run(first).return_value == 0
    with Store.open("store.db") as store:
        (one,) = store.measurements(Selection())
        samples = store.samples([one.id])[one.id]
    records = read_requests("aiperf-c2.jsonl")
    good = [
        each["metrics"] for each in records if each["metadata"]["benchmark_phase"] == "profiling" and each["metrics"]
    ]
    failed = [each for each in records if each.get("error")]
    assert one.node_id == "aiperf::imported::tiny-chat[pp128-tg16-c2]"
    assert "length" not in one.identity, "exact"
    assert one.run.metadata["tool_version"] == "0.13.0"
    assert (one.samples, one.failed) == (len(good) + len(failed), len(failed))
    assert sum(sample.phase == "warmup" for sample in samples) == 2
    assert {sample.failure for sample in samples if not sample.ok} <= {"reported"}
    assert one.started_at == pytest.approx(
        min(each["metadata"]["request_start_ns"] for each in records) / 1e9, abs=1e-3
    )
    for theirs, ours in (("time_to_first_token", "ttft_ms"), ("request_latency", "e2e_ms")):
        values = [each[theirs]["value"] for each in good]
        assert one.aggregates[ours].median == pytest.approx(statistics.median(values))
    rates = [15 / (each["request_latency"]["value"] - each["time_to_first_token"]["value"]) * 1000 for each in good]
    assert one.aggregates["decode_tok_s"].median == pytest.approx(statistics.median(rates))
    prefill = [128 / each["time_to_first_token"]["value"] * 1000 for each in good]
    assert one.aggregates["prefill_tok_s"].median == pytest.approx(statistics.median(prefill))
    assert {sample.lane for sample in samples} == {0, 1}
    assert one.aggregates["lanes_tok_s"].n == len(good)
    assert run("aiperf-c2.jsonl").output.startswith("aiperf-c2.jsonl: nothing new: ")


def test_aiperf_without_its_requests(folder: Path) -> None:
    found = cells(bring("aiperf-summary_aiperf.json"))["pp128-tg16-c1"]
    wrote = load("aiperf-summary_aiperf.json")
    assert (found.samples, found.failed) == (0, 0)
    for theirs, ours in (
        ("time_to_first_token", "ttft_ms"),
        ("request_latency", "e2e_ms"),
        ("output_token_throughput_per_user", "decode_tok_s"),
        ("prefill_throughput_per_user", "prefill_tok_s"),
        ("inter_chunk_latency", "itl_ms"),
    ):
        own, aggregate = wrote[theirs], found.aggregates[ours]
        assert (aggregate.n, aggregate.median, aggregate.p10) == (own["count"], own["p50"], own["p10"])
        assert aggregate.stdev == pytest.approx(own["std"] * (own["count"] / (own["count"] - 1)) ** 0.5)
    assert found.total_tok_s == wrote["output_token_throughput"]["avg"]


def test_aiperf_requests_alone_have_no_model(folder: Path) -> None:
    shutil.copy(FILES / "aiperf-c2.jsonl", "alone.jsonl")
    result = run("alone.jsonl")
    assert str(result.exception) == (
        "alone.jsonl:1: holds nothing that can be imported\n"
        "alone.jsonl: does not say which model was measured, expected its name; --model says it"
    )
    assert run("--model", "tiny", "alone.jsonl").return_value == 0
    with Store.open("store.db") as store:
        (one,) = store.measurements(Selection())
    assert one.node_id == "aiperf::imported::tiny[pp128-tg16-c2]"


def test_guidellm(folder: Path) -> None:
    found = cells(bring("guidellm.json"))
    assert list(found) == ["pp64-tg16-c1", "pp64-tg16-c2"]
    for one, own in zip(found.values(), load("guidellm.json")["benchmarks"], strict=True):
        requests = own["requests"]["successful"]
        assert one.samples == len(requests) == 6
        assert one.started_at == pytest.approx(own["start_time"])
        ttft = own["metrics"]["time_to_first_token_ms"]["successful"]
        assert one.aggregates["ttft_ms"].median == pytest.approx(
            statistics.median(each["time_to_first_token_ms"] for each in requests)
        )
        assert one.aggregates["ttft_ms"].mean == pytest.approx(ttft["mean"])
        latency = own["metrics"]["request_latency"]["successful"]
        assert one.aggregates["e2e_ms"].mean == pytest.approx(latency["mean"] * 1000)
        rates = [1000 / each["inter_token_latency_ms"] for each in requests]
        assert one.aggregates["decode_tok_s"].median == pytest.approx(statistics.median(rates))
        prefill = [
            (each["prompt_tokens"] - each["cached_tokens"]) / each["time_to_first_token_ms"] * 1000 for each in requests
        ]
        assert one.aggregates["prefill_tok_s"].median == pytest.approx(statistics.median(prefill))
        assert one.total_tok_s == own["metrics"]["output_tokens_per_second"]["successful"]["mean"]
    assert one.run.metadata == {"tool_version": "0.8.1", "url": "http://127.0.0.1:8080"}


def test_guidellm_at_a_rate(folder: Path) -> None:
    (one,) = bring("guidellm-rate.json")
    assert one.node_id == "guidellm::imported::tiny-chat[pp64-tg16-c10240-constant-rate2.0]"
    assert one.samples == 6


def test_guidellm_without_its_requests_at_a_rate(folder: Path) -> None:
    """Its strategy is part of what a cell is."""
    report = load("guidellm.json")
    del report["benchmarks"][1:]
    (own,) = report["benchmarks"]
    own["requests"] = {"successful": [], "errored": [], "incomplete": []}
    own["config"]["strategy"] = {"type_": "constant", "rate": 2.0, "max_concurrency": 8}
    Path("rate.json").write_text(json.dumps(report), encoding="utf-8")
    assert run("rate.json").return_value == 0
    with Store.open("store.db") as store:
        (one,) = store.measurements(Selection())
    assert one.node_id == "guidellm::imported::tiny-chat[pp64-tg16-c8-constant-rate2.0]"
    assert one.identity["launch"] == {"strategy": "constant", "rate": "2.0"}
    ttft = own["metrics"]["time_to_first_token_ms"]["successful"]
    assert (one.aggregates["ttft_ms"].p90, one.aggregates["ttft_ms"].n) == (ttft["percentiles"]["p90"], ttft["count"])


# --- what is wrong


LLAMA_BENCH: dict[str, Any] = {
    "build_commit": "0a1b2c3",
    "build_number": 9000,
    "cpu_info": "Some CPU",
    "gpu_info": "",
    "backends": "CPU",
    "model_filename": "/models/qwen3-8b-q4_k_m.gguf",
    "model_type": "qwen3 8B Q4_K - Medium",
    "model_size": 5_000_000_000,
    "model_n_params": 8_000_000_000,
    "n_batch": 2048,
    "n_ubatch": 512,
    "n_threads": 8,
    "type_k": "f16",
    "type_v": "f16",
    "n_gpu_layers": 99,
    "n_prompt": 512,
    "n_gen": 0,
    "n_depth": 0,
    "test_time": "2026-11-24T09:30:00Z",
    "avg_ns": 500_000_000,
    "samples_ns": [500_000_000, 510_000_000, 490_000_000, 505_000_000, 495_000_000],
}


def make_bench(*changes: Mapping[str, Any]) -> str:
    return json.dumps([{**LLAMA_BENCH, **change} for change in changes])


WANTED = "expected a result file of llama-bench, llama-benchy, guidellm, aiperf or vllm bench serve"
REFUSED = {
    "empty": ("", f"bad:1: is empty, {WANTED}"),
    "blank": (" \n ", f"bad:1: is empty, {WANTED}"),
    "cut": ('[\n {"n_prompt": 1,', f"bad:2: the file ends in the middle of its JSON: it was cut off; {WANTED}"),
    "text": ("| model | t/s |", f"bad:1: is not JSON from | model | t/s | on, {WANTED}"),
    "other": ('{"a": 1}', f"bad:1: is JSON of none of the tools, {WANTED}"),
    "number": ("5", f"bad:1: is JSON of none of the tools, {WANTED}"),
    "deep": ("[" * 100 + "]" * 100, f"bad:1: is nested more than 64 levels deep, {WANTED}"),
    "no tests": (
        make_bench({"n_prompt": 0}),
        "bad:1: holds nothing that can be imported\n"
        "bad: [0].n_prompt and n_gen are both 0 or missing, expected a test of prompt, generation or both",
    ),
    "no times": (
        make_bench({"samples_ns": []}),
        "bad:1: holds nothing that can be imported\n"
        "bad: [0].samples_ns is missing or empty, expected the nanoseconds of each repetition",
    ),
    "wrong type": (
        make_bench({"samples_ns": 5}),
        "bad:1: holds nothing that can be imported\n"
        "bad: [0].samples_ns is 5, expected a list\n"
        "bad: [0].samples_ns is missing or empty, expected the nanoseconds of each repetition",
    ),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED)
def test_files_of_which_nothing_comes_in(folder: Path, text: str, message: str) -> None:
    Path("bad").write_text(text, encoding="utf-8")
    assert str(run("bad").exception) == message
    assert main(["import", "bad"]) == 2
    assert not Path("store.db").exists()


LEFT_OUT = {
    "nan": ({"samples_ns": [float("nan"), 5e8]}, "[0].samples_ns[0] is nan, expected a number above 0"),
    "negative": ({"samples_ns": [-1, 5e8]}, "[0].samples_ns[0] is -1.0, expected a number above 0"),
    "zero": ({"samples_ns": [0, 5e8]}, "[0].samples_ns[0] is 0.0, expected a number above 0"),
    "null": ({"samples_ns": [None, 5e8]}, "[0].samples_ns[0] is null, expected a number above 0"),
    "text": ({"samples_ns": ["fast", 5e8]}, "[0].samples_ns[0] is fast, expected a number above 0"),
    "huge": ({"samples_ns": [1e300, 5e8]}, "[0].samples_ns[0] is 1e+300, expected a number above 0 to 1e+15"),
    "time": ({"test_time": "noon"}, "[0].test_time is noon, expected a time such as 2026-11-24T09:30:00Z"),
    "count": ({"model_size": "big"}, "[0].model_size is big, expected a whole number from 0"),
}


@pytest.mark.parametrize(("change", "message"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_what_cannot_be_is_left_out_and_said(folder: Path, change: Mapping[str, Any], message: str) -> None:
    Path("bad.json").write_text(make_bench(change), encoding="utf-8")
    result = run("bad.json")
    assert f"bad.json: {message}" in result.output.splitlines()
    assert result.return_value == 1
    with Store.open("store.db") as store:
        (one,) = store.measurements(Selection())
    assert one.samples == (1 if "samples_ns" in change else 5)


def test_lines_before_a_cut_come_in(folder: Path) -> None:
    lines = [json.dumps({**LLAMA_BENCH, **change}) for change in ({}, {"n_prompt": 0, "n_gen": 32}, {"n_prompt": 64})]
    Path("cut.jsonl").write_text("\n".join(lines)[:-20], encoding="utf-8")
    result = run("cut.jsonl")
    assert result.return_value == 1
    assert (
        result.output.splitlines()[1]
        == "cut.jsonl:3: is no JSON object, expected one on each line; was the file cut off?"
    )
    with Store.open("store.db") as store:
        assert [one.node_id for one in store.measurements(Selection())] == [
            "llama-bench::imported::qwen3-8b-q4_k_m[pp512-c1-t8]",
            "llama-bench::imported::qwen3-8b-q4_k_m[tg32-c1-t8]",
        ]


def test_a_file_in_powershells_encoding(folder: Path) -> None:
    Path("old.json").write_text(make_bench({}), encoding="utf-16")
    assert run("old.json").return_value == 0


def test_another_format_than_named(folder: Path) -> None:
    Path("old.json").write_text(make_bench({}), encoding="utf-8")
    assert str(run("--format", "guidellm", "old.json").exception) == (
        "old.json:1: is no file of guidellm, expected one; without --format its content says whose it is"
    )
    assert run("--format", "llama-bench", "old.json").return_value == 0


def test_all_problems_of_all_files_and_none_is_stored(folder: Path) -> None:
    Path("good.json").write_text(make_bench({}), encoding="utf-8")
    Path("empty").touch()
    text = str(run("good.json", "empty", "not-there").exception)
    assert text == f"empty:1: is empty, {WANTED}\nnot-there:1: cannot be read: no such file or directory"
    assert not Path("store.db").exists()


# --- anything at all

JSON = some.recursive(
    some.none()
    | some.booleans()
    | some.sampled_from([0, -1, 1e308, 5e-324, float("nan"), float("inf"), 2**70, 10**400, "", "x", "1", "\x00\ud800"])
    | some.integers()
    | some.floats(),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.sampled_from(["value", "unit", "a"]), inner),
    max_leaves=4,
)


def list_places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to all values in a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value[:4]) if isinstance(value, list) else ()
    return [way, *(place for key, each in inside for place in list_places(each, (*way, key)))]


def put(value: Any, way: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    """The value, changed at one place."""
    if not way:
        return change(value)
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[way[0]] = put(copy[way[0]], way[1:], change)
    return copy


def write_changed(name: str, value: Any) -> str:
    return (
        "\n".join(map(json.dumps, value)) if name.endswith(".jsonl") and isinstance(value, list) else json.dumps(value)
    )


@pytest.mark.parametrize("name", [*NAMES, "vllm"])
@settings(max_examples=20, deadline=None)
@given(data=some.data())
def test_no_change_of_a_real_file_is_our_bug(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: some.DataObject
) -> None:
    value = DETAILED if name == "vllm" else read_requests(name) if name.endswith(".jsonl") else load(name)
    for _ in range(data.draw(some.integers(1, 3))):
        way = data.draw(some.sampled_from(list_places(value)))
        value = put(value, way, lambda _: data.draw(JSON))
    check(tmp_path_factory, write_changed(name, value))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=10, deadline=None)
@given(data=some.data())
def test_no_cut_of_a_real_file_is_our_bug(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: some.DataObject
) -> None:
    text = (FILES / name).read_text(encoding="utf-8")
    check(tmp_path_factory, text[: data.draw(some.integers(0, len(text)))])


def check(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """All in one store: to make one takes longer than an import."""
    folder = tmp_path_factory.getbasetemp() / "imports"
    folder.mkdir(exist_ok=True)
    path = folder / "result.json"
    path.write_text(text, encoding="utf-8")
    assert main(["import", "--store", str(folder / "store.db"), "--baseline", "main", str(path)]) < OUR_BUG
