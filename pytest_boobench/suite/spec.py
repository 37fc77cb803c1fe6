"""Room 1: what a suite file may hold. Parsing, messages and JSON Schema all follow from these models."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import ConfigDict, Field, create_model

from pytest_boobench.documents.validation import (
    Expected,
    FileModel,
    Keyed,
    Located,
    OneOrMore,
    flag,
    flag_or_text,
    mapping,
    number,
    parsed,
    read_value,
    text,
    whole,
    write_json_schema,
    write_value_schema,
)
from pytest_boobench.documents.yaml_tree import Node, Problems
from pytest_boobench.metrics import Kind, Length
from pytest_boobench.suite.cell import AXES, Arrival, Cache, Mark, NamedAxis, Plan
from pytest_boobench.suite.launching import launch_values
from pytest_boobench.suite.names import model_name, node_name
from pytest_boobench.suite.objectives import slo_limits
from pytest_boobench.untrusted import is_likely_key

SAMPLING: Mapping[str, Expected] = {
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
"""The sampling fields of a request: key in the body of llama.cpp's server -> type."""

# --- request: free, short of what the plugin sets itself

_SET_BY_US: Mapping[str, str] = {
    "model": "it comes from models",
    "messages": "prompts come from grid.prompt_tokens or prompts",
    "prompt": "prompts come from grid.prompt_tokens or prompts",
    "input": "prompts come from grid.prompt_tokens or prompts",
    "max_tokens": "it comes from grid.output_tokens",
    "max_completion_tokens": "it comes from grid.output_tokens",
    "n_predict": "it comes from grid.output_tokens",
    "min_tokens": "it comes from grid.output_tokens",
    "n": "one answer is measured for each request",
    "n_cmpl": "one answer is measured for each request",
    "stream": "answers are streamed, or there is no time to first token",
    "stream_options": "it asks for the token counts",
    "return_progress": "it would put events without tokens into the stream",
    "timings_per_token": "timings come once, with the last token",
    "cache_prompt": "it comes from cache",
}


_OF_A_KEY = re.compile(
    r"(?:x[-_])?(?:api[-_]?key|(?:proxy[-_])?authorization|(?:\w+[-_])?(?:token|secret)|password|credentials?)",
    re.IGNORECASE,
)
"""Names of fields whose text is a secret; ``max_tokens`` and ``stop_token_ids`` are none."""


def _check_request(node: Node, problems: Problems) -> None:
    """Note fields that the plugin sets, fields that belong elsewhere, secrets, and numbers that JSON cannot hold."""
    for key in node.value if isinstance(node.value, Mapping) else ():
        if key in _SET_BY_US:
            problems.add(node.child(key), f"the plugin sets it: {_SET_BY_US[key]}; leave it out")
        elif key in SAMPLING:
            problems.add(node.child(key), "is a sampling field; write it under sampling")
    for found in _walk(node):
        if isinstance(found.value, str) and (
            _OF_A_KEY.fullmatch(found.path.rpartition(".")[2]) or is_likely_key(found.value)
        ):
            text = (
                "a suite is stored as it is written, so no key may be in it; write api_key: ${NAME} in the hosts file"
            )
            problems.add(found, text)
        if isinstance(found.value, float) and not math.isfinite(found.value):
            problems.add(found, f"expected a finite number, got {found.describe()}")


def _walk(node: Node) -> Iterator[Node]:
    yield node
    inner = node.value.values() if isinstance(node.value, Mapping) else node.value
    for child in inner if not isinstance(inner, str | int | float | None) else ():
        yield from _walk(child)


_REQUEST = mapping(
    "a mapping of fields of the request's body",
    _check_request,
    {"propertyNames": {"not": {"enum": [*_SET_BY_US, *SAMPLING]}}},
)

# --- marks: ``slow``, ``skip: reason``, ``xfail: {reason: …, strict: true}``


_CONDITION = flag_or_text("true, false or a Python expression")
_PYTESTS_OWN = {
    "skip": Keyed({"reason": text()}, "a reason"),
    "skipif": Keyed({"condition": _CONDITION, "reason": text()}, "a mapping with condition, reason"),
    "xfail": Keyed(
        {"reason": text(), "strict": flag(), "run": flag(), "condition": _CONDITION},
        "a reason, or a mapping with reason, strict, run, condition",
    ),
}
_BARE_TEXT_IS_REASON = ("skip", "xfail")
"""Their first argument is ``reason``; for xfail, pytest would take a bare text as a condition."""
_ELSEWHERE = {
    "usefixtures": "write the fixtures under usefixtures, beside marks",
    "parametrize": "lists under grid and sampling make the parameters",
    "boobench": "every cell has this mark already",
    "xdist_group": "the cells of a server run in one worker as it is",
}


def _read_mark(given: Any, problems: Problems) -> Mark:
    """Parse one mark: its name, or a mapping of its name to its arguments."""
    if not isinstance(given, Located):
        _refuse_mark(given, bare=True)
        return Mark(given)
    if len(given) != 1:
        raise ValueError(f"expected one mark, got {len(given)}; begin each with a dash")
    (name,) = given
    _refuse_mark(name, bare=False)
    arguments = given.node.child(name)
    plain = arguments.to_plain()
    if name in _BARE_TEXT_IS_REASON and isinstance(plain, str):
        return Mark(name, kwargs={"reason": plain})
    if name in _PYTESTS_OWN:
        return Mark(name, kwargs=read_value(_PYTESTS_OWN[name], arguments, problems))
    if isinstance(plain, dict):
        return Mark(name, kwargs=plain)
    if plain is None:
        return Mark(name)
    return Mark(name, args=tuple(plain) if isinstance(plain, list) else (plain,))


def _refuse_mark(name: object, *, bare: bool) -> None:
    if not isinstance(name, str) or not name.isidentifier() or name.startswith("_"):
        raise ValueError
    if name in _ELSEWHERE:
        raise ValueError(f"not a mark for a suite: {_ELSEWHERE[name]}")
    if name == "skipif" and bare:
        raise ValueError("expected skipif: {condition: …, reason: …}, got no condition")


def _write_mark_schema() -> dict[str, Any]:
    own = {name: write_value_schema(arguments) for name, arguments in _PYTESTS_OWN.items()}
    own |= {name: {"anyOf": [{"type": "string"}, own[name]]} for name in _BARE_TEXT_IS_REASON}
    with_arguments = {"type": "object", "minProperties": 1, "maxProperties": 1, "properties": own}
    return {"anyOf": [{"type": "string"}, with_arguments]}


_MARK = parsed("the name of a mark, or name: arguments", _read_mark, _write_mark_schema)

# --- the file

GRID: tuple[NamedAxis, ...] = tuple(one for one in AXES if one.axis.in_grid)
"""The axes under ``grid:``, outermost first."""


def make_grid(axes: Iterable[NamedAxis]) -> type[FileModel]:
    """Make the model of ``grid:``. It parses each axis as a tuple of values, empty if the grid omits the axis."""
    fields: dict[str, Any] = {}
    for one in axes:
        about = Field(... if one.grid_values is None else one.grid_values, description=one.axis.doc)
        fields[one.name] = (Annotated[tuple[Any, ...], OneOrMore(one.value)], about)
    return create_model("GridFields", __base__=FileModel, **fields)


if TYPE_CHECKING:
    GridFields = FileModel
else:
    GridFields = make_grid(GRID)

_SAMPLING = Keyed({name: OneOrMore(value, keep_single=True) for name, value in SAMPLING.items()})
AXES_OF_CELLS = {
    "host": OneOrMore(text()),
    "model": OneOrMore(text()),
    **{one.name: OneOrMore(one.value) for one in GRID},
    **{name: OneOrMore(value) for name, value in SAMPLING.items()},
}
"""Names that an override may select cells by, in addition to those of ``launch``."""
_KNOWN_WHERE = Keyed(AXES_OF_CELLS)


def _read_where(given: Any, problems: Problems) -> dict[str, tuple[Any, ...]]:
    """Parse axis -> its values. Any other name may be one of ``launch``; its values are texts as written."""
    if not isinstance(given, Located):
        raise ValueError
    children = {name: given.node.child(name) for name in given}
    known = replace(given.node, value={name: child for name, child in children.items() if name in AXES_OF_CELLS})
    others = {name: child for name, child in children.items() if name not in AXES_OF_CELLS}
    texts = {name: tuple(item.text for item in child.listed) for name, child in others.items()}
    return {**(read_value(_KNOWN_WHERE, known, problems) or {}), **texts}


def _write_where_schema() -> dict[str, Any]:
    return {
        **write_value_schema(_KNOWN_WHERE),
        "additionalProperties": write_value_schema(launch_values())["additionalProperties"],
    }


_WHERE = parsed("a mapping of axes to values", _read_where, _write_where_schema)


class MarkedPlan(Plan):
    """How cells are measured, judged and marked: all cells of the suite, or those that an override selects."""

    marks: Annotated[tuple[Mark, ...], OneOrMore(_MARK)] = ()
    """pytest marks: slow, skip: reason, xfail: {…}."""

    @property
    def given(self) -> dict[str, Any]:
        """The fields of the Plan that the file names, with their values."""
        return {name: getattr(self, name) for name in Plan.model_fields if name in self.model_fields_set}


class OverrideFields(MarkedPlan):
    """What is different for some of the cells."""

    where: Annotated[dict[str, tuple[Any, ...]], _WHERE]
    """Which cells: axis -> value or values. A cell must match all of them."""


_OWN_PROMPTS: dict[str, Any] = {"required": ["prompts"]}
_DEPENDS: dict[str, Any] = {
    "if": {"properties": {"kind": {"const": "embedding"}}, "required": ["kind"]},
    "then": {"properties": {"grid": {"not": {"required": ["output_tokens"]}}}, "not": {"required": ["sampling"]}},
    "else": {"anyOf": [{"properties": {"grid": {"required": ["output_tokens"]}}}, _OWN_PROMPTS]},
    "anyOf": [
        {"properties": {"grid": {"required": ["prompt_tokens"]}}, "not": _OWN_PROMPTS},
        {"properties": {"grid": {"not": {"required": ["prompt_tokens"]}}}, **_OWN_PROMPTS},
    ],
}
"""Which fields go together: pydantic does not know it, `suite.checks` says it in words."""


SINGLE: tuple[NamedAxis, ...] = tuple(one for one in AXES if one.axis.default is not None and not one.axis.in_grid)
"""The axes that have one value per suite."""

BESIDE_GRID: tuple[NamedAxis, ...] = tuple(one for one in GRID if one.axis.beside_grid)
"""The axes of the grid that may also stand beside it."""

if TYPE_CHECKING:

    class SingleFields(MarkedPlan):
        """The axes that have one value per suite, for mypy: those that this room uses by name."""

        kind: Kind
        length: Length
        cache: Cache
        arrival: Arrival
else:
    SingleFields = create_model(
        "SingleFields",
        __base__=MarkedPlan,
        **{
            one.name: (
                Annotated[one.type, one.value],
                Field(one.axis.default, description=one.axis.doc, validation_alias=one.axis.written or one.name),
            )
            for one in SINGLE
        },
        **{
            one.name: (
                Annotated[tuple[Any, ...], OneOrMore(one.value)],
                Field((), description=f"{one.axis.doc} Also an axis of the grid."),
            )
            for one in BESIDE_GRID
        },
    )


class SuiteFields(SingleFields):
    """A whole suite file."""

    model_config = ConfigDict(json_schema_extra=_DEPENDS)

    suite: Annotated[str, node_name()]
    """Unique name; the store identifies the suite by it."""
    description: Annotated[str, text()] = ""
    """What the suite is for."""
    hosts: Annotated[tuple[str, ...], OneOrMore(node_name())]
    """Names from the hosts file; 'embedded' always exists."""
    models: Annotated[tuple[str, ...], OneOrMore(model_name())]
    """Names as the host lists them."""
    grid: GridFields
    """The axes."""
    prompts: Annotated[str, text()] = ""
    """A file with own prompts, one JSON object a line, instead of made-up text; relative to the suite file."""
    sampling: Annotated[dict[str, Any], _SAMPLING] = Field(default_factory=dict)
    """Sent as written; a list makes an axis."""
    request: Annotated[dict[str, Any], _REQUEST] = Field(default_factory=dict)
    """Further fields of the request body, sent as written."""
    slo: Annotated[dict[str, float], slo_limits()] = Field(default_factory=dict)
    """Most that each time of a request may be for the request to be good: ttft_ms: 500."""
    launch: Annotated[dict[str, str | tuple[str, ...]], launch_values()] = Field(default_factory=dict)
    """Values for the placeholders in the hosts' start commands; a list makes an axis."""
    usefixtures: Annotated[tuple[str, ...], OneOrMore(text())] = ()
    """pytest fixtures that every cell uses."""
    overrides: Annotated[tuple[OverrideFields, ...], OneOrMore(OverrideFields)] = ()
    """What is different for some cells, in order."""

    def list_axes(self) -> dict[str, tuple[Any, ...]]:
        """Return axis -> its values: the grid's, outermost first, then lists of sampling and launch as in the file."""
        grid = {one.name: getattr(self.grid, one.name, ()) for one in GRID}
        grid |= {one.name: values for one in BESIDE_GRID if (values := getattr(self, one.name))}
        if self.kind == "embedding" or (self.prompts and not grid["output_tokens"]):
            del grid["output_tokens"]
        late = {one.name for one in GRID if grid.get(one.name) == (one.axis.absent,)}
        kept = {name: values for name, values in grid.items() if name not in late}
        lists = {**self.sampling, **self.launch}.items()
        return kept | {name: value for name, value in lists if isinstance(value, tuple)}


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a suite file."""
    return write_json_schema(SuiteFields, "pytest-boobench suite")
