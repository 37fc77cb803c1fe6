"""pytest-xdist: workers measure, the controller records; baselines reach the workers, facts come back."""

from __future__ import annotations

import platform
from itertools import pairwise

import pytest

from pytest_boobench.store import Store
from tests.conftest import BenchFolder, name_plugins
from tests.plugin.test_session import LITERAL, properties, query, scale_baselines


def test_workers_measure_and_the_controller_records(bench: BenchFolder) -> None:
    bench.write_suite(
        grid={"prompt_tokens": [16, 24], "output_tokens": [4], "concurrency": [1, 2]}, samples=5, **LITERAL
    )
    first = bench.run_workers("-n", "2", "--boobench-save-baseline", "--junitxml=junit.xml")
    first.assert_outcomes(passed=4)
    first.stdout.fnmatch_lines(["4 cells saved as baseline main", "store: *store.db"])
    assert query(bench, "select workers, status from bench_runs") == [(2, "finished")]
    assert {worker for (worker,) in query(bench, "select worker from bench_cells")} <= {"gw0", "gw1"}
    assert "boobench.decode_tok_s" in properties(bench)["tiny-chat[pp16-tg4-c1]"]
    assert "boobench.session" in (bench.path / "junit.xml").read_text()

    scale_baselines(bench, 20.0)
    second = bench.run_workers("-n", "1")
    second.assert_outcomes(failed=4)
    second.stdout.re_match_lines([r"decode .* below baseline main .*, 10 % allowed"])


def test_one_host_has_one_cell_at_a_time(bench: BenchFolder) -> None:
    """Two names of one server, two workers: no two cells overlap."""
    bench.write_hosts(alias={"server": "llama-server", "url": bench.hosts["llama"]["url"], "shared": False})
    grid = {"prompt_tokens": [16, 24], "output_tokens": [32]}
    bench.write_suite(hosts=["llama", "alias"], grid=grid)
    bench.run_workers("-n", "2").assert_outcomes(passed=4)
    spans = query(
        bench,
        "select cell_id, min(julianday(started_at)) * 86400, max(julianday(started_at) * 86400 + e2e_ms / 1000) "
        "from bench_samples group by cell_id order by 2",
    )
    assert len(spans) == 4
    assert all(before[2] <= after[1] + 0.001 for before, after in pairwise(spans))


def test_a_worker_that_dies_costs_its_cell(bench: BenchFolder) -> None:
    bench.write_suite(grid={"prompt_tokens": [16, 24, 32], "output_tokens": [4]})
    bench.pytester.makeconftest(
        """
        import os
        import pytest

        @pytest.fixture(autouse=True)
        def _die(request):
            if "pp24" in request.node.name and "PYTEST_XDIST_WORKER" in os.environ:
                os._exit(9)
        """
    )
    result = bench.run_workers("-n", "1")
    result.assert_outcomes(passed=2, failed=1)
    assert query(bench, "select count(*) from bench_cells where error is null") == [(2,)]


@pytest.mark.parametrize("there", [("benchmark",), ("xdist",), ()], ids=["no xdist", "no benchmark", "neither"])
def test_without_the_other_plugins(bench: BenchFolder, monkeypatch: pytest.MonkeyPatch, there: tuple[str, ...]) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", name_plugins("boobench", *there))
    bench.write_suite()
    blocked = [f"-pno:{name}" for name in ("xdist", "benchmark") if name not in there]
    bench.run(*blocked).assert_outcomes(passed=2)


@pytest.mark.parametrize(("dist", "workers", "passed"), [("load", "1", 2), ("each", "2", 4)])
def test_a_leased_host_ends_the_session_before_anything_is_measured(
    bench: BenchFolder, dist: str, workers: str, passed: int
) -> None:
    """The controller takes the leases, once it knows which hosts have cells."""
    bench.write_suite()
    team = str(bench.path / "team.db")
    with Store.open(team) as store:
        store.take_lease(f"this machine on {platform.node()}", "ann on ci-2", "other")
        result = bench.run_workers("-n", workers, "--dist", dist, "--boobench-store", team)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(
            ["*llama: its machine (this machine on *) is leased by another boobench session (ann on ci-2) *"]
        )
        assert "Traceback" not in result.stdout.str() + result.stderr.str()
        store.give_leases_back("other")
        bench.run_workers("-n", workers, "--dist", dist, "--boobench-store", team).assert_outcomes(passed=passed)
        assert store.take_lease("x", "me", "me") is None
