"""Other plugins beside us: a suite runs with each of them, alone and with workers, and nothing is counted twice."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.conftest import BenchFolder
from tests.fault_server import FaultServer, Peer, Scenario
from tests.plugin.test_session import LITERAL, query, scale_baselines
from tests.stand_in import openai_server

COMPANY = {
    "cov": ("pytest_cov.plugin", "--cov=."),
    "html": ("pytest_html.plugin", "--html=h.html"),
    "instafail": ("pytest_instafail", "--instafail"),
    "metadata": ("pytest_metadata.plugin", "--metadata=a=b"),
    "order": ("pytest_order.plugin", "--indulgent-ordering"),
    "randomly": ("pytest_randomly", "--randomly-seed=7"),
    "repeat": ("pytest_repeat", "--count=2"),
    "rerunfailures": ("pytest_rerunfailures", "--reruns=1"),
    "split": ("pytest_split.plugin", "--splits=1 --group=1"),
    "sugar": ("pytest_sugar", ""),
    "timeout": ("pytest_timeout", "--timeout=300"),
}
"""The other plugins: name -> module, and what makes it work. Every session inside a test has pytest-benchmark too."""
NEEDS = {"html": ("metadata",)}
TOGETHER = tuple(name for name in COMPANY if name not in ("cov", "instafail", "sugar"))
"""Those that can be in one session: the others each want the terminal or the tracer for themselves."""
MISSING = [module for module, _ in COMPANY.values() if find_spec(module.partition(".")[0]) is None]
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
    bench.write_suite(**{"hosts": ["rack"], "models": ["good"], "grid": grid, **more})


def run(bench: BenchFolder, *args: str, only: tuple[str, ...] = TOGETHER) -> pytest.RunResult:
    """A session with these plugins; their own warnings are theirs."""
    named = [part for name in only for part in ("-p", COMPANY[name][0])]
    return bench.run_apart(*named, "-W", "default", "-rs", *args)


@pytest.fixture(scope="module")
def judged_before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store, made at its first use, in which the cell of 50 tokens has a baseline far above what it can reach."""
    return tmp_path_factory.mktemp("company") / "store.db"


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "workers"])
@pytest.mark.parametrize("name", [*(name for name in COMPANY if name != "metadata"), "benchmark"])
def test_with_each_of_them(
    bench: BenchFolder, server: FaultServer, judged_before: Path, name: str, workers: tuple[str, ...]
) -> None:
    """A cell that passes, one that runs a second time and is then red, and one that cannot be measured: each has one
    outcome, one row, one verdict a metric, and one test case in JUnit's file."""
    write_cells(bench, 40, 50, models=["good", "broken"], **{**LITERAL, "samples": 2, "max_samples": 4})
    store = bench.path / ".boobench" / "store.db"
    if not judged_before.exists():
        bench.run("--boobench-save-baseline", "-k", "good and pp50").assert_outcomes(passed=1, deselected=3)
        scale_baselines(bench, 20.0)
        shutil.copy(store, judged_before)
    store.parent.mkdir(exist_ok=True)
    shutil.copy(judged_before, store)
    _, args = COMPANY.get(name, ("", "--benchmark-json=b.json"))
    only = (name, *NEEDS.get(name, ())) if name in COMPANY else ()
    result = run(bench, *workers, "--junitxml=junit.xml", *args.split(), only=only)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
    times = ("-1-2", "-2-2") if name == "repeat" else ("",)
    if name != "sugar":  # which has a last line of its own
        outcomes = result.parseoutcomes()
        assert outcomes.pop("rerun", 0) == (3 if name == "rerunfailures" else 0)
        outcomes.pop("warnings", None)
        assert outcomes == {"passed": len(times), "failed": len(times), "errors": 2 * len(times)}
    cells = (("broken[pp40", 0, 0), ("broken[pp50", 0, 0), ("good[pp40", 1, 0), ("good[pp50", 1, 1))
    assert sorted(query(bench, "select node_id, error is null, extended <> '' from bench_cells where id > 1")) == [
        (f"smoke.boobench.yaml::rack::{begin}-tg9-c1{time}]", *facts) for begin, *facts in cells for time in times
    ]
    assert query(bench, "select count(*) from bench_verdicts group by cell_id, metric having count(*) > 1") == []
    assert query(bench, "select count(*), min(status) from bench_runs where id > 1") == [(1, "finished")]
    red = "select count(*) from bench_verdicts where outcome = 'regression' and metric = 'decode_tok_s' and cell_id > 1"
    assert query(bench, red) == [(len(times),)]
    cases = [case.attrib["name"] for case in ET.parse(bench.path / "junit.xml").getroot().iter("testcase")]
    assert len(set(cases)) == 4 * len(times)
    if name != "rerunfailures":  # which has a test case for each attempt, of any test
        assert len(cases) == len(set(cases))


def test_marks_of_pytest_order_count_within_a_model(bench: BenchFolder, server: FaultServer) -> None:
    write_cells(
        bench, 40, 50, samples=1, warmup=0, overrides=[{"where": {"prompt_tokens": 50}, "marks": [{"order": 1}]}]
    )
    run(bench, only=("order",)).assert_outcomes(passed=2)
    assert query(bench, "select prompt_tokens from bench_cells order by id") == [(50,), (40,)]


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
    limit = {"where": {"prompt_tokens": 40}, "marks": [{"timeout": 2}]}
    write_cells(bench, 40, 50, overrides=[limit])
    result = run(bench, "--timeout=300", only=("timeout",))
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
