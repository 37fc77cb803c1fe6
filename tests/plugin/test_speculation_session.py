"""Speculation on the real llama-server: its own model as draft has every draft accepted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import BenchFolder
from tests.random_model import write_random_model
from tests.real_llama_server import serve


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_model(tmp_path_factory.mktemp("random") / "m.gguf", "Q8_0")


@pytest.mark.parametrize(("drafts", "length"), [(3, 4.0), (1, 2.0)])
def test_drafts_of_the_model_itself_are_accepted(bench: BenchFolder, model: Path, drafts: int, length: float) -> None:
    flags = ("-md", model, "--spec-type", "draft-simple", "--spec-draft-n-max", str(drafts))
    with serve("-m", model, "-c", "1024", "--alias", "tiny", *flags) as server:
        bench.write_hosts(real={"url": server.url, "shared": False})
        grid = {"prompt_tokens": [16], "output_tokens": [65]}
        bench.write_suite(hosts=["real"], models=["tiny"], grid=grid, sampling={"temperature": 0.0}, samples=3)
        bench.run("--boobench-json", "found.json")
    (cell,) = json.loads((bench.path / "found.json").read_text())["cells"]
    found = {key: aggregate["median"] for key, aggregate in cell["aggregates"].items()}
    assert found["draft_accept_share"] > 0.95
    assert found["accepted_len"] == pytest.approx(length, rel=0.1)
    assert found["steps_per_s"] == pytest.approx(found["decode_tok_s"] / found["accepted_len"], rel=0.1)


def test_a_server_that_speculates_in_vain_makes_a_token_a_step(bench: BenchFolder, model: Path) -> None:
    with serve("-m", model, "-c", "1024", "--alias", "tiny", "--spec-type", "ngram-simple") as server:
        bench.write_hosts(real={"url": server.url, "shared": False})
        grid = {"prompt_tokens": [16], "output_tokens": [16]}
        bench.write_suite(hosts=["real"], models=["tiny"], grid=grid, samples=3)
        bench.run("--boobench-json", "found.json")
    (cell,) = json.loads((bench.path / "found.json").read_text())["cells"]
    assert cell["aggregates"]["accepted_len"]["median"] == 1.0
    assert "draft_accept_share" not in cell["aggregates"]
