"""Door 2: what a bisect measures: checkouts that are built, and environments for requirements of pip."""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from pytest_boobench.cli.ab_sides import find_program, read_words
from pytest_boobench.environment import FOLDER, ask_git, make_folder
from pytest_boobench.errors import BoobenchError, explain_os_error
from pytest_boobench.untrusted import clean

_COMPLETE = "boobench-complete"
"""The file that says that an environment or a build is whole."""
_SHOWN_LINES = 5
_SHOWN_CHANGES = 3


class BuildError(BoobenchError):
    """A candidate that cannot be built or installed, which says nothing of its speed."""


def provide_folder(root: Path) -> Path:
    """The folder of what bisects keep; made where it is missing. A usage error where it cannot be."""
    folder = root / FOLDER
    try:
        return make_folder(folder / "bisect")
    except OSError as error:
        raise click.UsageError(f"{folder}: {explain_os_error(error)}; expected a folder to write to") from error


def read_builds(typed: Sequence[str]) -> list[list[str]]:
    """The build commands as words; a usage error for one that no shell could read, or whose program is not there."""
    builds = []
    for text in typed:
        words = read_words(text, "--build")
        if not words:
            raise click.UsageError("--build: expected a command such as 'cmake --build build', got nothing")
        if "/" not in words[0] and shutil.which(words[0]) is None:
            raise click.UsageError(f"--build: no program {words[0]!r}; expected one on the PATH")
        builds.append(words)
    return builds


def build(builds: Sequence[Sequence[str]], folder: Path, log: Path) -> None:
    """Run the build commands in a folder, their output into a log. BuildError, with its end, for one that fails."""
    with log.open("wb") as output:
        for words in builds:
            click.echo(f"building: {shlex.join(words)}", err=True)
            program = find_program(words[0], (folder,))
            if program is None:
                raise BuildError(f"--build: there is no {words[0]} that can be run")
            code = _run([program, *words[1:]], folder, output)
            if code:
                output.flush()
                raise BuildError(f"--build: {shlex.join(words)} ended with exit code {code}: {_read_end(log)}")


def _run(words: Sequence[str], folder: Path | None, output: object) -> int:
    try:
        done = subprocess.run(  # noqa: S603  # a list, no shell
            words, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, check=False
        )  # type: ignore[call-overload]
    except OSError as error:
        raise BuildError(f"{words[0]}: {explain_os_error(error)}") from error
    return int(done.returncode)


def _read_end(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return clean(" | ".join(lines[-_SHOWN_LINES:])) or "it said nothing"


def find_checkout(folder: Path) -> Path | None:
    """The root of the git checkout that a folder lies in; None where it lies in none, or git is not installed."""
    found = ask_git(folder, "rev-parse", "--show-toplevel")
    return Path(found) if found else None


def find_commit(folder: Path, ref: str) -> str | None:
    """The commit that a name means."""
    return None if ref.startswith("-") else ask_git(folder, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")


def is_bisecting(folder: Path) -> bool:
    """Whether a ``git bisect`` is under way in this checkout."""
    log = ask_git(folder, "rev-parse", "--git-path", "BISECT_LOG")
    return bool(log) and (folder / str(log)).is_file()


def require_clean(checkout: Path) -> None:
    """A usage error where tracked files are not as committed: then what is measured is no commit."""
    changes = ask_git(checkout, "status", "--porcelain", "--untracked-files=no") or ""
    files = [line.split(maxsplit=1)[-1] for line in changes.splitlines()]
    if files:
        more = f" and {len(files) - _SHOWN_CHANGES} more" if len(files) > _SHOWN_CHANGES else ""
        raise click.UsageError(
            f"{clean(', '.join(files[:_SHOWN_CHANGES]))}{more}: not as committed; commit or stash the changes, or say "
            "--allow-dirty"
        )


def provide_checkout(checkout: Path, commit: str, builds: Sequence[Sequence[str]], cache: Path) -> Path:
    """The folder of a commit in a worktree of its own, built once. A usage error where that fails."""
    key = hashlib.sha256(repr((commit, [list(words) for words in builds])).encode()).hexdigest()[:8]
    folder = cache / f"{commit[:12]}-{key}"
    complete = cache / f"{folder.name}.{_COMPLETE}"
    if complete.is_file() and folder.is_dir():
        return folder
    if not (folder / ".git").exists():
        shutil.rmtree(folder, ignore_errors=True)
        ask_git(checkout, "worktree", "prune")
        if _run(
            ["git", "-C", str(checkout), "worktree", "add", "--detach", "--quiet", str(folder), commit], None, None
        ):
            raise click.UsageError(f"--good: git cannot check {commit[:12]} out into {folder}")
    try:
        build(builds, folder, cache / f"{folder.name}.log")
    except BuildError as error:
        raise click.UsageError(f"--good: {commit[:12]} cannot be built: {error}") from error
    complete.touch()
    return folder


def provide_python(requirement: str, cache: Path) -> Path:
    """The interpreter of an environment that has a requirement of pip, made once. BuildError where pip fails."""
    digest = hashlib.sha256(requirement.encode()).hexdigest()[:8]
    folder = cache / "environments" / f"{re.sub(r'[^A-Za-z0-9.]+', '-', requirement)[:60].strip('-')}-{digest}"
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if (folder / _COMPLETE).is_file() and python.exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    log = folder.with_name(f"{folder.name}.log")
    click.echo(f"installing: {requirement}", err=True)
    with log.open("wb") as output:
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", requirement]
        failed = _run([sys.executable, "-m", "venv", str(folder)], None, output) or _run(pip, None, output)
    if failed:
        raise BuildError(f"pip cannot install {requirement}: {_read_end(log)}")
    (folder / _COMPLETE).touch()
    return python
