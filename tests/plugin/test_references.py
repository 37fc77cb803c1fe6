"""A reference on the host's machine, in whole sessions: on a scripted server whose models slow down together, or alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from pytest_boobench.measure import reference_cell
from tests.conftest import BenchFolder
from tests.fault_server import Peer
from tests.kinds_stand_in import KindServer, fixed
from tests.paced_server import Paced
from tests.plugin.test_session import query

TTFT_MS, GAP_MS = 10.0, 0.5
GRID = {"prompt_tokens": [64], "output_tokens": [16]}
LOOKS = "select round(c.started_at) from bench_cells c join bench_runs r on r.id = c.run_id join bench_suites s on s.id = r.suite_id where s.name = 'boobench-reference'"


class Models(Paced):
    """A llama-server of two models: it claims, and nearly keeps, a pace that is a model's own brake times as slow."""

    timings = True

    def __init__(self) -> None:
        super().__init__()
        self.brakes = {"tuned": 1.0, "pinned": 1.0}
        self.builds = "b1"
        self.asked_for: list[str] = []

    def pages(self) -> Any:
        listed = [{"id": name, "object": "model"} for name in self.brakes]
        settings = {"default_generation_settings": {"n_ctx": 4096}, "total_slots": 4, "build_info": self.builds}
        return {**super().pages(), "/v1/models": fixed({"data": listed}), "/props": fixed(settings)}

    async def _complete(self, peer: Peer, fields: dict[str, Any]) -> None:
        self._brake = self.brakes[fields["model"]]
        self.asked_for.append(fields["model"])
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
        bench.write_hosts(
            rack={
                "server": "llama-server",
                "url": server.url,
                "models": {"pinned": {"reference": True}},
                "shared": False,
            }
        )
        bench.write_suite(hosts=["rack"], models=["tuned"], grid=GRID, samples=5)
        yield found


def judge(bench: BenchFolder, *args: str) -> list[dict[str, Any]]:
    bench.run("--boobench-json", "found.json", *args)
    (cell,) = json.loads((bench.path / "found.json").read_text())["cells"]
    return list(cell["verdicts"])


def test_what_a_reference_divides_out(bench: BenchFolder, models: Models) -> None:
    bench.run("--boobench-save-baseline").assert_outcomes(passed=1)
    assert models.asked_for[0] == models.asked_for[-1] == "pinned"
    for brakes, said in (
        ({"tuned": 1.25, "pinned": 1.25}, "pass"),
        ({"tuned": 1.25, "pinned": 1.0}, "regression"),
        ({"tuned": 1.0, "pinned": 0.8}, "regression"),
    ):
        models.brakes = brakes
        found = judge(bench)
        print(len(models.asked_for))
        models.asked_for.clear()
        assert [verdict["outcome"] for verdict in found] == [said, said], brakes
