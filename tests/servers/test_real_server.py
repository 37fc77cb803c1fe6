"""The product on a real llama-server with all its flags: measured, or one sentence that names the flag."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
import yaml

from pytest_boobench.cli import main
from pytest_boobench.hosts.embedded import EmbeddedSettings, provide_model
from tests.conftest import CHECKOUT, LIGHT, PATIENT, PLUGINS, BenchFolder, name_plugins
from tests.real_llama_server import RealServer, behind_tls, serve

KEY = "sk-real-7f3a9c"
CHAT = {"ttft_ms", "prefill_tok_s", "decode_tok_s", "e2e_ms"}
EMBEDDING = {"embed_tok_s"}
SPECULATING = {"ttft_ms", "prefill_tok_s", "e2e_ms"}
"""Whose decode rate the server's clock may not carry: the client's does, or it is blank."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded host's model, small enough that a cell takes milliseconds; served once, to see that it can be."""
    path = provide_model(LIGHT, tmp_path_factory.mktemp("gguf"))
    with serve("-m", path, "-c", "256"):
        return path


@dataclass(frozen=True, slots=True)
class Measured:
    """What a session left behind."""

    result: pytest.RunResult
    report: Mapping[str, Any]

    @property
    def cells(self) -> list[dict[str, Any]]:
        cells: list[dict[str, Any]] = self.report["cells"]
        return cells

    @property
    def names(self) -> list[str]:
        return [cell["node_id"].partition("::")[2] for cell in self.cells]

    @property
    def error(self) -> str:
        """Why the only cell, or the first, could not be measured: one line."""
        text: str = self.cells[0].get("error", "")
        assert "\n" not in text
        return text


def run(bench: BenchFolder, *args: str) -> Measured:
    result = bench.run("--boobench-json", "found.json", "--boobench-json-samples", *args)
    return Measured(result, json.loads((bench.path / "found.json").read_text()))


def measure(
    bench: BenchFolder, url: str, model: str, *, host: Mapping[str, object] | None = None, **suite: Any
) -> Measured:
    """A session of a suite of one cell on a host called ``real``."""
    bench.write_hosts(real={"url": url, **(host or {})})
    grid = {"prompt_tokens": [64], "output_tokens": [16], **suite.pop("grid", {})}
    return run(bench, str(bench.write_suite(hosts=["real"], models=[model], grid=grid, **suite)))


def write_first_suite(bench: BenchFolder, url: str, *args: str) -> list[Path]:
    """``boobench init`` in the bench folder; its suites, with fewer requests than it wrote."""
    assert main(["init", url, "--force", "--name", "real", *args]) == 0
    suites = sorted((bench.path / "suites").iterdir())
    for suite in suites:
        text = suite.read_text(encoding="utf-8")
        assert "samples: 12 " in text
        suite.write_text(text.replace("samples: 12 ", "warmup: 1\nsamples: 3 "), encoding="utf-8")
    return suites


def require_numbers(measured: Measured, metrics: set[str]) -> None:
    """Each cell has these metrics, exact counts, and nothing that was served from a cache."""
    for cell in measured.cells:
        assert cell.get("error") is None
        assert metrics <= cell["aggregates"].keys()
        assert all(cell["aggregates"][key]["median"] > 0 for key in metrics)
        identity = cell["identity"]
        for sample in cell["samples"]:
            assert sample.get("error") is None
            assert sample["prompt_tokens"] == identity["prompt_tokens"]
            assert not sample.get("cached_tokens")
            assert sample.get("output_tokens") == identity["output_tokens"]


@pytest.mark.usefixtures("bench")
def test_from_the_url_to_a_verdict_as_a_user_types_it(tmp_path: Path, model: Path) -> None:
    """Each step in a process of its own, in an empty folder."""
    (tmp_path / "patient.py").write_text(PATIENT)
    fast = f"{name_plugins(*PLUGINS)} -p patient -o boobench_quiet=0s -o boobench_block_gap=0s -p no:cacheprovider"
    paths = os.pathsep.join(part for part in (str(tmp_path), str(CHECKOUT), os.environ.get("PYTHONPATH")) if part)
    environment = {**os.environ, "PYTEST_ADDOPTS": fast, "PYTHONPATH": paths}

    def do(*command: str) -> str:
        module = {"boobench": "pytest_boobench.cli"}.get(command[0], command[0])
        done = subprocess.run(
            [sys.executable, "-m", module, *command[1:]],
            check=False,
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    with serve("-m", model, "-c", "256", "-np", "1") as server:
        assert f" at {server.url}, 1 model" in do("boobench", "init", server.url)
        assert f"  {model}  ready" in do("boobench", "hosts").splitlines()
        assert do("boobench", "check") == "suites/chat.boobench.yaml: chat: 1 cell\n"
        saved = do("pytest", "--boobench", "suites/", "--boobench-save-baseline", "-v")
        assert "suites/chat.boobench.yaml::local::tiny-l1-w256-f256-v1[pp128-tg64-c1] PASSED" in saved
        assert "1 cell saved as baseline main" in saved
        assert "::local::tiny-l1-w256-f256-v1[pp128-tg64-c1]" in do("boobench", "baseline", "show", "--json")
        # Others use this machine too: what is tested is that there is a verdict, not which.
        again = do("pytest", "--boobench", "suites/", "--boobench-json", "again.json", "--boobench-max-drop", "100%")
        assert "no baseline" not in again
        (cell,) = json.loads((tmp_path / "again.json").read_text())["cells"]
        assert cell["identity"]["model"] == str(model)
        assert {verdict["metric"] for verdict in cell["verdicts"]} == {"decode_tok_s", "prefill_tok_s"}
        assert all(verdict["baseline"] for verdict in cell["verdicts"])


@dataclass(frozen=True, slots=True)
class Flags:
    """A row of the table: how the server is started, and what `init` and a session make of it."""

    flags: tuple[str, ...]
    cells: tuple[str, ...]
    """Of the suite that `init` writes, as their node ids end."""
    prefix: str = ""
    metrics: frozenset[str] = frozenset(CHAT)


STEM = "tiny-l1-w256-f256-v1"
TABLE = {
    "default": Flags(("-c", "2048"), (f"{STEM}[pp512-tg128-c1]", f"{STEM}[pp512-tg128-c3]")),
    "one slot": Flags(("-c", "256", "-np", "1"), (f"{STEM}[pp128-tg64-c1]",)),
    "four slots": Flags(("-c", "8192", "-np", "4"), (f"{STEM}[pp512-tg128-c1]", f"{STEM}[pp512-tg128-c3]")),
    "a context of 256 that four slots share": Flags(("-c", "256"), (f"{STEM}[pp128-tg64-c1]",)),
    "a context of 256 for each of four slots": Flags(("-c", "256", "-np", "4"), (f"{STEM}[pp128-tg64-c1]",)),
    "metrics": Flags(("-c", "256", "-np", "1", "--metrics"), (f"{STEM}[pp128-tg64-c1]",)),
    "no slots": Flags(("-c", "256", "-np", "1", "--no-slots"), (f"{STEM}[pp128-tg64-c1]",)),
    "alias": Flags(
        ("-c", "256", "-np", "1", "--alias", "org/My Model:Q4_K_M"), ("org/My Model:Q4_K_M[pp128-tg64-c1]",)
    ),
    "prefix": Flags(("-c", "256", "-np", "1"), (f"{STEM}[pp128-tg64-c1]",), prefix="/llm"),
    "embedding": Flags(
        ("-c", "2048", "-np", "2", "--embedding", "--pooling", "mean"),
        tuple(f"{STEM}[pp{length}-c{lanes}]" for length in (128, 512) for lanes in (1, 2)),
        metrics=frozenset(EMBEDDING),
    ),
    "no prompt cache": Flags(("-c", "256", "-np", "1", "--no-cache-prompt"), (f"{STEM}[pp128-tg64-c1]",)),
    "cache reuse": Flags(("-c", "256", "-np", "1", "--cache-reuse", "32"), (f"{STEM}[pp128-tg64-c1]",)),
    "quantised cache": Flags(
        ("-c", "256", "-np", "1", "-ctk", "q8_0", "-ctv", "q8_0", "-fa", "on"), (f"{STEM}[pp128-tg64-c1]",)
    ),
    "n-gram speculation": Flags(
        ("-c", "256", "-np", "1", "--spec-type", "ngram-simple"),
        (f"{STEM}[pp128-tg64-c1]",),
        metrics=frozenset(SPECULATING),
    ),
}


@pytest.mark.parametrize("row", TABLE.values(), ids=TABLE.keys())
def test_what_init_writes_for_a_server_is_measured(bench: BenchFolder, model: Path, row: Flags) -> None:
    with serve("-m", model, *row.flags, prefix=row.prefix) as server:
        write_first_suite(bench, server.url)
        measured = run(bench, "suites/")
    measured.result.assert_outcomes(passed=len(row.cells))
    assert measured.names == [f"real::{name}" for name in row.cells]
    require_numbers(measured, set(row.metrics))
    assert {cell["standing"] for cell in measured.cells} <= {"no baseline", "inconclusive"}
    alias = row.flags[-1] if "--alias" in row.flags else str(model)
    assert {cell["identity"]["model"] for cell in measured.cells} == {alias}


def test_a_draft_model_is_measured(bench: BenchFolder, model: Path) -> None:
    """The same model drafts for itself: each of its guesses is right, and an event holds several tokens."""
    with serve("-m", model, "-md", model, "-c", "256", "-np", "1", "--spec-type", "draft-simple") as server:
        write_first_suite(bench, server.url)
        measured = run(bench, "suites/")
        drafted = httpx.post(f"{server.url}/completion", json={"prompt": "abc", "n_predict": 16}).json()["timings"]
    assert drafted["draft_n_accepted"] > 0
    measured.result.assert_outcomes(passed=1)
    require_numbers(measured, SPECULATING)


def test_lanes_that_share_a_context_leave_out_what_does_not_fit(bench: BenchFolder, model: Path) -> None:
    with serve("-m", model, "-c", "2560") as server:
        write_first_suite(bench, server.url)
        measured = run(bench, "suites/", "-rs")
    measured.result.assert_outcomes(passed=3, skipped=1)
    assert measured.names == [
        f"real::{STEM}[{cell}]" for cell in ("pp512-tg128-c1", "pp512-tg128-c4", "pp2048-tg128-c1")
    ]
    require_numbers(measured, CHAT)
    measured.result.stdout.fnmatch_lines(["*4 at once may not fit into 2560 tokens that slots may share*"])


def test_a_prompt_that_no_slot_has_room_for(bench: BenchFolder, model: Path) -> None:
    with serve("-m", model, "-c", "256", "-np", "1") as server:
        measured = measure(bench, server.url, str(model), grid={"prompt_tokens": [300]})
    measured.result.assert_outcomes(errors=1)
    assert "exceeds the available context size (256 tokens)" in measured.error


SHARED = {"prompt_tokens": [100], "output_tokens": [128], "concurrency": [4]}
"""One of them fits into 256 tokens of context, and no two."""


def test_lanes_that_no_shared_context_has_room_for(bench: BenchFolder, model: Path) -> None:
    with serve("-m", model, "-c", "256") as server:
        measured = measure(bench, server.url, str(model), grid=SHARED, samples=16)
    outcomes = measured.result.parseoutcomes()  # whether all of the lanes are refused, or all but one, is chance
    assert outcomes.get("errors", 0) + outcomes.get("failed", 0) == 1
    measured.result.stdout.fnmatch_lines(["*Context size has been exceeded*start the server with a larger -c*"])


def test_more_lanes_than_slots_are_measured_and_said(bench: BenchFolder, model: Path) -> None:
    with serve("-m", model, "-c", "256", "-np", "1") as server:
        measured = measure(bench, server.url, str(model), grid={"concurrency": [4]}, samples=4)
    measured.result.assert_outcomes(passed=1)
    require_numbers(measured, CHAT)
    said = [line for line in measured.result.outlines if "1 slot" in line and "4 lanes" in line]
    assert len(said) == 1


def test_without_slots_init_says_that_the_host_is_ours(bench: BenchFolder, model: Path) -> None:
    with serve("-m", model, "-c", "256", "-np", "1", "--no-slots") as server:
        write_first_suite(bench, server.url)
        text = (bench.path / "boobench.hosts.yaml").read_text()
        assert yaml.safe_load(text)["hosts"]["real"]["shared"] is False
        (said,) = (line.partition("# ")[2] for line in text.splitlines() if "shared:" in line)
        assert said == (
            "on this machine, so taken as yours alone: the server cannot tell with --no-slots and without --metrics"
        )
        measured = measure(bench, server.url, str(model))
    measured.result.assert_outcomes(errors=1)
    assert measured.error == (
        "real: its /slots and /metrics are both off, so it cannot tell whether others use it: start it without "
        "--no-slots, or with --metrics; if nobody does, say 'shared: false' in the hosts file, or measure all the same "
        "with --boobench-takeover"
    )


def test_without_slots_metrics_tell_of_others(bench: BenchFolder, model: Path) -> None:
    with serve("-m", model, "-c", "256", "-np", "1", "--no-slots", "--metrics") as server:
        write_first_suite(bench, server.url)
        assert "shared" not in yaml.safe_load((bench.path / "boobench.hosts.yaml").read_text())["hosts"]["real"]
        measured = measure(bench, server.url, str(model))
    measured.result.assert_outcomes(passed=1)
    assert measured.cells[0]["traffic"]["foreign_tokens"] == 0


def test_metrics_count_foreign_tokens(bench: BenchFolder, model: Path) -> None:
    with serve("-m", model, "-c", "256", "-np", "1", "--metrics") as server:
        measured = measure(bench, server.url, str(model))
    measured.result.assert_outcomes(passed=1)
    require_numbers(measured, CHAT)
    traffic = measured.cells[0]["traffic"]
    assert (traffic["concurrent_foreign_requests"], traffic["foreign_tokens"], traffic["notes"]) == (0, 0, [])


@pytest.mark.parametrize(("flags", "metrics"), [(("--embedding",), CHAT), (("--embedding", "--pooling", "none"), CHAT)])
def test_embeddings_without_pooling_are_no_suite(
    bench: BenchFolder, model: Path, flags: tuple[str, ...], metrics: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with serve("-m", model, "-c", "256", "-np", "1", *flags) as server:
        (suite,) = write_first_suite(bench, server.url)
        assert suite.name == "chat.boobench.yaml"
        said = capsys.readouterr().out
        measured = run(bench, "suites/")
    assert (
        "  real: no suite for embeddings: it was started with --embedding, but its pooling is none, which "
        "/v1/embeddings refuses; start it with --pooling mean"
    ) in said.splitlines()
    measured.result.assert_outcomes(passed=1)
    require_numbers(measured, metrics)


def test_an_embedding_model_without_the_flag(
    bench: BenchFolder, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve("-m", model, "-c", "256", "-np", "1", "--alias", "bge-m3") as server:
        assert main(["init", server.url, "--force", "--name", "real"]) == 1
    assert capsys.readouterr().err == "real: no suite for bge-m3: it was started without --embedding\n"


def test_a_server_that_sleeps_is_woken_by_a_warm_up(bench: BenchFolder, model: Path) -> None:
    with serve("-m", model, "-c", "256", "-np", "1", "--sleep-idle-seconds", "1") as server:
        write_first_suite(bench, server.url)
        wait_until(lambda: httpx.get(f"{server.url}/props").json()["is_sleeping"])
        measured = run(bench, "suites/")
    measured.result.assert_outcomes(passed=1)
    require_numbers(measured, CHAT)


def wait_until(seen: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not seen():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_warm_cell_is_served_from_the_cache(bench: BenchFolder, model: Path) -> None:
    """Also by a server that was told not to: a request's own word counts."""
    for flags in ((), ("--no-cache-prompt",)):
        with serve("-m", model, "-c", "256", "-np", "1", *flags) as server:
            measured = measure(bench, server.url, str(model), cache="warm")
        measured.result.assert_outcomes(passed=1)
        samples = [sample for sample in measured.cells[0]["samples"] if sample["phase"] == "measure"]
        assert {sample["cached_tokens"] for sample in samples} == {63}


def test_a_key(
    bench: BenchFolder, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REAL_KEY", KEY)
    with serve("-m", model, "-c", "256", "-np", "1", "--api-key", KEY) as server:
        write_first_suite(bench, server.url, "--api-key-env", "REAL_KEY")
        hosts = yaml.safe_load((bench.path / "boobench.hosts.yaml").read_text())["hosts"]
        assert hosts["real"] == {"server": "llama-server", "url": server.url, "api_key": "${REAL_KEY}"}
        measured = run(bench, "suites/", "-v", "--junitxml=junit.xml")
    measured.result.assert_outcomes(passed=1)
    require_numbers(measured, CHAT)
    written = [path for path in bench.path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    assert not written
    assert KEY not in measured.result.stdout.str() + measured.result.stderr.str() + "".join(capsys.readouterr())


def test_a_key_that_is_missing_or_wrong(
    bench: BenchFolder, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WRONG_KEY", "sk-another-1234")
    with serve("-m", model, "-c", "256", "-np", "1", "--api-key", KEY) as server:
        assert main(["init", server.url, "--force", "--name", "real"]) == 1
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1
        assert "--api-key-env" in error
        hosts: list[dict[str, object]] = [{}, {"api_key": "${WRONG_KEY}"}]
        for host in hosts:
            measured = measure(bench, server.url, str(model), host=host)
            measured.result.assert_outcomes(errors=1)
            assert "api_key" in measured.error


def test_tls(bench: BenchFolder, model: Path) -> None:
    """This build of llama-server has no TLS, so that a proxy has it: what is tested is our side of it."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(bench.path / "ca.pem")
    with serve("-m", model, "-c", "256", "-np", "1") as server, behind_tls(server.url, context) as url:
        untrusted = measure(bench, url, str(model))
        measured = measure(bench, url, str(model), host={"verify": "ca.pem"})
    untrusted.result.assert_outcomes(errors=1)
    assert "; name its CA's file as verify in the hosts file" in untrusted.error
    measured.result.assert_outcomes(passed=1)
    require_numbers(measured, CHAT)
    assert measured.cells[0]["server"]["kind"] == "llama-server"


def test_a_router_of_two_models(bench: BenchFolder, model: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    for name in ("one", "two"):
        shutil.copy(model, models / f"{name}.gguf")
    with serve("--models-dir", models, "-c", "2048", "--models-max", "2") as server:
        (suite,) = write_first_suite(bench, server.url)
        text = suite.read_text()
        written = yaml.safe_load(text)
        assert written["models"] == ["one"]
        assert "# - two" in text.splitlines()
        assert written["grid"] == {"prompt_tokens": [512], "output_tokens": [128], "concurrency": [1, 3]}
        suite.write_text(text.replace("# - two", "- two"))
        measured = run(bench, "suites/")
    measured.result.assert_outcomes(passed=4)
    assert measured.names == [f"real::{name}[pp512-tg128-c{lanes}]" for name in ("one", "two") for lanes in (1, 3)]
    require_numbers(measured, CHAT)
    assert {cell["server"]["kind"] for cell in measured.cells} == {"llama-router"}
    assert [cell.get("load_ms") is not None for cell in measured.cells] == [True, False, True, False]


def test_killed_in_the_middle_of_a_cell(bench: BenchFolder, model: Path) -> None:
    with serve("-m", model, "-c", "256", "-np", "1") as server:

        def kill() -> None:
            wait_until(lambda: server.read_log().count("stop processing") > 5)
            server.kill()

        killer = threading.Thread(target=kill)
        killer.start()
        measured = measure(bench, server.url, str(model), samples=2000, cache="warm", grid={"output_tokens": [64]})
        killer.join()
    measured.result.assert_outcomes(errors=1)
    assert measured.error.startswith("real: the host died in the middle of the cell, after ")


@pytest.fixture
def slow_to_load(tmp_path: Path) -> Path:
    """A model with which loading takes seconds, most of them for the memory of a long context."""
    return provide_model(EmbeddedSettings(layers=24, width=256, feed_forward=256), tmp_path)


def test_a_server_that_still_loads_is_waited_for(bench: BenchFolder, slow_to_load: Path) -> None:
    with serve("-m", slow_to_load, "-c", "32768", "-np", "1", ready=False) as server:
        server.wait_until_loading()
        assert main(["init", server.url, "--force", "--name", "real"]) == 0
    with serve("-m", slow_to_load, "-c", "32768", "-np", "1", ready=False) as server:
        server.wait_until_loading()
        measured = measure(bench, server.url, str(slow_to_load), host={"server": "llama-server"})
    measured.result.assert_outcomes(passed=1)
    require_numbers(measured, CHAT)


def test_numbers_are_those_of_the_servers_own_log(bench: BenchFolder, model: Path) -> None:
    """Prefill and decode of twenty requests against the lines that the server wrote of them, each within 1 %."""
    with serve("-m", model, "-c", "2048", "-np", "1") as server:
        measured = measure(
            bench,
            server.url,
            str(model),
            samples=20,
            max_samples=20,
            grid={"prompt_tokens": [512], "output_tokens": [64]},
        )
        logged = server.read_timings()
    measured.result.assert_outcomes(passed=1)
    samples = [sample for sample in measured.cells[0]["samples"] if sample["phase"] == "measure"]
    assert len(samples) == 20
    before = len(logged) - len(samples)
    assert before == len([sample for sample in measured.cells[0]["samples"] if sample["phase"] == "warmup"])
    for sample, line in zip(samples, logged[before:], strict=True):
        assert (sample["prompt_tokens"], sample["output_tokens"]) == (line.prompt_tokens, line.eval_tokens) == (512, 64)
        prefill_tok_s = line.prompt_tokens / line.prompt_ms * 1000
        decode_tok_s = (line.eval_tokens - 1) / line.eval_ms * 1000
        assert sample["prefill_tok_s"] == pytest.approx(prefill_tok_s, rel=0.01)
        assert sample["decode_tok_s"] == pytest.approx(decode_tok_s, rel=0.01)


def test_two_models_of_one_stem_have_names_of_their_own(bench: BenchFolder, model: Path, tmp_path: Path) -> None:
    """Each is called by its path, as a server without an alias calls it."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(model, tmp_path / folder / "tiny.gguf")
    first, second = (str(tmp_path / folder / "tiny.gguf") for folder in ("a", "b"))
    with serve("-m", first, "-c", "256", "-np", "1", "--alias", f"{first},{second}") as server:
        bench.write_hosts(real={"url": server.url})
        bench.write_suite(
            hosts=["real"], models=[first, second], grid={"prompt_tokens": [64], "output_tokens": [16]}, samples=2
        )
        measured = run(bench, "-v", "--boobench-save-baseline")
        chosen = bench.run("--collect-only", "-q", "-k", "b/tiny")
    measured.result.assert_outcomes(passed=2)
    assert measured.names == ["real::a/tiny[pp64-tg16-c1]", "real::b/tiny[pp64-tg16-c1]"]
    assert [cell["identity"]["model"] for cell in measured.cells] == [first, second]
    measured.result.stdout.fnmatch_lines(["smoke.boobench.yaml::real::a/tiny[[]pp64-tg16-c1[]] PASSED*"])
    measured.result.stdout.fnmatch_lines(["    b/tiny[[]pp64-tg16-c1[]] *"])
    assert [line for line in chosen.outlines if "::" in line] == ["smoke.boobench.yaml::real::b/tiny[pp64-tg16-c1]"]


def test_the_binary_ends_with_its_with(model: Path) -> None:
    with serve("-m", model, "-c", "256") as server:
        assert isinstance(server, RealServer)
        assert server.ask("/health") == httpx.codes.OK
    assert server.process.returncode is not None
    assert server.ask("/health") is None


@pytest.mark.parametrize(
    ("flags", "lanes"),
    [
        pytest.param(("-np", "2", "--metrics"), [1, 2], id="a slot for each lane"),
        pytest.param(("--metrics",), [1, 2], id="slots that share a context"),
        pytest.param(("--cache-ram", "256"), [2], id="slots that are cleared into the RAM cache"),
        pytest.param(("-np", "1", "--no-cache-prompt"), [1], id="caching is off but for who asks"),
    ],
)
@pytest.mark.parametrize("kind", ["chat", "completion"])
def test_a_depth_comes_from_the_cache(
    bench: BenchFolder, model: Path, kind: str, flags: tuple[str, ...], lanes: list[int]
) -> None:
    with serve("-m", model, "-a", STEM, "-c", "4096", *flags) as server:
        grid = {"prompt_tokens": [48], "output_tokens": [8], "concurrency": lanes, "depth_tokens": [0, 900]}
        measured = measure(bench, server.url, STEM, kind=kind, samples=4, grid=grid)
        logged = server.read_timings()
    cells = measured.cells
    assert len(cells) == 2 * len(lanes)
    for cell in cells:
        assert cell.get("error") is None
        depth = cell["identity"].get("depth_tokens", 0)
        counts = {(sample["prompt_tokens"], sample.get("cached_tokens")) for sample in cell["samples"]}
        assert counts == {(depth + 48, depth)}
        assert not cell["traffic"]["concurrent_foreign_requests"]
        assert not cell["traffic"].get("foreign_tokens")
    assert sum(timing.prompt_tokens > 800 for timing in logged) == max(lanes), "each lane's context, once"


def test_a_depth_that_a_slot_has_no_room_for(bench: BenchFolder, model: Path) -> None:
    with serve("-m", model, "-a", STEM, "-c", "1024", "-np", "2") as server:
        grid = {"prompt_tokens": [48], "output_tokens": [8], "depth_tokens": [900]}
        measured = measure(bench, server.url, STEM, grid=grid)
        assert server.read_timings() == []
    assert measured.error.startswith(
        "real: depth_tokens: a request needs 956 tokens of context (900 of depth, 48 of the"
    )
