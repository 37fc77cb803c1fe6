"""Room 0: which CI system runs us, and what it says of its job; read from its environment variables."""

from __future__ import annotations

from collections.abc import Mapping

_SYSTEMS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "GITHUB_ACTIONS": (
        "github",
        {"job": "GITHUB_JOB", "run": "GITHUB_RUN_ID", "ref": "GITHUB_REF", "repository": "GITHUB_REPOSITORY"},
    ),
    "GITLAB_CI": (
        "gitlab",
        {"job": "CI_JOB_NAME", "run": "CI_PIPELINE_ID", "ref": "CI_COMMIT_REF_NAME", "url": "CI_JOB_URL"},
    ),
    "JENKINS_URL": (
        "jenkins",
        {"job": "JOB_NAME", "run": "BUILD_NUMBER", "ref": "BRANCH_NAME", "url": "BUILD_URL"},
    ),
}
"""Variable that gives a system away -> its name, and what to keep of its job -> variable that holds it."""


def read_ci(env: Mapping[str, str]) -> dict[str, str]:
    """What the CI system says of its job, its name under ``system``; empty outside of one that is known."""
    for flag, (system, names) in _SYSTEMS.items():
        if env.get(flag):
            return {"system": system, **{key: env[name] for key, name in names.items() if env.get(name)}}
    return {}
