"""``boobench page`` as a process: what it prints, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import click
import httpx
import pytest
from click.testing import CliRunner

from pytest_boobench.cli import boobench
from pytest_boobench.page import command as page_command
from tests.page.serving import OURS


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_it_prints_its_address_and_ends_with_its_terminal(folder: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "pytest_boobench.cli", "page", "--port", "0", "--no-open"],
        cwd=folder,
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"boobench page of {folder}; Ctrl-C ends it\n"
        found = re.fullmatch(r"(http://127\.0\.0\.1:\d+)/#token=(\S+)\n", process.stdout.readline())
        assert found is not None
        with httpx.Client(base_url=found[1], headers=OURS) as client:
            assert client.post("/api/login", json={"token": found[2]}).status_code == 200
            state = client.get("/api/state").json()
            assert state["rootdir"] == str(folder)
            assert state["arena"]["template"].startswith("https://arena.example/")
            assert client.get("/assets/report/style.css").headers["content-type"].startswith("text/css")
        process.send_signal(number)
        rest = process.stdout.read()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()
    assert rest.strip().startswith(f"for another browser: {found[1]}/#token=")
    assert "Traceback" not in rest


def test_an_address_that_is_none(store: object) -> None:
    result = CliRunner().invoke(boobench, ["page", "--listen", "example.org"])
    assert "expected an IP address of this machine, got 'example.org'" in result.output


def test_a_port_that_is_taken(store: object) -> None:
    with (
        page_command.open_listener("127.0.0.1", 0) as first,
        pytest.raises(click.UsageError, match="expected a free port"),
    ):
        page_command.open_listener("127.0.0.1", first.getsockname()[1])


def test_the_browser_gets_the_token_by_a_private_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(page_command.webbrowser, "open", opened.append)
    page_command._open(tmp_path, "http://127.0.0.1:1/#token=secret")
    file = tmp_path / ".boobench" / "page" / "open.html"
    assert opened == [file.as_uri()]
    assert "token=secret" in file.read_text()
    assert file.stat().st_mode & 0o077 == 0


def test_what_is_written_is_sent_at_once() -> None:
    with page_command.open_listener("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
