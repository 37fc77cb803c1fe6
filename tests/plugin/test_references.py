"""The reference of a host's machine, in whole sessions: a scripted server's models slow down together or alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from pytest_boobench.cli import main
from pytest_boobench.measure import reference_cell
from tests.conftest import BenchFolder
from tests.fault_server import Peer
from tests.kinds_stand_in import KindServer, fixed
from tests.paced_server import Paced
from tests.plugin.test_session import query

TTFT_MS, GAP_MS = 10.0, 0.5
GRID = {"prompt_tokens": [64], "output_tokens": [16]}
OF_REFERENCE = (
    "from bench_cells join bench_runs on bench_runs.id = run_id join bench_suites on bench_suites.id = suite_id "
    "where bench_suites.name = 'boobench-reference'"
)


class Models(Paced):
    """A llama-server of two models: it claims, and nearly keeps, a pace that is a model's own brake times as slow."""

    timings = True

    def __init__(self) -> None:
        super().__init__()
        self.brakes = {"tuned": 1.0, "pinned": 1.0}
        self.later: dict[str, float] = {}
        """Brakes from the first request for the tuned model on."""
        self.build = "b1"
        self.asked_for: list[str] = []
        self.url = ""

    def pages(self) -> Any:
        listed = [{"id": name, "object": "model"} for name in self.brakes]
        settings = {"default_generation_settings": {"n_ctx": 4096}, "total_slots": 4, "build_info": self.build}
        return {**super().pages(), "/v1/models": fixed({"data": listed}), "/props": fixed(settings)}

    async def _complete(self, peer: Peer, fields: dict[str, Any]) -> None:
        self.asked_for.append(fields["model"])
        if "tuned" in self.asked_for:
            self.brakes |= self.later
        self._brake = self.brakes[fields["model"]]
        await super()._complete(peer, fields)

    async def stream(self, peer: Peer, tokens: int) -> None:
        await peer.head()
        for _ in range(tokens):
            event = self.event(self.chunk())
            peer.writer.write(b"%x\r\n%b\r\n" % (len(event), event))
        await peer.writer.drain()

    def claim(self, prompt: int, tokens: int) -> dict[str, Any]:
        return {
            "cache_n": 0,
            "prompt_n": prompt,
            "prompt_ms": TTFT_MS * self._brake,
            "predicted_n": tokens,
            "predicted_ms": GAP_MS * self._brake * tokens,
        }


@pytest.fixture
def models(bench: BenchFolder, monkeypatch: pytest.MonkeyPatch) -> Iterator[Models]:
    monkeypatch.setattr(reference_cell, "SAMPLES", 3)
    found = Models()
    with KindServer(found) as server:
        found.url = server.url
        write_rack(bench, found, models={"pinned": {"reference": True}})
        bench.write_suite(hosts=["rack"], models=["tuned"], grid=GRID, samples=5)
        yield found


def write_rack(bench: BenchFolder, server: Models, **more: object) -> None:
    bench.write_hosts(rack={"server": "llama-server", "url": server.url, "shared": False, **more})


def judge(bench: BenchFolder) -> tuple[str, str]:
    """Outcome and note of the decode."""
    bench.run("--boobench-json", "found.json")
    (cell,) = json.loads((bench.path / "found.json").read_text())["cells"]
    return cell["verdicts"][0]["outcome"], cell["verdicts"][0]["note"]


def test_a_host_that_slows_is_not_red_and_a_model_that_slows_is(
    bench: BenchFolder, models: Models, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.run("--boobench-save-baseline").assert_outcomes(passed=1)
    assert models.asked_for[0] == models.asked_for[-1] == "pinned"
    assert query(bench, f"select count(*), min(job_type) {OF_REFERENCE}") == [(2, "bench")]
    models.brakes = {"tuned": 1.25, "pinned": 1.25}
    outcome, note = judge(bench)
    assert outcome == "pass"
    assert "the reference rack::pinned is 20 % slower than with the baseline: divided out of its" in note
    capsys.readouterr()
    assert main(["compare", "main"]) == 0
    said = "the reference rack::pinned became decode 20 % slower and prefill 20 % slower: divided out of the verdicts"
    assert said in capsys.readouterr().out.splitlines()
    models.brakes = {"tuned": 1.25, "pinned": 1.0}
    outcome, note = judge(bench)
    assert outcome == "regression"
    assert "divided out" not in note
    assert query(bench, f"select count(*) {OF_REFERENCE}") == [(7,)]  # one before the block that settled the doubt
    models.brakes, models.build = {"tuned": 1.25, "pinned": 1.25}, "b2"
    outcome, note = judge(bench)
    assert outcome == "regression"
    assert "not divided out: the reference rack::pinned changed: build b2, was b1" in note


def test_workers_hand_over_what_the_references_said(bench: BenchFolder, models: Models) -> None:
    models.later = {"pinned": 1.25}
    result = bench.run_workers("-n", "2", "--boobench-save-baseline", "--boobench-baseline-file", "b.yaml")
    result.assert_outcomes(passed=1)
    said = "rack::pinned: the host changed during the session: decode of its reference is 20 % slower at the end"
    result.stdout.fnmatch_lines([said])
    assert query(bench, f"select count(*) {OF_REFERENCE}") == [(2,)]
    (cell,) = yaml.safe_load((bench.path / "b.yaml").read_text())["cells"]
    (measured,) = cell["measured"]
    assert measured["reference_rates"]["name"] == "rack::pinned"
    assert measured["reference_rates"]["decode_tok_s"] == pytest.approx(2000.0 * 63 / 64, rel=1e-3)
    models.later, models.brakes = {}, {"tuned": 1.25, "pinned": 1.25}
    models.asked_for.clear()
    bench.run_workers("-n", "1", "--boobench-baseline-file", "b.yaml").assert_outcomes(passed=1)


def test_a_reference_that_cannot_be_measured_is_said_once(bench: BenchFolder, models: Models) -> None:
    write_rack(bench, models)
    bench.write_hosts(old={"url": models.url, "server": "llama-server", "shared": False, "reference": True})
    bench.write_suite(hosts=["rack"], models=["tuned", "pinned"], grid=GRID, samples=5)
    result = bench.run("--boobench-save-baseline")
    result.assert_outcomes(passed=2)
    said = (
        "judged without the reference old: old: reference: it lists 2 models; write which one is the reference: "
        "models: {NAME: {reference: true}}"
    )
    assert [line for line in result.outlines if "judged without" in line] == [said]
    assert query(bench, f"select count(*) {OF_REFERENCE}") == [(0,)]


def test_a_reference_does_not_speak_for_itself(bench: BenchFolder, models: Models) -> None:
    bench.write_suite(hosts=["rack"], models=["pinned"], grid=GRID, samples=5)
    bench.run("--boobench-save-baseline").assert_outcomes(passed=1)
    models.brakes = {"pinned": 1.25}
    assert judge(bench)[0] == "regression"


def test_a_duet_needs_no_reference(bench: BenchFolder, models: Models) -> None:
    bench.run("--boobench-duet", "rack::pinned")
    assert query(bench, f"select count(*) {OF_REFERENCE}") == [(0,)]
