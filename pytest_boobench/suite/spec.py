"""Room 1: what a suite file may say. Reading, messages and JSON Schema all come from these fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, TypeVar, get_args

from pytest_boobench.documents.node import Node
from pytest_boobench.documents.problems import Problems
from pytest_boobench.documents.scalars import Shape, Single, choice, duration, flag, number, text, whole
from pytest_boobench.documents.tables import Entry, Keyed, OneOrMore, Row, Table
from pytest_boobench.metrics import Kind, Length
from pytest_boobench.suite.body import BodyShape
from pytest_boobench.suite.cell import Cache, Disturbed, Mark, Plan, Policy, Timeouts
from pytest_boobench.suite.marks import MarkShape
from pytest_boobench.suite.names import model_name, node_name
from pytest_boobench.suite.thresholds import Thresholds, ThresholdsShape

T = TypeVar("T")

SAMPLING: Mapping[str, Single[Any]] = {
    "temperature": number(0, 100),
    "top_p": number(0, 1),
    "top_k": whole(-1),
    "min_p": number(0, 1),
    "typical_p": number(0, 1),
    "top_n_sigma": number(-1),
    "xtc_probability": number(0, 1),
    "xtc_threshold": number(0, 1),
    "dynatemp_range": number(0),
    "dynatemp_exponent": number(0),
    "repeat_penalty": number(0),
    "repeat_last_n": whole(-1),
    "presence_penalty": number(-2, 2),
    "frequency_penalty": number(-2, 2),
    "dry_multiplier": number(0),
    "dry_base": number(1),  # llama.cpp falls back to its default below 1
    "dry_allowed_length": whole(0),
    "dry_penalty_last_n": whole(-1),
    "mirostat": whole(0, 2),
    "mirostat_tau": number(0),
    "mirostat_eta": number(0),
    "seed": whole(-1, 2**32 - 1),
}
"""The sampling fields of a request by their names in its body, as llama.cpp's server knows them."""

_TOKENS = OneOrMore(whole(1))


@dataclass(frozen=True, slots=True)
class Varied(Generic[T]):
    """One value, or a list that makes an axis: then it is read as a tuple."""

    item: Shape[T]

    @property
    def wanted(self) -> str:
        """What is right here."""
        return OneOrMore(self.item).wanted

    def read(self, node: Node, problems: Problems) -> T | tuple[T, ...] | None:
        """The value, or the axis."""
        if isinstance(node.value, tuple):
            return OneOrMore(self.item).read(node, problems)
        return self.item.read(node, problems)

    def schema(self) -> dict[str, Any]:
        """JSON Schema of either form."""
        return OneOrMore(self.item).schema()


@dataclass(frozen=True, slots=True, kw_only=True)
class GridFields(Row):
    """The axes: every list is one, every combination a cell."""

    prompt_tokens: Annotated[
        tuple[int, ...],
        Entry(_TOKENS, "Exact length of the prompt, checked against the server's count.", required=True),
    ] = ()
    output_tokens: Annotated[tuple[int, ...], Entry(_TOKENS, "Tokens to generate; not for embeddings.")] = ()
    concurrency: Annotated[
        tuple[int, ...], Entry(_TOKENS, "Requests in flight at once: a cell's lanes.", default=1)
    ] = (1,)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutFields(Row):
    """How long to wait, seconds; None keeps the default."""

    connect: Annotated[float | None, Entry(duration(), "For the connection.", default=Timeouts().connect_s)] = None
    first_byte: Annotated[
        float | None, Entry(duration(), "For the first byte of the answer.", default=Timeouts().first_byte_s)
    ] = None
    stall: Annotated[float | None, Entry(duration(), "Between two bytes of it.", default=Timeouts().stall_s)] = None
    request: Annotated[float | None, Entry(duration(), "For the whole request.", default=Timeouts().request_s)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFields(Row):
    """How cells are measured and judged: all cells of the suite, or those that an override picks. None: not said."""

    warmup: Annotated[
        int | None, Entry(whole(0), "Requests per lane before the measured ones, never counted.", default=Plan().warmup)
    ] = None
    warmup_max: Annotated[
        int | None,
        Entry(
            whole(0),
            "Most requests per lane to warm up with, while each is over 5 % faster than the one before.",
            default=Plan().warmup_max,
        ),
    ] = None
    warmup_time: Annotated[
        float | None, Entry(duration(), "Warm up for at least so long, however many requests that takes; as 10s.")
    ] = None
    samples: Annotated[
        int | None,
        Entry(
            whole(1),
            "Measured requests per block, over all lanes; by itself a multiple of the concurrency.",
            default=Plan().samples,
        ),
    ] = None
    max_samples: Annotated[
        int | None, Entry(whole(1), "Most measured requests, of all blocks; left out: four blocks.")
    ] = None
    max_failed: Annotated[
        int | None, Entry(whole(0), "How many of them may fail before the cell does.", default=Plan().max_failed)
    ] = None
    gate: Annotated[
        Thresholds | None,
        Entry(ThresholdsShape(), "Metrics to judge, and how much worse each may become; left out: throughputs, 10%."),
    ] = None
    disturbed: Annotated[
        Disturbed | None,
        Entry(choice(*get_args(Disturbed)), "When others disturb a cell twice: inconclusive, judge it, or fail it."),
    ] = None
    policy: Annotated[
        Policy | None,
        Entry(
            choice(*get_args(Policy)),
            "What doubt comes to: default skips, strict fails, literal: the point decides.",
        ),
    ] = None
    output_canary: Annotated[
        bool | None,
        Entry(flag(), "Ask once more, greedily, and say when the answer's text has changed.", default=False),
    ] = None
    timeouts: Annotated[TimeoutFields | None, Entry(Table(TimeoutFields), "How long to wait, as 30s or 5m.")] = None
    marks: Annotated[
        tuple[Mark, ...], Entry(OneOrMore(MarkShape()), "pytest marks: slow, skip: reason, xfail: {…}.")
    ] = ()


_SAMPLING = Keyed({name: Varied(shape) for name, shape in SAMPLING.items()})
_WHERE: Mapping[str, Shape[Any]] = {
    "host": OneOrMore(text()),
    "model": OneOrMore(text()),
    "prompt_tokens": _TOKENS,
    "output_tokens": _TOKENS,
    "concurrency": _TOKENS,
    **{name: OneOrMore(shape) for name, shape in SAMPLING.items()},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OverrideFields(PlanFields):
    """What is different for some of the cells."""

    where: Annotated[
        Mapping[str, tuple[Any, ...]],
        Entry(Keyed(_WHERE), "Which cells: axis -> value or values, all of which must hold.", required=True),
    ] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteFields(PlanFields):
    """A whole suite file."""

    suite: Annotated[str, Entry(node_name(), "Unique name; the store knows the suite by it.", required=True)] = ""
    description: Annotated[str, Entry(text(), "What the suite is for.")] = ""
    hosts: Annotated[
        tuple[str, ...],
        Entry(OneOrMore(node_name()), "Names from the hosts file; 'embedded' always exists.", required=True),
    ] = ()
    models: Annotated[
        tuple[str, ...], Entry(OneOrMore(model_name()), "Names as the host lists them.", required=True)
    ] = ()
    kind: Annotated[Kind, Entry(choice(*get_args(Kind)), "Which requests are sent.", default="chat")] = "chat"
    grid: Annotated[GridFields, Entry(Table(GridFields), "The axes.", required=True)] = field(
        default_factory=GridFields
    )
    sampling: Annotated[
        Mapping[str, Any],
        Entry(_SAMPLING, "Sent as written; a list makes an axis."),
    ] = field(default_factory=dict)
    request: Annotated[
        Mapping[str, Any], Entry(BodyShape(tuple(SAMPLING)), "Further fields of the request's body, sent as written.")
    ] = field(default_factory=dict)
    cache: Annotated[
        Cache,
        Entry(choice("cold", "warm"), "cold: no cached prompt token may be reused; warm: it may.", default="cold"),
    ] = "cold"
    length: Annotated[
        Length,
        Entry(
            choice("exact", "natural"),
            "exact: output_tokens in each answer; natural: the model may end by itself, output_tokens are the most.",
            default="exact",
        ),
    ] = "exact"
    usefixtures: Annotated[tuple[str, ...], Entry(OneOrMore(text()), "pytest fixtures that every cell uses.")] = ()
    overrides: Annotated[
        tuple[OverrideFields, ...],
        Entry(OneOrMore(Table(OverrideFields)), "What is different for some cells, in order."),
    ] = ()


SUITE = Table(SuiteFields)
