"""Room 1: the results of loading a suite. A Suite is one file; a Cell is one combination of its axes = one test item.

A cell's identity is declared only here: each field of `Cell` with an `Axis` is part of it. The grid, its JSON Schema,
the ids and the checks follow from AXES.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

from pydantic import Field

from pytest_boobench.documents.validation import (
    Expected,
    FileModel,
    choice,
    duration,
    flag,
    mapping,
    real,
    text,
    whole,
)
from pytest_boobench.metrics import Kind, Length, Load, find_load
from pytest_boobench.plain import Since
from pytest_boobench.suite.objectives import slo_limits
from pytest_boobench.suite.prompt_file import PromptFile
from pytest_boobench.suite.thresholds import Thresholds, gate_limits

Cache = Literal["cold", "warm"]
Disturbed = Literal["inconclusive", "judge", "fail"]
"""What to do with a cell that foreign requests disturbed twice: do not judge it, judge it anyway, or fail it."""

Arrival = Literal["constant", "poisson", "recorded"]
"""Gaps between the starts of requests in an open loop: all equal, exponentially distributed, or those of the file
with the suite's own prompts."""
Quality = Literal["kld"]
"""How to check that a model says the same as before: by the divergence of its probabilities."""
Policy = Literal["default", "strict", "literal"]
"""What to do in doubt: keep it as its own outcome, fail, or decide by the estimate alone."""
BLOCKS = 4
"""The most blocks of a cell, unless its suite says otherwise."""
CONVERSATIONS = 5
"""Conversations in a block, unless its suite says otherwise."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A pytest mark from the suite; the plugin makes the real one."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] | None = None


class Timeouts(FileModel):
    """How long to wait, seconds."""

    connect_s: Annotated[float, duration(), Field(validation_alias="connect")] = 10.0
    """For the connection."""
    first_byte_s: Annotated[float, duration(), Field(validation_alias="first_byte")] = 300.0
    """For the first byte of the answer."""
    stall_s: Annotated[float, duration(), Field(validation_alias="stall")] = 60.0
    """Between two bytes of the answer."""
    request_s: Annotated[float, duration(), Field(validation_alias="request")] = 900.0
    """For the whole request."""


class Plan(FileModel):
    """How to measure and judge a cell. It does not change what is measured."""

    warmup: Annotated[int, whole(0)] = 2
    """Requests per lane before the measured ones, never counted."""
    warmup_max: Annotated[int, whole(0)] = 5
    """Most warm-up requests per lane; they go on while each is over 5 % faster than the one before."""
    warmup_s: Annotated[float | None, duration(), Field(validation_alias="warmup_time")] = None
    """Warm up for at least this long, with as many requests as fit; as 10s."""
    samples: Annotated[int, whole(1)] = 10
    """Measured requests per block, over all lanes; by itself a multiple of the concurrency; at a rate those of 30 s."""
    duration_s: Annotated[float | None, duration(), Field(validation_alias="duration")] = None
    """Measure at a rate for this long instead of a number of samples; as 60s."""
    max_samples: Annotated[int | None, whole(1)] = None
    """Most measured requests of all blocks together; default: four blocks."""
    max_failed: Annotated[int, whole(0)] = 0
    """How many of them may fail before the cell does."""
    gate: Annotated[Thresholds | None, gate_limits()] = None
    """Metrics to judge, and how much worse each may become; default: throughputs, 10%."""
    disturbed: Annotated[Disturbed | None, choice(*get_args(Disturbed))] = None
    """When foreign requests disturb a cell twice: inconclusive, judge it, or fail it."""
    policy: Annotated[Policy | None, choice(*get_args(Policy))] = None
    """When in doubt: default skips, strict fails, literal decides by the estimate alone."""
    output_canary: Annotated[bool, flag()] = False
    """Send one more greedy request, and report if its answer's text has changed."""
    quality: Annotated[Quality | None, choice(*get_args(Quality))] = None
    """kld: judge how far the model's probabilities of a fixed text are from the baseline's."""
    timeouts: Timeouts = Timeouts()
    """How long to wait, as 30s or 5m."""

    @property
    def blocks(self) -> int:
        """The most blocks that a cell may have."""
        return BLOCKS if self.max_samples is None else max(1, self.max_samples // self.samples)


_BODY = "a mapping of a request's fields"
NEVER = object()
"""The identity keeps every value of the axis."""


@dataclass(frozen=True, slots=True)
class Axis:
    """Marks a field of `Cell` as part of its identity."""

    doc: str
    sign: str = ""
    """Its prefix in a cell's id, as in ``pp512-tg32-c4``; empty: not shown."""
    in_grid: bool = False
    """Whether it stands under ``grid:``, where a list makes a cell for each value."""
    default: Any = None
    """The value if a suite omits the axis and the field has no default; None if the axis is required."""
    absent: Any = NEVER
    """The value that identity and id omit: for an axis that came later, so that older cells keep their keys."""
    beside_grid: bool = False
    """Whether an axis of the grid may also stand beside ``grid:``."""
    written: str = ""
    """Its name in a suite file, if that is another: the field's name has the unit."""


@dataclass(frozen=True, slots=True)
class NamedAxis:
    """An axis with the name, type and default of its field of `Cell`."""

    name: str
    axis: Axis
    type: Any
    """The Python type."""
    value: Expected
    """What a file may hold."""
    field: dataclasses.Field[Any]

    @property
    def default(self) -> Mapping[str, Any]:
        """The field's default as the argument ``default`` or ``default_factory``; empty if there is none."""
        told = {"default": self.field.default, "default_factory": self.field.default_factory}
        return {word: default for word, default in told.items() if default is not MISSING}

    def read(self, stored: Any) -> Any:
        """Return the value of a stored one: NULL means the value that the identity omits."""
        return self.axis.absent if stored is None and self.axis.absent is not NEVER else stored

    @property
    def grid_values(self) -> tuple[Any, ...] | None:
        """The values if a grid omits the axis; None if it is required."""
        if self.axis.default is not None:
            return (self.axis.default,)
        if self.field.default is MISSING:
            return None
        return () if self.field.default is None else (self.field.default,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One combination of a suite's axes on one host and model."""

    suite: Annotated[str, text(), Axis("Name of the suite.")]
    host: Annotated[str, text(), Axis("Name of the host.")]
    model: Annotated[str, text(), Axis("Name of the model.")]
    kind: Annotated[Kind, choice(*get_args(Kind)), Axis("Which requests are sent.", default="chat")]
    prompt_tokens: Annotated[
        int,
        whole(1),
        Axis(
            "Exact length of the prompt, checked against the server's count; left out beside prompts.",
            sign="pp",
            in_grid=True,
            absent=0,
        ),
    ] = 0
    """0: the suite's own prompts have lengths of their own, or nobody knows them before they are counted."""
    output_tokens: Annotated[
        int | None, whole(1), Axis("Tokens to generate; not for embeddings.", sign="tg", in_grid=True)
    ] = None
    """None for embeddings, and if each of the suite's own prompts names its own; the most tokens if ``length`` is
    natural."""
    concurrency: Annotated[
        int, whole(1), Axis("Requests in flight at once: a cell's lanes.", sign="c", in_grid=True, default=1)
    ]
    sampling: Annotated[Mapping[str, Any], mapping(_BODY), Axis("Sampling fields.")] = field(default_factory=dict)
    """Sent as written: only what the suite names, with the types as written."""
    request: Annotated[Mapping[str, Any], mapping(_BODY), Axis("Further fields.")] = field(default_factory=dict)
    """Further fields of the request body, sent as written."""
    cache: Annotated[
        Cache,
        choice(*get_args(Cache)),
        Axis("cold: no cached prompt token may be reused; warm: it may.", default="cold"),
    ]
    length: Annotated[
        Length,
        choice(*get_args(Length)),
        Axis(
            "exact: output_tokens in each answer; natural: the model may end by itself, output_tokens are the most.",
            default="exact",
            absent="exact",
        ),
        Since("0002"),
    ] = "exact"
    launch: Annotated[
        Mapping[str, Any],
        mapping("a mapping of placeholders to values"),
        Axis("Values of the placeholders in the command that starts the host.", absent={}),
        Since("0003"),
    ] = field(default_factory=dict)
    """Placeholder -> its value, for the command that starts the host."""
    depth_tokens: Annotated[
        int,
        whole(0),
        Axis("Tokens of context before the prompt, kept by the server's cache.", sign="d", in_grid=True, absent=0),
        Since("0004"),
    ] = 0
    turns: Annotated[
        int,
        whole(1),
        Axis(
            "Turns of a conversation that grows; samples are whole conversations, by themselves 5.",
            sign="turns",
            in_grid=True,
            absent=1,
            beside_grid=True,
        ),
        Since("0004"),
    ] = 1
    rate: Annotated[
        float,
        real(0, 10_000),
        Axis(
            "Requests per second, sent at planned times whether or not earlier ones have ended; 0: closed loop.",
            sign="rate",
            in_grid=True,
            absent=0.0,
            beside_grid=True,
        ),
        Since("0004"),
    ] = 0.0
    turn_tokens: Annotated[
        int,
        whole(1),
        Axis("Tokens of the user's text in each turn after the first.", default=64, absent=64),
        Since("0004"),
    ] = 64
    think_time_s: Annotated[
        float,
        duration(),
        Axis("Pause before each turn after the first, as 2s.", default=0.0, absent=0.0, written="think_time"),
        Since("0004"),
    ] = 0.0
    arrival: Annotated[
        Arrival,
        choice(*get_args(Arrival)),
        Axis(
            "Gaps between the planned starts at a rate; recorded: those of the own prompts, without a rate.",
            default="constant",
            absent="constant",
        ),
        Since("0004"),
    ] = "constant"
    slo: Annotated[
        Mapping[str, Any],
        slo_limits(),
        Axis("Most that each metric of a request may be for the request to be good.", absent={}),
        Since("0004"),
    ] = field(default_factory=dict)
    """Metric -> its limit, in the metric's unit."""
    prompts: Annotated[
        str, text(), Axis("SHA-256 of the suite's own prompts, with their images.", absent=""), Since("0004")
    ] = ""
    """64 hex digits; empty: the prompts are made."""
    plan: Plan
    id: str
    """The part of the node id in brackets, as in ``pp512-tg32-c4``."""
    line: int
    """Line of this cell's model or grid in the file, from 1."""
    marks: tuple[Mark, ...] = ()
    own: PromptFile | None = None
    """The prompts whose hash is ``prompts``."""

    @property
    def planned(self) -> bool:
        """Whether requests are sent at planned times, whatever is in flight: at a rate, or as recorded."""
        return self.load != "lanes"

    @property
    def load(self) -> Load:
        """What decides how many requests are in flight."""
        return find_load(self.rate, self.slo, self.arrival)

    @property
    def input_tokens(self) -> int:
        """Tokens of a whole request: the context before the prompt, and the prompt."""
        return self.depth_tokens + self.prompt_tokens

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that must be equal to compare two measurements, as plain JSON."""
        return make_identity({name: getattr(self, name) for name in _NAMES})

    @property
    def context_tokens(self) -> int:
        """Tokens of the last turn with its answer, without what a chat template puts around later turns."""
        answer = self.output_tokens or 0
        return self.prompt_tokens + answer + (self.turns - 1) * (self.turn_tokens + answer)

    @property
    def key(self) -> str:
        """The cell's stable name in the store."""
        return make_key(self.identity)


def list_axes(cell: type[Cell]) -> tuple[NamedAxis, ...]:
    """Return a class's axes in the order of its fields. Raises TypeError for an axis without a type for files."""
    hints = get_type_hints(cell, include_extras=True)
    found = []
    for one in dataclasses.fields(cell):
        kind, *metadata = get_args(hints[one.name]) or (None,)
        axis = next((said for said in metadata if isinstance(said, Axis)), None)
        value = next((said for said in metadata if isinstance(said, Expected)), None)
        if axis is not None:
            if value is None:
                raise TypeError(f"{cell.__name__}.{one.name}: an axis without what a file may hold; add whole(1) or so")
            found.append(NamedAxis(one.name, axis, kind, value, one))
    return tuple(found)


AXES = list_axes(Cell)
_NAMES = tuple(one.name for one in AXES)
_MAPPINGS = tuple(one.name for one in AXES if one.type == Mapping[str, Any])
_LATE = tuple((one.name, one.axis.absent) for one in AXES if one.axis.absent is not NEVER)


def make_identity(values: Mapping[str, Any]) -> dict[str, Any]:
    """Make the identity of a cell from a value for each axis; keeps their order."""
    identity = dict(values)
    for name in _MAPPINGS:
        identity[name] = dict(identity[name])
    for name, absent in _LATE:
        if identity[name] == absent:
            del identity[name]
    return identity


def make_key(identity: Mapping[str, Any]) -> str:
    """Return the stable name of a cell: SHA-256 of its identity as canonical JSON, 64 hex digits."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """One validated suite file. ``cells`` are grouped by host, then model, in the file's order."""

    name: str
    path: Path
    description: str
    hosts: tuple[str, ...]
    models: tuple[str, ...]
    fixtures: tuple[str, ...]
    """Names from ``usefixtures``."""
    cells: tuple[Cell, ...]
