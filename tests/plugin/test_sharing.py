"""A host that others use, through whole sessions on real llama.cpp: refused, waited for, taken over, disturbed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pytest_boobench.hosts.embedded import EmbeddedServer, EmbeddedSettings, start
from tests.conftest import BenchFolder
from tests.plugin.test_session import query

MIDDLING = EmbeddedSettings(layers=4, width=256, feed_forward=512, slots=4)


@pytest.fixture(scope="module")
def rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """Slow enough that a foreign request lasts while we look."""
    with start(MIDDLING, cache=tmp_path_factory.mktemp("models")) as server:
        yield server


@pytest.fixture
def shared(bench: BenchFolder, rack: EmbeddedServer) -> BenchFolder:
    """A bench folder whose host may be used by others."""
    bench.write_hosts(rack={"server": "llama-server", "url": rack.url})
    bench.pytester.makeini("[pytest]\nfilterwarnings = error\nboobench_block_gap = 0s\nboobench_quiet = 300ms\n")
    bench.write_suite(hosts=["rack"], samples=4, grid={"prompt_tokens": [16], "output_tokens": [64]})
    return bench


class Foreigner:
    """Somebody else's client: one long request after the other until told to stop."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.stop = threading.Event()
        self.running = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        body = {"prompt": "abc", "max_tokens": 400, "ignore_eos": True, "stream": True}
        while not self.stop.is_set():
            with httpx.stream("POST", f"{self.url}/v1/completions", json=body, timeout=60) as response:
                for _ in response.iter_lines():
                    self.running.set()
                    if self.stop.is_set():
                        return

    def __enter__(self) -> Foreigner:
        self.thread.start()
        assert self.running.wait(30)
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop.set()
        self.thread.join()


def test_a_host_of_ours_alone_is_measured_undisturbed(shared: BenchFolder) -> None:
    shared.run().assert_outcomes(passed=1)
    assert query(
        shared,
        "select in_flight_at_start, concurrent_foreign_requests, foreign_tokens, model_swaps, server_restarts, "
        "attempts from bench_cells",
    ) == [(0, 0, 0, 0, 0, 1)]
    assert query(shared, "select takeover, in_flight_at_start, concurrent_foreign_requests from bench_runs") == [
        (0, 0, 0)
    ]


def test_a_busy_host_is_refused_before_anything_is_measured(shared: BenchFolder, rack: EmbeddedServer) -> None:
    with Foreigner(rack.url):
        result = shared.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "rack: busy: 1 foreign request in flight: *running*",
            "wait for it with --boobench-wait 10m, or measure all the same with --boobench-takeover",
        ]
    )
    assert query(shared, "select count(*) from bench_samples") == [(0,)]


def test_a_host_that_others_use_now_and_then_is_not_quiet(shared: BenchFolder, rack: EmbeddedServer) -> None:
    """Requests so short that hardly a look finds one."""
    over = threading.Event()

    def use() -> None:
        body = {"prompt": "abc", "max_tokens": 1}
        while not over.wait(0.05):
            httpx.post(f"{rack.url}/v1/completions", json=body, timeout=60)

    user = threading.Thread(target=use)
    user.start()
    result = shared.run("-o", "boobench_quiet=60s")
    over.set()
    user.join()
    result.assert_outcomes(errors=1)
    result.stdout.re_match_lines(
        [
            r"rack: (busy: 1 foreign request in flight: |not quiet: a request came and went while we looked: "
            r"tiny-chat, task \d+ \(ended \d\d:\d\d:\d\d UTC\))"
        ]
    )


@pytest.mark.parametrize("seed", [-1, 42])
def test_a_seed_that_others_may_send_too(shared: BenchFolder, rack: EmbeddedServer, seed: int) -> None:
    """Slots show -1 as they show no seed at all: what others send looks as ours does."""
    grid = {"prompt_tokens": [16], "output_tokens": [64]}
    shared.write_suite(hosts=["rack"], samples=4, grid=grid, sampling={"seed": seed})
    facts = "select in_flight_at_start, concurrent_foreign_requests, foreign_tokens from bench_cells order by id desc"
    shared.run().assert_outcomes(passed=1)
    assert query(shared, facts)[0] == (0, 0, 0)
    with Foreigner(rack.url):
        shared.run("--boobench-takeover").assert_outcomes(skipped=1)
    _, foreign, tokens = query(shared, facts)[0]
    assert foreign >= 1
    assert tokens > 0


def test_waiting_for_a_busy_host(shared: BenchFolder, rack: EmbeddedServer) -> None:
    with Foreigner(rack.url) as foreigner:
        leaving = threading.Timer(1.0, foreigner.stop.set)
        leaving.start()
        shared.run("--boobench-wait", "60s").assert_outcomes(passed=1)
        leaving.join()


def test_takeover_is_recorded_and_a_disturbed_cell_is_not_judged(shared: BenchFolder, rack: EmbeddedServer) -> None:
    with Foreigner(rack.url):
        result = shared.run("--boobench-takeover", "--boobench-save-baseline", "--junitxml=junit.xml")
    result.assert_outcomes(skipped=1)
    result.stdout.re_match_lines(
        [
            r"    tiny-chat\[pp16-tg64-c1\] .* inconclusive",
            r"rack: 1 of 1 cell not saved as baseline main: tiny-chat\[pp16-tg64-c1\]: disturbed by others",
            r"rack: 1 of 1 cell not judged: tiny-chat\[pp16-tg64-c1\]: disturbed: \d+ foreign req.*",
        ]
    )
    ((takeover, in_flight, foreign),) = query(
        shared, "select takeover, in_flight_at_start, concurrent_foreign_requests from bench_runs"
    )
    assert takeover == 1
    assert in_flight in {0, 1}, "the other client may have been between two requests"
    assert foreign >= 1
    assert query(shared, "select attempts from bench_cells") == [(2,)]
    assert query(shared, "select attempt, count(*) from bench_samples where phase = 'measure' group by attempt") == [
        (1, 4),
        (2, 4),
    ]
    assert query(shared, "select count(*) from bench_baselines") == [(0,)]
    assert 'name="boobench.concurrent_foreign_requests"' in (shared.path / "junit.xml").read_text()


@pytest.mark.parametrize(
    ("how", "outcome"), [("judge", {"passed": 1}), ("fail", {"failed": 1}), ("inconclusive", {"skipped": 1})]
)
@pytest.mark.parametrize("where", ["ini", "suite"])
def test_what_becomes_of_a_disturbed_cell(
    shared: BenchFolder, rack: EmbeddedServer, how: str, outcome: dict[str, int], where: str
) -> None:
    args = ["-o", f"boobench_disturbed={how}"] if where == "ini" else []
    grid = {"prompt_tokens": [16], "output_tokens": [64]}
    shared.write_suite(hosts=["rack"], samples=2, grid=grid, disturbed=how if where == "suite" else None)
    with Foreigner(rack.url):
        result = shared.run("--boobench-takeover", *args)
    result.assert_outcomes(**outcome)
    outcomes = query(shared, "select distinct outcome from bench_verdicts")
    assert outcomes == [("no baseline",)] if how == "judge" else [("inconclusive",)]
    if how == "fail":
        result.stdout.re_match_lines([r"disturbed: \d+ foreign request"])


def test_a_disturbance_that_passes_is_measured_over(shared: BenchFolder, rack: EmbeddedServer) -> None:
    """The foreign client leaves once our first measuring has begun: the second one is clean and is judged."""
    shared.write_suite(hosts=["rack"], samples=6, grid={"prompt_tokens": [16], "output_tokens": [64]})
    with contextlib.ExitStack() as stack:
        foreigner = stack.enter_context(Foreigner(rack.url))
        shared.pytester.makeconftest(
            """
            def pytest_boobench_progress(progress):
                if progress.state == "measuring":
                    open("measuring", "w").close()
            """
        )

        def leave_when_measuring() -> None:
            while not (shared.path / "measuring").exists():
                if foreigner.stop.wait(0.01):
                    return
            foreigner.stop.set()

        leaver = threading.Thread(target=leave_when_measuring)
        leaver.start()
        result = shared.run("--boobench-takeover", "--boobench-save-baseline")
        leaver.join()
    result.assert_outcomes(passed=1)
    assert query(shared, "select attempts, concurrent_foreign_requests from bench_cells") == [(2, 0)]
    assert query(shared, "select count(*) from bench_baselines") == [(1,)]


def test_a_host_that_cannot_tell_needs_a_word(bench: BenchFolder, tmp_path: Path) -> None:
    from tests.stand_in import openai_server

    with openai_server() as server:
        bench.write_hosts(other={"url": server.url})
        bench.write_suite(hosts=["other"], models=["good"], grid={"prompt_tokens": [40], "output_tokens": [4]})
        refused = bench.run()
        refused.assert_outcomes(errors=1)
        refused.stdout.fnmatch_lines(
            ["other: this kind of server cannot tell whether others use it; *--boobench-takeover"]
        )
        bench.run("--boobench-takeover").assert_outcomes(passed=1)
    assert query(bench, "select takeover from bench_runs order by id") == [(0,), (1,)]
