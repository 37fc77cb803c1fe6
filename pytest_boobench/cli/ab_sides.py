"""Door 2: the two sides of a comparison: command lines, URLs or hosts, and the hosts file that is made of them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import click
import yaml

from pytest_boobench.cli.project import Project, read_inventory, show_path
from pytest_boobench.documents.yaml_tree import suggest
from pytest_boobench.servers.command_line import write_command
from pytest_boobench.suite.names import list_short_names, shorten
from pytest_boobench.untrusted import clean

PORT = "{port}"
_LONGEST_LABEL = 60
"""Of a side's name in tables and in the history."""


@dataclass(frozen=True, slots=True)
class AbSide:
    """A server to compare, and what the hosts file says of it."""

    kind: Literal["command", "URL", "host"]
    typed: str
    words: tuple[str, ...]
    """Of the command line; of the others, the one word."""
    row: Mapping[str, Any]
    name: str = ""
    """In the hosts file, the output and the history."""


class Sides:
    """Reads sides as they are typed, in the folder where they are typed."""

    def __init__(self, project: Project, hosts_file: Path | None, folder: Path) -> None:
        self._inventory = read_inventory(project, hosts_file)
        self._path = hosts_file or project.hosts_file
        self._folder = folder

    def read(self, typed: str, where: str) -> AbSide:
        """A side; a usage error, which begins with ``where``, for what is none."""
        if PORT in typed:
            return self.read_command(typed, where)
        if re.match(r"https?://", typed):
            return AbSide("URL", typed, (typed,), {"url": typed})
        if typed in self._inventory.names:
            return AbSide("host", typed, (typed,), self._read_row(typed))
        if len(typed.split()) > 1 or shutil.which(typed):
            raise click.UsageError(
                f"{where}: a command line needs {PORT}, where the server's port goes; got {write_command(typed)!r}"
            )
        file = show_path(self._path) if self._path else "the hosts file, which there is not"
        raise click.UsageError(
            f"{where}: expected a command line with {PORT}, a URL or a host of {file}, got {clean(typed)!r}; "
            f"{suggest(typed, self._inventory.names)}"
        )

    def knows(self, name: str) -> bool:
        """Whether the hosts file has a host of this name."""
        return name in self._inventory.names

    def read_command(self, typed: str | Sequence[str], where: str, folder: Path | None = None) -> AbSide:
        """A command line; its program and its files are looked for in ``folder``, by default the one where it is typed,
        and files that are not there where it is typed."""
        words = read_words(typed, where) if isinstance(typed, str) else list(typed)
        text = typed if isinstance(typed, str) else shlex.join(typed)
        if not any(PORT in word for word in words):
            raise click.UsageError(
                f"{where}: a command line needs {PORT}, where the server's port goes; got {write_command(text)!r}"
            )
        folders = (self._folder if folder is None else folder, self._folder)
        if find_program(words[0], folders) is None:
            raise click.UsageError(
                f"{where}: no program {words[0]!r}; expected a file that can be run, or one on the PATH"
            )
        placed = [_write_for_file(_place(word, folders)) for word in words]
        return AbSide("command", text, tuple(words), {"start": {"command": placed, "folder": str(folders[0])}})

    def _read_row(self, name: str) -> Mapping[str, Any]:
        """What the hosts file says of a host, its files as from anywhere."""
        written = yaml.safe_load(self._path.read_text(encoding="utf-8"))["hosts"] if self._path else {}
        row = dict(written.get(name) or {"server": name})
        if self._path is None:
            return row
        folder = self._path.parent.absolute()
        if isinstance(row.get("verify"), str):
            row["verify"] = str(folder / row["verify"])
        if isinstance(row.get("start"), dict):
            row["start"] = {**row["start"], "folder": str(folder / row["start"].get("folder", ""))}
        return row


def read_words(text: str, where: str) -> list[str]:
    """A command line as words; a usage error for what no shell could read."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise click.UsageError(f"{where}: {str(error).lower()} in {text!r}; quote it as for a shell") from error


def find_program(program: str, folders: Sequence[Path]) -> str | None:
    """The program's path, or its name where it is on the PATH; None where it cannot be run."""
    if os.sep not in program:
        return program if shutil.which(program) else None
    paths = (folder / program for folder in folders)
    return next((str(path) for path in paths if path.is_file() and os.access(path, os.X_OK)), None)


def _place(word: str, folders: Sequence[Path]) -> str:
    """A relative path that leads somewhere from another folder than the first, as that one's; else as it is."""
    if not word or word.startswith("-") or Path(word).is_absolute() or "\0" in word:
        return word
    found = next((folder for folder in folders if (folder / word).exists()), folders[0])
    return word if found == folders[0] else str(found / word)


def _write_for_file(word: str) -> str:
    """A word as the hosts file wants it: there names in single braces are placeholders, and only the port is one."""
    return re.sub(r"\{(\w+)\}", lambda found: found[0] if found[0] == PORT else f"{{{found[0]}}}", word)


def name_sides(old: AbSide, new: AbSide, roles: tuple[str, str] = ("old", "new")) -> tuple[AbSide, AbSide]:
    """Both with names that say what differs between them."""
    if old.kind == new.kind == "host" and old.typed != new.typed:
        return replace(old, name=old.typed), replace(new, name=new.typed)
    labels = _label(old, new), _label(new, old)
    short = shorten(labels) if labels[0] != labels[1] else {}
    names = (_fit(f"{role} {short.get(label, label)}") for role, label in zip(roles, labels, strict=True))
    first, second = names
    return replace(old, name=first), replace(new, name=second if second != first else f"{second} again")


def _label(side: AbSide, other: AbSide) -> str:
    """What a command line has and the other one has not; where that is nothing, its program's name."""
    if side.kind == "URL":
        return side.typed.split("://", 1)[1].rpartition("@")[2].rstrip("/")
    if side.kind == "host":
        return side.typed
    words = Counter(side.words) - Counter(other.words) if other.kind == "command" else Counter(side.words[:1])
    own = [word for word in dict.fromkeys(side.words) if words[word]]
    return " ".join(own) or Path(side.words[0]).name


def _fit(name: str) -> str:
    """As near to a name as a node id can carry, and short."""
    bearable = next(list_short_names(clean(name)))
    return bearable if len(bearable) <= _LONGEST_LABEL else f"{bearable[: _LONGEST_LABEL - 1].rstrip(' :')}…"


def write_hosts_file(path: Path, sides: Sequence[AbSide], ready_s: float | None = None) -> None:
    """A hosts file with these sides; command lines have so long to start."""
    rows = {side.name: dict(side.row) for side in sides}
    for side in sides:
        if side.kind == "command" and ready_s is not None:
            rows[side.name]["start"] = {**side.row["start"], "ready": f"{ready_s:g}s"}
    path.write_text(yaml.safe_dump({"hosts": rows}, sort_keys=False, allow_unicode=True), encoding="utf-8")
