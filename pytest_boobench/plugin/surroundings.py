"""Who runs this session and where: git, CI system, user, machine. All of it best effort, none of it secret."""

from __future__ import annotations

import getpass
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_CI: Mapping[str, Mapping[str, str]] = {
    "GITHUB_ACTIONS": {
        "job": "GITHUB_JOB",
        "run": "GITHUB_RUN_ID",
        "ref": "GITHUB_REF",
        "repository": "GITHUB_REPOSITORY",
    },
    "GITLAB_CI": {"job": "CI_JOB_NAME", "run": "CI_PIPELINE_ID", "ref": "CI_COMMIT_REF_NAME", "url": "CI_JOB_URL"},
    "JENKINS_URL": {"job": "JOB_NAME", "run": "BUILD_NUMBER", "ref": "BRANCH_NAME", "url": "BUILD_URL"},
}
"""Variable that names the system -> what to keep of its job -> variable that holds it."""
_GIT_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Facts of the session that every run of it shares."""

    user: str | None = None
    machine: str | None = None
    git_commit: str | None = None
    git_dirty: bool | None = None
    ci: Mapping[str, str] = field(default_factory=dict)


def look_around(rootdir: Path, env: Mapping[str, str] = os.environ) -> Surroundings:
    """The session's surroundings; what cannot be found out stays blank."""
    commit = _git(rootdir, "rev-parse", "HEAD")
    changes = _git(rootdir, "status", "--porcelain", "--untracked-files=no") if commit else None
    return Surroundings(
        user=_user(),
        machine=platform.node() or None,
        git_commit=commit or None,
        git_dirty=None if changes is None else bool(changes),
        ci=read_ci(env),
    )


def read_ci(env: Mapping[str, str]) -> dict[str, str]:
    """What the CI system says of its job; empty outside of one that is known."""
    for flag, names in _CI.items():
        if env.get(flag):
            found = {key: env[name] for key, name in names.items() if env.get(name)}
            return {"system": flag.removesuffix("_URL").removesuffix("_ACTIONS").removesuffix("_CI").lower(), **found}
    return {}


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user in a container, no variable either
        return None


def _git(folder: Path, *words: str) -> str | None:
    """A git command's output, None where git or a repository is missing."""
    try:
        done = subprocess.run(  # noqa: S603  # fixed words, no shell
            ["git", "-C", str(folder), *words],  # noqa: S607  # git from the PATH is meant
            capture_output=True,
            text=True,
            timeout=_GIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
