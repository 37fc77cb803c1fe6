"""``boobench doctor``: what it finds, and what it says would help."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from pytest_boobench.cli import boobench, diagnosis, main
from pytest_boobench.environment import read_ci
from pytest_boobench.hosts.embedded import EmbeddedServer
from pytest_boobench.store import Store
from tests import kinds_stand_in as kinds
from tests.databases import make_database
from tests.fault_server import closed_port
from tests.kinds_stand_in import KindServer
from tests.stand_in import openai_server


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project on a calm machine of its own: no CI, no spool of others, no load."""
    root = tmp_path / "project"
    root.mkdir()
    (root / "pytest.ini").write_text("[pytest]\n")
    monkeypatch.chdir(root)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "getloadavg", lambda: (0.5, 0.5, 0.5))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    for name in ("GITHUB_ACTIONS", "GITLAB_CI", "JENKINS_URL"):
        monkeypatch.delenv(name, raising=False)
    return root


def write_hosts(project: Path, **hosts: dict[str, Any]) -> None:
    (project / "boobench.hosts.yaml").write_text(yaml.safe_dump({"hosts": hosts}), encoding="utf-8")


def run(*args: str) -> Result:
    return CliRunner().invoke(boobench, ["doctor", *args], standalone_mode=False)


def lines_of(result: Result, topic: str) -> list[str]:
    """What was said of a topic, its state in front."""
    split = (line.split(f"  {topic}: ", 1) for line in result.output.splitlines())
    return [f"{found[0].strip()}: {found[1]}" for found in split if len(found) == 2]


def test_a_good_environment(project: Path) -> None:
    result = run()
    assert result.return_value == 0
    topics = [line.split(":")[0].split(maxsplit=1)[1] for line in result.output.splitlines()]
    assert topics[:3] == ["python", "pytest-boobench", "packages"]
    assert topics[-9:] == ["machine", "clock", "priority", "sensors", "ci", "store", "cache", "spool", "hosts file"]
    (packages,) = lines_of(result, "packages")
    assert f"pytest {version('pytest')}, pytest-benchmark {version('pytest-benchmark')}, " in packages
    assert lines_of(result, "extra embedded") == ["ok: installed, for the embedded host"]
    assert lines_of(result, "machine") == ["ok: 2 cores, load 0.500"]
    assert lines_of(result, "ci") == ["ok: none that is known"]
    assert lines_of(result, "store") == ["ok: none yet at .boobench/store.db, pytest --boobench makes it"]
    assert lines_of(result, "spool") == ["ok: nothing waits to be stored"]
    assert lines_of(result, "hosts file") == ["ok: none, 1 host: embedded"]
    assert not (project / ".boobench").exists()


def test_as_json(project: Path) -> None:
    findings = json.loads(run("--json").output)["findings"]
    assert {finding["state"] for finding in findings} <= {"ok", "warn"}
    assert findings[0] == {
        "state": "ok",
        "topic": "python",
        "text": findings[0]["text"],
        "remedy": "",
    }


def test_what_is_missing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> str:
        if name in {"pytest-xdist", "xllamacpp"}:
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(diagnosis, "version", find)
    result = run()
    assert result.return_value == 1
    assert lines_of(result, "packages") == ["fail: pytest-xdist not installed; pip install pytest-boobench"]
    assert lines_of(result, "extra embedded") == [
        "warn: xllamacpp not installed; needed for the embedded host only: pip install 'pytest-boobench[embedded]'"
    ]


def test_an_extra_that_brings_nothing_is_not_told(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "requires", lambda name: ["pytest>=8.4", "xllamacpp; extra == 'embedded'", "!"])
    result = run()
    assert lines_of(result, "packages") == [f"ok: pytest {version('pytest')}"]
    assert "extra postgres" not in result.output


def test_a_plugin_that_clashes(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "site" / "pytest_randomly-4.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pytest-randomly\nVersion: 4.0\n")
    (info / "entry_points.txt").write_text("[pytest11]\nrandomly = pytest_randomly\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(info.parent)])
    result = run()
    assert result.return_value == 0
    assert lines_of(result, "pytest-randomly") == [
        "warn: shuffles cells, which swaps models back and forth; -p no:randomly with --boobench"
    ]


def test_a_busy_machine(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (7.25, 1.0, 1.0))
    assert lines_of(run(), "machine") == [
        "warn: 2 cores, load 7.25; a busy client makes time stamps inexact; measure when it is idle"
    ]


def test_a_system_without_load(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "getloadavg")
    assert lines_of(run(), "machine") == ["ok: 2 cores"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has kernel stamps")
def test_the_kernels_clock(project: Path) -> None:
    (clock,) = lines_of(run(), "clock")
    assert clock.startswith("ok: the kernel takes the time stamps; Python read the answer ")


def test_a_clock_that_is_pythons(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_boobench.wire.connection.ask_for_kernel_stamps", lambda sock: False)
    assert lines_of(run(), "clock") == [
        "warn: Python takes the time stamps, late when this machine is busy; "
        "on Linux the kernel takes them; elsewhere keep concurrency low and the client idle"
    ]


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (True, "ok: the thread that reads answers has priority: it hardly waits on a busy machine"),
        (
            False,
            "ok: the thread that reads answers has no priority: it reads late on a busy machine, and cells say so; "
            "Linux gives it priority with 'nice -10' for this user in limits.conf, or LimitNICE=-10 in a systemd unit",
        ),
    ],
)
def test_the_priority_of_the_reader(project: Path, monkeypatch: pytest.MonkeyPatch, raised: bool, said: str) -> None:
    monkeypatch.setattr("pytest_boobench.wire.can_raise_priority", lambda: raised)
    assert lines_of(run(), "priority") == [said]


def test_no_loopback(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*args: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("asyncio.start_server", refuse)
    result = run()
    assert result.return_value == 1
    assert lines_of(result, "clock") == [
        "fail: a request to this process over 127.0.0.1 failed: [Errno 13] Permission denied; "
        "let this user open sockets"
    ]


@pytest.mark.parametrize(
    ("env", "text"),
    [
        ({"GITHUB_ACTIONS": "true", "GITHUB_JOB": "bench"}, "system github, job bench"),
        ({"GITLAB_CI": "true", "CI_JOB_URL": "https://x/1"}, "system gitlab, url https://x/1"),
        ({"JENKINS_URL": "https://x", "BRANCH_NAME": "main"}, "system jenkins, ref main"),
    ],
)
def test_ci(project: Path, monkeypatch: pytest.MonkeyPatch, env: dict[str, str], text: str) -> None:
    assert ", ".join(f"{key} {value}" for key, value in read_ci(env).items()) == text
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert text in lines_of(run(), "ci")[0]


def test_a_store_that_is_there(project: Path) -> None:
    (project / "pytest.ini").write_text("[pytest]\nboobench_store = my/bench.db\n")
    Store.open(str(project / "my" / "bench.db")).close()
    (store,) = lines_of(run(), "store")
    assert store.startswith("ok: my/bench.db, schema 0004, ")
    assert store.endswith(" kB")
    assert lines_of(run("--store", f"sqlite:///{project}/my/bench.db"), "store") == [store]


def test_a_store_that_is_none(project: Path) -> None:
    Path("store.db").write_text("hello, this is a letter and no database at all" * 40)
    result = run("--store", "store.db")
    assert result.return_value == 1
    assert lines_of(result, "store") == [
        "fail: store.db: is not an SQLite database, move it away or name another store with --boobench-store"
    ]


def test_a_store_elsewhere_shows_no_password(project: Path) -> None:
    result = run("--store", f"postgresql://me:geheim@127.0.0.1:{closed_port()}/bench")
    assert result.return_value == 1
    (store,) = lines_of(result, "store")
    assert store.startswith("fail: postgresql://me:***@127.0.0.1:")
    assert "geheim" not in result.output


def test_a_teams_store(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)  # PostgreSQL runs as a user who cannot read the test's folder
    url = make_database()
    Store.open(url).close()
    (store,) = lines_of(run("--store", url), "store")
    assert store.startswith("ok: postgresql://postgres@/")
    assert store.endswith(", schema 0004")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that even root cannot write")
def test_a_folder_that_cannot_be_written(project: Path) -> None:
    result = run("--store", "/proc/boobench/store.db")
    assert result.return_value == 1
    (store,) = lines_of(result, "store")
    assert store.startswith("fail: none yet at ")
    assert "; /proc cannot be written (" in store
    assert store.endswith("); let this user write there")


def test_what_waits_to_be_stored(project: Path, tmp_path: Path) -> None:
    (project / ".boobench").mkdir()
    (project / ".boobench" / "spool-one.jsonl").write_text("{}\n")
    (tmp_path / "spool-two.jsonl").write_text("{}\n")
    assert lines_of(run(), "spool") == [
        "warn: 2 files to be stored: .boobench/spool-one.jsonl, ../spool-two.jsonl; boobench store import"
    ]


def test_hosts_file_and_keys(project: Path) -> None:
    write_hosts(
        project,
        one={"url": "http://127.0.0.1:1", "api_key": "${NO_SUCH_KEY}"},
        two={"url": "https://127.0.0.1:1", "verify": "ca.pem"},
    )
    result = run()
    assert result.return_value == 0
    assert lines_of(result, "hosts file") == ["ok: boobench.hosts.yaml, 3 hosts: embedded, one, two"]
    assert lines_of(result, "host one") == ["warn: api_key: the environment variable NO_SUCH_KEY is not set; set it"]
    assert lines_of(result, "host two") == [f"warn: verify: no file {project}/ca.pem; expected CA certificates in PEM"]


def test_a_bad_hosts_file(project: Path) -> None:
    write_hosts(project, one={"server": "vllm"}, two={"url": "nowhere"})
    result = run()
    assert result.return_value == 1
    assert lines_of(result, "boobench.hosts.yaml") == ["fail: 2 problems; boobench check tells them"]


def test_hosts_are_contacted_where_they_are_asked_for(
    project: Path, llama: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = f"http://127.0.0.1:{closed_port()}"
    with openai_server() as server, KindServer(kinds.Ollama(("good",))) as ollama:
        write_hosts(
            project, llama={"url": llama.url}, plain={"url": server.url}, dead={"url": dead}, ollama={"url": ollama.url}
        )
        monkeypatch.setenv("BOOBENCH_HOSTS", "boobench.hosts.yaml")
        assert "host " not in run().output
        assert not server.seen
        named = run("llama", "plain")
        everybody = run("--hosts", "boobench.hosts.yaml")
    assert named.return_value == 0
    assert lines_of(named, "host llama") == ["ok: llama-server, b0-unknown, 2 models, quiet"]
    assert lines_of(named, "host plain") == [
        "warn: openai, 7 models, cannot tell whether others use it; "
        "say shared: false in the hosts file if it is yours alone"
    ]
    assert everybody.return_value == 1
    (found,) = lines_of(everybody, "host dead")
    assert found.startswith(f"fail: no answer from {dead}: ")
    assert found.endswith("; is it running, and is its url right?")
    assert lines_of(everybody, "host embedded")[0].startswith("ok: embedded, xllamacpp 20")


def test_a_busy_host(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with KindServer(kinds.Router(("one",), ("one",))) as server:
        write_hosts(project, router={"url": server.url})
        busy = kinds.fixed([{"id": 0, "is_processing": True, "id_task": 7}])
        monkeypatch.setattr(kinds.Router, "pages", _with_slots(kinds.Router.pages, busy))
        assert lines_of(run("router"), "host router") == [
            "warn: llama-router, b11434, 2 models, busy; wait for it with --boobench-wait 10m"
        ]


def _with_slots(pages: Any, slots: kinds.Page) -> Any:
    return lambda stand_in: {**pages(stand_in), "/slots": slots}


def test_an_unknown_host_is_wrong_use(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "rack-9"]) == 2
    assert "Error: no host 'rack-9' without a hosts file; known are embedded" in capsys.readouterr().err
