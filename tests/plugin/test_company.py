"""Other plugins beside us: a suite runs with each of them, alone and with workers, and nothing is counted twice."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from tests.conftest import BenchFolder
from tests.fault_server import FaultServer, Peer, Scenario
from tests.plugin.test_session import LITERAL, query, scale_baselines
from tests.stand_in import openai_server

COMPANY = {
    "html": "pytest_html.plugin",
    "metadata": "pytest_metadata.plugin",
    "randomly": "pytest_randomly",
    "repeat": "pytest_repeat",
    "rerunfailures": "pytest_rerunfailures",
    "pytest-split": "pytest_split.plugin",
    "timeout": "pytest_timeout",
}
"""The other plugins: name -> module."""
MISSING = [module for module in COMPANY.values() if find_spec(module.partition(".")[0]) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")

ALONE_AND_WORKERS = pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "worker"])


class Hiccup:
    """A model that answers as another one, but for its first streams: those end in a 500."""

    def __init__(self, model: Scenario, fails: int) -> None:
        self._model = model
        self._fails = fails

    async def __call__(self, peer: Peer) -> None:
        if peer.request.fields.get("stream") and self._fails:
            self._fails -= 1
            await peer.answer("500 Internal Server Error", {"error": {"message": "hiccup"}})
        else:
            await self._model(peer)


class Stuck:
    """A model that never ends an answer to prompts of one length; it notes which streams ended, in their order."""

    def __init__(self, model: Scenario, length: int) -> None:
        self._model = model
        self._length = length
        self.ended: list[str] = []

    async def __call__(self, peer: Peer) -> None:
        fields = peer.request.fields
        stuck = len(fields["messages"][0]["content"]) == self._length
        try:
            if fields.get("stream") and stuck:
                await peer.head()
                while True:  # until nobody reads
                    await peer.chunk(b": alive\n\n")
            await self._model(peer)
        finally:
            self.ended.append("stuck" if stuck else "good")


@pytest.fixture
def server(bench: BenchFolder) -> Iterator[FaultServer]:
    with openai_server() as server:
        bench.write_hosts(rack={"server": "openai", "url": server.url, "shared": False})
        yield server


def write_cells(bench: BenchFolder, *prompts: int, **more: object) -> None:
    grid = {"prompt_tokens": list(prompts), "output_tokens": [9]}
    bench.write_suite(hosts=["rack"], models=["good"], grid=grid, **more)


def run(bench: BenchFolder, *args: str, only: tuple[str, ...] = tuple(COMPANY)) -> pytest.RunResult:
    """A session with these plugins; their own warnings are theirs."""
    named = [part for name in only for part in ("-p", COMPANY[name])]
    return bench.run_apart(*named, "-W", "default", "-rs", *args)


@ALONE_AND_WORKERS
def test_all_of_them_at_once(bench: BenchFolder, server: FaultServer, workers: tuple[str, ...]) -> None:
    write_cells(bench, 40, 50, 60)
    result = run(bench, *workers, "--timeout=300", "--reruns=1", "--html=h.html", "--splits=2", "--group=1")
    assert (result.ret, result.parseoutcomes()["passed"]) == (0, 2)
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
    assert query(bench, "select count(*) from bench_cells") == [(2,)]


@ALONE_AND_WORKERS
def test_a_cell_that_is_run_again_leaves_one_row(
    bench: BenchFolder, server: FaultServer, workers: tuple[str, ...]
) -> None:
    server._scenarios["good"] = Hiccup(server._scenarios["good"], 1)
    write_cells(bench, 40, 50)
    result = run(bench, *workers, "--reruns=2", "--junitxml=junit.xml", only=("rerunfailures",))
    outcomes = result.parseoutcomes()
    assert (outcomes["passed"], outcomes["rerun"]) == (2, 1)
    result.stdout.fnmatch_lines(["rack: 1 of 2 cells run again by another plugin: good?pp40-tg9-c1?: 1 time: *hiccup*"])
    assert query(bench, "select count(*), count(error) from bench_cells") == [(2, 0)]
    assert query(bench, "select count(*) from bench_verdicts group by cell_id, metric having count(*) > 1") == []
    junit = (bench.path / "junit.xml").read_text()
    assert junit.count('"boobench.decode_tok_s"') == 2


def test_a_regression_that_is_run_again_has_one_more_block(bench: BenchFolder, server: FaultServer) -> None:
    """Measuring until it passes would prove nothing: all blocks are judged."""
    write_cells(bench, 40, **{**LITERAL, "samples": 5})
    bench.run_apart("--boobench-save-baseline").assert_outcomes(passed=1)
    scale_baselines(bench, 20.0)
    result = run(bench, "--reruns=1", only=("rerunfailures",))
    outcomes = result.parseoutcomes()
    assert (outcomes["failed"], outcomes["rerun"]) == (1, 1)
    newest = "(select max(id) from bench_cells)"
    assert query(bench, "select count(*) from bench_cells") == [(2,)]
    (extended,) = query(bench, f"select extended from bench_cells where id = {newest}")
    assert extended[0].endswith("regressed, run again")
    assert query(
        bench, f"select count(*) from bench_verdicts where cell_id = {newest} and metric = 'decode_tok_s'"
    ) == [(1,)]


def test_a_time_limit_ends_one_cell(bench: BenchFolder, server: FaultServer) -> None:
    """And its requests: none of them goes on beside the next cell's."""
    stuck = server._scenarios["good"] = Stuck(server._scenarios["good"], 40)
    write_cells(bench, 40, 50)
    result = run(bench, "--timeout=6", only=("timeout",))
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*Failed: Timeout*"])
    assert (stuck.ended.count("good") >= 3, stuck.ended[-1]) == (True, "good"), "the stuck one ended before, by us"
    assert query(bench, "select count(*) from bench_cells where error is null") == [(1,)]


def test_each_repetition_is_a_measurement(bench: BenchFolder, server: FaultServer) -> None:
    write_cells(bench, 40)
    result = run(bench, "--count=2", only=("repeat",))
    result.assert_outcomes(passed=2)
    assert query(bench, "select count(*), count(distinct node_id), count(distinct cell_key) from bench_cells") == [
        (2, 2, 1)
    ]
