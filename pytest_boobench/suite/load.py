"""Room 1: a suite file -> Suite, or all that is wrong with it. Collection and command line both load suites here."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from pytest_boobench import MAX_CELLS
from pytest_boobench.documents.validation import read_as
from pytest_boobench.documents.yaml_source import read
from pytest_boobench.documents.yaml_tree import Problems
from pytest_boobench.errors import DocumentError, Problem
from pytest_boobench.metrics import find_load
from pytest_boobench.plain import take
from pytest_boobench.suite.cell import CONVERSATIONS, Cell, Mark, Plan, Suite
from pytest_boobench.suite.checks import check
from pytest_boobench.suite.launching import StartNeeds, show_values
from pytest_boobench.suite.names import make_bearable
from pytest_boobench.suite.prompt_file import PromptFile
from pytest_boobench.suite.prompting import RECORDED, load_prompts
from pytest_boobench.suite.spec import GRID, SINGLE, MarkedPlan, OverrideFields, SuiteFields
from pytest_boobench.suite.thresholds import Thresholds, default_thresholds, resolve_turns

_SIGNS = {one.name: one.axis.sign for one in GRID}
"""Axis of the grid -> its prefix in an id; a sampling field's prefix is its name."""
_NO_STARTS: Mapping[str, StartNeeds] = MappingProxyType({})
LEAST_AT_RATE, USUAL_S = 20, 30.0
"""Measured requests at a rate if the suite does not say: those of so many seconds, and at least so many."""
_ABSENT = {one.name: one.axis.absent for one in GRID}


def load(
    path: Path,
    *,
    display: str,
    known_hosts: Collection[str] | None,
    hosts_file: str | None = None,
    starts: Mapping[str, StartNeeds] = _NO_STARTS,
    max_cells: int = MAX_CELLS,
) -> Suite:
    """Load a suite file. Raises DocumentError with every problem of the file.

    ``display`` is the file's name in messages, ``hosts_file`` that of the hosts file. ``known_hosts`` None: hosts are
    not checked. ``starts`` is what the hosts that we start need from ``launch``.
    """
    problems = Problems(display)
    written = read_as(SuiteFields, read(path, problems), problems)
    own = load_prompts(written, path, display, problems)
    check(
        written,
        problems,
        known_hosts=known_hosts,
        hosts_file=hosts_file,
        starts=starts,
        max_cells=max_cells,
        own=own,
    )
    problems.raise_any()
    return Suite(
        name=written.suite,
        path=path,
        description=written.description,
        hosts=written.hosts,
        models=written.models,
        fixtures=written.usefixtures,
        cells=tuple(_make_cells(written, own)),
    )


def accept_hosts(path: Path, known: Collection[str], wanted: Collection[str]) -> Collection[str] | None:
    """Return the names that ``hosts`` of a suite file may have if only the hosts ``wanted`` are to be used: the known
    ones, and any that nobody wants. None if the suite names none of the wanted. If none is named, all are wanted."""
    if not wanted:
        return known
    try:
        listed = read(path, Problems(path.name)).child("hosts").listed
    except DocumentError:  # its loading says why
        return known
    named = {node.value for node in listed if isinstance(node.value, str)}
    if named and named.isdisjoint(wanted):
        return None
    return (*known, *sorted(named.difference(wanted)))


class SuiteNames:
    """The suite names of a session. The store identifies a suite by its name, so two files cannot share one."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[Path, str]] = {}

    def claim(self, suite: Suite, display: str) -> None:
        """Claim a suite's name for its file. Raises DocumentError if another file has it. Idempotent."""
        path, first = self._files.setdefault(suite.name, (suite.path, display))
        if path != suite.path:
            node = read(suite.path, Problems(display)).child("suite")
            text = f"{suite.name!r} is the name of {first} too; the store needs two names"
            raise DocumentError((Problem(display, node.line, node.path, text),))


# --- the file's combinations as cells


def _make_cells(written: SuiteFields, own: PromptFile | None) -> Iterator[Cell]:
    """Grouped by host, then model, then the axes, all in the file's order."""
    treatments = _Treatments(written, own)
    combinations = tuple(_combine(written, own))
    lines = [node.line for node in written.node.child("models").listed]
    single = take([one.name for one in SINGLE], written)
    for host in written.hosts:
        for model, line in zip(written.models, lines, strict=True):
            for id_, at, sampling, launch in combinations:
                plan, marks, taken = treatments.choose({**at, **sampling, **launch, "host": host, "model": model})
                yield Cell(
                    suite=written.suite,
                    host=host,
                    model=model,
                    sampling=sampling,
                    launch=launch,
                    request=written.request,
                    slo=written.slo,
                    prompts=taken.sha256 if taken else "",
                    own=taken,
                    plan=plan,
                    id=id_,
                    line=line,
                    marks=marks,
                    **at,
                    **single,
                )


class _Combination(NamedTuple):
    """One combination of a suite's axes."""

    id: str
    at: Mapping[str, Any]
    """The grid's values."""
    sampling: Mapping[str, Any]
    launch: Mapping[str, str]


def _combine(written: SuiteFields, own: PromptFile | None) -> Iterator[_Combination]:
    """All combinations. ``launch`` is outermost, so that a host starts once for each of its combinations.

    Then come the grid and sampling; the last axis varies fastest. Equal sampling is one mapping object.
    """
    axes = written.list_axes()
    inner = {name: values for name, values in axes.items() if name not in written.launch}
    shared: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    named = [f"prompts-{make_bearable(own.stem)}"] if own else []
    for shown, launch in _combine_launch(written):
        for values in itertools.product(*inner.values()):
            at = dict(zip(inner, values, strict=True))
            chosen = tuple(at.get(name, value) for name, value in written.sampling.items())
            sampling = shared.setdefault(chosen, dict(zip(written.sampling, chosen, strict=True)))
            told = (name for name in at if name not in _ABSENT or at[name] != _ABSENT[name])
            told = (name for name in told if name != "concurrency" or not _is_planned(written, at))
            id_ = "-".join([*named, *(f"{_SIGNS.get(name, name)}{_show(at[name])}" for name in told), *shown])
            yield _Combination(id_, {name: value for name, value in at.items() if name in _SIGNS}, sampling, launch)


def _is_planned(written: SuiteFields, at: Mapping[str, Any]) -> bool:
    """Whether requests are sent at planned times, so that no number of lanes decides how many are in flight."""
    return find_load(at.get("rate"), written.slo, written.arrival) != "lanes"


def _show(value: Any) -> str:
    """A value in an id: whole numbers without a point."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _combine_launch(written: SuiteFields) -> Iterator[tuple[Sequence[str], Mapping[str, str]]]:
    """Each combination of ``launch``, with its parts for the ids; only axes are in ids."""
    single = {name: value for name, value in written.launch.items() if isinstance(value, str)}
    axes = {name: value for name, value in written.launch.items() if isinstance(value, tuple)}
    shown = {name: show_values(values) for name, values in axes.items()}
    for values in itertools.product(*axes.values()):
        at = dict(zip(axes, values, strict=True))
        yield [f"{name}{shown[name][value]}" for name, value in at.items()], {**single, **at}


class _Treatment(NamedTuple):
    """How a cell is measured and marked; shared by all cells that match the same overrides."""

    plan: Plan
    marks: tuple[Mark, ...]
    own: PromptFile | None
    """The suite's own prompts, as many as are measured."""


class _Treatments:
    """The treatments of one suite's cells, each made once."""

    def __init__(self, written: SuiteFields, own: PromptFile | None) -> None:
        self._written = written
        self._own = own
        self._made: dict[tuple[float, ...], _Treatment] = {}
        """By what decides the samples, and the overrides."""

    def choose(self, at: Mapping[str, Any]) -> _Treatment:
        """Return the treatment of the cell at these values of the axes, with ``host`` and ``model``."""
        written = self._written
        picked = tuple(i for i, override in enumerate(written.overrides) if _picks(override, at))
        size = _Size(
            lanes=at["concurrency"],
            turns=at.get("turns", 1),
            rate=at.get("rate", 0.0),
            prompts=len(self._own.lines) if self._own else 0,
            recorded=written.arrival == RECORDED,
        )
        key = (*size, *picked)
        if key not in self._made:
            steps = (written, *(written.overrides[i] for i in picked))
            marks = tuple(mark for step in steps for mark in step.marks)
            plan = _make_plan(steps, written, size)
            self._made[key] = _Treatment(plan, marks, self._own.take(plan.samples) if self._own else None)
        return self._made[key]


def _picks(override: OverrideFields, at: Mapping[str, Any]) -> bool:
    return all(at[axis] in values for axis, values in override.where.items())


class _Size(NamedTuple):
    """What decides how many requests a block has by default, and what is judged."""

    lanes: int
    turns: int
    rate: float
    prompts: int
    """Lines of the file with the suite's own prompts; 0: the prompts are made."""
    recorded: bool

    @property
    def usual_samples(self) -> int:
        """A multiple of the lanes, so that no sample runs beside fewer others, and whole conversations. Of own prompts
        whole passes over their file."""
        if self.recorded:
            return max(1, self.prompts)
        if self.rate:
            return self.fill_pass(max(LEAST_AT_RATE, round(USUAL_S * self.rate)))
        requests = Plan().samples if self.turns == 1 else CONVERSATIONS
        return self.fill_pass(self.turns * self.lanes * math.ceil(requests / self.lanes))

    def fill_pass(self, samples: int) -> int:
        """As many samples, and those that complete the last pass over the own prompts."""
        return math.ceil(samples / self.prompts) * self.prompts if self.prompts else samples

    def fit(self, samples: int) -> int:
        """The samples that a suite asks for: whole conversations, and whole passes or the file's first prompts."""
        if self.prompts and samples > self.prompts:
            return self.prompts if self.recorded else samples // self.prompts * self.prompts
        return max(1, samples // self.turns) * self.turns


def _make_plan(steps: Sequence[MarkedPlan], written: SuiteFields, size: _Size) -> Plan:
    """Merge the steps into the defaults: gates of overrides by metric, timeouts one by one; of ``samples`` and
    ``duration`` the later one holds.

    The default number of samples is a multiple of the lanes, so that no sample runs beside fewer others. Conversations
    are whole: their samples are a multiple of the turns. So are passes over own prompts.
    """
    plan = Plan(samples=size.usual_samples)
    for step in steps:
        given = step.given
        if step.gate is not None:
            before: Thresholds = {}
            if isinstance(step, OverrideFields):
                load = find_load(size.rate, written.slo, written.arrival)
                usual = default_thresholds(written.kind, size.lanes, size.turns, load)
                before = usual if plan.gate is None else plan.gate
            given["gate"] = {**before, **resolve_turns(step.gate, size.turns)}
        if "samples" in given:
            given["samples"] = size.fit(step.samples)
        if "timeouts" in given:
            changed = {name: getattr(step.timeouts, name) for name in step.timeouts.model_fields_set}
            given["timeouts"] = plan.timeouts.model_copy(update=changed)
        if step.duration_s is not None:
            given["samples"] = size.fill_pass(max(1, round(step.duration_s * size.rate)))
        elif "samples" in given:
            given["duration_s"] = None
        plan = plan.model_copy(update=given)
    return plan
