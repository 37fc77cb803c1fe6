"""``vllm bench serve``: a real file of each kind, and others as its source (0.32) writes them."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pytest_boobench.cli import boobench, main
from pytest_boobench.record import Measurement
from pytest_boobench.store import Selection, Store

SUMMARY: dict[str, Any] = {
    "date": "20261124-093000",
    "endpoint_type": "openai",
    "backend": "openai",
    "label": None,
    "model_id": "tiny-qwen2",
    "tokenizer_id": "tiny-qwen2",
    "num_prompts": 5,
    "request_rate": "inf",
    "burstiness": 1.0,
    "max_concurrency": 1,
    "duration": 2.0,
    "completed": 4,
    "failed": 1,
    "total_input_tokens": 512,
    "total_output_tokens": 16,
    "request_throughput": 2.0,
    "request_goodput": None,
    "output_throughput": 8.0,
    "total_token_throughput": 264.0,
    "latencies": [0.40, 0.44, 0.42, 0.0, 0.46],
    "max_output_tokens_per_s": 12.0,
    "max_concurrent_requests": 1,
    "mean_ttft_ms": 115.0,
    "median_ttft_ms": 115.0,
    "std_ttft_ms": 11.18,
    "p99_ttft_ms": 129.7,
}
DETAILED: dict[str, Any] = {
    **SUMMARY,
    "input_lens": [128, 128, 128, 128, 128],
    "output_lens": [4, 4, 4, 0, 4],
    "ttfts": [0.10, 0.11, 0.12, 0.0, 0.13],
    "itls": [[0.10, 0.10, 0.10], [0.11, 0.11, 0.11], [0.10, 0.10, 0.10], [], [0.11, 0.22]],
    "start_times": [1000.0, 1000.5, 1001.0, 1001.5, 1002.0],
    "generated_texts": ["a"] * 5,
    "errors": ["", "", "", "Bad Request", ""],
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BOOBENCH_STORE", "store.db")
    return tmp_path


def run(*args: str) -> Result:
    return CliRunner().invoke(boobench, ["import", *args], standalone_mode=False)


def bring(*results: dict[str, Any]) -> tuple[Result, list[Measurement]]:
    """As ``--append-result`` writes several: a line each."""
    Path("vllm.json").write_text("\n".join(map(json.dumps, results)), encoding="utf-8")
    result = run("vllm.json")
    with Store.open("store.db") as store:
        return result, store.measurements(Selection())


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(__file__).parent / "files" / name).read_text(encoding="utf-8"))
    return found


def test_a_real_file_with_details() -> None:
    wrote = load("vllm-bench-detailed.json")
    _, (one,) = bring(wrote)
    assert one.node_id == "vllm-bench::imported::tiny-chat[pp64-tg16-c2]"
    assert (one.samples, one.failed, one.total_tok_s) == (8, 0, wrote["output_throughput"])
    assert one.aggregates["ttft_ms"].median == pytest.approx(wrote["median_ttft_ms"])
    assert one.aggregates["ttft_ms"].mean == pytest.approx(wrote["mean_ttft_ms"])
    tpots = [
        (whole - first) / (tokens - 1)
        for whole, first, tokens in zip(wrote["latencies"], wrote["ttfts"], wrote["output_lens"], strict=True)
    ]
    assert statistics.median(tpots) * 1000 == pytest.approx(wrote["median_tpot_ms"])
    rates = [1 / tpot for tpot in tpots]
    assert one.aggregates["decode_tok_s"].median == pytest.approx(statistics.median(rates))
    assert "itl_ms" not in one.aggregates, "this server ends with an event that has no token"


def test_a_real_file_without_details() -> None:
    wrote = load("vllm-bench.json")
    _, (one,) = bring(wrote)
    assert {key: found.n for key, found in one.aggregates.items()} == {"e2e_ms": 8}
    assert one.aggregates["e2e_ms"].median == pytest.approx(statistics.median(wrote["latencies"]) * 1000)


def test_detailed() -> None:
    result, (one,) = bring(DETAILED)
    assert result.return_value == 0, result.output
    assert one.node_id == "vllm-bench::imported::tiny-qwen2[pp128-tg4-c1]"
    assert "length" not in one.identity, "exact"
    assert (one.samples, one.failed, one.total_tok_s) == (5, 1, 8.0)
    assert one.started_at == 1_795_512_600.0
    medians = {key: round(found.median, 3) for key, found in one.aggregates.items()}
    # decode = 3 tokens / (latency - ttft) of 0.30, 0.33, 0.30 and 0.33 s; prefill = 128 / ttft
    assert medians == {
        "decode_tok_s": round((3 / 0.30 + 3 / 0.33) / 2, 3),
        "prefill_tok_s": round((128 / 0.11 + 128 / 0.12) / 2, 3),
        "ttft_ms": 115.0,
        "itl_ms": 100.0,
        "e2e_ms": 430.0,
    }
    assert one.aggregates["itl_ms"].n == 9, "the last answer has two tokens in one event"
    with Store.open("store.db") as store:
        samples = store.samples([one.id])[one.id]
    assert [sample.failure for sample in samples] == [None, None, None, "reported", None]
    assert samples[3].failure_text == "Bad Request"
    assert [sample.offset_ms for sample in samples] == [0.0, 500.0, 1000.0, 1500.0, 2000.0]
    assert samples[4].blanks == {"itl_ms": "4 tokens came in 3 events: gaps are not those between tokens"}


def test_without_details() -> None:
    result, (one,) = bring(SUMMARY)
    assert result.return_value == 0
    assert one.node_id.endswith("[pp128-tg4-c1]")
    assert one.identity["length"] == "natural"
    assert {key: found.n for key, found in one.aggregates.items()} == {"e2e_ms": 4}
    assert (
        "vllm.json: mean_ttft_ms stands without the percentiles that a comparison needs: ttft_ms is left out; "
        "vllm bench serve --save-detailed keeps each request, "
        "--metric-percentiles 0,10,25,50,75,90,95,99,100 all percentiles"
    ) in result.output


def test_all_percentiles() -> None:
    percentiles = {f"p{rank}_ttft_ms": 100.0 + rank / 4 for rank in (0, 10, 25, 50, 75, 90, 95, 99, 100)}
    _, (one,) = bring({**SUMMARY, **percentiles})
    found = one.aggregates["ttft_ms"]
    assert (found.n, found.min, found.p10, found.median, found.max) == (4, 100.0, 102.5, 115.0, 125.0)
    assert found.stdev == pytest.approx(11.18 * (4 / 3) ** 0.5)


def test_several_runs_of_one_file_and_a_rate() -> None:
    _, found = bring(DETAILED, {**DETAILED, "request_rate": 2.5, "max_concurrency": None})
    assert [one.node_id.partition("[")[2] for one in found] == ["pp128-tg4-c1]", "pp128-tg4-c5-rate2.5]"]


def test_the_user_says_what_was_asked_for() -> None:
    lengths = {"input_lens": [120, 128, 130, 128, 140], "output_lens": [4, 3, 4, 0, 4]}
    result, (one,) = bring({**DETAILED, **lengths})
    assert (
        "vllm.json: the file does not say which prompt_tokens were asked for: 128, the median, names the cell; "
        "--prompt-tokens says it" in result.output
    )
    assert one.identity["length"] == "natural"
    run("--prompt-tokens", "256", "--output-tokens", "8", "vllm.json")
    with Store.open("store.db") as store:
        assert {one.node_id.partition("[")[2] for one in store.measurements(Selection())} == {
            "pp128-tg4-c1]",
            "pp256-tg8-c1]",
        }


def test_lists_of_different_lengths() -> None:
    result, (one,) = bring({**DETAILED, "ttfts": [0.1]})
    assert result.return_value == 1
    assert (
        "vllm.json: ttfts, itls and the other lists differ in length "
        "(1 of ttft, 5 of e2e, 5 of start, 5 of prompt, 5 of output, 5 of gaps, 5 of error), "
        "expected one item for each request"
    ) in result.output
    assert not one.aggregates


def test_two_runs_and_exit_code_1() -> None:
    slower = {**DETAILED, "date": "20261125-093000", "latencies": [0.55, 0.59, 0.57, 0.0, 0.61]}
    Path("old.json").write_text(json.dumps(DETAILED), encoding="utf-8")
    Path("new.json").write_text(json.dumps(slower), encoding="utf-8")
    assert main(["import", "--baseline", "main", "old.json"]) == 0
    assert main(["import", "new.json"]) == 0
    assert main(["compare", "main", "--fail"]) == 1
