"""Room 0: who runs this session and where: git, CI system, user, machine. Nothing here is secret."""

from __future__ import annotations

import functools
import getpass
import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

from pytest_boobench import PACKAGE

FOLDER = ".boobench"
"""A project's folder for its store, and for the logs of servers that we started."""
_SYSTEMS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "GITHUB_ACTIONS": (
        "github",
        {"job": "GITHUB_JOB", "run": "GITHUB_RUN_ID", "ref": "GITHUB_REF", "repository": "GITHUB_REPOSITORY"},
    ),
    "GITLAB_CI": (
        "gitlab",
        {"job": "CI_JOB_NAME", "run": "CI_PIPELINE_ID", "ref": "CI_COMMIT_REF_NAME", "url": "CI_JOB_URL"},
    ),
    "JENKINS_URL": ("jenkins", {"job": "JOB_NAME", "run": "BUILD_NUMBER", "ref": "BRANCH_NAME", "url": "BUILD_URL"}),
}
"""Variable that only this CI system sets -> the system's name, and fact of the job -> variable that holds it."""


def read_ci(env: Mapping[str, str]) -> dict[str, str]:
    """Return facts of the job, with the CI system's name under ``system``; empty outside a known CI system."""
    for flag, (system, names) in _SYSTEMS.items():
        if env.get(flag):
            return {"system": system, **{key: env[name] for key, name in names.items() if env.get(name)}}
    return {}


@dataclass(frozen=True, slots=True)
class Environment:
    """Facts of the session that all its runs share."""

    user: str | None = None
    machine: str | None = None
    cpu: str | None = None
    """Model of its processor."""
    git_commit: str | None = None
    git_dirty: bool | None = None
    ci: Mapping[str, str] = field(default_factory=dict)


def read_environment(rootdir: Path, env: Mapping[str, str] = os.environ) -> Environment:
    """Return the session's environment; None for what cannot be found out."""
    commit = ask_git(rootdir, "rev-parse", "HEAD")
    changes = ask_git(rootdir, "status", "--porcelain", "--untracked-files=no") if commit else None
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no such user in a container, and no variable
        user = None
    return Environment(
        user=user,
        machine=platform.node() or None,
        cpu=read_cpu(),
        git_commit=commit or None,
        git_dirty=None if changes is None else bool(changes),
        ci=read_ci(env),
    )


def read_cpu(info: Path = Path("/proc/cpuinfo")) -> str | None:
    """Return the processor's model from Linux, on other systems from Python."""
    try:
        lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, None) or platform.processor() or platform.machine() or None


_NVIDIA = Path("/proc/driver/nvidia/version")
_MODULES = Path("/sys/module")
_IN_KERNEL = ("amdgpu", "xe", "i915", "nouveau")
"""GPU drivers of the Linux kernel. One that was installed separately has its own version."""


@functools.cache
def read_driver(nvidia: Path = _NVIDIA, modules: Path = _MODULES, kernel: str = platform.release()) -> str | None:
    """Return this machine's graphics drivers by Linux, as in ``nvidia 570.86.15``; None if there are none. Cached."""
    found = []
    version = re.search(r"Module.*?\s(\d+(?:\.\d+)+)\s", _read_line(nvidia))
    if version is not None:
        found.append(f"nvidia {version[1]}")
    for name in _IN_KERNEL:
        if (modules / name).is_dir():
            found.append(f"{name} {_read_line(modules / name / 'version').strip() or f'of Linux {kernel}'}")
    return ", ".join(found) or None


def _read_line(path: Path) -> str:
    """The first line, with its line end; empty if there is no such file."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.readline(1000)
    except OSError:
        return ""


def ask_git(folder: Path, *words: str) -> str | None:
    """Return a git command's output; None if git or a repository is missing."""
    try:
        done = subprocess.run(  # noqa: S603  # a list, no shell
            ["git", "-C", str(folder), *words],  # noqa: S607  # git from the PATH is intended
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):  # ValueError: a word with a NUL
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def find_cache() -> Path:
    """Return the user's folder for what can be made again; in the temporary folder if this user has no home."""
    folder = platformdirs.user_cache_path(PACKAGE)
    if folder.is_absolute():
        return folder
    return Path(tempfile.gettempdir(), f"{PACKAGE}-{os.getuid()}" if hasattr(os, "getuid") else PACKAGE)


def make_folder(folder: Path) -> Path:
    """Create the folder if it is missing. The project's own folder is private to its owner, and git ignores it."""
    own = next((one for one in (folder, *folder.parents) if one.name == FOLDER), None)
    if own is not None:
        own.parent.mkdir(parents=True, exist_ok=True)
        own.mkdir(mode=0o700, exist_ok=True)
        make_file(own / ".gitignore", b"*\n")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def make_file(path: Path, content: bytes = b"") -> None:
    """Create a file, private to its owner, if it is missing. SQLite gives its extra files the same mode."""
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        return
    with os.fdopen(handle, "wb") as file:
        file.write(content)
