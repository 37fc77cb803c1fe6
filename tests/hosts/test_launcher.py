"""A server that we start: it answers on our port, its log is kept and bounded, and nothing of it is left in any end."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from pytest_boobench.errors import HostError
from pytest_boobench.hosts import launcher
from pytest_boobench.hosts.launcher import StartedServer
from pytest_boobench.hosts.start_fields import ONLY, Combination, Start
from tests import badly_behaved
from tests.conftest import CHECKOUT

SCRIPT = badly_behaved.__file__
LONG_S = 60.0
PARENT = """
import asyncio, sys, time
from pathlib import Path
from tests.hosts.test_launcher import combine, launch
server = launch(combine(*sys.argv[1:3]), Path(sys.argv[3]))
print(server._keeper.pid, *(process.pid for process in server.processes()), flush=True)
time.sleep(600)
"""


def combine(*words: str, ready_s: float = LONG_S, folder: Path = CHECKOUT) -> Combination:
    """A command: a behaviour of `badly_behaved`, its port and what else it takes."""
    behaviour, *rest = words
    command = (sys.executable, SCRIPT, behaviour, "{port}", *rest)
    return make(command, ready_s=ready_s, folder=folder)


def make(command: Sequence[str], *, ready_s: float = LONG_S, folder: Path = CHECKOUT) -> Combination:
    start = Start(commands={ONLY: tuple(command)}, ready_s=ready_s, folder=folder, place="hosts.yaml:5")
    return start.combine("m", {})


def launch(combination: Combination, log: Path) -> StartedServer:
    return asyncio.run(launcher.launch("lab", combination, log, lambda _: None))


def refuse(combination: Combination, log: Path) -> str:
    with pytest.raises(HostError) as caught:
        launch(combination, log).stop()
    return str(caught.value)


def wait_for_end(pids: Sequence[int]) -> None:
    """Until none of these processes runs; the test's own time limit is the limit."""
    end = time.monotonic() + LONG_S
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids):
        assert time.monotonic() < end, f"still there: {pids}"
        time.sleep(0.02)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "server.log"


def test_a_server_answers_until_it_is_stopped(log: Path) -> None:
    server = launch(combine("good"), log)
    pids = [process.pid for process in server.processes()]
    assert pids
    assert server.alive()
    assert server.start_ms > 0
    rss_mb, vram_mb = server.measure_memory()
    assert rss_mb is not None
    assert 1 < rss_mb < 1000
    assert vram_mb is None, "there is no GPU here"
    for _ in range(2):
        server.stop()
    assert not server.alive()
    wait_for_end(pids)


def test_the_command_is_told_without_its_port(log: Path) -> None:
    server = launch(combine("good", "{{port}} here"), log)
    server.stop()
    assert server.command.endswith(f"{SCRIPT} good {{port}} '{{port}} here'")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["no-such-program", "{port}"], "command: 'no-such-program': there is no such program"),
        (["./README.md", "{port}"], "command: './README.md': is not a program that can be run"),
        ([sys.executable, SCRIPT, "ends", "{port}"], "it ended with exit code 3 before it answered"),
        ([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)", "{port}"], "it ended with exit code 137"),
        ([sys.executable, SCRIPT, "silent", "{port}"], "it did not answer on its port"),
    ],
)
def test_what_does_not_start_is_said_in_one_sentence(command: list[str], said: str, log: Path) -> None:
    text = refuse(make(command, ready_s=1.0 if "answer on" in said else LONG_S), log)
    assert text.startswith("hosts.yaml:5: lab")
    assert said in text
    if "ends" in command:
        assert text.endswith(f"the end of its log ({log}):\n  the model is broken")


def test_where_it_listens_instead_is_told(log: Path) -> None:
    process = launcher._start(combine("elsewhere"), 1, log)
    end = time.monotonic() + LONG_S
    while not (told := launcher._describe_ports(process)) and time.monotonic() < end:
        time.sleep(0.02)
    launcher.end(process)
    assert re.fullmatch(r"; it listens on \d+", told)


def test_another_port_is_tried_where_ours_was_taken(log: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = tmp_path / "port"
        port.write_text(str(taken.getsockname()[1]))
        text = refuse(combine("taken", str(port)), log)
    assert "ended with exit code 1" in text
    assert "Address already in use" in text


def test_a_program_that_listened_there_before_is_not_ours(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = launch(combine("good"), log)
    monkeypatch.setattr(launcher, "_choose_port", lambda: int(other.url.rpartition(":")[2]))
    try:
        text = refuse(combine("silent"), log)
    finally:
        other.stop()
    assert "another program, " in text
    assert "listens on its port" in text


def test_a_long_log_keeps_its_begin_and_its_end(log: Path) -> None:
    launch(combine("talks"), log).stop()
    text = log.read_bytes()
    assert len(text) < 9 * 2**20
    assert text.startswith(b"the first line\n")
    assert b" bytes left out]\n" in text
    assert text.endswith(b"the last line\n")


def test_what_it_forked_ends_with_it(log: Path, tmp_path: Path) -> None:
    file = tmp_path / "child"
    server = launch(combine("forks", str(file)), log)
    child = int(file.read_text())
    assert psutil.pid_exists(child)
    server.stop()
    wait_for_end([child])


def test_a_command_that_leaves_a_daemon_behind_has_ended(log: Path, tmp_path: Path) -> None:
    file = tmp_path / "child"
    assert "it ended with exit code 0" in refuse(combine("daemon", str(file)), log)
    wait_for_end([int(file.read_text())])


@pytest.fixture
def parent(log: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A process that has started a server: it, and the processes of its server with a child that left the group."""
    file = tmp_path / "child"
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, "forks", str(file), str(log)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )
    assert process.stdout is not None
    pids = [*map(int, process.stdout.readline().split()), int(file.read_text())]
    yield process, pids
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere only the group ends")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_where_who_started_it_is_killed(
    parent: tuple[subprocess.Popen[str], list[int]], number: signal.Signals
) -> None:
    process, pids = parent
    process.send_signal(number)
    wait_for_end(pids)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody tells the server")
def test_the_server_ends_where_its_keeper_is_killed(parent: tuple[subprocess.Popen[str], list[int]]) -> None:
    _, (keeper, *pids) = parent
    os.kill(keeper, signal.SIGKILL)
    wait_for_end(pids[:1])
