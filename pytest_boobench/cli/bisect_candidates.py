"""Door 2: the candidates of a walk: binaries, folders or pip requirements, and how each becomes a running server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from pytest_boobench.cli.ab_session import Ab, AbSettings, run_ab
from pytest_boobench.cli.ab_sides import PORT, AbSide, Sides
from pytest_boobench.cli.bisect_builds import BuildError, provide_folder, provide_python
from pytest_boobench.cli.bisect_walk import CandidateWalk, StepTarget, WalkState, identify_candidate
from pytest_boobench.cli.project import Project
from pytest_boobench.errors import DocumentError, explain_os_error
from pytest_boobench.reports.text import cut_left
from pytest_boobench.suite.names import shorten
from pytest_boobench.suite.prompt_file import read_prompts
from pytest_boobench.untrusted import clean

CANDIDATE, PYTHON = "{candidate}", "{python}"
_LONG = 60
_ASKED = (
    "model old_model prompt_tokens output_tokens depth_tokens concurrency turns turn_tokens rate slo samples until "
    "max_time_s max_drop metric together".split()
)
"""Settings that make another walk."""


def read_candidates(typed: str) -> list[str]:
    """``A,B,C``, or ``@FILE`` with a line for each; a usage error where there are not two different ones."""
    if typed.startswith("@"):
        try:
            lines = Path(typed[1:]).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            why = explain_os_error(error) if isinstance(error, OSError) else "not UTF-8"
            raise click.UsageError(f"--candidates: {typed[1:]}: {why}; expected a file with a line for each") from error
        found = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    else:
        found = [each.strip() for each in typed.split(",") if each.strip()]
    if len(found) < 2:
        raise click.UsageError(f"--candidates: expected two or more, the oldest first, got {len(found)}")
    twice = next((each for place, each in enumerate(found) if each in found[:place]), None)
    if twice is not None:
        raise click.UsageError(f"--candidates: {clean(twice)!r} stands there twice; each is another build")
    dashed = next((each for each in found if each.startswith("-")), None)
    if dashed is not None:
        raise click.UsageError(f"--candidates: {clean(dashed)!r} looks like an option; write ./ before a file's name")
    return found


@dataclass(frozen=True, slots=True)
class CandidateRow:
    """Candidates, the oldest first, and the command line that starts each."""

    candidates: Sequence[str]
    line: Sequence[str]
    sides: Sides
    settings: AbSettings
    project: Project

    def make_walk(self, *, fresh: bool) -> CandidateWalk:
        """The walk, with what an earlier one has measured. A usage error for a command line that fits none."""
        for needed in (PORT, *(() if self._installs else (CANDIDATE,))):
            if not any(needed in word for word in self.line):
                also = f", or {PYTHON} for requirements of pip," if needed == CANDIDATE else ""
                raise click.UsageError(
                    f"COMMAND: it needs {needed}{also} in one of its words; got {' '.join(self.line)!r}"
                )
        asked = {
            "candidates": list(self.candidates),
            "seen": [identify_candidate(each, Path.cwd()) for each in self.candidates],
            "command": list(self.line),
            "folder": str(Path.cwd()),
            "settings": {name: getattr(self.settings, name) for name in _ASKED},
            "prompts": hash_prompts(self.settings.prompts),
        }
        state = WalkState(self._cache, asked)
        if fresh:
            state.forget()
        state.load()
        return CandidateWalk(self.candidates, state, self.compare)

    def compare(self, place: int, target: StepTarget | None) -> Ab:
        """The candidate of a place with the first one; what cannot be installed or started is the error."""
        first, one = self.name(0), self.name(place)
        found = Ab(old=first, new=one)
        sides: list[AbSide] = []
        for at, name in ((0, first), (place, one)):
            try:
                sides.append(replace(self.make_side(self.candidates[at]), name=name))
            except BuildError as error:
                return replace(found, error=f"{name}: {error}")
            except click.UsageError as error:
                return replace(found, error=f"{name}: {error.message}")
            except KeyboardInterrupt:
                return replace(found, interrupted=True)
        asked = self.settings
        if target is None:
            asked = replace(asked, until=asked.until or asked.max_drop / _FINER)
        else:
            asked = replace(asked, metric=target.metric, max_drop=target.drop, until=asked.until or target.until)
        return run_ab(sides[0], sides[1], asked, self.project)

    def make_side(self, candidate: str) -> AbSide:
        """The server of a candidate. BuildError where pip fails, a usage error where it has no program."""
        python = str(provide_python(candidate, self._cache)) if self._installs else ""
        words = [word.replace(CANDIDATE, candidate).replace(PYTHON, python) for word in self.line]
        return self.sides.read_command(words, "COMMAND")

    def name(self, place: int) -> str:
        """What the output and the history call a candidate: short, and each another."""
        names = shorten(self.candidates)
        short = [cut_left(names[each], _LONG).strip(" :") for each in self.candidates]
        return short[place] if short.count(short[place]) == 1 else f"{short[place]} ~{place}"

    @property
    def _installs(self) -> bool:
        """Whether the candidates are requirements of pip."""
        return any(PYTHON in word for word in self.line)

    @property
    def _cache(self) -> Path:
        return provide_folder(self.project.root)


def hash_prompts(path: Path | None) -> str | None:
    """What is in a file of own prompts: other prompts are another walk. A usage error for one that cannot be sent."""
    try:
        return None if path is None else read_prompts(path, str(path), "chat").sha256
    except DocumentError as error:
        raise click.UsageError(str(error)) from error


_FINER = 4
"""The first interval is measured until it is this part of the drop that is asked for."""
