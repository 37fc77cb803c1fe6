"""README and manual: every block works, every link leads somewhere, and every public name is on its page."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import metadata
from pathlib import Path

import click
import pytest
import yaml

from pytest_boobench import suite
from pytest_boobench.cli import VERBS, boobench
from pytest_boobench.hosts import host_fields, inventory
from pytest_boobench.metrics import METRICS, FailureKind
from pytest_boobench.plugin import hookspecs, options
from pytest_boobench.record import Outcome
from pytest_boobench.store import tables
from pytest_boobench.suite.launching import StartNeeds
from tests.conftest import CHECKOUT
from tests.pages import MANUAL, PATHS, TEXTS, Block, list_blocks, name_block, read_page

LANGUAGES = {"console", "groovy", "python", "sh", "text", "yaml"}
"""Those of blocks that somebody checks; ``text`` is what programs print, shortened."""
ENVIRONMENT = "STORE HOSTS BASELINE BASELINE_FILE MAX_DROP POLICY MAX_TIME LOAD_TIMEOUT NOTIFY NOTIFY_TOKEN"
SETTING = re.compile(r"BOOBENCH_\w+=\S+")
CONTRIBUTING = CHECKOUT / ".github" / "CONTRIBUTING.md"


# --- blocks


def test_every_block_is_of_a_kind_that_is_checked() -> None:
    fences = sum(text.count("```") for text in TEXTS.values())
    assert 2 * len(list_blocks(*LANGUAGES)) == fences


@pytest.mark.parametrize("block", list_blocks("yaml"), ids=name_block)
def test_yaml_blocks(block: Block, tmp_path: Path) -> None:
    top = next(iter(yaml.safe_load(block.text)))
    for other in list_blocks("text"):
        if other.page == block.page and other.text.startswith('{"text"'):  # a file with own prompts
            (tmp_path / "day.jsonl").write_text(other.text, encoding="utf-8")
    path = tmp_path / "block.yaml"
    path.write_text(block.text, encoding="utf-8")
    if top == "suite":
        starts = read_starts(block.page, tmp_path)
        assert suite.load(path, display=block.page, known_hosts=("embedded", "rack-1"), starts=starts).cells
    elif top == "hosts":
        assert "rack-1" in inventory.load(path, display=block.page, env={}).names
    else:
        assert top in {"name", "bench"}, "a block that nobody checks"  # test_readme_ci.py has these


def read_starts(page: str, folder: Path) -> Mapping[str, StartNeeds]:
    """What the first hosts of a page want of its suites."""
    texts = (block.text for block in list_blocks("yaml") if block.page == page and block.text.startswith("hosts:"))
    if (text := next(texts, None)) is None:
        return {}
    path = folder / "hosts.yaml"
    path.write_text(text, encoding="utf-8")
    return inventory.load(path, display=page, env={}).starts


@pytest.mark.parametrize("block", list_blocks("python"), ids=name_block)
def test_python_blocks(pytester: pytest.Pytester, block: Block) -> None:
    pytester.makeconftest(block.text)
    assert pytester.runpytest_inprocess("--collect-only").ret == pytest.ExitCode.NO_TESTS_COLLECTED


class Declared:
    """Stands in for pytest's parser: keeps what is declared."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.valued: set[str] = set()

    def getgroup(self, *names: str) -> Declared:
        return self

    def addoption(self, name: str, **how: object) -> None:
        self.names.append(name)
        if how.get("action", "append") == "append":
            self.valued.add(name)

    def addini(self, name: str, *how: object, **more: object) -> None:
        self.names.append(name)


def declare() -> Declared:
    parser = Declared()
    options.add(parser)  # type: ignore[arg-type]
    return parser


DECLARED = declare()


def commands_of(block: Block) -> Iterator[list[str]]:
    """The words of each command, without the settings before it and the folder of its program."""
    for line in block.text.splitlines():
        for command in line.split(" && "):
            words = shlex.split(command, comments=True)
            program, *words = itertools.dropwhile(SETTING.fullmatch, words)
            yield [program.removeprefix(".venv/bin/"), *words]


COMMANDS = [(block.page, words) for block in list_blocks("sh", "console") for words in commands_of(block)]


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=[" ".join(words)[:60] for _, words in COMMANDS])
def test_commands_in_blocks(page: str, words: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is one that exists, spelt as it is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "boobench.baseline.yaml").touch()
    program, *arguments = words
    if program == "boobench":
        parse_verb(arguments)
    elif program == "pytest":
        for option in (word for word in arguments if word.startswith("--boobench")):
            name = option.partition("=")[0]
            assert option in DECLARED.names or name in DECLARED.valued, f"{page}: no option {option}"
    elif program == "pip":
        extras = set(metadata("pytest-boobench").get_all("Provides-Extra") or ())
        assert arguments[0] == "install"
        assert {name for names in re.findall(r"\[([\w,]+)\]", arguments[-1]) for name in names.split(",")} <= extras
    else:
        assert program in {"python3", "git"}, f"{page}: a command that nobody checks: {program}"


def parse_verb(arguments: Sequence[str]) -> None:
    """By click, as the command line would; click.UsageError where it is wrong."""
    command: click.Command = boobench
    rest = list(arguments)
    while isinstance(command, click.Group):
        name = rest.pop(0)
        found = command.get_command(click.Context(command), name)
        assert found is not None, f"no verb {name}"
        command = found
    command.make_context("boobench", rest, resilient_parsing=False)


@pytest.mark.parametrize("wrong", ["hosts --jsn", "no-such-verb", "baseline clear --reasn x", "store prune"])
def test_a_wrong_command_is_found(wrong: str) -> None:
    with pytest.raises((click.UsageError, AssertionError)):
        parse_verb(wrong.split())


# --- links


def links_of(path: Path) -> Iterator[tuple[str, str]]:
    """File and anchor of each link to another page."""
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if "://" not in link:
            file, _, anchor = link.partition("#")
            yield file, anchor


def anchors_of(path: Path) -> set[str]:
    """As GitHub makes them from headings."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", [*PATHS, CONTRIBUTING], ids=lambda path: path.stem)
def test_links_lead_to_pages(path: Path) -> None:
    for file, anchor in links_of(path):
        target = (path.parent / file).resolve() if file else path
        assert target.is_file(), f"{path.name}: no file {file}"
        assert not anchor or anchor in anchors_of(target), f"{path.name}: no heading {file}#{anchor}"


def test_the_index_lists_every_page_once() -> None:
    listed = [file for file, _ in links_of(MANUAL / "index.md")]
    assert sorted(listed) == sorted(path.name for path in MANUAL.iterdir() if path.name != "index.md")


def test_the_readme_leads_to_every_page() -> None:
    listed = {file for file, _ in links_of(CHECKOUT / "README.md")}
    assert {path.relative_to(CHECKOUT).as_posix() for path in MANUAL.iterdir()} <= listed


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_page_has_one_title(path: Path) -> None:
    text = re.sub(r"^ *```.*?^ *```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert text.startswith("# ")
    assert len(re.findall(r"^# ", text, re.MULTILINE)) == 1


# --- names


def spelt(option: str) -> str:
    return option.replace("=add", "[=add]")


SUITE = suite.schema()["properties"]
PUBLIC = {
    "options": [
        *(spelt(name) for name in DECLARED.names if not name.endswith("=replace")),
        *(f"BOOBENCH_{name}" for name in ENVIRONMENT.split()),
    ],
    "hooks": [
        *(name for name in dir(hookspecs) if name.startswith("pytest_boobench_")),
        "boobench_cell",
        "boobench_host_access",
    ],
    "store": sorted(set(tables.metadata.tables) - {"bench_schema"}),
    "what-is-measured": [*METRICS, *FailureKind.__args__],
    "gate": [*Outcome.__args__],
    "suites": [*SUITE, *SUITE["sampling"]["properties"]],
    "hosts": [
        *inventory.schema()["properties"]["hosts"]["additionalProperties"]["properties"],
        *host_fields.SERVERS,
    ],
    "command": [f"boobench {verb}" for verb in VERBS],
    "exit-codes": ["0", "1", "2", "3", "4", "5", "130", "141", "BOOBENCH_DEBUG"],
}


@pytest.mark.parametrize(("page", "name"), [(page, name) for page, names in PUBLIC.items() for name in names])
def test_every_public_name_is_on_its_page(page: str, name: str) -> None:
    assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", read_page(page)), f"{name} is not in {page}.md"


@pytest.mark.parametrize("page", TEXTS)
def test_no_page_names_an_option_or_verb_that_is_not_there(page: str) -> None:
    named = set(re.findall(r"--boobench[\w-]*", TEXTS[page]))
    assert named <= set(DECLARED.names)
    verbs = set(re.findall(r"`boobench ([a-z]\w*)", TEXTS[page]))
    assert verbs <= set(VERBS)
