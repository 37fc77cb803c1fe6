"""pytest-benchmark shows, saves and compares cells as its own, with and without pytest-xdist; and is never needed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from pytest_boobench.plugin.benchmark import PlaybackClock
from tests.conftest import BenchFolder, name_plugins
from tests.plugin.test_session import scale_baselines

WAYS = {"alone": (), "worker": ("-n", "1")}
"""Through its fixture, and through xdist's controller."""
ways = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@pytest.fixture
def suite(bench: BenchFolder) -> BenchFolder:
    """Two cells, three samples each, and an ordinary test."""
    bench.write_suite(samples=3, sampling={"seed": 1})
    bench.pytester.makepyfile("def test_ordinary(): pass")
    return bench


def run(bench: BenchFolder, way: tuple[str, ...], *args: str) -> pytest.RunResult:
    return bench.run_workers(*way, *args) if way else bench.run(*args)


def read(path: Path) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(path.read_text())
    return found


def saved(bench: BenchFolder) -> list[Path]:
    return sorted((bench.path / ".benchmarks").rglob("*.json"))


@ways
def test_json(suite: BenchFolder, way: tuple[str, ...]) -> None:
    """And nobody is warned: pytest-benchmark would, of xdist and of a fixture that is not used, whatever becomes of a
    cell. What could not be measured is not there."""
    suite.write_suite("dead", hosts=["dead"])
    suite.write_hosts(dead={"server": "llama-server", "url": "http://127.0.0.1:9", "shared": False})
    args = ("--benchmark-json=bench.json", "--boobench-json=boobench.json", "--boobench-json-samples")
    result = run(suite, way, *args)
    result.assert_outcomes(passed=3, errors=2)
    assert "warning" not in (result.stdout.str() + result.stderr.str()).lower()
    found = {entry["fullname"]: entry for entry in read(suite.path / "bench.json")["benchmarks"]}
    cells = {cell["node_id"]: cell for cell in read(suite.path / "boobench.json")["cells"]}
    assert found.keys() == {node_id for node_id, cell in cells.items() if cell.get("error") is None}
    assert len(found) == 2
    for node_id, entry in found.items():
        cell = cells[node_id]
        e2e_ms = [sample["e2e_ms"] for sample in cell["samples"] if sample["phase"] == "measure"]
        assert entry["stats"]["data"] == [value / 1000 for value in e2e_ms], "to the last bit, and no warm-up"
        assert entry["stats"]["rounds"] == 3
        assert entry["group"] == "llama tiny-chat"
        assert entry["name"] == node_id.rpartition("::")[2] == f"tiny-chat[{entry['param']}]"
        assert entry["params"] == {
            "suite": "smoke",
            "host": "llama",
            "model": "tiny-chat",
            "kind": "chat",
            "prompt_tokens": cell["identity"]["prompt_tokens"],
            "output_tokens": 4,
            "concurrency": 1,
            "cache": "cold",
            "sampling.seed": 1,
        }
        assert entry["extra_info"] == {
            **{key: aggregate["median"] for key, aggregate in cell["aggregates"].items()},
            "total_tok_s": cell["total_tok_s"],
            "failed": 0,
            "server": "llama-server",
            "engine_build": cell["server"]["engine_build"],
        }
        assert entry["options"]["timer"] == "e2e_s"


TABLE = "benchmark 'llama tiny-chat': 2 tests"


@ways
def test_no_table_where_nobody_asks(suite: BenchFolder, way: tuple[str, ...]) -> None:
    result = run(suite, way)
    result.assert_outcomes(passed=3)
    assert not [line for line in result.outlines if "benchmark '" in line or line.startswith(("Legend:", "Name (time"))]


ASKING = [
    "--benchmark-columns=min,median",
    "--benchmark-sort=name",
    "--benchmark-group-by=group",
    "--benchmark-verbose",
    "--benchmark-autosave",
    "--benchmark-json=bench.json",
    "--benchmark-name=short",
]


@pytest.mark.parametrize("option", ASKING)
def test_any_option_asks_for_the_table(suite: BenchFolder, option: str) -> None:
    assert TABLE in suite.run(option).stdout.str()


@ways
@pytest.mark.parametrize("place", ["addopts", "PYTEST_ADDOPTS"])
def test_so_does_one_that_stands_somewhere(
    suite: BenchFolder, way: tuple[str, ...], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    option = "--benchmark-columns='min, median'"
    if place == "addopts":
        with (suite.path / "tox.ini").open("a") as file:
            file.write(f"\naddopts = {option}\n")
    else:
        monkeypatch.setenv(place, f"{os.environ.get(place, '')} {option}")
    assert TABLE in run(suite, way).stdout.str()


def test_tests_of_the_users_own_keep_their_table(suite: BenchFolder) -> None:
    suite.pytester.makepyfile(test_mine="def test_mine(benchmark): benchmark.pedantic(int, rounds=2)")
    result = suite.run()
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["*- benchmark: 1 tests -*", "test_mine *"])
    assert TABLE not in result.stdout.str()
    asked = suite.run("--benchmark-sort=min")
    asked.stdout.fnmatch_lines(["*- benchmark: 1 tests -*", f"*- {TABLE} -*"])


@ways
def test_what_a_conftest_asks_for_is_saved_all_the_same(suite: BenchFolder, way: tuple[str, ...]) -> None:
    """Only the tables are without cells."""
    suite.pytester.makeconftest(
        """
        from pathlib import Path

        import pytest

        @pytest.hookimpl(tryfirst=True)
        def pytest_configure(config):
            config.option.benchmark_json = Path("bench.json")
        """
    )
    assert TABLE not in run(suite, way).stdout.str()
    assert len(read(suite.path / "bench.json")["benchmarks"]) == 2


@ways
def test_table_save_and_compare(suite: BenchFolder, way: tuple[str, ...]) -> None:
    first = run(suite, way, "--benchmark-save=first", "--benchmark-save-data")
    first.stdout.re_match_lines(
        [r"-+ benchmark 'llama tiny-chat': 2 tests -+", r"Name \(time in [mu]s\) .*", r"tiny-chat\[pp\d+-tg4-c1\] .*"]
    )
    (path,) = saved(suite)
    assert path.name == "0001_first.json"
    assert len(read(path)["benchmarks"][0]["stats"]["data"]) == 3
    second = run(suite, way, "--benchmark-compare=0001", "--benchmark-group-by=param:prompt_tokens")
    second.assert_outcomes(passed=3)
    second.stdout.re_match_lines(
        [
            r"-+ benchmark 'prompt_tokens=16': 2 tests -+",
            r"tiny-chat\[pp16-tg4-c1\] \((NOW|0001_first)\) .*",
            r"-+ benchmark 'prompt_tokens=32': 2 tests -+",
        ]
    )


@ways
def test_histogram(suite: BenchFolder, way: tuple[str, ...]) -> None:
    # Always apart: pygal puts a finder into sys.meta_path that hides all plugins from the next session here.
    if find_spec("pygal") is None:
        pytest.skip("pytest-benchmark[histogram] is not installed")
    suite.run_fresh(*way, "--benchmark-histogram=hist").assert_outcomes(passed=3)
    (svg,) = suite.path.glob("hist*.svg")
    assert "tiny-chat[pp16-tg4-c1]" in svg.read_text()


def test_a_saved_run_is_compared_across_the_two_ways(suite: BenchFolder) -> None:
    suite.run_workers("-n", "1", "--benchmark-save=parallel").assert_outcomes(passed=3)
    suite.run("--benchmark-compare=0001").stdout.fnmatch_lines(["tiny-chat* (0001_*) *"])


@ways
def test_skip_leaves_the_cells_out(suite: BenchFolder, way: tuple[str, ...]) -> None:
    result = run(suite, way, "--benchmark-skip", "-rs")
    result.assert_outcomes(passed=1, skipped=2)
    result.stdout.fnmatch_lines(["SKIPPED * Skipping benchmark (--benchmark-skip active)."])
    assert not list(suite.path.glob(".boobench/*.jsonl"))


def test_only_leaves_all_others_out(suite: BenchFolder) -> None:
    suite.run("--benchmark-only").assert_outcomes(passed=2, skipped=1)
    result = suite.run_workers("-n", "1", "--benchmark-only")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*Can't have both --benchmark-only and --benchmark-disable options.*"])


@ways
def test_disabled_means_measured_and_not_handed_over(suite: BenchFolder, way: tuple[str, ...]) -> None:
    result = run(suite, way, "--benchmark-disable", "--benchmark-json=bench.json")
    result.assert_outcomes(passed=3)
    assert "benchmark '" not in result.stdout.str()
    assert not (suite.path / "bench.json").exists()


def test_enabled_wins_over_disabled(suite: BenchFolder) -> None:
    result = suite.run_workers("-n", "1", "--benchmark-disable", "--benchmark-enable")
    result.assert_outcomes(passed=3)
    assert "benchmark 'llama tiny-chat': 2 tests" in result.stdout.str()


@pytest.mark.parametrize(("way", "absent"), [((), "blocked"), ((), "not installed"), (("-n", "1"), "not installed")])
def test_without_it(suite: BenchFolder, monkeypatch: pytest.MonkeyPatch, way: tuple[str, ...], absent: str) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", name_plugins("boobench", "xdist"))
    args = ["-p", "no:benchmark"]
    if absent == "not installed":
        suite.pytester.makepyfile(blocker="import sys\nsys.modules['pytest_benchmark'] = None\n")
        args += ["-p", "blocker"]
    result = (suite.run if absent == "blocked" else suite.run_fresh)(*args, *way)
    result.assert_outcomes(passed=3)
    assert "benchmark" not in result.stdout.str() + result.stderr.str()


@ways
def test_cells_that_come_twice_and_fail_are_handed_over_once(bench: BenchFolder, way: tuple[str, ...]) -> None:
    """A regression takes two blocks: the samples of both."""
    bench.write_suite(samples=3, gate={"decode_tok_s": "10%"})
    bench.run("--boobench-save-baseline").assert_outcomes(passed=2)
    scale_baselines(bench, 20.0)
    literal = ("-o", "boobench_block_gap=0s", "-o", "boobench_policy=literal")
    result = run(bench, way, *literal, "--benchmark-json=bench.json", "--boobench-json=boobench.json")
    result.assert_outcomes(failed=2)
    measured = {cell["node_id"]: cell["measured"] for cell in read(bench.path / "boobench.json")["cells"]}
    assert min(measured.values()) >= 6
    rounds = [(entry["fullname"], entry["stats"]["rounds"]) for entry in read(bench.path / "bench.json")["benchmarks"]]
    assert sorted(rounds) == sorted(measured.items())


def test_another_shape_of_pytest_benchmark_costs_its_output_only(suite: BenchFolder) -> None:
    suite.pytester.makeconftest(
        """
        import pytest_benchmark.stats

        class Metadata:
            def __init__(self, one_argument): pass

        pytest_benchmark.stats.Metadata = Metadata
        """
    )
    quiet = suite.run_apart("-n", "1")
    quiet.assert_outcomes(passed=3)
    assert "are missing" not in quiet.stdout.str(), "nobody asked for them"
    result = suite.run_apart("-n", "1", "--benchmark-json=bench.json")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["boobench: cells are missing in the output of pytest-benchmark: *Metadata*argument*"])


def test_a_profile_is_of_nothing_and_breaks_nothing(suite: BenchFolder) -> None:
    suite.run("--benchmark-json=bench.json", "--benchmark-cprofile=tottime").assert_outcomes(passed=3)
    assert [entry["stats"]["rounds"] for entry in read(suite.path / "bench.json")["benchmarks"]] == [3, 3]


def test_a_session_that_does_not_bench_imports_none_of_it(suite: BenchFolder) -> None:
    suite.pytester.makeconftest(
        """
        import sys

        def pytest_unconfigure(config):
            names = ("benchmark", "outputs", "recorder")
            assert not [name for name in names if f"pytest_boobench.plugin.{name}" in sys.modules]
            assert not any(name.startswith("pytest_boobench.reports") for name in sys.modules)
            print("nothing of ours")
        """
    )
    result = suite.pytester.runpytest_subprocess()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["nothing of ours"])


def test_the_clock_shows_durations_to_the_last_bit() -> None:
    clock = PlaybackClock()
    clock.load([0.1, 0.30000000000000004])
    shown = []
    for _ in range(3):
        start_s = clock.e2e_s()
        shown.append(clock.e2e_s() - start_s)
    assert shown == [0.1, 0.30000000000000004, 0.0]
