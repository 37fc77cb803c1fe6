"""Door 2: the checkout that is there, built and compared with a good one: one step of ``git bisect run``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from pytest_boobench.cli.ab_session import INTERRUPTED, Ab, AbChange, AbSettings, run_ab
from pytest_boobench.cli.ab_sides import PORT, AbSide, Sides, name_sides
from pytest_boobench.cli.bisect_builds import (
    BuildError,
    build,
    find_checkout,
    find_commit,
    provide_checkout,
    provide_folder,
    require_clean,
)
from pytest_boobench.cli.project import Project
from pytest_boobench.gate.bisection import Estimate, Told
from pytest_boobench.untrusted import clean

GOOD, BAD, SKIP = 0, 1, 125
"""To ``git bisect run``; with 125 it passes the commit over."""
_FINER = 4
"""The interval is measured until it is this part of what is allowed: then either is told, unless the truth is near."""


@dataclass(frozen=True, slots=True)
class StepAnswer:
    """What one step came to."""

    exit_code: int
    why: str = ""
    """In one sentence, where it is not to tell."""
    found: Ab | None = None


@dataclass(frozen=True, slots=True)
class Checkout:
    """The checkout in the current folder, and how it is built and started."""

    line: Sequence[str]
    """The server's command line."""
    builds: Sequence[Sequence[str]]
    sides: Sides
    settings: AbSettings
    project: Project

    def compare(self, good: str, *, allow_dirty: bool) -> StepAnswer:
        """Build it and compare it with the good side. A usage error for what the user must mend."""
        if not any(PORT in word for word in self.line):
            self.sides.read_command(self.line, "COMMAND")  # which says so before anything is built
        root, cache = find_checkout(Path.cwd()), provide_folder(self.project.root)
        if root is not None and not allow_dirty:
            require_clean(root)
        first = self._read_good(good, root, cache)
        try:
            build(self.builds, Path.cwd(), cache / "build.log")
        except BuildError as error:
            return StepAnswer(SKIP, f"not to tell: {error}")
        try:
            second = self.sides.read_command(self.line, "COMMAND")
        except click.UsageError as error:
            if not self.builds or "/" not in self.line[0]:
                raise
            return StepAnswer(SKIP, f"not to tell: the build made no such program: {error.message}")
        head = find_commit(Path.cwd(), "HEAD") if root else None
        old, new = _name(first, second, head)
        asked = self.settings
        if asked.until is None:
            asked = replace(asked, until=asked.max_drop / _FINER)
        return self._tell(run_ab(old, new, asked, self.project))

    def _read_good(self, good: str, root: Path | None, cache: Path) -> AbSide:
        """The good side: a command line, URL or host, else a commit in a worktree of its own."""
        if PORT in good or "://" in good or self.sides.knows(good):
            return self.sides.read(good, "--good")
        commit = find_commit(root, good) if root else None
        if root is None or commit is None:
            where = "of this checkout" if root else "where there is git and a checkout"
            raise click.UsageError(
                f"--good: expected a command line with {PORT}, a URL, a host of the hosts file, or a commit {where}; "
                f"got {clean(good)!r}"
            )
        folder = provide_checkout(root, commit, self.builds, cache)
        below = folder / Path.cwd().resolve().relative_to(root.resolve())
        side = self.sides.read_command(self.line, "--good", below if below.is_dir() else folder)
        return replace(side, name=f"commit {commit[:10]}")

    def _tell(self, found: Ab) -> StepAnswer:
        if found.interrupted:
            return StepAnswer(INTERRUPTED, found=found)
        if found.error and found.old_failed:
            raise click.ClickException(f"the good side cannot be measured: {found.error}")
        if found.error:
            return StepAnswer(SKIP, f"not to tell: {found.error}", found)
        sides = list_sides(found.changes, self.settings.max_drop)
        if "bad" in sides:
            return StepAnswer(BAD, found=found)
        if set(sides) == {"good"}:
            return StepAnswer(GOOD, found=found)
        return StepAnswer(SKIP, "not to tell: undecided", found)


def list_sides(changes: Sequence[AbChange], drop: float) -> list[Told]:
    """On which side of a drop each metric lies with its whole interval: a verdict alone would take a commit near it for
    a bad one."""
    threshold = math.log1p(-drop) if drop < 1 else -math.inf
    return [Estimate(*each.gains).tell(threshold) if each.gains else "untold" for each in changes]


def _name(first: AbSide, second: AbSide, head: str | None) -> tuple[AbSide, AbSide]:
    """By their commits where they have some."""
    old, new = name_sides(first, second, ("good", "new"))
    old = replace(old, name=first.name or old.name)
    name = f"commit {head[:10]}" if head else new.name
    return old, replace(new, name=name if name != old.name else f"{name} again")
