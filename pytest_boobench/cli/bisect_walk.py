"""Door 2: the walk over candidates: it measures one after the other, keeps what it has, and says which one it was."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click

from pytest_boobench.cli.ab_command import describe_time
from pytest_boobench.cli.ab_session import IMPOSSIBLE, INTERRUPTED, NOT_SLOWER, SLOWER, UNDECIDED, Ab
from pytest_boobench.errors import explain_os_error
from pytest_boobench.gate.bisection import FINEST, Estimate, Walk
from pytest_boobench.metrics import find_metric, is_metric
from pytest_boobench.reports.text import render_table
from pytest_boobench.units import BLANK, change, count

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class StepTarget:
    """What a step measures for."""

    metric: str
    drop: float
    """That of the threshold, a ratio."""
    until: float
    """Half the width of the interval, a ratio."""


Compare = Callable[[int, StepTarget | None], Ab]
"""Compares the candidate of a place with the first one; None: as the user asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One candidate against the first one, as the state file keeps it."""

    gains: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    """Metric -> its gain with the lower and upper end of the 95 % interval, logarithms."""
    slower: tuple[str, ...] = ()
    """Metrics that are slower by more than --max-drop."""
    exit_code: int = IMPOSSIBLE
    """Of `boobench ab`."""
    error: str = ""
    session: str | None = None
    pairs: int | None = None
    took_s: float = 0.0
    at: float = 0.0
    """Seconds since 1970 UTC."""


def make_look(found: Ab) -> Look:
    """What is kept of a comparison."""
    return Look(
        gains={each.metric: each.gains for each in found.changes if each.gains},
        slower=tuple(each.metric for each in found.changes if each.outcome == "regression"),
        exit_code=found.exit_code,
        error=found.error,
        session=found.session,
        pairs=max((each.pairs or 0 for each in found.changes), default=None),
        took_s=found.took_s,
        at=time.time(),
    )


class WalkState:
    """The file with what was compared so far, for these candidates, this command and these settings."""

    def __init__(self, folder: Path, asked: Mapping[str, Any]) -> None:
        self._asked = asked
        digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]
        self.path = folder / f"walk-{digest}.json"
        self.looks: dict[int, Look] = {}

    def load(self) -> None:
        """Read what an earlier walk kept; a usage error where the file cannot be read."""
        if not self.path.exists():
            return
        try:
            kept = json.loads(self.path.read_text(encoding="utf-8"))
            if kept["schema"] != SCHEMA:
                raise ValueError("another schema")
            self.looks = {int(place): _read_look(look) for place, look in kept["looks"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise click.UsageError(f"{self.path}: not a walk that can go on ({error}); --fresh forgets it") from error

    def forget(self) -> None:
        """Begin anew."""
        self.path.unlink(missing_ok=True)

    def keep(self, place: int, look: Look) -> None:
        """Add a comparison; the file always holds a whole state."""
        self.looks[place] = look
        plain = {"schema": SCHEMA, **self._asked, "looks": {str(at): asdict(one) for at, one in self.looks.items()}}
        try:
            with tempfile.NamedTemporaryFile("w", dir=self.path.parent, delete=False, encoding="utf-8") as draft:
                json.dump(plain, draft, indent=1)
            Path(draft.name).replace(self.path)
        except OSError as error:
            raise click.UsageError(f"{self.path}: {explain_os_error(error)}; expected a file to write to") from error


def _read_look(kept: Mapping[str, Any]) -> Look:
    gains = {metric: _read_ends(*ends) for metric, ends in kept["gains"].items() if is_metric(metric)}
    return Look(**{**kept, "gains": gains, "slower": tuple(kept["slower"])})


def _read_ends(gain: float, low: float, high: float) -> tuple[float, float, float]:
    return float(gain), float(low), float(high)


@dataclass(slots=True)
class CandidateWalk:
    """The walk over candidates by comparisons with the first one."""

    candidates: Sequence[str]
    state: WalkState
    compare: Compare
    interrupted: bool = False
    trouble: str = ""
    """Why it cannot go on: the first or the last candidate cannot be measured."""

    def go_on(self) -> None:
        """Compare until the answer is certain, or nothing more can be told."""
        while not self.interrupted and not self.trouble and (place := self._choose()) is not None:
            walk = self.see()
            target = None
            if self.lost is not None and walk.threshold is not None and walk.loss is not None:
                target = StepTarget(self.lost, -math.expm1(walk.threshold), -math.expm1(walk.loss / FINEST))
            click.echo(f"comparing: {self.candidates[place]} with {self.candidates[0]}", err=True)
            self._take(place, self.compare(place, target))

    def _take(self, place: int, found: Ab) -> None:
        if found.interrupted:
            self.interrupted = True
        elif found.error and found.old_failed:
            self.trouble = f"{self.candidates[0]}, the first candidate, cannot be measured: {found.error}"
        elif found.error and place == len(self.candidates) - 1:
            self.trouble = f"{self.candidates[place]}, the last candidate, cannot be measured: {found.error}"
        else:
            self.state.keep(place, make_look(found))

    def _choose(self) -> int | None:
        walk = self.see()
        if walk.last in self.state.looks and not self.lost:
            return None
        return walk.choose()

    @property
    def end(self) -> Look | None:
        """The comparison of the last candidate."""
        return self.state.looks.get(len(self.candidates) - 1)

    @property
    def lost(self) -> str | None:
        """The metric that tells: of those that are slower by more than is allowed, the one that lost most.

        None where there is no loss, or it is not known.
        """
        if self.end is None:
            return None
        gains = self.end.gains
        slower = [key for key in self.end.slower if key in gains]
        return min(slower, key=lambda key: gains[key][0], default=None)

    def see(self) -> Walk:
        """What the walk knows so far."""
        lost = self.lost
        looks: dict[int, Estimate | None] = {}
        for place, look in self.state.looks.items():
            gains = look.gains.get(lost) if lost else None
            looks[place] = Estimate(*gains) if gains else None
        return Walk(len(self.candidates), looks)

    @property
    def exit_code(self) -> int:
        """0 no loss, 1 the first slow one is certain, 3 it cannot be told, 2 the ends cannot be measured."""
        if self.interrupted:
            return INTERRUPTED
        if self.trouble or self.end is None:
            return IMPOSSIBLE
        if self.lost is None:
            return self.end.exit_code if self.end.exit_code in (NOT_SLOWER, UNDECIDED) else UNDECIDED
        return SLOWER if self.see().certain else UNDECIDED

    def describe(self) -> dict[str, Any]:
        """The walk as plain data."""
        walk, lost = self.see(), self.lost
        found = walk.found if lost else None
        steps = [
            {"candidate": self.candidates[place], "told": walk.told[place], **asdict(look)}
            for place, look in sorted(self.state.looks.items())
        ]
        return {
            "exit_code": self.exit_code,
            "candidates": list(self.candidates),
            "metric": lost,
            "certain": found is not None and walk.certain,
            "last_good": self.candidates[found.good] if found else None,
            "first_bad": self.candidates[found.bad] if found else None,
            "steps": steps,
            "error": self.trouble,
        }

    def render(self) -> Iterator[str]:
        """A line for each candidate that was compared, and the answer."""
        walk, lost = self.see(), self.lost
        shown = lost or next(iter(self.end.gains if self.end else ()), "decode_tok_s")
        head = ("candidate", f"{find_metric(shown).title} change", "pairs", "time", "")
        rows = [(self.candidates[0], BLANK, BLANK, BLANK, "the first")]
        for place, look in sorted(self.state.looks.items()):
            rows.append((self.candidates[place], *_show_look(look, shown), _tell(walk, place, look, lost)))
        yield from render_table(head, rows, left=(0, 1, 4))
        yield from self._answer(walk, lost)

    def _answer(self, walk: Walk, lost: str | None) -> Iterator[str]:
        taken = f"{count(len(self.state.looks), 'comparison')} of {walk.most} at most"
        first, last = self.candidates[0], self.candidates[-1]
        if self.trouble:
            return
        if self.interrupted or self.end is None:
            yield f"interrupted; the same command goes on from {self.state.path}"
            return
        if lost is None:
            told = "is not slower than" if self.end.exit_code == NOT_SLOWER else "cannot be told from"
            yield f"no loss to look for: {last} {told} {first}"
            if self.end.exit_code != NOT_SLOWER:
                yield "give it more --max-time, which is another walk, or measure once more with --fresh"
            return
        found = walk.found
        if walk.certain:
            good, bad = self.candidates[found.good], self.candidates[found.bad]
            yield f"first slow one: {bad}; {good}, just before it, is good ({taken})"
        else:
            between = ", ".join(self.candidates[found.good + 1 : found.bad + 1])
            yield f"slow since one of: {between}; {self.candidates[found.good]} is good ({taken})"


def _show_look(look: Look, metric: str) -> tuple[str, str, str]:
    ends = look.gains.get(metric)
    changes = [math.expm1(gain if find_metric(metric).better == "higher" else -gain) for gain in ends or ()]
    pairs = BLANK if look.pairs is None else str(look.pairs)
    shown = change(changes[0], *sorted(changes[1:])) if changes else BLANK
    return shown, pairs, describe_time(look.took_s)


def _tell(walk: Walk, place: int, look: Look, lost: str | None) -> str:
    if look.error:
        return f"not measured: {look.error.splitlines()[0]}"
    if lost is None:
        return ""
    side = walk.told[place]
    return "not to tell" if side == "untold" else side


def identify_candidate(candidate: str, folder: Path) -> list[Any]:
    """What a candidate is: a file that was written anew is another one."""
    path = folder / candidate
    try:
        status = path.stat()
    except (OSError, ValueError):
        return [candidate]
    return [candidate, status.st_size, status.st_mtime_ns] if path.is_file() else [candidate]
