"""The README is the manual: its blocks work, and every public name is in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from pytest_boobench import suite
from pytest_boobench.hosts import inventory
from pytest_boobench.metrics import METRICS, FailureKind
from pytest_boobench.plugin import hookspecs, options
from pytest_boobench.record import Outcome
from pytest_boobench.store import tables
from tests.conftest import CHECKOUT

README = (CHECKOUT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", README, re.MULTILINE | re.DOTALL)
    return ["\n".join(line.removeprefix(indent) for line in text.splitlines()) + "\n" for indent, text in found]


YAML = blocks("yaml")


@pytest.mark.parametrize("text", YAML, ids=range(len(YAML)))
def test_yaml_blocks(text: str, tmp_path: Path) -> None:
    top = next(iter(yaml.safe_load(text)))
    path = tmp_path / "block.yaml"
    path.write_text(text, encoding="utf-8")
    if top == "suite":
        assert suite.load(path, display="README.md", known_hosts=("embedded", "rack-1")).cells
    elif top == "hosts":
        assert "rack-1" in inventory.load(path, display="README.md", env={}).names
    else:
        assert top in {"name", "bench"}, "a block that nobody checks"  # test_readme_ci.py has these


@pytest.mark.parametrize("text", blocks("python"))
def test_python_blocks(pytester: pytest.Pytester, text: str) -> None:
    pytester.makeconftest(text)
    assert pytester.runpytest_inprocess("--collect-only").ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_the_two_commands_are_single_lines_with_an_environment_of_their_own() -> None:
    first, second = (block.strip() for block in blocks("console"))
    for command in (first, second):
        assert "\n" not in command
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")
    assert first.endswith(".venv/bin/pytest --boobench example_suites/")


class Declared:
    """Stands in for pytest's parser: keeps what is declared."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def getgroup(self, *names: str) -> Declared:
        return self

    def addoption(self, name: str, **how: object) -> None:
        self.names.append(name)

    def addini(self, name: str, *how: object, **more: object) -> None:
        self.names.append(name)


def declared() -> list[str]:
    parser = Declared()
    options.add(parser)  # type: ignore[arg-type]
    return [name for name in parser.names if not name.endswith("=replace")]


def spelt(option: str) -> str:
    return option.replace("=add", "[=add]")


PUBLIC = [
    *map(spelt, declared()),
    *(name for name in dir(hookspecs) if name.startswith("pytest_boobench_")),
    *tables.metadata.tables,
    *METRICS,
    *FailureKind.__args__,
    *Outcome.__args__,
    *suite.schema()["properties"],
    *suite.schema()["properties"]["sampling"]["properties"],
    *inventory.schema()["properties"]["hosts"]["additionalProperties"]["properties"],
    *inventory.SERVERS,
    "BOOBENCH_STORE",
    "BOOBENCH_HOSTS",
    "BOOBENCH_BASELINE",
    "BOOBENCH_MAX_DROP",
    "boobench_cell",
    "boobench_host_access",
]


@pytest.mark.parametrize("name", sorted(set(PUBLIC) - {"bench_schema"}))
def test_every_public_name_is_in_the_readme(name: str) -> None:
    assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", README), f"{name} is not in the README"


def test_the_examples_are_good(pytester: pytest.Pytester) -> None:
    hosts = inventory.load(CHECKOUT / "example_suites" / "boobench.hosts.yaml", env={})
    paths = sorted((CHECKOUT / "example_suites").glob("*.boobench.yaml"))
    loaded = [suite.load(path, display=path.name, known_hosts=hosts.names) for path in paths]
    embedded = [cell for one in loaded for cell in one.cells if cell.host == "embedded"]
    assert len(embedded) >= 8
    assert {cell.kind for cell in embedded} == {"chat", "completion", "embedding"}
