"""Door 2: a word that somebody typed -> the stored measurements it names, as the gate takes them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from pytest_boobench.facts import Canary
from pytest_boobench.plain import list_facts, take
from pytest_boobench.record import Baseline, CellRecord, Circumstances, Measurement, make_baseline_run
from pytest_boobench.store import Selection, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class PastRecord(CellRecord):
    """A record whose samples are left in the store: what follows from them was stored beside them."""

    measurement: Measurement

    @property
    def blocks(self) -> int:
        """As it was stored."""
        return self.measurement.blocks

    @property
    def still_warming(self) -> str | None:
        """Whatever spoiled the samples, others on the host left out: the store keeps one text for all."""
        return None if self.measurement.spoiled == self.disturbed else self.measurement.spoiled

    @property
    def rates(self) -> str | None:
        """As it was stored."""
        return self.measurement.rates

    @property
    def contradiction(self) -> str | None:
        """As it was stored."""
        return self.measurement.contradiction


def recall(measurement: Measurement, canaries: Sequence[Canary]) -> PastRecord:
    """The measurement as a cell that is to be judged; ``canaries`` as in a record."""
    return PastRecord(
        measurement=measurement,
        node_id=measurement.node_id,
        cell_key=measurement.cell_key,
        suite=measurement.run.suite,
        host=measurement.run.host,
        identity=measurement.identity,
        started_at=measurement.started_at,
        aggregates=measurement.aggregates,
        traffic=measurement.traffic,
        client=measurement.run.client,
        canaries=tuple(canaries),
        **{**take(list_facts(Circumstances), measurement), "canary": None},
        blanks=measurement.blanks,
    )


def make_baseline(name: str, cell_key: str, measurements: Sequence[Measurement]) -> Baseline:
    """Measurements of one cell, oldest first, as the baseline that a later one is held against."""
    runs = tuple(make_baseline_run(each.run, each, each.started_at) for each in measurements)
    return Baseline(name=name, cell_key=cell_key, suite=measurements[0].run.suite, runs=runs)


NEWEST = "newest"
"""The session that was measured last."""
_HEX = re.compile(r"[0-9a-f]{4,40}")
_KINDS: Mapping[str, Callable[[str], Selection]] = {
    "baseline": lambda word: Selection(baselines=(word,)),
    # What a host was like in other times says nothing of it now.
    "host": lambda word: Selection(hosts=(word,), last=1),
    "commit": lambda word: Selection(commits=(word,)),
    "session": lambda word: Selection(sessions=(word,)),
    "run": lambda word: Selection(runs=(word,)),
}
"""What a word may name -> what it selects."""
_BY_HEX = ("commit", "session", "run")
"""Kinds that are named by hexadecimal digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side of a comparison."""

    kind: str
    word: str
    measurements: tuple[Measurement, ...]
    """Oldest first."""
    baselines: Mapping[str, Baseline]
    """Cell key -> the stored baseline, where the side is one."""

    @property
    def label(self) -> str:
        """As in ``commit:0a1b2c3d4e``."""
        return f"{self.kind}:{self.word[:10] if _HEX.fullmatch(self.word) else self.word}"


def find_side(store: Store, text: str, folder: Path) -> Side:
    """What a word names; ``kind:word`` says it outright. A usage error where it names nothing, or two things.

    ``folder`` is where git is asked for words such as ``HEAD~1`` or a tag.
    """
    kind, colon, word = text.partition(":")
    if colon and kind in _KINDS:
        return _find(store, kind, _resolve_commit(word, folder) if kind == "commit" else word, text)
    if text == NEWEST:
        return _find(store, "session", _find_newest(store), text)
    fitting = [kind for kind in _KINDS if _names_something(store, kind, text)]
    if len(fitting) > 1:
        choices = " or ".join(f"{kind}:{text}" for kind in fitting)
        raise click.UsageError(f"{text!r} may be a {' or a '.join(fitting)}; say {choices}")
    if fitting:
        return _find(store, fitting[0], text, text)
    return _find(store, "commit", _resolve_commit(text, folder), text)


def _find(store: Store, kind: str, word: str, text: str) -> Side:
    measurements = tuple(store.measurements(_KINDS[kind](word)))
    if not measurements:
        raise click.UsageError(
            f"nothing is stored of {text!r}; expected a baseline, a host, a commit, a session or a run, "
            f"or {NEWEST!r}; see boobench history"
        )
    baselines = store.baselines(word) if kind == "baseline" else {}
    return Side(kind=kind, word=word, measurements=measurements, baselines=baselines)


def _names_something(store: Store, kind: str, word: str) -> bool:
    if kind in _BY_HEX and not _HEX.fullmatch(word):
        return False
    return bool(store.runs(replace(_KINDS[kind](word), last=1)))


def _find_newest(store: Store) -> str:
    runs = store.runs(Selection(last=1))
    return max(runs, key=lambda run: run.facts.started_at).facts.session if runs else ""


def _resolve_commit(word: str, folder: Path) -> str:
    """The hash behind a name that git knows; the word itself where it knows none."""
    try:
        done = subprocess.run(  # noqa: S603  # a list, no shell
            ["git", "-C", str(folder), "rev-parse", "--verify", "--quiet", "--end-of-options", f"{word}^{{commit}}"],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return word
    return done.stdout.strip() or word
