"""Door 3: the answers of the page's API. Times are seconds since 1970 UTC, unknown is null, names carry the units."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from pydantic import TypeAdapter

from pytest_boobench.untrusted import hide_in

SpanKind = Literal["waiting", "loading", "warm-up", "prefill", "reasoning", "decode", "measuring", "idle"]
RunState = Literal["running", "stopping", "ended"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiProblem:
    """What is wrong, and what would be right."""

    message: str
    where: str | None = None
    """The field of the request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BusyHost:
    """A host that somebody uses."""

    host: str
    who: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorAnswer:
    """Every answer whose status is 400 or above."""

    error: ApiProblem
    busy: tuple[BusyHost, ...] = ()
    shared: tuple[str, ...] = ()
    """The machines that sides of a comparison share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneSpan:
    """A part of a lane's time."""

    kind: SpanKind
    from_s: float
    """Since the run's ``started_at``."""
    to_s: float | None
    """None while it goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellLane:
    """One of a cell's parallel request loops."""

    lane: int
    spans: tuple[LaneSpan, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CellState:
    """One cell of a run at one moment."""

    node_id: str
    suite: str
    host: str
    model: str
    cell: str
    state: str
    phase: str | None
    done: int
    total: int
    tok_s: float | None
    left_s: float | None
    note: str | None
    outcome: str | None
    sentence: str | None
    since: float
    """When it came into this state."""
    lanes: tuple[CellLane, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputEvent:
    """A piece of pytest's own output."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAnswer:
    """A run of pytest that the page started."""

    id: str
    session: str | None
    command: str
    state: RunState
    started_at: float
    ended_at: float | None
    exit_code: int | None
    exit_word: str | None
    hosts: tuple[str, ...]
    done: int
    total: int | None
    left_s: float | None
    red: tuple[str, ...]
    refused: tuple[BusyHost, ...]
    replay: bool = False
    """Whether a stream begins anew with this event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDetails(RunAnswer):
    """A run with its cells."""

    cells: tuple[CellState, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunList:
    """The newest first."""

    runs: tuple[RunAnswer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandAnswer:
    """The command line of a run that was not started."""

    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ArenaAnswer:
    """Where an exchange can be handed to."""

    template: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StateAnswer:
    """The server and its project."""

    version: str
    rootdir: str
    store: str
    hosts_file: str | None
    runs: tuple[RunAnswer, ...]
    arena: ArenaAnswer
    token_required: bool = True
    exchanges_kept: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class LastResult:
    """The newest stored measurement of a cell."""

    outcome: str | None
    at: float
    decode_tok_s: float | None
    change: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeCell:
    """A test item."""

    node_id: str
    id: str
    key: str
    marks: tuple[str, ...]
    selected: bool
    last: LastResult | None
    estimate_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeModel:
    """A model of a host in a suite."""

    name: str
    cells: tuple[TreeCell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeHost:
    """A host of a suite."""

    name: str
    kind: str | None
    models: tuple[TreeModel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeSuite:
    """A suite file."""

    name: str
    path: str
    description: str
    hosts: tuple[TreeHost, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeProblem:
    """A mistake in a file."""

    file: str
    line: int
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeAnswer:
    """What pytest collects."""

    collected_at: float
    problems: tuple[TreeProblem, ...]
    errors: str | None
    suites: tuple[TreeSuite, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostModel:
    """A model that a host lists."""

    name: str
    state: Literal["ready", "loading", "unloaded", "unknown"]
    vision: bool | None
    embeds: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostBusy:
    """Who measures on a host now."""

    by: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostAnswer:
    """One host as it is now; None is what it does not tell."""

    name: str
    kind: str | None
    url: str | None
    machine: str | None
    reachable: bool | None
    why: str | None = None
    asking: bool = False
    """Whether it has not answered yet; what stands here is what was known before."""
    busy: HostBusy | None = None
    models: tuple[HostModel, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HostList:
    """In the order of the hosts file."""

    hosts: tuple[HostAnswer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingField:
    """A sampling field of a suite."""

    name: str
    type: Literal["number", "integer"]
    minimum: float | None
    maximum: float | None
    default: None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingList:
    """All sampling fields."""

    fields: tuple[SamplingField, ...] = field(default=())


@cache
def adapt(kind: type[Any]) -> TypeAdapter[Any]:
    """pydantic's view of an answer's class."""
    return TypeAdapter(kind)


def to_json(value: Any) -> str:
    """An answer, or a plain mapping, as JSON on one line: secrets are hidden, numbers that are not finite are null."""
    kind: Any = dict if isinstance(value, Mapping) else type(value)
    text = adapt(kind).dump_json(value).decode()
    plain = json.loads(text)
    hidden = hide_in(plain)
    return text if hidden is plain else json.dumps(hidden, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
