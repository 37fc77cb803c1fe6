"""Room 5: a baseline file -> BaselineFile, or all that is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pytest_boobench.aggregate import Aggregate, summarize
from pytest_boobench.baseline_file.fields import FORMAT, RATES, CellFields, FileFields, MeasuredFields, RunFields
from pytest_boobench.baseline_file.file import BaselineFile, SavedRun
from pytest_boobench.documents import yaml_source
from pytest_boobench.documents.validation import read_as
from pytest_boobench.documents.yaml_tree import Node, Problems
from pytest_boobench.facts import Canary, ModelFacts
from pytest_boobench.metrics import Sample
from pytest_boobench.plain import list_facts, take
from pytest_boobench.record import CellRecord, Circumstances, HostNoise, RunFacts
from pytest_boobench.suite.cell import make_key

_LIMITS = yaml_source.Limits(max_bytes=64_000_000, max_values=5_000_000)
"""Enough for a thousand cells with ten runs each. The file was written by us, so its limits are higher than those for
files that people write."""


def read(path: Path, display: str) -> BaselineFile:
    """Read a baseline file; ``display`` is its name in messages. Raises DocumentError with all its problems."""
    problems = Problems(display)
    root = yaml_source.read(path, problems, _LIMITS)
    _check_format(root, problems)
    written = read_as(FileFields, root, problems)
    _check(written, problems)
    problems.raise_any()
    saved = (
        _make_saved(cell, measured, written.runs[measured.run]) for cell in written.cells for measured in cell.measured
    )
    noise = {
        host: HostNoise(sessions=one.sessions, by_metric=one.by_metric) for host, one in written.host_noise.items()
    }
    return BaselineFile(name=written.name, runs=tuple(saved), host_noise=noise)


def _check_format(root: Node, problems: Problems) -> None:
    """Check this first: all keys of a newer version may be unknown."""
    found = root.child("boobench_baseline")
    if isinstance(found.value, int) and found.value > FORMAT:
        newer = f"its format {found.value} is newer than the {FORMAT} of this pytest-boobench; upgrade it"
        problems.stop(found.line, newer)


def _check(written: FileFields, problems: Problems) -> None:
    """Check what no single field can."""
    first: dict[str, CellFields] = {}
    for cell in written.cells:
        same = first.setdefault(make_key(cell.identity), cell)
        if same is not cell:
            problems.add(cell.node, f"the same cell as on line {same.node.line}; put its measurements together")
        for measured in cell.measured:
            _check_measured(measured, written.runs, problems)


def _check_measured(measured: MeasuredFields, runs: Mapping[str, RunFields], problems: Problems) -> None:
    node = measured.node
    if measured.run not in runs:
        problems.add(node.child("run"), f"no such run under runs: {measured.run!r}")
    if measured.canary and not measured.canary.keys() >= set(RATES):
        problems.add(node.child("canary"), f"expected {' and '.join(RATES)}")
    lists = {key: len(numbers) for key, numbers in measured.metrics.items() if isinstance(numbers, tuple)}
    for key, length in lists.items():
        first = next(iter(lists))
        if length != lists[first] and not problems.has(node.child("metrics").child(key)):
            text = f"{length} numbers, but {first} has {lists[first]}; expected one for each request, or null"
            problems.add(node.child("metrics").child(key), text)


def _make_saved(cell: CellFields, measured: MeasuredFields, run: RunFields) -> SavedRun:
    samples = _make_samples(measured)
    summaries = {key: found for key, found in measured.metrics.items() if isinstance(found, Aggregate)}
    told = take(list_facts(Circumstances), measured)
    if measured.model is not None:
        told["model"] = ModelFacts(**{"name": cell.model, **measured.model})
    told["canary"] = Canary(**measured.canary) if measured.canary else None
    record = CellRecord(
        node_id=cell.node_id,
        cell_key=make_key(cell.identity),
        suite=cell.suite,
        host=cell.host,
        identity=cell.identity,
        started_at=measured.measured_at,
        samples=samples,
        aggregates={**summarize(samples, cell.kind), **summaries},
        total_tok_s=measured.total_tok_s,
        canaries=(told["canary"],) if told["canary"] else (),
        **told,
    )
    facts = RunFacts(
        uid=measured.run,
        suite=cell.suite,
        host=cell.host,
        **{name: getattr(run, name) for name in RunFields.model_fields},
    )
    return SavedRun(run=facts, record=record, saved_at=measured.saved_at, reason=measured.reason)


def _make_samples(measured: MeasuredFields) -> tuple[Sample, ...]:
    """Make samples from the file: only their numbers are known."""
    lists = {key: found for key, found in measured.metrics.items() if isinstance(found, tuple)}
    return tuple(
        Sample(
            phase="measure",
            lane=0,
            index=index,
            started_at=measured.measured_at,
            offset_ms=0.0,
            clock=measured.clock,
            **dict(zip(lists, numbers, strict=True)),
        )
        for index, numbers in enumerate(zip(*lists.values(), strict=True))
    )
