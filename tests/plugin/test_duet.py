"""The duet: two live servers in turns, judged against each other and no stored baseline."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from pytest_boobench.hosts.embedded import EmbeddedServer, EmbeddedSettings, start
from tests import kinds_stand_in as kinds
from tests.conftest import BenchFolder
from tests.kinds_stand_in import KindServer
from tests.plugin.test_session import query

GRID = {"prompt_tokens": [64], "output_tokens": [32]}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, EmbeddedServer]]:
    """Two alike, and one with thrice the layers."""
    shapes = {"old": 2, "twin": 2, "slow": 6}
    running: dict[str, EmbeddedServer] = {}
    try:
        for name, layers in shapes.items():
            settings = EmbeddedSettings(layers=layers, width=256, feed_forward=512, slots=4)
            running[name] = start(settings, cache=tmp_path_factory.mktemp(name))
        yield running
    finally:
        for server in running.values():
            server.stop()


@pytest.fixture
def duet(bench: BenchFolder, servers: dict[str, EmbeddedServer]) -> BenchFolder:
    bench.write_hosts(
        **{name: {"server": "llama-server", "url": server.url, "shared": False} for name, server in servers.items()}
    )
    return bench


class _Slower(kinds.Ollama):
    eval_ms = 80


@pytest.mark.parametrize("xdist", [(), ("-n", "2")], ids=["alone", "workers"])
def test_a_slower_server_is_red_and_a_twin_is_not(
    bench: BenchFolder, xdist: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what the servers say of themselves: how busy this machine is does not matter."""
    monkeypatch.setattr("pytest_boobench.servers.witness.APART_MS", 1e6)
    believing = "from pytest_boobench.servers import witness\nwitness.APART_MS = 1e6\n"
    (bench.path / "conftest.py").write_text(believing)  # which workers read, too
    with (
        KindServer(kinds.Ollama(("good",))) as old,
        KindServer(kinds.Ollama(("good",))) as twin,
        KindServer(_Slower(("good",))) as slow,
    ):
        hosts = {"old": old, "twin": twin, "slow": slow}
        bench.write_hosts(**{name: {"url": host.url, "shared": False} for name, host in hosts.items()})
        bench.write_suite(hosts=["slow", "twin"], models=["good"], grid=GRID, gate={"decode_tok_s": "25%"})
        result = (bench.run_workers if xdist else bench.run)("--boobench-duet", "old", *xdist)
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.re_match_lines([r"decode .* tok/s, 37.5 % below duet with old .*"])
    assert "FAILED smoke.boobench.yaml::slow" in result.stdout.str()
    assert query(bench, "select outcome from bench_verdicts order by 1") == [("pass",), ("regression",)]


class _Unsteady(kinds.Ollama):
    """Says another time with each answer, around ``centre_ms``."""

    centre_ms = 50

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._chance = random.Random(self.centre_ms)

    @property
    def eval_ms(self) -> int:  # type: ignore[override]
        return self._chance.randint(self.centre_ms - self.centre_ms // 8, self.centre_ms + self.centre_ms // 8)


class _UnsteadyAndSlower(_Unsteady):
    centre_ms = 80


def test_pairs_are_added_until_the_interval_is_narrow_and_holds_the_truth(
    bench: BenchFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_boobench.servers.witness.APART_MS", 1e6)  # the stream is faster than what they say
    with KindServer(_Unsteady(("good",))) as old, KindServer(_UnsteadyAndSlower(("good",))) as slow:
        bench.write_hosts(old={"url": old.url, "shared": False}, slow={"url": slow.url, "shared": False})
        bench.write_suite(hosts=["slow"], models=["good"], grid=GRID, gate={"decode_tok_s": "25%"})
        result = bench.run("--boobench-duet", "old", "--boobench-duet-until", "4%")
    result.assert_outcomes(failed=1)
    columns = "change_low, change, change_high, samples, outcome"
    ((low, change, high, pairs, outcome),) = query(bench, f"select {columns} from bench_verdicts")
    truth = 50 / 80 - 1
    assert low < truth < high
    assert low < change < high
    assert (high - low) / 2 <= 0.04
    assert pairs in (40, 60, 100)
    assert outcome == "regression"
    result.stdout.re_match_lines([r"decode .* below duet with old .*; change −3\d\.\d % \[−3\d\.\d, −3\d\.\d\]; .*"])
    assert query(bench, "select pairing, reference_host from bench_cells") == [("requests", "old")]


@pytest.mark.parametrize(("most", "pairs"), [("0s", 20), ("1h", 60)])
def test_the_time_ends_a_duet_that_does_not_become_narrow(
    bench: BenchFolder, monkeypatch: pytest.MonkeyPatch, most: str, pairs: int
) -> None:
    monkeypatch.setattr("pytest_boobench.gate.LOOKS", (1, 2, 3))
    with KindServer(_Unsteady(("good",))) as old, KindServer(_UnsteadyAndSlower(("good",))) as slow:
        bench.write_hosts(old={"url": old.url, "shared": False}, slow={"url": slow.url, "shared": False})
        bench.write_suite(hosts=["slow"], models=["good"], grid=GRID, gate={"decode_tok_s": "90%"})
        bench.run("--boobench-duet", "old", "--boobench-duet-until", "0.001%", "--boobench-max-time", most)
    assert query(bench, "select samples from bench_verdicts") == [(pairs,)]


def test_two_models_that_one_server_keeps_loaded_are_compared_request_by_request(bench: BenchFolder) -> None:
    with KindServer(kinds.Ollama(("good", "better/one:Q4"))) as both:
        bench.write_hosts(both={"url": both.url, "shared": False})
        bench.write_suite(hosts=["both"], models=["good", "better/one:Q4"], grid=GRID, gate={"decode_tok_s": "25%"})
        result = bench.run("--boobench-duet", "both::better/one:Q4", "-rs", "-v")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(
        [
            "*duet with both::better/one:Q4 *",
            "*both::better/one:Q4 is the reference of this duet, it cannot be compared with itself*",
        ]
    )
    assert query(bench, "select pairing, reference_host from bench_cells") == [("requests", "both::better/one:Q4")]


@pytest.mark.parametrize("text", ["::good", "old::", "::"])
def test_half_of_a_name_ends_the_session(bench: BenchFolder, text: str) -> None:
    result = bench.run(f"--boobench-duet={text}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*--boobench-duet: expected HOST or HOST::MODEL, got '{text}'"])


def test_real_servers_with_thrice_the_layers_are_never_green_and_twins_never_red(duet: BenchFolder) -> None:
    """On a busy machine a duet may end undecided; but it is not wrong."""
    duet.write_suite(hosts=["slow", "twin"], grid=GRID, gate={"decode_tok_s": "25%"})
    said = duet.run("--boobench-duet", "old", "-rA").stdout.str()
    assert "PASSED smoke.boobench.yaml::slow" not in said
    assert "FAILED smoke.boobench.yaml::twin" not in said
    assert "ERROR" not in said


def test_both_halves_of_a_pair_are_stored(duet: BenchFolder) -> None:
    duet.write_suite(hosts=["twin"], grid={**GRID, "concurrency": [2]}, gate={"decode_tok_s": "90%"})
    assert duet.run("--boobench-duet", "old").ret == 0
    pairs = query(
        duet,
        'select count(*), count(distinct "index"), reference from bench_samples '
        "where phase = 'measure' group by reference order by reference",
    )
    assert [(rows, indices) for rows, indices, _ in pairs] == [(40, 40), (40, 40)]
    assert query(duet, "select reference_host from bench_cells") == [("old",)]
    assert query(duet, "select distinct n from bench_aggregates where metric = 'e2e_ms'") == [(40,)]


def test_pairs_of_a_host_that_was_still_warming_up_are_taken_once_more(
    duet: BenchFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_boobench.measure.pairs.find_trend_of_pairs", lambda samples: "still warming up")
    monkeypatch.setattr("pytest_boobench.walk.DUET_BLOCKS", 1)
    duet.write_suite(hosts=["twin"], grid=GRID, gate={"decode_tok_s": "90%"})
    duet.run("--boobench-duet", "old").assert_outcomes(passed=1)
    taken = "select attempt, reference, count(*) from bench_samples where phase = 'measure' group by 1, 2 order by 1, 2"
    assert query(duet, taken) == [(1, 0, 20), (1, 1, 20), (2, 0, 20), (2, 1, 20)]
    ((judged,),) = query(duet, "select samples from bench_verdicts")
    assert 10 < judged <= 20, "of the second attempt alone, less what a busy machine spoils"


def test_a_duet_becomes_no_baseline(duet: BenchFolder) -> None:
    duet.write_suite(hosts=["twin"], grid=GRID, gate={"decode_tok_s": "90%"})
    duet.run("--boobench-duet", "old", "--boobench-save-baseline").assert_outcomes(passed=1)
    assert query(duet, "select count(*) from bench_baselines") == [(0,)]


def test_a_host_is_not_compared_with_itself(duet: BenchFolder) -> None:
    duet.write_hosts(again={"server": "llama-server", "url": duet.hosts["old"]["url"], "shared": False})
    duet.write_suite(hosts=["old", "again"], grid=GRID)
    result = duet.run("--boobench-duet", "old", "-rs")
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(["*old is the reference of this duet, it cannot be compared with itself"])


def test_an_unknown_reference_ends_the_session(duet: BenchFolder) -> None:
    duet.write_suite(hosts=["twin"])
    result = duet.run("--boobench-duet", "odl")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*no host 'odl' *did you mean 'old'?*"])


def test_a_reference_that_dies_is_an_error(duet: BenchFolder) -> None:
    duet.write_hosts(gone={"server": "llama-server", "url": "http://127.0.0.1:9", "shared": False})
    duet.write_suite(hosts=["twin"], grid=GRID)
    result = duet.run("--boobench-duet", "gone")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["gone: no answer from http://127.0.0.1:9; is the server running?"])
    assert "Traceback" not in result.stdout.str()
