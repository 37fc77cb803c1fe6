"""``boobench manual``: the topics, a page, and its pager."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pytest_boobench.cli import boobench, main
from pytest_boobench.cli.manual_command import list_topics
from tests.pages import MANUAL, read_page

TOPICS = sorted(path.stem for path in MANUAL.glob("*.md") if path.stem != "index")


def run(*args: str) -> Result:
    return CliRunner().invoke(boobench, ["manual", *args], standalone_mode=False)


def test_without_a_topic_each_one_has_a_line() -> None:
    lines = run().output.splitlines()
    assert sorted(line.split()[0] for line in lines) == TOPICS
    assert all(re.fullmatch(r"[\w-]+ {2,}\S.{10,}", line) for line in lines)
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("topic", TOPICS)
def test_a_page_is_printed_as_it_is_where_nobody_sits_at_a_terminal(topic: str) -> None:
    result = run(topic)
    assert result.return_value == 0
    assert result.output == read_page(topic)


@pytest.mark.parametrize(("wrong", "hint"), [("gates", "did you mean 'gate'? "), ("zzz", ""), ("../errors", "")])
def test_an_unknown_topic(wrong: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["manual", wrong]) == 2
    said = capsys.readouterr().err
    assert f"Error: manual: no topic {wrong!r}; {hint}expected one of suites, hosts, " in said
    assert all(topic in said for topic in TOPICS)


def test_the_shell_completes_topics() -> None:
    result = CliRunner().invoke(
        boobench, env={"_BOOBENCH_COMPLETE": "bash_complete", "COMP_WORDS": "boobench manual ba", "COMP_CWORD": "2"},
        prog_name="boobench",
    )  # fmt: skip
    assert result.output.split() == ["plain,baselines"]
    assert "baselines" in list_topics()


def test_on_a_terminal_a_pager_shows_it_with_bold_headings(tmp_path: Path) -> None:
    """The pager is called less, for click sends styles to that one; it keeps what it is given."""
    pager = tmp_path / "bin" / "less"
    pager.parent.mkdir()
    pager.write_text('#!/bin/sh\ncat > "$KEPT"\n')
    pager.chmod(0o755)
    kept = tmp_path / "kept"
    settings = {"PATH": f"{pager.parent}{os.pathsep}{os.environ['PATH']}", "KEPT": str(kept), "TERM": "xterm"}
    unset = {"PAGER", "LESS"}
    environment = {name: value for name, value in os.environ.items() if name not in unset} | settings
    ours, theirs = pty.openpty()
    try:
        command = [sys.executable, "-m", "pytest_boobench.cli", "manual", "suites"]
        done = subprocess.run(command, check=False, stdin=theirs, stdout=theirs, env=environment, timeout=60)
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 0
    shown = kept.read_text(encoding="utf-8")
    assert shown.startswith("\x1b[1m# Suites\x1b[0m\n")
    assert re.sub(r"\x1b\[\d*m", "", shown) == read_page("suites")
    bold = re.findall(r"\x1b\[1m(.*?)\x1b\[0m", shown)
    outside = re.sub(r"^```.*?^```$", "", read_page("suites"), flags=re.MULTILINE | re.DOTALL)
    assert bold == re.findall(r"^#+ .+$", outside, re.MULTILINE)
    assert len(bold) > 5
