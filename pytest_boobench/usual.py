"""Room 0: what things are usually called and how large they may be, for those who ask for nothing else."""

from __future__ import annotations

from importlib.metadata import version

PACKAGE = "pytest-boobench"
HOSTS_FILE = "boobench.hosts.yaml"
SUITE_FILES = ("*.boobench.yaml", "*.boobench.yml")
"""Patterns of the names of suite files."""
BASELINE = "main"
MAX_CELLS = 10_000
"""Of one suite."""


def find_version() -> str:
    """The installed version of this package."""
    return version(PACKAGE)
