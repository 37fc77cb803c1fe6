"""Room 5: the content of a baseline file, and its text for git: fixed order, one thing per line, few digits."""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, cast

from pytest_boobench.aggregate import counted
from pytest_boobench.baseline_file.fields import FORMAT, LISTED, RunFields
from pytest_boobench.metrics import Sample, find_metric, sort_metrics
from pytest_boobench.plain import list_facts, take
from pytest_boobench.record import (
    Baseline,
    CellRecord,
    Circumstances,
    HostNoise,
    Measurement,
    RunFacts,
    make_baseline_run,
)
from pytest_boobench.suite.cell import AXES
from pytest_boobench.untrusted import hide_in


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedRun:
    """One measurement that is in force for its cell."""

    run: RunFacts
    record: CellRecord
    saved_at: float
    """Seconds since 1970 UTC."""
    reason: str = ""
    """The reason, in the words of the user who saved it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineFile:
    """The whole content of one baseline."""

    name: str
    runs: tuple[SavedRun, ...] = ()
    host_noise: Mapping[str, HostNoise] = field(default_factory=dict)
    """Host -> how much its sessions differ, as far as the writer knew."""

    def with_runs(self, saved: Iterable[SavedRun], *, add: bool) -> BaselineFile:
        """Return a copy with these measurements: instead of those of their cells, or (``add``) beside them."""
        new = tuple(saved)
        keys, measurements = {one.record.cell_key for one in new}, set(map(_identify, new))
        kept = (
            one for one in self.runs if _identify(one) not in measurements and (add or one.record.cell_key not in keys)
        )
        return replace(self, runs=(*kept, *new))

    @property
    def hosts(self) -> set[str]:
        """The hosts of its cells."""
        return {one.record.host for one in self.runs}

    def baselines(self) -> dict[str, Baseline]:
        """Return cell key -> Baseline, its runs oldest first."""
        of_key: dict[str, list[SavedRun]] = defaultdict(list)
        for one in sorted(self.runs, key=lambda one: one.record.started_at):
            of_key[one.record.cell_key].append(one)
        return {
            key: Baseline(
                name=self.name,
                cell_key=key,
                suite=several[-1].record.suite,
                host=several[-1].record.host,
                host_noise=self.host_noise.get(several[-1].record.host),
                runs=tuple(make_baseline_run(one.run, one.record, one.saved_at) for one in several),
                node_id=several[-1].record.node_id,
                prompts=several[-1].record.identity.get("prompts", ""),
            )
            for key, several in of_key.items()
        }


def save_measurement(measurement: Measurement, samples: Sequence[Sample], *, saved_at: float, reason: str) -> SavedRun:
    """Make the file's form of a stored measurement and its samples."""
    record = CellRecord(
        node_id=measurement.node_id,
        cell_key=measurement.cell_key,
        suite=measurement.run.suite,
        host=measurement.run.host,
        identity=measurement.identity,
        started_at=measurement.started_at,
        samples=tuple(samples),
        aggregates=measurement.aggregates,
        total_tok_s=measurement.total_tok_s,
        canaries=(measurement.canary,) if measurement.canary else (),
        **take(list_facts(Circumstances), measurement),
    )
    return SavedRun(run=measurement.run, record=record, saved_at=saved_at, reason=reason)


def _identify(saved: SavedRun) -> tuple[str, str, float]:
    return saved.run.uid, saved.record.node_id, saved.record.started_at


_HEAD = """\
# A baseline of pytest-boobench. `boobench baseline export` writes it, and so does pytest with --boobench-baseline-file
# and --boobench-save-baseline; a gate on it needs no database. Numbers stand in the order of the requests.
"""
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./+-]*\Z")
_WORDS = frozenset({"null", "true", "false", "yes", "no", "on", "off"})
"""Quoted, for other readers of YAML."""
_HIDDEN = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
"""Characters that YAML files must not or should not hold unescaped."""
_TIMES = ("started_at", "measured_at", "saved_at")


def write(path: Path, file: BaselineFile) -> None:
    """Write the file atomically, so that nobody ever reads half of it. Raises OSError."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    draft.write_text(render(file), encoding="utf-8")
    draft.replace(path)


def render(file: BaselineFile) -> str:
    """Return the file's text; the same measurements give the same text."""
    runs = {saved.run.uid: saved.run for saved in file.runs}
    lines = [f"boobench_baseline: {FORMAT}", f"name: {_flow(file.name)}", "runs:" if runs else "runs: {}"]
    for uid in sorted(runs, key=lambda uid: (runs[uid].started_at, uid)):
        lines.append(f"  {_flow(uid)}:")
        lines += (f"    {line}" for line in _fields(_describe_run(runs[uid])))
    if file.host_noise:
        lines.append("host_noise:")
        lines += (f"  {_flow(host)}: {_flow(_describe(file.host_noise[host]))}" for host in sorted(file.host_noise))
    lines.append("cells:" if runs else "cells: []")
    ordered = sorted(file.runs, key=_order)
    for _, several in groupby(ordered, key=lambda saved: saved.record.cell_key):
        lines += _render_cell(list(several))
    return "\n".join((_HEAD.rstrip(), *lines, ""))


def _order(saved: SavedRun) -> tuple[Any, ...]:
    """First by what people look for, then by all that makes two cells different; the oldest measurement first."""
    identity = saved.record.identity
    names = ("suite", "host", "model", "kind", *(one.name for one in AXES if one.axis.in_grid))
    sizes = (identity.get(name) or 0 for name in names)
    return (*sizes, saved.record.cell_key, saved.record.started_at, saved.run.uid)


def _describe_run(run: RunFacts) -> Mapping[str, Any]:
    """Who measured, without names of users and jobs, which do not belong into git."""
    return take(RunFields.model_fields, run)


def _render_cell(several: list[SavedRun]) -> Iterator[str]:
    newest = several[-1].record
    yield from _item([*_fields({**newest.identity, "node_id": newest.node_id}), "measured:"])
    for saved in several:
        yield from (
            f"  {line}" for line in _item([*_fields(_describe_measurement(saved)), *_render_metrics(saved.record)])
        )


def _describe_measurement(saved: SavedRun) -> Mapping[str, Any]:
    record = saved.record
    return {
        "run": saved.run.uid,
        "measured_at": record.started_at,
        "saved_at": saved.saved_at,
        "reason": saved.reason,
        **{name: _describe(getattr(record, name)) for name in list_facts(Circumstances)},
        "total_tok_s": None if record.total_tok_s is None else _Rate(record.total_tok_s),
    }


def _describe(circumstance: Any) -> Any:
    """A circumstance in the file's form; a group of facts as a mapping of the known ones."""
    if not is_dataclass(circumstance):
        return circumstance
    known = _known(asdict(cast("Any", circumstance)))
    return {key: _round(value) for key, value in known.items()}


def _round(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _round(value[key]) for key in sorted(value)}
    return _Rate(value) if isinstance(value, float) else value


def _render_metrics(record: CellRecord) -> Iterator[str]:
    """A list if each request has one number, else a summary."""
    yield "metrics:" if record.aggregates else "metrics: {}"
    good = counted(record.samples)
    for key in sort_metrics(record.aggregates):
        aggregate = record.aggregates[key]
        kind = _Milliseconds if find_metric(key).unit == "ms" else _Rate
        if good and key in LISTED:
            numbers = (getattr(sample, key) for sample in good)
            yield f"  {key}: {_flow([None if number is None else kind(number) for number in numbers])}"
        else:
            summary = {field: kind(number) for field, number in _known(asdict(aggregate)).items() if field != "n"}
            yield f"  {_flow(key)}: {_flow({'n': aggregate.n, **summary})}"


class _Rate(float):
    """Five digits: smaller differences do not matter to any gate."""

    def __str__(self) -> str:
        return f"{float(self):.5g}"


class _Milliseconds(float):
    """To the microsecond, the precision of kernels' clocks."""

    def __str__(self) -> str:
        return f"{float(self):.3f}".rstrip("0").rstrip(".")


def _known(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {key: fact for key, fact in facts.items() if fact is not None}


def _fields(values: Mapping[str, Any]) -> Iterator[str]:
    """One line for each; omits None."""
    for key, value in values.items():
        if value is not None and value != "":
            yield f"{key}: {_time(value) if key in _TIMES else _flow(hide_in(value))}"


def _item(lines: Iterable[str]) -> Iterator[str]:
    """The lines as one item of a list."""
    for number, line in enumerate(lines):
        yield f"{'  ' if number else '- '}{line}"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _flow(value: Any) -> str:
    """YAML in the flow style, valid in every version of YAML."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_flow(key)}: {_flow(value[key])}' for key in value)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, _Rate | _Milliseconds):
        return str(value)
    if isinstance(value, str) and _PLAIN.match(value) and value.lower() not in _WORDS:
        return value
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))
