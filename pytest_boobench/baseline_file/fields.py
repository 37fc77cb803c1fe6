"""Room 5: what may stand in a baseline file, as its reader and its JSON Schema see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Annotated, Any, get_args

from pytest_boobench.aggregate import Aggregate
from pytest_boobench.baseline_file.shapes import Body, MetricShape, Numbers, Several, SummaryShape, finite, moment
from pytest_boobench.documents.scalars import Shape, choice, flag, number, text, whole
from pytest_boobench.documents.tables import Entry, Keyed, Named, Row, Table
from pytest_boobench.facts import Canary, ModelFacts
from pytest_boobench.metrics import METRICS, ClockKind, Kind, Length, Sample
from pytest_boobench.suite.cell import Cache

FORMAT = 1
"""Goes up when a field changes its meaning or goes away."""

_TEXTS = ("name", "path", "quantisation")
_MODEL: Mapping[str, Shape[Any]] = {
    fact.name: text() if fact.name in _TEXTS else whole(0) for fact in fields(ModelFacts)
}
_CANARY: Mapping[str, Shape[Any]] = {fact.name: number(0) for fact in fields(Canary)}
RATES = tuple(fact.name for fact in fields(Canary) if fact.default is MISSING)
"""What no canary lacks."""
LISTED = METRICS.keys() & {fact.name for fact in fields(Sample)}
"""Metrics that are a number of each request; the others follow from what is not in the file."""
_METRICS: Mapping[str, Shape[Any]] = {key: MetricShape() if key in LISTED else SummaryShape() for key in METRICS}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFields(Row):
    """A pytest session of one suite on one host."""

    session: Annotated[str, Entry(text(), "The pytest session it is of.", required=True)] = ""
    started_at: Annotated[float, Entry(moment(), "When it began.", required=True)] = 0.0
    machine: Annotated[str | None, Entry(text(), "The machine that measured.")] = None
    cpu: Annotated[str | None, Entry(text(), "Its processor.")] = None
    workers: Annotated[int, Entry(whole(1), "Processes that measured in parallel.", default=1)] = 1
    git_commit: Annotated[str | None, Entry(text(), "The commit that was checked out.")] = None
    git_dirty: Annotated[bool | None, Entry(flag(), "Whether it had changes.")] = None
    plugin_version: Annotated[str | None, Entry(text(), "The pytest-boobench that measured.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredFields(Row):
    """One measurement of a cell."""

    run: Annotated[str, Entry(text(), "Which of the runs it is of.", required=True)] = ""
    measured_at: Annotated[float, Entry(moment(), "When it began.", required=True)] = 0.0
    saved_at: Annotated[float, Entry(moment(), "When it became the baseline.", required=True)] = 0.0
    reason: Annotated[str, Entry(text(), "Why, in somebody's words.")] = ""
    engine_build: Annotated[str | None, Entry(text(), "The engine's own name of its build.")] = None
    model: Annotated[Mapping[str, Any] | None, Entry(Keyed(_MODEL), "The model file.")] = None
    clock: Annotated[ClockKind | None, Entry(choice(*get_args(ClockKind)), "Where times were taken.")] = None
    canary: Annotated[Mapping[str, Any] | None, Entry(Keyed(_CANARY), "How fast this machine was.")] = None
    text_digest: Annotated[str | None, Entry(text(), "Fingerprint of what the model says.")] = None
    total_tok_s: Annotated[float | None, Entry(finite(), "All lanes together.")] = None
    metrics: Annotated[
        Mapping[str, Numbers | Aggregate],
        Entry(Keyed(_METRICS), "Each metric's numbers, in the order of the requests.", required=True),
    ] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CellFields(Row):
    """One cell with its measurements; all but the last two fields are its identity."""

    suite: Annotated[str, Entry(text(), "Name of the suite.", required=True)] = ""
    host: Annotated[str, Entry(text(), "Name of the host.", required=True)] = ""
    model: Annotated[str, Entry(text(), "Name of the model.", required=True)] = ""
    kind: Annotated[Kind, Entry(choice(*get_args(Kind)), "What is asked for.", required=True)] = "chat"
    prompt_tokens: Annotated[int, Entry(whole(1), "Of each request.", required=True)] = 1
    output_tokens: Annotated[int | None, Entry(whole(1), "Of each answer; not for embeddings.")] = None
    concurrency: Annotated[int, Entry(whole(1), "Requests in flight at once.", required=True)] = 1
    sampling: Annotated[Mapping[str, Any], Entry(Body(), "Sampling fields.")] = field(default_factory=dict)
    request: Annotated[Mapping[str, Any], Entry(Body(), "Further fields.")] = field(default_factory=dict)
    cache: Annotated[Cache, Entry(choice(*get_args(Cache)), "The prompt cache.", required=True)] = "cold"
    length: Annotated[
        Length, Entry(choice(*get_args(Length)), "Whether each answer has as many tokens.", default="exact")
    ] = "exact"
    node_id: Annotated[str, Entry(text(), "What pytest calls it.", required=True)] = ""
    measured: Annotated[
        tuple[MeasuredFields, ...], Entry(Several(Table(MeasuredFields)), "Oldest first.", required=True)
    ] = ()

    @property
    def identity(self) -> dict[str, Any]:
        """As `Cell.identity`."""
        natural = {} if self.length == "exact" else {"length": self.length}
        return natural | {
            name: getattr(self, name)
            for name in (
                "suite",
                "host",
                "model",
                "kind",
                "prompt_tokens",
                "output_tokens",
                "concurrency",
                "sampling",
                "request",
                "cache",
            )
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFields(Row):
    """The file itself."""

    boobench_baseline: Annotated[int, Entry(whole(1), "Format of the file.", required=True)] = FORMAT
    name: Annotated[str, Entry(text(), "Name of the baseline.", required=True)] = ""
    runs: Annotated[
        Mapping[str, RunFields], Entry(Named(text(), Table(RunFields), "a mapping of runs"), "By name.", required=True)
    ] = field(default_factory=dict)
    cells: Annotated[tuple[CellFields, ...], Entry(Several(Table(CellFields)), "By identity.", required=True)] = ()


FILE = Table(FileFields)


def schema() -> dict[str, Any]:
    """JSON Schema of a baseline file."""
    dialect = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": dialect, "title": "pytest-boobench baseline", **FILE.schema()}
