"""The README is a front page: short, with commands that work and pictures that are there. What all pages share is in
``test_manual.py``, the CI recipes in ``test_readme_ci.py``."""

from __future__ import annotations

import re
import struct
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from pytest_boobench import suite
from pytest_boobench.hosts import inventory
from tests.conftest import CHECKOUT
from tests.pages import README, list_blocks, read_page

TEXT = README.read_text(encoding="utf-8")
PICTURES = sorted((CHECKOUT / ".github" / "images").iterdir())


def test_it_is_a_front_page() -> None:
    assert len(TEXT.splitlines()) <= 200


def test_the_two_commands_are_single_lines_with_an_environment_of_their_own() -> None:
    commands = [block.text.strip() for block in list_blocks("console", page="README.md")]
    assert len(commands) == 2
    for command in commands:
        assert "\n" not in command
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")
    assert commands[0].endswith(".venv/bin/pytest --boobench example_suites/")


def test_each_picture_is_there_in_a_light_and_a_dark_theme() -> None:
    named = re.findall(r'(?:src|srcset)="([^"]+)"', TEXT)
    assert sorted(named) == [path.relative_to(CHECKOUT).as_posix() for path in PICTURES]
    for dark in re.findall(r'<source media="\(prefers-color-scheme: dark\)" srcset="([^"]+)">', TEXT):
        assert dark.replace("-dark.", "-light.") in named
    assert len(named) == 2 * TEXT.count("<picture>")


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_a_picture_is_whole_and_loads_quickly(path: Path) -> None:
    content = path.read_bytes()
    assert len(content) < 200 * 1024
    if path.suffix == ".svg":
        width, height = map(float, ET.fromstring(content).attrib["viewBox"].split()[2:])
        assert b"http" not in content.replace(b"http://www.w3.org/2000/svg", b"").replace(b"http://127.0.0.1", b"")
    else:
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        assert content.endswith(b"IEND\xaeB`\x82")
        width, height = struct.unpack(">II", content[16:24])
    assert width > 800
    assert height > 300


def test_its_figures_are_those_of_the_manual() -> None:
    section = TEXT[TEXT.index("## What it does that others do not") : TEXT.index("## What it measures")]
    figures = set(re.findall(r"\d+(?:\.\d+)?", section))
    source = read_page("how-far-to-trust-it") + read_page("witnesses")
    assert len(figures) >= 15
    assert figures <= set(re.findall(r"\d+(?:\.\d+)?", source))


def squeeze(text: str) -> str:
    """Without blanks and ends of lines: a terminal breaks lines where it must."""
    return "".join(text.split())


def test_what_it_shows_of_a_red_session_is_in_the_picture() -> None:
    """The picture is made from a real session's output; lines are shortened by ``…``."""
    picture = ET.fromstring((CHECKOUT / ".github" / "images" / "terminal-light.svg").read_bytes())
    shown = squeeze("".join(picture.itertext()))
    section = TEXT[TEXT.index("## Red and green") : TEXT.index("## In CI")]
    (block,) = (block.text for block in list_blocks("text", page="README.md") if block.text in section)
    parts = [part for line in block.splitlines() for part in line.split("…") if part.strip()]
    assert len(parts) >= 4
    for part in parts:
        assert squeeze(part) in shown, part


def test_the_examples_are_good() -> None:
    hosts = inventory.load(CHECKOUT / "example_suites" / "boobench.hosts.yaml", env={})
    paths = sorted((CHECKOUT / "example_suites").glob("*.boobench.yaml"))
    loaded = [suite.load(path, display=path.name, known_hosts=hosts.names, starts=hosts.starts) for path in paths]
    embedded = [cell for one in loaded for cell in one.cells if cell.host == "embedded"]
    assert len(embedded) >= 8
    assert {cell.kind for cell in embedded} == {"chat", "completion", "embedding"}
