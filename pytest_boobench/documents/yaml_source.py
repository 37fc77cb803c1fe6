"""Room 0: the bytes of a file -> one tree of Nodes, or the reason why the file cannot be read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from pytest_boobench.documents.yaml_tree import (
    MAX_DEPTH,
    MAX_VALUES,
    TOO_DEEP,
    CoreLoader,
    Node,
    Problems,
    Tree,
    line_of,
)
from pytest_boobench.errors import explain_os_error

MAX_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that one file may hold."""

    max_bytes: int = MAX_BYTES
    max_values: int = MAX_VALUES


_NOT_YAML = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters outside YAML's character set."""


def read(path: Path, problems: Problems, limits: Limits = Limits()) -> Node:
    """Parse a YAML file with one document. Notes problems with single values, which become None.

    Raises DocumentError if the file as a whole cannot be read.
    """
    text = _decode(_read_bytes(path, problems, limits.max_bytes), problems)
    try:
        _survey(text, problems)
        raw = yaml.compose(text, Loader=CoreLoader)
    except yaml.MarkedYAMLError as error:
        _explain(error, text, problems)
    if raw is None or (isinstance(raw, yaml.ScalarNode) and not raw.value):
        problems.stop(1, "the file is empty")
    return Tree(problems, limits.max_values).grow(raw, "", line_of(raw))


def _read_bytes(path: Path, problems: Problems, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        problems.stop(1, f"cannot be read: {explain_os_error(error)}")
    if len(content) > most:
        problems.stop(1, f"the file is larger than {most:,} bytes; split it up")
    return content


def _decode(content: bytes, problems: Problems) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problems.stop(line, f"byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8")
    strange = _NOT_YAML.search(text)
    if strange:
        line = text.count("\n", 0, strange.start()) + 1
        problems.stop(line, f"the character U+{ord(strange[0]):04X} cannot stand in a YAML file; take it out")
    return text


def _survey(text: str, problems: Problems) -> None:
    """Check the file's events first, which needs no stack, before any recursive function."""
    depth = documents = 0
    for event in yaml.parse(text, Loader=CoreLoader):
        line = _line_at(event.start_mark)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                problems.stop(line, TOO_DEEP)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                problems.stop(line, "a second document begins; give it a file of its own")


def _explain(error: yaml.MarkedYAMLError, text: str, problems: Problems) -> NoReturn:
    line = _line_at(error.problem_mark)
    lines = text.splitlines()
    start = lines[line - 1] if line <= len(lines) else ""
    if "\t" in start[: len(start) - len(start.lstrip())]:
        problems.stop(line, "a tab stands where YAML wants spaces; indent with spaces")
    if "nesting depth" in (error.problem or ""):  # libyaml has its own limit, sometimes below ours
        problems.stop(line, TOO_DEEP)
    said = ", ".join(part for part in (error.context, error.problem) if part)
    problems.stop(line, f"not YAML: {said}")


def _line_at(mark: Any) -> int:
    """Return the line of PyYAML's mark, from 1; some of its marks are missing."""
    return int(mark.line) + 1 if mark else 1
