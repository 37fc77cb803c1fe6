"""Door 2: what is installed: python, the packages we need, extras, and plugins that get in the way."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, entry_points, requires, version

from pytest_boobench.cli.diagnosis.finding import Finding
from pytest_boobench.usual import PACKAGE, find_version

_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(?:\[[^]]*\])?[^;]*(?:;.*extra == ['\"](?P<extra>[\w-]+)['\"])?")
_EXTRAS: Mapping[str, str] = {
    "embedded": "the embedded host",
    "postgres": "a PostgreSQL store",
    "report": "HTML reports",
}
"""Extras that users install -> what needs them."""
_CLASHES: Mapping[str, tuple[str, str]] = {
    "pytest-parallel": ("runs cells of one host at once", "-p no:parallel with --boobench; -n does the same by host"),
    "pytest-random-order": ("may shuffle cells, which swaps models to and fro", "no --random-order with --boobench"),
    "pytest-randomly": ("shuffles cells, which swaps models to and fro", "-p no:randomly with --boobench"),
    "pytest-run-parallel": ("can run cells of one host at once", "no --parallel-threads with --boobench"),
    "pytest-timeout": ("a time limit ends a cell in its middle", "--timeout=0 with --boobench; suites have timeouts"),
}
"""Package of a plugin -> what it does to a bench, and what helps."""


def look_at_installed() -> Iterator[Finding]:
    """Findings on this environment; nothing is imported for them."""
    yield Finding("ok", "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield Finding("ok", PACKAGE, find_version())
    needed = list(_list_requirements())
    yield _look_at_packages(sorted(name for name, extra in needed if not extra))
    for extra, purpose in _EXTRAS.items():
        if names := [name for name, wanted_by in needed if wanted_by == extra]:
            yield _look_at_extra(extra, purpose, names)
    yield from _look_for_clashes()


def _look_at_packages(names: Sequence[str]) -> Finding:
    found = {name: _find_version(name) for name in names}
    missing = [name for name in names if found[name] is None]
    if missing:
        return Finding("fail", "packages", f"{', '.join(missing)} not installed", f"pip install {PACKAGE}")
    return Finding("ok", "packages", ", ".join(f"{name} {release}" for name, release in found.items()))


def _look_at_extra(extra: str, purpose: str, names: Sequence[str]) -> Finding:
    missing = [name for name in names if _find_version(name) is None]
    if missing:
        remedy = f"needed for {purpose} only: pip install '{PACKAGE}[{extra}]'"
        return Finding("warn", f"extra {extra}", f"{', '.join(missing)} not installed", remedy)
    return Finding("ok", f"extra {extra}", f"installed, for {purpose}")


def _look_for_clashes() -> Iterator[Finding]:
    """By the packages of pytest's plugins: what is installed is loaded."""
    plugins = {point.dist.name.lower() for point in entry_points(group="pytest11") if point.dist is not None}
    for package, (effect, remedy) in _CLASHES.items():
        if package in plugins:
            yield Finding("warn", package, effect, remedy)


def _list_requirements() -> Iterator[tuple[str, str]]:
    """Our own requirements: package, and the extra that brings it, empty for what is always needed."""
    for requirement in requires(PACKAGE) or ():
        if found := _REQUIREMENT.match(requirement):
            yield found["name"], found["extra"] or ""


def _find_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
