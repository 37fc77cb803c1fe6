"""Room 5: what a reader found in a file, and the run and records that it becomes."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import median_low
from typing import Any

from pytest_boobench import find_version
from pytest_boobench.aggregate import Aggregate, summarize, total_tok_s
from pytest_boobench.facts import ModelFacts
from pytest_boobench.metrics import Kind, Length, Sample
from pytest_boobench.other_tools.findings import Findings
from pytest_boobench.record import CellRecord, RunFacts
from pytest_boobench.suite.cell import AXES, Cache, make_identity, make_key
from pytest_boobench.suite.names import shorten

HOST = "imported"
"""The host where neither the file nor the user names one."""
_APART_S = 0.001
"""Between two measurements of one cell that a file gives the same second: the store tells them apart by their times."""
_UNFIT = re.compile(r"[^\w.,:/=+-]+")
"""What a value in a node id is freed of."""
_LONGEST = 40
"""Characters of one value in a node id."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of the tool's that has no axis of its own."""

    sign: str
    """As a cell's id shows it before the value."""
    value: str | float

    @property
    def text(self) -> str:
        """The value as JSON writes it, without quotes."""
        return self.value if isinstance(self.value, str) else json.dumps(self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCell:
    """One measurement of one cell, as its file says."""

    place: str
    """In the file, for messages."""
    model: str
    kind: Kind
    prompt_tokens: int | None
    """As asked for; blank where the file does not say."""
    output_tokens: int | None
    """The same; blank too where nothing is generated."""
    means: Mapping[str, int] = field(default_factory=dict)
    """``prompt_tokens``, ``output_tokens`` -> the mean over the requests, where only that is known."""
    generates: bool = True
    """Whether tokens are generated."""
    asked_prompt: bool = True
    """Whether the cell's id shows the prompt."""
    concurrency: int
    cache: Cache = "warm"
    """Warm, which says only that cached tokens may have been reused, where the file does not say."""
    length: Length | None = None
    """Blank: exact where all answers have one length."""
    settings: Mapping[str, Setting] = field(default_factory=dict)
    """What goes into the axis ``launch``, by the tool's own names."""
    started_at: float | None = None
    """Seconds since 1970 UTC; blank where the file has no time."""
    samples: tuple[Sample, ...] = ()
    aggregates: Mapping[str, Aggregate] = field(default_factory=dict)
    """Of metrics that are not in the samples."""
    total_tok_s: float | None = None
    engine_build: str | None = None
    facts: ModelFacts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResults:
    """All that a file says."""

    version: str | None = None
    """Of the tool."""
    cells: tuple[ToolCell, ...] = ()
    cpu: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Facts of the whole run that nothing else holds, plain JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """What the user calls things that the file does not name."""

    suite: str
    host: str = HOST
    model: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedRun:
    """A run with its records, ready for the store."""

    facts: RunFacts
    records: tuple[CellRecord, ...]


def make_run(
    tool: str, results: ToolResults, naming: Naming, *, content: bytes, written_at: float, findings: Findings
) -> ImportedRun:
    """The run of one file.

    Its uid follows from the file's content and the names, so that the store knows it again. ``written_at`` is when the
    file was written, seconds since 1970 UTC: the time of cells that have none.
    """
    names = "\0".join((tool, *map(str, asdict(naming).values())))
    uid = hashlib.sha256(names.encode() + b"\0" + content).hexdigest()[:32]
    if any(cell.started_at is None for cell in results.cells):
        findings.remark("has no time of its own: the time at which the file was written stands for it")
    named = _name_cells(results.cells, naming, findings)
    records = _make_records(tool, named, naming, written_at)
    version = {"tool_version": results.version} if results.version else {}
    facts = RunFacts(
        uid=uid,
        session=uid,
        suite=naming.suite,
        host=naming.host,
        started_at=min((record.started_at for record in records), default=written_at),
        cpu=results.cpu,
        plugin_version=find_version(),
        metadata={**results.metadata, **version},
        imported_from=tool,
    )
    return ImportedRun(facts=facts, records=records)


@dataclass(frozen=True, slots=True)
class _Named:
    """A cell with its identity and the bracketed part of its node id."""

    cell: ToolCell
    identity: Mapping[str, Any]
    label: str


def _name_cells(cells: Sequence[ToolCell], naming: Naming, findings: Findings) -> list[_Named]:
    named = []
    for cell in _name_models(cells, naming, findings):
        identity = _identify(cell, naming, findings)
        if identity is not None:
            named.append(_Named(cell, identity, _label(cell, identity)))
    return named


def _name_models(cells: Sequence[ToolCell], naming: Naming, findings: Findings) -> list[ToolCell]:
    """The cells with the model's name that the user gives, where the file has only one."""
    models = {cell.model for cell in cells}
    if naming.model and len(models) > 1:
        findings.remark(f"has {len(models)} models, which keep their names: --model is for a file of one")
    elif naming.model:
        return [replace(cell, model=naming.model) for cell in cells]
    if "" in models:
        findings.leave_out("does not say which model was measured, expected its name; --model says it")
    return [cell for cell in cells if cell.model]


def _identify(cell: ToolCell, naming: Naming, findings: Findings) -> Mapping[str, Any] | None:
    """The values of all axes; None, which is said, where a length is not known at all."""
    good = [sample for sample in cell.samples if sample.phase == "measure" and sample.ok]
    lengths = {
        "prompt_tokens": cell.prompt_tokens or naming.prompt_tokens,
        "output_tokens": (cell.output_tokens or naming.output_tokens) if cell.generates else None,
    }
    for axis in ("prompt_tokens", "output_tokens") if cell.generates else ("prompt_tokens",):
        lengths[axis] = lengths[axis] or _find_length(cell, axis, good, findings)
        if lengths[axis] is None:
            return None
    counted = {sample.output_tokens for sample in good}
    length = cell.length or ("exact" if counted == {lengths["output_tokens"]} or not cell.generates else "natural")
    values = {
        "suite": naming.suite,
        "host": naming.host,
        "model": cell.model,
        "kind": cell.kind,
        "concurrency": cell.concurrency,
        "sampling": {},
        "request": {},
        "cache": cell.cache,
        "length": length,
        "launch": {name: setting.text for name, setting in cell.settings.items()},
        **lengths,
    }
    # an axis that no tool has is at the value that leaves it out
    return make_identity({axis.name: values.get(axis.name, axis.axis.absent) for axis in AXES})


def _find_length(cell: ToolCell, axis: str, good: Sequence[Sample], findings: Findings) -> int | None:
    """What stands for a number of tokens that nobody says was asked for; None, which is said, where nothing can."""
    place, option = cell.place or "the file", f"--{axis.replace('_', '-')}"
    counts = [count for sample in good if (count := getattr(sample, axis))]
    if not counts and axis not in cell.means:
        findings.leave_out(f"{place} has no {axis}, expected them; {option} says them")
        return None
    found, word = (median_low(counts), "median") if counts else (cell.means[axis], "mean")
    if not counts or len(set(counts)) > 1:
        findings.remark(
            f"{place} does not say which {axis} were asked for: {found}, the {word}, names the cell; {option} says it"
        )
    return found


def _label(cell: ToolCell, identity: Mapping[str, Any]) -> str:
    """As in ``pp512-tg128-c1-ngl0``."""
    parts = [
        f"pp{identity['prompt_tokens']}" if cell.asked_prompt else "",
        f"tg{identity['output_tokens']}" if cell.generates else "",
        f"c{identity['concurrency']}",
        *(f"{one.sign}{_UNFIT.sub('_', one.text).replace('::', ':')[:_LONGEST]}" for one in cell.settings.values()),
    ]
    return "-".join(filter(None, parts))


def _make_records(tool: str, named: Sequence[_Named], naming: Naming, written_at: float) -> tuple[CellRecord, ...]:
    models = shorten([one.cell.model for one in named])
    labels: dict[tuple[str, str], dict[str, int]] = {}
    seen: Counter[tuple[str, float]] = Counter()
    records = []
    for one in named:
        key = make_key(one.identity)
        label = f"{models[one.cell.model]}[{one.label}"
        alike = labels.setdefault((models[one.cell.model], one.label), {})
        place = alike.setdefault(key, len(alike) + 1)
        began = one.cell.started_at if one.cell.started_at is not None else written_at
        seen[key, began] += 1
        records.append(
            _make_record(
                one,
                naming,
                node_id=f"{tool}::{naming.host}::{label}{f'~{place}' if place > 1 else ''}]",
                cell_key=key,
                started_at=began + _APART_S * (seen[key, began] - 1),
            )
        )
    return tuple(records)


def _make_record(one: _Named, naming: Naming, **names: Any) -> CellRecord:
    cell = one.cell
    aggregates = {**summarize(cell.samples, cell.kind), **cell.aggregates}
    whole = cell.total_tok_s
    return CellRecord(
        suite=naming.suite,
        host=naming.host,
        identity=one.identity,
        samples=cell.samples,
        aggregates=aggregates,
        total_tok_s=whole if whole is not None else _find_total(cell),
        engine_build=cell.engine_build,
        model=cell.facts,
        **names,
    )


def _find_total(cell: ToolCell) -> float | None:
    """Only where the requests' own starts are known."""
    apart = any(sample.offset_ms for sample in cell.samples)
    return total_tok_s(cell.samples, cell.kind) if apart else None
