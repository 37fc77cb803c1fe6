"""pytest --boobench as its users run it, on a real llama.cpp server: measured, stored, judged, reported."""

from __future__ import annotations

import json
import platform
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import httpx
import pytest

from pytest_boobench.hosts.embedded import EmbeddedServer, EmbeddedSettings, start
from pytest_boobench.store import Store
from tests.conftest import BenchFolder
from tests.fault_server import closed_port
from tests.stand_in import KEY, openai_server


def query(bench: BenchFolder, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(bench.path / ".boobench" / "store.db")) as connection:
        return connection.execute(sql).fetchall()


LITERAL = {"policy": "literal", "max_samples": 10}
"""Two blocks of five, and then the point decides: requests this short have a verdict all the same."""


def scale_baselines(bench: BenchFolder, factor: float, metric: str = "decode_tok_s", store: Path | None = None) -> None:
    """As if the stored baseline had been so much faster."""
    with closing(sqlite3.connect(store or bench.path / ".boobench" / "store.db")) as connection:
        statistics = ("mean", "median", "min", "max", "p10", "p25", "p50", "p75", "p90", "p95", "p99")
        changes = ", ".join(f'"{name}" = "{name}" * {factor}' for name in statistics)
        changed = connection.execute(f"update bench_aggregates set {changes} where metric = ?", (metric,)).rowcount
        assert changed > 0
        connection.commit()


def properties(bench: BenchFolder, file: str = "junit.xml") -> dict[str, dict[str, str]]:
    """Test case name -> its JUnit properties."""
    cases = ET.parse(bench.path / file).getroot().iter("testcase")
    return {
        case.attrib["name"]: {entry.attrib["name"]: entry.attrib["value"] for entry in case.iter("property")}
        for case in cases
    }


def test_a_first_run_measures_stores_and_says_what_to_do_next(bench: BenchFolder) -> None:
    bench.write_suite(grid={"prompt_tokens": [16, 32], "output_tokens": [4], "concurrency": [1, 2]}, samples=4)
    result = bench.run()
    result.assert_outcomes(passed=4)
    result.stdout.re_match_lines(
        [
            r"llama  \(llama-server b0-unknown http://127.0.0.1:\d+\)",
            r"  smoke +TTFT +prefill +decode +change +verdict",
            r" +ms +tok/s +tok/s",
            r"    tiny-chat\[pp16-tg4-c1\] +[\d.]+ +\d+ +[\d.]+ +– +no baseline",
            r"4 cells without a baseline main: not judged; save one with --boobench-save-baseline",
            r"store: .*/\.boobench/store\.db",
        ]
    )
    assert query(bench, "select phase, count(*) from bench_samples group by phase order by phase") == [
        ("measure", 16),
        ("warmup", 6),
    ]
    assert query(bench, "select job_type, status, workers from bench_runs") == [("bench", "finished", 1)]
    assert query(bench, "select distinct outcome from bench_verdicts") == [("no baseline",)]
    assert query(
        bench, "select distinct clock, rate_source, prompt_tokens, cached_tokens, output_tokens from bench_samples"
    ) == [("kernel", "server", 16, 0, 4), ("kernel", "server", 32, 0, 4)]


@pytest.mark.parametrize("kind", ["completion", "embedding"])
def test_the_other_kinds(bench: BenchFolder, kind: str) -> None:
    grid = {"prompt_tokens": [16], **({"output_tokens": [4]} if kind == "completion" else {})}
    bench.write_suite(kind=kind, grid=grid)
    bench.run().assert_outcomes(passed=1)
    metrics = {metric for (metric,) in query(bench, "select metric from bench_aggregates")}
    expected = {"decode_tok_s", "prefill_tok_s", "ttft_ms"} if kind == "completion" else {"embed_tok_s"}
    assert expected <= metrics
    assert ("ttft_ms" in metrics) == (kind == "completion")


def test_sampling_is_sent_as_written_and_nothing_else(bench: BenchFolder) -> None:
    with openai_server() as server:
        bench.write_hosts(other={"server": "openai", "url": server.url, "shared": False})
        bench.write_suite(
            hosts=["other"],
            models=["good"],
            sampling={"temperature": [0, 0.5], "top_k": 40},
            request={"reasoning_effort": "low"},
            grid={"prompt_tokens": [40], "output_tokens": [4]},
        )
        bench.run().assert_outcomes(passed=2)
    sent = [seen.fields for seen in server.seen if seen.fields.get("stream")]
    assert len(sent) == 6
    assert {repr(fields["temperature"]) for fields in sent} == {"0", "0.5"}
    own = {"model", "messages", "max_tokens", "stream", "stream_options"}
    assert {name for fields in sent for name in fields} == own | {"temperature", "top_k", "reasoning_effort"}
    prompts = [fields["messages"][0]["content"] for fields in sent]
    assert len({prompt[:29] for prompt in prompts}) == 6, "cold: no two prompts start alike"
    assert {len(prompt) for prompt in prompts} == {40}


def test_save_then_compare(bench: BenchFolder) -> None:
    bench.write_suite(samples=5, grid={"prompt_tokens": [256, 512], "output_tokens": [64]})
    first = bench.run("--boobench-save-baseline")
    first.assert_outcomes(passed=2)
    first.stdout.fnmatch_lines(["*no baseline, saved", "2 cells saved as baseline main"])
    assert query(bench, "select name, count(*) from bench_baselines group by name") == [("main", 2)]
    scale_baselines(bench, 0.05)
    scale_baselines(bench, 0.05, "prefill_tok_s")
    second = bench.run("-v")
    second.assert_outcomes(passed=2)
    second.stdout.fnmatch_lines(["*decode *, * % above baseline main (*)*"])
    assert query(bench, "select count(*) from bench_baselines") == [(2,)]


def test_another_name_is_another_baseline(bench: BenchFolder) -> None:
    bench.write_suite()
    bench.run("--boobench-save-baseline", "--boobench-baseline", "fast")
    result = bench.run()
    result.stdout.fnmatch_lines(["2 cells without a baseline main: *"])


def test_a_regression_is_red_with_numbers_and_no_traceback(bench: BenchFolder) -> None:
    bench.write_suite(samples=5, **LITERAL)
    bench.run("--boobench-save-baseline")
    scale_baselines(bench, 20.0)
    scale_baselines(bench, 0.05, "prefill_tok_s")
    result = bench.run("--junitxml=junit.xml")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(failed=2)
    out = result.stdout.str()
    assert "Traceback" not in out
    assert "--full-trace" not in out
    assert ".py:" not in out
    result.stdout.re_match_lines(
        [
            r"decode \d+(\.\d)? tok/s, \d+(\.\d)? % below baseline main \(\d+(\.\d)?\), 10 % allowed",
            r"prefill \d+ tok/s, .*baseline main \(\d+\).*",
            r"host llama, engine b0-unknown; 10 samples, TTFT median [\d.]+ ms, p95 [\d.]+ ms",
            r"baseline main: measured \d{4}-\d\d-\d\d \d\d:\d\d UTC, engine b0-unknown",
        ]
    )
    result.stdout.re_match_lines([r"    tiny-chat\[pp16-tg4-c1\] .* −\d\d\.\d % +regression decode"])
    result.stdout.re_match_lines([r"FAILED smoke\.boobench\.yaml::llama::tiny-chat\[pp16-tg4-c1\] - .*decode .*"])
    found = properties(bench)["tiny-chat[pp16-tg4-c1]"]
    assert found["boobench.verdict.decode_tok_s"] == "regression"
    assert float(found["boobench.change.decode_tok_s"]) < -0.1
    assert float(found["boobench.decode_tok_s"]) < float(found["boobench.baseline.decode_tok_s"])
    assert {"boobench.ttft_ms.p95", "boobench.host", "boobench.model", "boobench.engine_build"} <= found.keys()
    failure = ET.parse(bench.path / "junit.xml").getroot().find(".//failure")
    assert failure is not None
    assert "below baseline main" in (failure.text or "")
    assert ("regression",) in query(bench, "select outcome from bench_verdicts")


def test_a_cell_that_regressed_does_not_become_the_baseline(bench: BenchFolder) -> None:
    bench.write_suite(grid={"prompt_tokens": [16], "output_tokens": [4]}, samples=5, **LITERAL)
    bench.run("--boobench-save-baseline")
    scale_baselines(bench, 20.0)
    result = bench.run("--boobench-save-baseline")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["llama: 1 of 1 cell not saved as baseline main: tiny-chat?pp16-tg4-c1?: regressed"])
    assert query(bench, "select count(*) from bench_baselines") == [(1,)]
    accepted = bench.run("--boobench-save-baseline", "--boobench-max-drop", "100%")
    accepted.assert_outcomes(passed=1)
    assert query(bench, "select count(*) from bench_baselines where replaced_at is null") == [(1,)]
    assert query(bench, "select count(*) from bench_baselines") == [(2,)]


def test_add_keeps_the_runs_of_a_baseline(bench: BenchFolder) -> None:
    bench.write_suite(grid={"prompt_tokens": [16], "output_tokens": [4]}, samples=5, gate={"decode_tok_s": "99%"})
    bench.run("--boobench-save-baseline")
    bench.run("--boobench-save-baseline=add")
    assert query(bench, "select count(*) from bench_baselines where replaced_at is null") == [(2,)]


def test_another_model_file_is_said_loudly_and_not_judged(bench: BenchFolder) -> None:
    bench.write_suite(samples=3)
    bench.run("--boobench-save-baseline")
    scale_baselines(bench, 20.0)
    with closing(sqlite3.connect(bench.path / ".boobench" / "store.db")) as connection:
        connection.execute("update bench_cells set model_facts = json_set(model_facts, '$.quantisation', 'Q8_0')")
        connection.commit()
    result = bench.run()
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "llama: 2 of 2 cells NOT COMPARABLE with baseline main, so not judged: tiny-chat?pp16-tg4-c1?, "
            "tiny-chat?pp32-tg4-c1?: another model: quantisation *, was Q8_0; "
            "if you meant this change, save a new baseline with --boobench-save-baseline"
        ]
    )


def test_allowed_drop_from_option_environment_and_ini(bench: BenchFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.write_suite(grid={"prompt_tokens": [16], "output_tokens": [4]}, samples=5, **LITERAL)
    bench.run("--boobench-save-baseline")
    scale_baselines(bench, 20.0)
    scale_baselines(bench, 0.05, "prefill_tok_s")
    assert bench.run().ret == 1
    assert bench.run("--boobench-max-drop", "99%").ret == 0
    monkeypatch.setenv("BOOBENCH_MAX_DROP", "99%")
    assert bench.run().ret == 0
    assert bench.run("--boobench-max-drop", "10").ret == 1
    monkeypatch.delenv("BOOBENCH_MAX_DROP")
    assert bench.run("-o", "boobench_max_drop=99%").ret == 0


def test_verbosity(bench: BenchFolder) -> None:
    bench.write_suite()
    assert "change  verdict" not in bench.run("-q").stdout.str()
    assert "change  verdict" in bench.run().stdout.str()
    loud = bench.run("-v")
    loud.stdout.re_match_lines(
        [r"  smoke +connect +queue +prompt +TTFT +prefill +decode +ITL +ITL p99 +(stalls +)?e2e .*"]
    )
    assert "\x1b[" not in loud.stdout.str()


def test_notes_are_wrapped_for_people_only(bench: BenchFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log keeps each on its line, for who searches it; a terminal that says its width has them wrapped."""
    bench.write_suite()
    note = "2 cells without a baseline main: not judged; save one with --boobench-save-baseline"
    bench.run().stdout.fnmatch_lines([note])
    monkeypatch.setenv("COLUMNS", "60")
    narrow = bench.run()
    narrow.stdout.fnmatch_lines(
        ["2 cells without a baseline main: not judged; save one with", "  --boobench-save-baseline"], consecutive=True
    )
    narrow.stdout.re_match_lines([r"  smoke +decode +change +verdict", r"    tiny-chat\[pp16-tg4-c1\] .* no baseline"])
    monkeypatch.setenv("COLUMNS", "200")
    wide = bench.run("--boobench-save-baseline").stdout
    wide.re_match_lines([r"  smoke +TTFT +prefill +decode +all lanes +change +verdict"])


def test_a_dead_host_is_an_error_and_not_a_failure(bench: BenchFolder) -> None:
    bench.write_hosts(dead={"server": "llama-server", "url": f"http://127.0.0.1:{closed_port()}"})
    bench.write_suite(hosts=["dead", "llama"])
    result = bench.run("--junitxml=junit.xml")
    result.assert_outcomes(errors=2, passed=2)
    result.stdout.fnmatch_lines(["dead: no answer from http://127.0.0.1:*; is the server running?"])
    assert "Traceback" not in result.stdout.str()
    assert ET.parse(bench.path / "junit.xml").getroot().find(".//error") is not None
    assert query(bench, "select count(*) from bench_cells where error is not null") == [(2,)]


def test_a_model_that_the_host_does_not_have(bench: BenchFolder) -> None:
    bench.write_suite(models=["tiny-chatt"])
    result = bench.run()
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["llama: no model 'tiny-chatt' there; did you mean 'tiny-chat'?"])


def wait_until(seen: Callable[[], bool]) -> None:
    """Bounded, so that a test that never comes so far fails instead of hanging."""
    end = time.monotonic() + 60
    while not seen():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_server_dies_in_the_middle_of_a_cell(bench: BenchFolder, tmp_path: Path) -> None:
    """The cell in flight errors, the ones before it are stored, the session ends by itself."""
    with start(EmbeddedSettings(layers=1, width=256, feed_forward=256), cache=tmp_path) as doomed:
        bench.write_hosts(doomed={"server": "llama-server", "url": doomed.url, "shared": False})
        bench.write_suite("first", hosts=["doomed"])
        bench.write_suite(
            "second",
            hosts=["doomed"],
            samples=2000,
            cache="warm",
            grid={"prompt_tokens": [16, 32], "output_tokens": [64]},
        )

        def first_suite_is_judged() -> bool:
            try:
                return len(query(bench, "select 1 from bench_verdicts")) == 4
            except sqlite3.OperationalError:  # no store yet, or no table in it
                return False

        def kill_in_second() -> None:
            wait_until(first_suite_is_judged)
            wait_until(lambda: any(slot["is_processing"] for slot in httpx.get(f"{doomed.url}/slots").json()))
            time.sleep(0.1)
            doomed.stop()

        killer = threading.Thread(target=kill_in_second)
        killer.start()
        result = bench.run()
        killer.join()
    result.assert_outcomes(passed=2, errors=2)
    result.stdout.re_match_lines(
        [r"doomed: (the host died in the middle of the cell, after \d+ good requests; last: |.*no answer from ).+"]
    )
    result.stdout.fnmatch_lines(["doomed: no answer from *; is the server running?"])
    ((kept,),) = query(
        bench,
        "select count(*) from bench_samples join bench_cells on cell_id = bench_cells.id "
        "where error is not null and failure is null",
    )
    assert kept > 0, "what was measured of the dying cell is stored too"
    assert query(bench, "select count(*) from bench_cells where error is null") == [(2,)]


def test_the_embedded_host_is_started_on_its_own(bench: BenchFolder) -> None:
    bench.write_hosts(embedded={"server": "embedded", "layers": 1, "width": 256, "feed_forward": 256})
    bench.write_suite(hosts=["embedded"])
    bench.run().assert_outcomes(passed=2)
    ((facts,),) = query(bench, "select distinct engine_build from bench_runs")
    assert facts.startswith("xllamacpp 20")


@pytest.mark.parametrize(
    ("model", "outcome", "line"),
    [
        ("flaky", {"failed": 1}, "2 of 6 requests failed: 2 × truncated: *"),
        (
            "miscounting",
            {"errors": 1},
            "other: prompt-length: the server counted 45 tokens in a prompt of 40 tokens (within 2)",
        ),
        ("caching", {"errors": 1}, "other: cached: cache: cold, but the server took 12 prompt tokens from its cache"),
        ("short", {"errors": 1}, "other: every request failed: 1 × output-length: 1 of 4 tokens came (*)*"),
        ("broken", {"errors": 1}, "other: POST /v1/chat/completions: 500: out of memory"),
        (
            "uncounted",
            {"errors": 1},
            "other: the server says nothing of prompt tokens (no usage in its answer), "
            "so no exact prompt can be made; a server that counts is needed",
        ),
    ],
)
def test_servers_that_do_not_do_what_was_asked(
    bench: BenchFolder, model: str, outcome: dict[str, int], line: str
) -> None:
    with openai_server() as server:
        bench.write_hosts(other={"server": "openai", "url": server.url, "shared": False})
        grid = {"prompt_tokens": [40], "output_tokens": [4]}
        bench.write_suite(hosts=["other"], models=[model], samples=6, warmup=1, grid=grid)
        result = bench.run()
    result.assert_outcomes(**outcome)
    result.stdout.fnmatch_lines([line.replace("[", "[[]")])


def test_some_failed_requests_may_be_allowed(bench: BenchFolder) -> None:
    with openai_server() as server:
        bench.write_hosts(other={"url": server.url, "shared": False})
        grid = {"prompt_tokens": [40], "output_tokens": [4]}
        bench.write_suite(hosts=["other"], models=["flaky"], samples=6, max_failed=2, grid=grid)
        bench.run().assert_outcomes(passed=1)
    assert query(bench, "select count(*) from bench_samples where failure = 'truncated'") == [(2,)]


def test_client_clock_rates_are_marked(bench: BenchFolder) -> None:
    with openai_server() as server:
        bench.write_hosts(other={"url": server.url, "shared": False})
        bench.write_suite(hosts=["other"], models=["good"], grid={"prompt_tokens": [40], "output_tokens": [4]})
        bench.run().assert_outcomes(passed=1)
    assert query(bench, "select distinct rate_source from bench_samples") == [("client",)]


def test_secrets_stay_where_they_are(bench: BenchFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_KEY", KEY)
    with openai_server() as server:
        bench.write_hosts(other={"url": server.url, "shared": False, "api_key": "${OTHER_KEY}"})
        grid = {"prompt_tokens": [40], "output_tokens": [4]}
        bench.write_suite(hosts=["other"], models=["good", "broken"], grid=grid)
        result = bench.run("-vv", "--junitxml=junit.xml", "--log-level=DEBUG", "--showlocals")
        result.assert_outcomes(passed=1, errors=1)
    assert {seen.headers.get("authorization") for seen in server.seen} == {f"Bearer {KEY}"}
    written = [path.read_bytes() for path in bench.path.rglob("*") if path.is_file()]
    assert not [data for data in written if KEY.encode() in data]
    assert KEY not in result.stdout.str() + result.stderr.str()


def test_an_unset_key_is_an_error_of_its_host_alone(bench: BenchFolder) -> None:
    bench.write_hosts(other={"url": "http://127.0.0.1:9", "api_key": "${NO_SUCH_KEY}"})
    bench.write_suite(hosts=["other", "llama"])
    result = bench.run()
    result.assert_outcomes(passed=2, errors=2)
    result.stdout.fnmatch_lines(["other: api_key: the environment variable NO_SUCH_KEY is not set; set it"])


def test_collect_only_contacts_nothing_and_makes_nothing(bench: BenchFolder) -> None:
    with openai_server() as server:
        bench.write_hosts(other={"url": server.url, "shared": False})
        bench.write_suite(hosts=["other", "embedded"], models=["good"])
        assert bench.run("--collect-only").ret == 0
    assert server.seen == []
    assert not (bench.path / ".boobench").exists()


def test_a_store_that_cannot_be_opened_ends_the_session_first(bench: BenchFolder) -> None:
    with openai_server() as server:
        bench.write_hosts(other={"url": server.url, "shared": False})
        bench.write_suite(hosts=["other"], models=["good"])
        (bench.path / "no.db").write_text("this is no database, however long one looks at it" * 10)
        result = bench.run("--boobench-store", str(bench.path / "no.db"))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*no.db*"])
    assert "Traceback" not in result.stderr.str() + result.stdout.str()
    assert server.seen == []


def test_a_store_that_fails_later_loses_nothing(bench: BenchFolder) -> None:
    bench.write_suite()
    bench.pytester.makeconftest(
        """
        def pytest_boobench_cell_finished(config):
            store = config.pluginmanager.get_plugin("boobench-recorder").open_store()
            store.close()
            with open(".boobench/store.db", "r+b") as file:
                file.write(b"x" * 4096)
        """
    )
    result = bench.run()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["the store failed: *; 1 cell kept in *spool-*.jsonl: the next run takes them in, or boobench store import"]
    )
    (spool,) = (bench.path / ".boobench").glob("spool-*.jsonl")
    assert [
        (line["record"] is not None, line["status"]) for line in map(json.loads, spool.read_text().splitlines())
    ] == [
        (True, None),
        (True, None),
        (False, "finished"),
    ]


def test_hooks(bench: BenchFolder) -> None:
    bench.write_suite()
    bench.pytester.makeconftest(
        """
        def pytest_boobench_cell_finished(record, verdicts):
            print("finished", record.identity["prompt_tokens"], [verdict.outcome for verdict in verdicts])

        def pytest_boobench_acquire_host_access(host, purpose):
            print("asked for", host, purpose)
        """
    )
    result = bench.run("-s")
    result.stdout.fnmatch_lines(["*asked for llama bench*", "finished 16 [[]'no baseline', 'no baseline'[]]"])


def test_a_conftest_may_refuse(bench: BenchFolder) -> None:
    bench.write_suite()
    bench.pytester.makeconftest(
        """
        from pytest_boobench.errors import HostError

        def pytest_boobench_acquire_host_access(host):
            raise HostError(f"{host}: booked until six")
        """
    )
    result = bench.run()
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["llama: booked until six"])


def test_xfail_takes_a_regression_and_saves_nothing(bench: BenchFolder) -> None:
    bench.write_suite(
        grid={"prompt_tokens": [16], "output_tokens": [4]}, samples=5, marks=[{"xfail": "known"}], **LITERAL
    )
    bench.run("--boobench-save-baseline").assert_outcomes(xpassed=1)
    scale_baselines(bench, 20.0)
    bench.run("--boobench-save-baseline").assert_outcomes(xfailed=1)
    assert query(bench, "select count(*) from bench_baselines") == [(1,)]


def test_ci_and_git_facts_are_stored(bench: BenchFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_JOB", "bench")
    for words in (
        ["init", "-q"],
        ["-c", "user.name=n", "-c", "user.email=e", "commit", "-q", "--allow-empty", "-m", "x"],
    ):
        bench.pytester.run("git", *words)
    bench.write_suite()
    bench.run("--junitxml=junit.xml")
    ((ci, commit, dirty),) = query(bench, "select ci, git_commit, git_dirty from bench_runs")
    assert '"github"' in ci
    assert '"bench"' in ci
    assert len(commit) == 40
    assert dirty == 0
    suite_properties = ET.parse(bench.path / "junit.xml").getroot().iter("property")
    assert {"boobench.git_commit", "boobench.session"} <= {entry.attrib["name"] for entry in suite_properties}


def test_a_slower_server_turns_items_red(bench: BenchFolder, tmp_path: Path) -> None:
    """The same model file on a server that is halted for nine tenths of the time: real timings, really slower."""
    grid = {"prompt_tokens": [128], "output_tokens": [64]}
    with start(EmbeddedSettings(layers=4, width=256, feed_forward=512), cache=tmp_path) as server:
        bench.write_hosts(own={"server": "llama-server", "url": server.url, "shared": False})
        bench.write_suite(hosts=["own"], samples=5, grid=grid, gate={"decode_tok_s": "35%"}, **LITERAL)
        bench.run("--boobench-save-baseline").assert_outcomes(passed=1)
        with slowed(server):
            result = bench.run()
    result.assert_outcomes(failed=1)
    result.stdout.re_match_lines([r"decode .* below baseline main .*, 35 % allowed"])


class slowed:
    """Halts a server for nine tenths of the time, so often that each request has the same share of it."""

    def __init__(self, server: EmbeddedServer) -> None:
        self._pid = server.pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._halt)

    def _halt(self) -> None:
        import os
        import signal

        while not self._over.is_set():
            os.kill(self._pid, signal.SIGSTOP)
            time.sleep(0.009)
            os.kill(self._pid, signal.SIGCONT)
            time.sleep(0.001)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()


def test_two_machines_never_bench_one_host_at_once(bench: BenchFolder) -> None:
    """In a store that is shared; the other machine is played by a lease of its own."""
    bench.write_suite(hosts=["llama", "embedded"])
    bench.write_hosts(embedded={"server": "embedded", "layers": 1, "width": 256, "feed_forward": 256})
    team = str(bench.path / "team.db")
    bench.run("--boobench-store", team).assert_outcomes(passed=4)
    address = f"this machine on {platform.node()}"
    with Store.open(team) as store:
        assert store.take_lease(address, "ann on ci-2, job nightly", "other") is None, "the first session gave it back"
        result = bench.run("--boobench-store", team)
        result.assert_outcomes(passed=2, errors=2)
        result.stdout.re_match_lines(
            [
                r"llama: its machine \(this machine on .*\) is leased by another boobench session "
                r"\(ann on ci-2, job nightly\) since [\d:]+ UTC, last heard of at [\d:]+; "
                r"wait for it with --boobench-wait 10m"
            ]
        )
        release = threading.Timer(1.0, store.give_leases_back, ("other",))
        release.start()
        bench.run("--boobench-store", team, "--boobench-wait", "60s").assert_outcomes(passed=4)
        release.join()
