"""Room 2: how a host is started, as the hosts file says it: commands with placeholders, and what fills them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from pytest_boobench.documents.validation import FileModel, Located, duration, parsed, text
from pytest_boobench.documents.yaml_tree import Problems, suggest
from pytest_boobench.errors import HostError
from pytest_boobench.suite.launching import BUILD, WORD_JSON, StartNeeds, read_word

PORT, MODEL, MODEL_FILE = "port", "model", "model_file"
READY_S = 600.0
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}|\{([A-Za-z_]\w*)\}")
ONLY = ""
"""The name of a command that has none."""


def find_placeholders(texts: Iterable[str]) -> frozenset[str]:
    """The names in braces; other braces, as of JSON, and names in double braces are text."""
    return frozenset(found[2] for text in texts for found in _PLACEHOLDER.finditer(text) if found[2])


def fill(text: str, values: Mapping[str, str]) -> str:
    """A text with the values of its placeholders; KeyError for one that has none."""
    return _PLACEHOLDER.sub(lambda found: values[found[2]] if found[2] else f"{{{found[1]}}}", text)


# --- what the file says

_WORDS = "a list of words such as [llama-server, --port, {port}], or a mapping of builds to such lists"


def _take_command(given: Any, _: Problems) -> object:
    if not isinstance(given, list | Located) or not given:
        raise ValueError
    return given


def _take_env(given: Any, problems: Problems) -> Mapping[str, str]:
    if not isinstance(given, Located):
        raise ValueError
    return {name: read_word(given.node.child(name), problems) for name in given}


_LIST_JSON = {"type": "array", "items": WORD_JSON, "minItems": 1}
_COMMAND_JSON = {"anyOf": [_LIST_JSON, {"type": "object", "additionalProperties": _LIST_JSON, "minProperties": 1}]}


class StartFields(FileModel):
    """How a host is started, as the hosts file writes it."""

    command: Annotated[dict[str, Any], parsed(_WORDS, _take_command, _COMMAND_JSON)]
    """The program and its arguments, with placeholders; or several such by name, so that the build is an axis."""
    env: Annotated[
        dict[str, str],
        parsed("a mapping of variables to texts", _take_env, {"type": "object", "additionalProperties": WORD_JSON}),
    ] = Field(default_factory=dict)
    """Environment variables beside those of pytest."""
    folder: Annotated[str | None, text()] = None
    """Where it is started, and relative paths are seen from; blank: the folder of the hosts file."""
    ready_s: Annotated[float, duration(), Field(validation_alias="ready")] = READY_S
    """How long it may take until the server answers."""

    def read_commands(self, problems: Problems) -> Mapping[str, tuple[str, ...]]:
        """Build -> words of its command, exactly as they are written; a command without a name is called ``ONLY``."""
        node = self.node.child("command")
        if isinstance(node.value, tuple):
            return {ONLY: tuple(read_word(word, problems) for word in node.value)}
        if not isinstance(node.value, Mapping):
            return {}
        for build, words in node.value.items():
            if not isinstance(words.value, tuple) or not words.value:
                problems.add(words, f"expected the words of the command {build!r} as a list, got {words.describe()}")
        return {build: tuple(read_word(word, problems) for word in words.listed) for build, words in node.value.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """How a host is started. Relative paths are seen from ``folder``."""

    commands: Mapping[str, tuple[str, ...]]
    """Build -> the program and its arguments; only one called ``ONLY`` where the builds have no names."""
    env: Mapping[str, str] = field(default_factory=dict)
    ready_s: float = READY_S
    folder: Path
    files: Mapping[str, str] = field(default_factory=dict)
    """Model -> its file."""
    place: str
    """Where it is written, as in ``boobench.hosts.yaml:5``."""

    def uses(self, build: str) -> frozenset[str]:
        """The placeholders of one build's command, and those of the environment."""
        return find_placeholders((*self.commands[build], *self.env.values()))

    @property
    def needs(self) -> StartNeeds:
        """What a suite must say, and what it may say."""
        takes = {build: self.uses(build) - {PORT, MODEL, MODEL_FILE, BUILD} for build in self.commands}
        by_file = any(MODEL_FILE in self.uses(build) for build in self.commands)
        return StartNeeds(
            place=self.place,
            builds=tuple(build for build in self.commands if build != ONLY),
            takes=takes,
            models=tuple(self.files) if by_file else None,
        )

    def combine(self, model: str, launch: Mapping[str, str]) -> Combination:
        """The command for a cell's values; HostError where a value or a file is missing, as in cells made by hooks."""
        build = launch.get(BUILD, ONLY) if ONLY not in self.commands else ONLY
        if build not in self.commands:
            raise HostError(f"{self.place}: no command {build!r}; {suggest(build, self.commands)}")
        values = {**launch, MODEL: model, BUILD: build}
        if model in self.files:
            values[MODEL_FILE] = str(self.folder / self.files[model])
        used = self.uses(build)
        if missing := sorted(used - values.keys() - {PORT}):
            raise HostError(f"{self.place}: the command has no value for {{{missing[0]}}}; write it under launch")
        told = used | {BUILD} | ({MODEL} if MODEL_FILE in used else set())
        kept = {name: value for name, value in values.items() if name in told}
        return Combination(self, build, kept)


@dataclass(frozen=True, slots=True)
class Combination:
    """A command with all its values but the port: cells that have the same one share a server."""

    start: Start
    build: str
    values: Mapping[str, str]

    def __str__(self) -> str:
        said = [f"{name}={value}" for name, value in self.values.items() if name != MODEL_FILE and value != ONLY]
        return ", ".join(said) or "its command"

    @property
    def key(self) -> tuple[tuple[str, str], ...]:
        """What makes it another server."""
        return tuple(sorted(self.values.items()))

    def fill(self, port: int | str) -> tuple[list[str], dict[str, str]]:
        """The words of the command and the environment variables."""
        values = {**self.values, PORT: str(port)}
        words = [fill(word, values) for word in self.start.commands[self.build]]
        return words, {name: fill(text, values) for name, text in self.start.env.items()}


def check_start(row: StartFields, files: Mapping[str, str], problems: Problems) -> None:
    """Note what no suite could make right: a command without the port, or a model's file without files."""
    commands = row.read_commands(problems)
    for build, words in commands.items():
        node = row.node.child("command")
        used = find_placeholders((*words, *row.env.values()))
        if words and PORT not in used:
            problems.add(
                node.child(build) if build else node,
                'lacks {port}; the plugin chooses the port, as in [llama-server, --port, "{port}"]',
            )
        if MODEL_FILE in used and not files:
            problems.add(node, "uses {model_file}; write under files which model has which file")
