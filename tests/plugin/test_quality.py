"""``quality: kld``: a model that says something else is red, however fast it is."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import pytest

from pytest_boobench.cli import main
from pytest_boobench.gate.divergence import diverge
from tests.benchmarks.quality import repeat
from tests.conftest import BenchFolder
from tests.fault_server import Peer
from tests.kinds_stand_in import KindServer, Vllm
from tests.random_model import write_random_model
from tests.real_llama_server import serve
from tests.stand_in import openai_server

FLAGS = ("-c", "1024", "--alias", "tiny")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same random weights in two quantisations."""
    folder = tmp_path_factory.mktemp("random")
    return {name: write_random_model(folder / f"{name}.gguf", name) for name in ("Q8_0", "Q4_0")}


def run(bench: BenchFolder, url: str, *args: str, **suite: Any) -> tuple[pytest.RunResult, dict[str, Any]]:
    """A session of one cell, and its part of the JSON report."""
    bench.write_hosts(real={"url": url, "shared": False})
    fields = {"models": ["tiny"], "grid": {"prompt_tokens": [16], "output_tokens": [8]}, "quality": "kld"}
    bench.write_suite(hosts=["real"], **{**fields, **suite})
    result = bench.run("--boobench-json", "found.json", "--boobench-policy=literal", "--boobench-max-drop=99%", *args)
    (cell,) = json.loads((bench.path / "found.json").read_text())["cells"]
    return result, cell


def find_kld(cell: dict[str, Any]) -> dict[str, Any]:
    """The last verdict is the one on quality: a table shows the speed's where both have passed."""
    found: dict[str, Any] = cell["verdicts"][-1]
    assert found["metric"] == "kld"
    return found


def test_a_worse_quantisation_under_the_same_name_is_red(bench: BenchFolder, models: dict[str, Path]) -> None:
    with serve("-m", models["Q8_0"], *FLAGS) as server:
        _, cell = run(bench, server.url, "--boobench-save-baseline")
        assert find_kld(cell)["sentence"] == "KLD –, no baseline"
        assert cell["saved"]
        assert (bench.path / ".boobench").exists()
        result, cell = run(bench, server.url)
        result.assert_outcomes(passed=1)
        assert find_kld(cell)["sentence"] == "KLD 0.00 nat from baseline main, 0.010 allowed"
    with serve("-m", models["Q8_0"], *FLAGS, "-ctk", "q8_0", "-b", "32", "-ub", "32") as server:
        result, cell = run(bench, server.url)
        result.assert_outcomes(passed=1)
        assert 0 <= find_kld(cell)["now"] < 0.001
    with serve("-m", models["Q4_0"], *FLAGS) as server:
        result, cell = run(bench, server.url)
    result.assert_outcomes(failed=1)
    assert 0.02 < find_kld(cell)["now"] < 0.1
    assert cell["standing"] == "regression"
    assert [verdict["outcome"] for verdict in cell["verdicts"][:-1]] == ["not comparable", "not comparable"]
    first = cell["failure"].splitlines()[0]
    assert first.startswith("KLD 0.0")
    assert "nat from baseline main, 0.010 allowed; model file" in first
    assert first.endswith("quantisation Q4_0, was Q8_0")
    result.stdout.re_match_lines([r".*tiny\[pp16-tg8-c1\].*–  regression KLD"])


def test_the_limit_is_the_suites(bench: BenchFolder, models: dict[str, Path]) -> None:
    with serve("-m", models["Q8_0"], *FLAGS) as server:
        run(bench, server.url, "--boobench-save-baseline")
    with serve("-m", models["Q4_0"], *FLAGS) as server:
        result, cell = run(bench, server.url, gate={"kld": {"at_most": 0.2}})
    result.assert_outcomes(passed=1)
    assert [verdict["metric"] for verdict in cell["verdicts"]] == ["kld"]
    assert (find_kld(cell)["outcome"], find_kld(cell)["allowed"]) == ("pass", 0.2)


def test_a_baseline_from_before_has_no_probabilities(bench: BenchFolder) -> None:
    url = str(bench.hosts["llama"]["url"])
    run(bench, url, "--boobench-save-baseline", models=["tiny-chat"], quality=None)
    result, cell = run(bench, url, models=["tiny-chat"])
    result.assert_outcomes(passed=1)
    assert find_kld(cell)["outcome"] == "no baseline"
    assert find_kld(cell)["sentence"] == (
        "KLD –, no baseline: the baseline has no probabilities; save it anew, now that quality: kld is set"
    )
    assert len(cell["logprobs"]["tokens"]) == 48


def test_the_baseline_file_carries_the_probabilities(
    bench: BenchFolder, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bench.path)
    with serve("-m", models["Q8_0"], *FLAGS) as server:
        run(bench, server.url, "--boobench-save-baseline")
    assert main(["baseline", "export", "base.yaml"]) == 0
    assert (bench.path / "base.yaml").stat().st_size < 20_000
    with serve("-m", models["Q4_0"], *FLAGS) as server:
        result, cell = run(bench, server.url, "--boobench-baseline-file", "base.yaml", "--boobench-store", "new.db")
    result.assert_outcomes(failed=1)
    assert find_kld(cell)["now"] > 0.02


def test_a_server_without_token_ids_is_measured_all_the_same(bench: BenchFolder) -> None:
    with openai_server() as server:
        grid = {"prompt_tokens": [64], "output_tokens": [8]}
        result, cell = run(bench, server.url, models=["good"], grid=grid)
    result.assert_outcomes(skipped=1)
    assert cell["aggregates"]["decode_tok_s"]["median"] > 0
    assert find_kld(cell)["outcome"] == "inconclusive"
    assert find_kld(cell)["reason"] == (
        "real: quality: kld needs probabilities of tokens with their ids, which llama-server gives, also behind "
        "llama-swap, and vLLM, but not this server (openai); leave quality out"
    )


class Skewed(Vllm):
    """A vLLM whose model can be made to prefer one token by so much."""

    skew = 0.0

    async def _complete(self, peer: Peer, fields: dict[str, Any]) -> None:
        if fields.get("stream"):
            await super()._complete(peer, fields)
            return
        assert (fields["max_tokens"], fields["logprobs"], fields["return_tokens_as_token_ids"]) == (1, 20, True)
        weights = [math.exp(self.skew * (token == 7) - token / 5) for token in range(40)]
        logs = {f"token_id:{token}": math.log(weight / sum(weights)) for token, weight in enumerate(weights[:20])}
        usage = {"prompt_tokens": len(fields["prompt"]), "completion_tokens": 1}
        choice = {"index": 0, "text": "a", "finish_reason": "length", "logprobs": {"top_logprobs": [logs]}}
        await peer.answer("200 OK", {"choices": [choice], "usage": usage})


@pytest.mark.parametrize(("skew", "outcome"), [(0.0, "pass"), (0.02, "pass"), (1.0, "regression")])
def test_vllm(bench: BenchFolder, skew: float, outcome: str) -> None:
    stand_in = Skewed(("good",))
    with KindServer(stand_in) as server:
        run(bench, server.url, "--boobench-save-baseline", models=["good"])
        stand_in.skew = skew
        _, cell = run(bench, server.url, models=["good"])
    assert find_kld(cell)["outcome"] == outcome


def test_quality_alone_saves_its_first_baseline(bench: BenchFolder) -> None:
    """A divergence is a number only once there is a baseline; the probabilities are what the first one needs."""
    stand_in = Skewed(("good",))
    gate = {"kld": {"at_most": 0.01}}
    with KindServer(stand_in) as server:
        _, cell = run(bench, server.url, "--boobench-save-baseline", models=["good"], gate=gate)
        assert (cell["saved"], find_kld(cell)["now"]) == (True, None)
        stand_in.skew = 1.0
        result, cell = run(bench, server.url, models=["good"], gate=gate)
    result.assert_outcomes(failed=1)
    assert find_kld(cell)["outcome"] == "regression"


def test_quality_alone_without_probabilities_saves_nothing(bench: BenchFolder) -> None:
    with openai_server() as server:
        grid = {"prompt_tokens": [64], "output_tokens": [8]}
        gate = {"kld": {"at_most": 0.01}}
        result, cell = run(bench, server.url, "--boobench-save-baseline", models=["good"], grid=grid, gate=gate)
    assert not cell["saved"]
    result.stdout.fnmatch_lines(["*no number to judge*"])


class Unlikely(Skewed):
    """A vLLM that says more than can be true."""

    skew = 0.0

    async def _complete(self, peer: Peer, fields: dict[str, Any]) -> None:
        if fields.get("stream"):
            await super()._complete(peer, fields)
            return
        logs = {f"token_id:{token}": -0.1 for token in range(20)}
        choice = {"index": 0, "text": "a", "logprobs": {"top_logprobs": [logs]}}
        await peer.answer("200 OK", {"choices": [choice], "usage": {"prompt_tokens": len(fields["prompt"])}})


def test_impossible_probabilities_are_none(bench: BenchFolder) -> None:
    with KindServer(Unlikely(("good",))) as server:
        result, cell = run(bench, server.url, models=["good"])
    result.assert_outcomes(skipped=1)
    assert cell.get("logprobs") is None
    assert find_kld(cell)["reason"] == (
        "real: POST /v1/completions: the probabilities sum to 18.097, expected no more than 1"
    )


def test_all_cells_of_a_model_share_the_requests(bench: BenchFolder) -> None:
    stand_in = Skewed(("good",))
    with KindServer(stand_in) as server:
        bench.write_hosts(real={"url": server.url, "shared": False})
        bench.write_suite(hosts=["real"], models=["good"], quality="kld")
        bench.run().assert_outcomes(passed=2)
    assert stand_in.asked.count("/v1/completions") == 48


def test_an_unchanged_model_is_never_flagged(bench: BenchFolder, models: dict[str, Path]) -> None:
    """Each time from a server's own cache, or from nothing; `tests.benchmarks.quality` does it a thousand times."""
    with serve("-m", models["Q8_0"], *FLAGS) as server:
        found = asyncio.run(repeat(server.url, 20))
    assert max(diverge(found[0], each) for each in found) < 0.001
