"""A key that a server sends back in every field of every answer is in no file and no output; nor is what steers a
terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

from pytest_boobench import baseline_file, untrusted
from pytest_boobench.cli import main
from pytest_boobench.facts import ServerFacts
from pytest_boobench.record import Verdict
from pytest_boobench.store import BaselineSave, Selection, Store, spool
from tests import kinds_stand_in as kinds
from tests.conftest import BenchFolder
from tests.echoing import FORMS, KEY, MODELS, EchoServer, Llama, echoing
from tests.fault_server import FaultServer
from tests.llama_swap_stand_in import LlamaSwapStandIn
from tests.making import make_model
from tests.store.test_store_history import make, make_run, make_samples
from tests.store.test_store_intake import make_entry

NEEDLES = sorted({part for form in FORMS for part in (form, form[:8], form[-8:])})
STEERING = re.compile(rb"[\x00\x1b]|(?<![\x80-\xff])\x9b|\xc2\x9b")
VARIABLE = "BENCH_TEST_KEY"
ANSWERING = ("good", "odd")
FAILING = tuple(name for name in MODELS[:-2] if name not in ANSWERING)


@contextmanager
def echo_hosts() -> Iterator[dict[str, dict[str, object]]]:
    """Hosts of all kinds that can be had, as a hosts file has them."""
    with ExitStack() as stack:
        llama = stack.enter_context(EchoServer(Llama())).url
        ollama = stack.enter_context(EchoServer(kinds.Ollama(("good", "broken", f"m-{KEY}")))).url
        vllm = stack.enter_context(EchoServer(kinds.Vllm(("good", f"m-{KEY}")))).url
        studio = stack.enter_context(EchoServer(kinds.LmStudio(("good",), ("good",)))).url
        router = stack.enter_context(EchoServer(kinds.Router(("good",), ("good",)))).url
        swap = LlamaSwapStandIn({"good": llama, "broken": llama})
        swap._server = FaultServer({"stream": echoing(swap._answer)})
        stack.enter_context(swap)
        with FaultServer() as gone:
            nobody = gone.url
        urls = {
            "llama-server": llama,
            "openai": llama,
            "ollama": ollama,
            "vllm": vllm,
            "lmstudio": studio,
            "llama-swap": swap.url,
        }
        hosts: dict[str, dict[str, object]] = {
            f"h-{kind}": {"server": kind, "url": url, "api_key": f"${{{VARIABLE}}}", "shared": False}
            for kind, url in urls.items()
        }
        common = {"api_key": f"${{{VARIABLE}}}"}
        hosts["h-found-out"] = {"url": llama, **common}
        hosts["h-router"] = {"server": "llama-server", "url": router, "shared": False, **common}
        hosts["h-gone"] = {"server": "openai", "url": nobody, "shared": False, **common}
        yield hosts


def find_leaks(text: bytes) -> list[str]:
    """Which parts of the key are there."""
    return [needle for needle in NEEDLES if needle.encode() in text]


def require_no_key_in(folder: Path) -> None:
    """Every byte of every file."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 5
    leaks = {str(path.relative_to(folder)): found for path in files if (found := find_leaks(path.read_bytes()))}
    assert leaks == {}


def require_nothing_steers(*files: Path) -> None:
    for path in files:
        assert not STEERING.search(path.read_bytes()), f"{path}: {STEERING.search(path.read_bytes())}"


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[BenchFolder]:
    """Suites for hosts that all know the key."""
    monkeypatch.setenv(VARIABLE, KEY)
    with echo_hosts() as hosts:
        bench = BenchFolder(pytester, "http://127.0.0.1:1")
        bench.hosts = {}
        bench.write_hosts(**hosts)
        small = {"grid": {"prompt_tokens": [40], "output_tokens": [4]}, "samples": 1, "warmup": 0}
        for kind in hosts:
            models = ["good", "broken"] if kind in ("h-ollama", "h-llama-swap") else ["good"]
            if kind == "h-llama-server":
                models = [*ANSWERING, *FAILING]
            if kind == "h-openai":
                models = ["good", "broken", "page"]
            bench.write_suite(kind, hosts=[kind], models=models, **small)
        yield bench


OUTPUTS = (
    "--boobench-json=out.json",
    "--boobench-json-samples",
    "--boobench-report=out.html",
    "--boobench-summary=out.md",
    "--boobench-metrics=out.txt",
    "--junitxml=out.xml",
    "--boobench-progress=out.jsonl",
    "--boobench-save-baseline",
    "--boobench-baseline-file=base.yaml",
    "--benchmark-json=out-benchmark.json",
)


LOG = ("--log-file=out.log", "--log-file-level=DEBUG")


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "xdist"])
def test_no_output_of_a_session_has_the_key(project: BenchFolder, workers: tuple[str, ...]) -> None:
    result = project.run_apart("--color=no", "-vv", "-ra", "--log-level=DEBUG", *LOG, *workers, *OUTPUTS)
    told = result.stdout.str() + result.stderr.str()
    assert "INTERNALERROR" not in told
    assert "[secret]" in told, "the servers did send it"
    assert find_leaks(told.encode()) == []
    require_no_key_in(project.path)
    written = [project.path / f"out.{end}" for end in ("json", "html", "md", "txt", "xml", "jsonl")]
    require_nothing_steers(*written, project.path / "base.yaml", project.path / "stdout", project.path / "stderr")
    with Store.open(str(project.path / ".boobench" / "store.db"), create=False) as store:
        found = store.measurements(Selection())
    assert "httpcore" in (project.path / "out.log").read_text() or workers
    good = {one.run.host for one in found if one.error is None and one.failed == 0}
    assert good >= set(project.hosts) - {"h-gone"}, "what answers well is measured all the same"


def test_no_verb_tells_the_key(
    project: BenchFolder, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    project.run_apart("--color=no", "--boobench-save-baseline", "-k", "h-llama-server or h-ollama")
    monkeypatch.chdir(project.path)
    capfdbinary.readouterr()
    urls = {name: str(host["url"]) for name, host in project.hosts.items()}
    with_key = ("--api-key-env", VARIABLE)
    told = b""
    for words in (
        ("check",),
        ("hosts",),
        ("hosts", "--json"),
        ("doctor", "--hosts", "boobench.hosts.yaml"),
        ("doctor", "--hosts", "boobench.hosts.yaml", "--json"),
        ("history",),
        ("history", "--json"),
        ("compare", "main", "-v"),
        ("compare", "h-llama-server", "h-ollama", "--json"),
        ("export",),
        ("export", "--samples"),
        ("export", "--format", "csv"),
        ("export", "--format", "normalized", "-o", "normalized"),
        ("report", "-o", "verb.html"),
        ("baseline", "list"),
        ("baseline", "show"),
        ("baseline", "export", "-"),
        ("store", "import"),
        *(("init", url, *with_key, "--dry-run") for url in urls.values()),
        *(("init", urls[name], *with_key, "--measure", "--force") for name in ("h-llama-server", "h-ollama")),
    ):
        code = main(words)
        out, err = capfdbinary.readouterr()
        assert code in (0, 1), f"{words}: {out + err!r}"
        assert find_leaks(out + err) == [], f"{words}: {out + err!r}"
        assert not STEERING.search(out + err), f"{words}: {out + err!r}"
        told += out + err
    assert told.count(b"[secret]") > 10, "the servers did send it"
    assert yaml.safe_load((project.path / "suites" / "chat.boobench.yaml").read_text())["models"] == ["good"]
    require_no_key_in(project.path)


def test_a_key_is_hidden_wherever_facts_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second look, where no server's text was cleaned before: the spool, the store, a baseline file."""
    untrusted.learn_secret(KEY)
    server = ServerFacts(kind="openai", url="http://x", engine_build=KEY, extra={KEY: [KEY[:9]]})
    samples = [replace(sample, finish_reason=KEY, timings={KEY: KEY}) for sample in make_samples()]
    record = make(samples=samples, server=server, model=make_model(name=KEY), extended=f"x {KEY}")
    run = make_run("a", user=KEY, ci={"job": KEY}, metadata={"driver": KEY})
    verdict = Verdict(metric="decode_tok_s", outcome="inconclusive", reason=KEY, note=KEY[-9:])
    with Store.open(str(tmp_path / "store.db")) as store:
        cell = store.record(store.start_run(run), record)
        store.record_verdicts(cell, [verdict], save_as=BaselineSave(name="main", reason=KEY))
        store.finish_run(1, "finished")
        monkeypatch.setattr(untrusted, "_SECRETS", untrusted._Secrets())
        stored = store.export_baseline("main", Selection())
    untrusted.learn_secret(KEY)
    spool.append(tmp_path / "spool-a.jsonl", make_entry(run=run, record=record, verdicts=(verdict,)))
    baseline_file.write(tmp_path / "stored.yaml", stored)
    saved = baseline_file.SavedRun(run=run, record=record, saved_at=1.0, reason=KEY)
    baseline_file.write(tmp_path / "straight.yaml", baseline_file.BaselineFile(name="main", runs=(saved,)))
    for path in tmp_path.iterdir():
        assert find_leaks(path.read_bytes()) == [], path
    assert "[secret]" in (tmp_path / "stored.yaml").read_text()


def test_the_password_of_a_store_is_in_no_message(project: BenchFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """From wherever the session has it, in all of its processes."""
    monkeypatch.setenv("BOOBENCH_STORE", f"postgresql://me:{quote(KEY, safe='')}@127.0.0.1:1/bench")
    result = project.run_apart("--color=no", "-k", "h-llama-server", "-n", "1")
    told = result.stdout.str() + result.stderr.str()
    assert "postgresql://me:***@127.0.0.1:1/bench: " in told
    assert find_leaks(told.encode()) == []
    assert result.ret != 0


URL = f"http://me:{quote(KEY, safe='')}@10.0.0.7"
TYPED: dict[str, tuple[str, ...]] = {
    "the page": ("init", URL),
    "a query": ("init", f"http://10.0.0.7/?api_key={quote(KEY, safe='')}"),
    "in place of the variable": ("init", "http://10.0.0.7", "--api-key-env", KEY),
    "a command line": (
        "ab",
        f"llama-server --api-key {quote(KEY, safe='')}",
        f"LLAMA_API_KEY={quote(KEY, safe='')} x y",
    ),
    "a url of a side": ("ab", URL, URL),
    "a store": ("history", "--store", f"postgresql://me:{quote(KEY, safe='')}@127.0.0.1:1/bench"),
}
"""Where somebody types it on the command line."""
IN_FILES = {
    "api_key": f"{{url: http://h, api_key: '{KEY}'}}",
    "url": f"{{url: '{URL}'}}",
    "proxy": f"{{url: http://h, proxy: '{URL}'}}",
    "headers": f"{{url: http://h, headers: {{Authorization: '{KEY}'}}}}",
    "start": f"{{start: {{command: \"nothing-there --port {{port}} --api-key '{KEY}'\"}}}}",
    "environment": f"{{start: {{command: 'nothing-there {{port}}', env: {{API_KEY: '{KEY}'}}}}}}",
}
"""Where somebody writes it into the hosts file."""


@pytest.mark.parametrize("where", TYPED)
def test_no_verb_repeats_a_key_that_is_typed(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(TYPED[where]) != 0
    out, err = capfdbinary.readouterr()
    assert (find_leaks(out + err), b"Traceback" in err) == ([], False), out + err


@pytest.mark.parametrize("where", IN_FILES)
def test_no_output_repeats_a_key_that_is_written_into_the_hosts_file(
    where: str, bench: BenchFolder, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    (bench.path / "boobench.hosts.yaml").write_text(f"hosts: {{h: {IN_FILES[where]}}}\n")
    bench.write_suite(hosts=["h"])
    monkeypatch.chdir(bench.path)
    result = bench.run("-vv", "--boobench-json=out.json", "--junitxml=out.xml")
    assert result.ret != pytest.ExitCode.OK
    for verb in ("check", "hosts"):
        main((verb,))
    out, err = capfdbinary.readouterr()
    told = out + err + (result.stdout.str() + result.stderr.str()).encode()
    assert (find_leaks(told), b"Traceback" in told) == ([], False), told
    for path in bench.path.rglob("*"):
        assert path.name == "boobench.hosts.yaml" or not path.is_file() or find_leaks(path.read_bytes()) == [], path


LIKELY = (
    "sk-proj-9aB3dE5fG7hJ9kL1mN3pQ5rS",
    "hf_aZbYcXdWeVfUgThSiRjQkPlOmNn0912",
    "ghp_0123456789abcdefABCDEF0123456789abcd",
    "glpat-x9Yz1-23456_789abcdef",
    "xoxb-123456789012-abcdefABCDEF",
    "AKIAIOSFODNN7EXAMPLE",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9",
    "q7W3e9R1t5Y8u2I6o4P0a7S3",
)
"""What looks like a key, typed where none belongs and none is known."""
MISTYPED_HOSTS = (
    "{{url: http://h, {key}: 1}}",
    "{{url: http://h, shared: {key}}}",
    "{{url: http://h, server: {key}}}",
    "{{url: {key}}}",
    "{{url: http://h, verify: {{{key}: x}}}}",
    "{{start: {{command: [a, '{{port}}'], ready: {key}}}}}",
    "{{url: http://h, models: {{m: {{reference: {key}}}}}}}",
)
MISTYPED_SUITES = (
    "{key}: 1",
    "samples: {key}",
    "kind: {key}",
    "cache: {key}",
    "gate: {{{key}: 10%}}",
    "gate: {{decode_tok_s: {key}}}",
    "request: {{user: {key}}}",
)
MISTYPED_OPTIONS = (
    *("--boobench-max-drop", "--boobench-host", "--boobench-wait", "--boobench-hosts", "--boobench-duet"),
    *("--boobench-commit-range",),
)


@pytest.mark.parametrize("key", LIKELY)
def test_what_looks_like_a_key_is_not_repeated(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(untrusted, "_SECRETS", untrusted._Secrets())
    untrusted.learn_likely_keys(f"expected true or false, got '{key}'; write it so")
    assert untrusted.hide_secrets(f"a: {key}, b") == "a: [secret], b"


def test_no_message_repeats_a_key_that_is_typed_where_none_belongs(
    bench: BenchFolder, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """It still says where, and what would be right."""
    monkeypatch.chdir(bench.path)
    key, hidden = LIKELY[0], list[bool]()

    def run(*args: str) -> str:
        monkeypatch.setattr(untrusted, "_SECRETS", untrusted._Secrets())
        result = bench.run("-vv", "--junitxml=out.xml", *args)
        told = result.stdout.str() + result.stderr.str() + capfdbinary.readouterr().out.decode()
        if (path := bench.path / "out.xml").exists():
            told += path.read_text()
            path.unlink()
        assert result.ret != pytest.ExitCode.OK, told
        assert (key[-8:] in told, "Traceback" in told) == (False, False), told
        hidden.append("[secret]" in told)
        return told

    for field in MISTYPED_SUITES:
        (bench.path / "s.boobench.yaml").write_text(
            f"suite: s\nhosts: [llama]\nmodels: [m]\ngrid: {{prompt_tokens: 8}}\n{field.format(key=key)}\n"
        )
        assert "s.boobench.yaml:5: " in run()
    for fields in MISTYPED_HOSTS:
        (bench.path / "boobench.hosts.yaml").write_text(f"hosts:\n  h: {fields.format(key=key)}\n")
        assert "boobench.hosts.yaml:2: " in run()
    bench.write_hosts()
    bench.write_suite("s")
    for option in MISTYPED_OPTIONS:
        run(option, key)
    for words in (("history", "--limit", key), ("init", key), ("compare", key, key), ("manual", key), (key,)):
        monkeypatch.setattr(untrusted, "_SECRETS", untrusted._Secrets())
        assert main(words) != 0
        out, err = capfdbinary.readouterr()
        assert key[-8:].encode() not in out + err, out + err
        hidden.append(b"[secret]" in out + err)
    assert sum(hidden) >= 0.8 * len(hidden), "the others say what is wrong without what was typed"


@pytest.mark.parametrize(
    "text",
    [
        "Qwen3-30B-A3B-Instruct-2507-UD-Q4_K_XL",
        "sk-learn-small",
        "d41d8cd98f00b204e9800998ecf8427e",
        "http://127.0.0.1:8080/v1/chat/completions",
        "build_info_llama_cpp_10434_vulkan_x86_64",
        "prefill_tok_s",
    ],
)
def test_what_is_a_name_is_repeated(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(untrusted, "_SECRETS", untrusted._Secrets())
    untrusted.learn_likely_keys(f"expected a model, got '{text}'")
    assert untrusted.hide_secrets(text) == text
