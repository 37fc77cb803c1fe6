"""Room 5: what a baseline file may hold, for its reader and its JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

from pydantic import Field, ValidationInfo, ValidatorFunctionWrapHandler, create_model
from pydantic_core import core_schema

from pytest_boobench.aggregate import Aggregate
from pytest_boobench.documents.validation import (
    Each,
    Expected,
    FileModel,
    Keyed,
    Located,
    Named,
    ValueType,
    choice,
    expect,
    flag,
    number,
    parsed,
    read_value,
    text,
    unexpected,
    whole,
    write_json_schema,
    write_value_schema,
)
from pytest_boobench.documents.yaml_tree import Problems
from pytest_boobench.facts import Canary, Hardware, Logprobs, ModelFacts, ReferenceRates
from pytest_boobench.metrics import METRICS, OF_TURNS, ClockKind, Kind, Sample, is_metric
from pytest_boobench.plain import Fact, list_facts, make
from pytest_boobench.record import Circumstances
from pytest_boobench.suite.cell import AXES, make_identity

FORMAT = 1
"""Increase it when a field changes its meaning or is removed."""
Numbers = tuple[float | None, ...]
"""One for each request, in order; null if a request does not have the metric."""


def moment() -> Expected:
    """A time with its time zone -> seconds since 1970 UTC."""

    def parse(given: Any, _: Problems) -> float:
        try:
            at = datetime.fromisoformat(str(given))
        except ValueError:
            raise ValueError from None
        if at.tzinfo is None:
            raise ValueError
        return at.timestamp()

    return parsed("a time such as 2026-11-24T09:30:00Z", parse, {"type": "string", "format": "date-time"})


# --- a metric: a number for each request, or a summary if the samples were pruned

_FINITE = core_schema.float_schema(strict=True, allow_inf_nan=False)
_NUMBER = expect("a number", _FINITE)
_SUMMARY = Keyed({name: whole(1) if name == "n" else _NUMBER for name in list_facts(Aggregate)})
_NEEDED = frozenset(list_facts(Aggregate)) - {"stdev"}


def _read_summary(given: Any, problems: Problems) -> Aggregate | None:
    if not isinstance(given, dict):
        raise ValueError
    node = given.node  # type: ignore[attr-defined]
    found = read_value(_SUMMARY, node, problems) or {}
    if missing := _NEEDED - given.keys():
        problems.add(node, f"lacks {', '.join(sorted(missing))}")
    return Aggregate(**{"stdev": None, **found}) if found.keys() >= _NEEDED else None


def _write_summary_schema() -> dict[str, Any]:
    return {**write_value_schema(_SUMMARY), "required": sorted(_NEEDED)}


def _read_metric(given: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo[Any]) -> Any:
    if isinstance(given, list):
        return tuple(handler(given))
    if not isinstance(given, dict):
        raise unexpected(_METRIC_WORDS)
    return _read_summary(given, info.context)


_METRIC_WORDS = "a list of numbers, or a summary of them"
_NUMBERS = core_schema.list_schema(core_schema.nullable_schema(_NUMBER.schema))
_LIST_OR_SUMMARY = Expected(
    _METRIC_WORDS,
    core_schema.with_info_wrap_validator_function(_read_metric, _NUMBERS),
    lambda: {"anyOf": [{"type": "array", "items": {"type": ["number", "null"]}}, _write_summary_schema()]},
)
_SUMMARY_ONLY = parsed("a summary of its numbers", _read_summary, _write_summary_schema)
LISTED = METRICS.keys() & list_facts(Sample).keys()
"""Metrics with one number per request; the others are derived from facts outside the file."""
_KNOWN_METRICS = Keyed({key: _LIST_OR_SUMMARY if key in LISTED else _SUMMARY_ONLY for key in METRICS})


def _read_metrics(given: Any, problems: Problems) -> dict[str, Any]:
    """Parse metric -> its numbers; those of one turn are summaries."""
    if not isinstance(given, Located):
        raise ValueError
    children = {key: given.node.child(key) for key in given}
    of_turns = {key: child for key, child in children.items() if is_metric(key) and key not in METRICS}
    others = {key: child for key, child in children.items() if key not in of_turns}
    found = read_value(_KNOWN_METRICS, replace(given.node, value=others), problems) or {}
    summaries = {key: read_value(_SUMMARY_ONLY, child, problems) for key, child in of_turns.items()}
    return {**found, **{key: summary for key, summary in summaries.items() if summary is not None}}


def _write_metrics_schema() -> dict[str, Any]:
    pattern = rf"^({'|'.join(OF_TURNS)})\.turn\[[1-9][0-9]*\]$"
    return {**write_value_schema(_KNOWN_METRICS), "patternProperties": {pattern: _write_summary_schema()}}


_METRICS = parsed("a mapping", _read_metrics, _write_metrics_schema)

# --- the file

_MODEL = Keyed({name: text() if fact.type is str else whole(0) for name, fact in list_facts(ModelFacts).items()})
_CANARY = Keyed({name: number(0) for name in list_facts(Canary)})


def _part(kind: type, words: str) -> Expected:
    """A group of facts -> the dataclass that declares them."""

    def parse(given: Any, _: Problems) -> Any:
        if not isinstance(given, Located):
            raise ValueError
        return make(kind, given.node.to_plain(), words)

    return parsed(f"a mapping of {words}", parse, {"type": "object"})


_PARTS: Mapping[type, ValueType] = {
    ModelFacts: _MODEL,
    Canary: _CANARY,
    Hardware: _part(Hardware, "hardware"),
    Logprobs: _part(Logprobs, "logprobs"),
    ReferenceRates: _part(ReferenceRates, "reference rates"),
}
RATES = tuple(name for name, fact in list_facts(Canary).items() if fact.required)
"""Fields that every canary has."""


class RunFields(FileModel):
    """A pytest session of one suite on one host."""

    session: Annotated[str, text()]
    """Unique name of the pytest session."""
    started_at: Annotated[float, moment()]
    """When it began."""
    machine: Annotated[str | None, text()] = None
    """The machine that measured."""
    cpu: Annotated[str | None, text()] = None
    """Its processor."""
    workers: Annotated[int, whole(1)] = 1
    """Processes that measured in parallel."""
    git_commit: Annotated[str | None, text()] = None
    """The commit that was checked out."""
    git_dirty: Annotated[bool | None, flag()] = None
    """Whether it had changes."""
    plugin_version: Annotated[str | None, text()] = None
    """The version of pytest-boobench that measured."""
    imported_from: Annotated[str | None, text()] = None
    """The tool that measured these results, if boobench import added them."""


def _value_of(fact: Fact) -> ValueType:
    """The type of a circumstance in a file."""
    if get_origin(fact.type) is Literal:
        return choice(*get_args(fact.type))
    return text() if fact.type is str else _PARTS[fact.type]


if TYPE_CHECKING:

    class CircumstanceFields(FileModel):
        """The circumstances of a measurement, for mypy: those that this room uses by name."""

        model: Mapping[str, Any] | None = None
        canary: Mapping[str, Any] | None = None
        clock: ClockKind | None = None
else:
    CircumstanceFields = create_model(
        "CircumstanceFields",
        __base__=FileModel,
        **{
            fact.name: (Annotated[Any, _value_of(fact)], Field(None, description=fact.doc))
            for fact in list_facts(Circumstances).values()
        },
    )


class MeasuredFields(CircumstanceFields):
    """One measurement of a cell."""

    run: Annotated[str, text()]
    """The name of its run."""
    measured_at: Annotated[float, moment()]
    """When it began."""
    saved_at: Annotated[float, moment()]
    """When it became the baseline."""
    reason: Annotated[str, text()] = ""
    """The reason for the baseline, in the user's words."""
    total_tok_s: Annotated[float | None, _NUMBER] = None
    """Tokens per second of all lanes together."""
    metrics: Annotated[dict[str, Numbers | Aggregate], _METRICS]
    """Each metric's numbers, in the order of the requests."""


if TYPE_CHECKING:

    class IdentityFields(FileModel):
        """The axes of a cell, for mypy: those that this room uses by name."""

        suite: str
        host: str
        model: str
        kind: Kind
else:
    IdentityFields = create_model(
        "IdentityFields",
        __base__=FileModel,
        **{
            one.name: (
                Annotated[one.type, one.value],
                Field(**one.default, description=one.axis.doc),
            )
            for one in AXES
        },
    )


class CellFields(IdentityFields):
    """One cell with its measurements. All but the last two fields are its identity."""

    node_id: Annotated[str, text()]
    """Its pytest node id."""
    measured: Annotated[tuple[MeasuredFields, ...], Each(MeasuredFields)]
    """Oldest first."""

    @property
    def identity(self) -> dict[str, Any]:
        """As `Cell.identity`."""
        return make_identity({one.name: getattr(self, one.name) for one in AXES})


class HostNoiseFields(FileModel):
    """How much the sessions of an unchanged host differ."""

    sessions: Annotated[int, whole(1)]
    """So many sessions were compared."""
    by_metric: Annotated[dict[str, float], Named(text(), number(0), "a mapping of metrics to numbers")]
    """Metric -> standard deviation between sessions of the logarithm of a cell's median."""


class FileFields(FileModel):
    """The whole file."""

    boobench_baseline: Annotated[int, whole(1)]
    """Format of the file."""
    name: Annotated[str, text()]
    """Name -> run."""
    runs: Annotated[dict[str, RunFields], Named(text(), RunFields, "a mapping of runs")]
    """Ordered by identity."""
    host_noise: Annotated[dict[str, HostNoiseFields], Named(text(), HostNoiseFields, "a mapping of hosts")] = Field(
        default_factory=dict
    )
    """Host -> its noise, learnt from all that it measured."""
    cells: Annotated[tuple[CellFields, ...], Each(CellFields)]
    """By identity."""


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a baseline file."""
    return write_json_schema(FileFields, "pytest-boobench baseline")
