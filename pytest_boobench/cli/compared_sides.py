"""Door 2: the sides of ``boobench compare``: a name that somebody typed -> the stored measurements that it selects."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path

import click

from pytest_boobench.environment import ask_git
from pytest_boobench.facts import REFERENCE_SUITE, Canary
from pytest_boobench.plain import list_facts, take
from pytest_boobench.record import Baseline, CellFacts, CellRecord, HostLook, Measurement
from pytest_boobench.store import Selection, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class PastRecord(CellRecord):
    """A record without its samples: what follows from them is read from the stored measurement."""

    measurement: Measurement

    blocks = property(attrgetter("measurement.blocks"))
    rates = property(attrgetter("measurement.rates"))
    contradiction = property(attrgetter("measurement.contradiction"))

    @property
    def closed(self) -> bool:
        """Whether it was imported."""
        return self.measurement.run.imported_from is not None

    @property
    def still_warming(self) -> str | None:
        """What spoiled the samples, unless others did: the store keeps one text for both."""
        return None if self.measurement.spoiled == self.disturbed else self.measurement.spoiled


def recall(measurement: Measurement, canaries: Sequence[Canary]) -> PastRecord:
    """The measurement as a record that the gate can judge; ``canaries`` as in a record."""
    return PastRecord(
        measurement=measurement,
        suite=measurement.run.suite,
        host=measurement.run.host,
        client=measurement.run.client,
        canaries=tuple(canaries),
        **{**take(list_facts(CellFacts), measurement), "canary": None},
    )


NEWEST = "newest"
"""The session that was measured last."""
_HEX = re.compile(r"[0-9a-f]{4,40}")
_KINDS: Mapping[str, Callable[[str], Selection]] = {
    "baseline": lambda word: Selection(baselines=(word,)),
    # Older measurements say nothing about what the host is like now.
    "host": lambda word: Selection(hosts=(word,), last=1),
    "commit": lambda word: Selection(commits=(word,)),
    "session": lambda word: Selection(sessions=(word,)),
    "run": lambda word: Selection(runs=(word,)),
}
"""What a word may name -> the measurements it selects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side of a comparison."""

    kind: str
    word: str
    measurements: tuple[Measurement, ...]
    """Oldest first."""
    baselines: Mapping[str, Baseline]
    """Cell key -> the stored baseline, where the side is one."""
    looks: tuple[HostLook, ...] = ()
    """What the store knows of the noise of the hosts, where the side is a baseline."""

    @property
    def label(self) -> str:
        """The side's name in the output, as in ``commit:0a1b2c3d4e``."""
        return f"{self.kind}:{self.word[:10] if _HEX.fullmatch(self.word) else self.word}"


def find_side(store: Store, text: str, folder: Path) -> Side:
    """The measurements that a word selects, without those of references; in ``kind:word`` the kind is given.

    A usage error where the word names nothing, or several things. Git is asked in ``folder`` for words such as
    ``HEAD~1`` or a tag.
    """
    kind, word = _find_kind(store, text, folder)
    found = store.measurements(_KINDS[kind](word))
    measurements = tuple(one for one in found if one.run.suite != REFERENCE_SUITE)
    if not measurements:
        raise click.UsageError(
            f"nothing is stored of {text!r}; expected a baseline, a host, a commit, a session or a run, "
            f"or {NEWEST!r}; see boobench history"
        )
    if kind != "baseline":
        return Side(kind=kind, word=word, measurements=measurements, baselines={})
    looks = store.looks(hosts={measurement.run.host for measurement in measurements})
    return Side(kind=kind, word=word, measurements=measurements, baselines=store.baselines(word), looks=tuple(looks))


def _find_kind(store: Store, text: str, folder: Path) -> tuple[str, str]:
    """The kind, and the name in the store; a word that the store does not know may be git's name of a commit."""
    kind, colon, word = text.partition(":")
    if colon and kind in _KINDS:
        return kind, _resolve_commit(word, folder) if kind == "commit" else word
    if text == NEWEST:
        runs = store.runs(Selection(last=1))
        return "session", max(runs, key=lambda run: run.facts.started_at).facts.session if runs else ""
    kinds = _KINDS if _HEX.fullmatch(text) else ("baseline", "host")
    fitting = [kind for kind in kinds if store.runs(replace(_KINDS[kind](text), last=1))]
    if len(fitting) > 1:
        choices = " or ".join(f"{kind}:{text}" for kind in fitting)
        raise click.UsageError(f"{text!r} may be a {' or a '.join(fitting)}; say {choices}")
    return (fitting[0], text) if fitting else ("commit", _resolve_commit(text, folder))


def _resolve_commit(word: str, folder: Path) -> str:
    """The hash of the commit that git knows by this name; the word itself where it knows none."""
    return ask_git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{word}^{{commit}}") or word
