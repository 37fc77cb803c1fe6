"""Room 0: a fact is a field of a frozen dataclass, declared once. Columns, rows, files and JSON follow from the fields.

A field that is newer than the store's first schema names the revision that added its column. A field that is in files
has a description::

    driver: Annotated[str | None, Doc("The graphics driver."), Since("0003")] = None

Plain data are dicts, lists, numbers and texts: what JSON can hold, and what processes send to each other.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from typing_extensions import Doc

from pytest_boobench.untrusted import show

T = TypeVar("T")
_COUNT_LIMIT = 2**63
_BLANK: Any = type(None)
_WORDS: Mapping[type, str] = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}


@dataclass(frozen=True, slots=True)
class Since:
    """The revision of the store's schema that added a fact's column. In older rows, the fact has its default."""

    revision: str


@dataclass(frozen=True, slots=True)
class Fact:
    """One field of a dataclass."""

    name: str
    type: Any
    """The type of a value that is not None."""
    optional: bool
    """Whether it may be None."""
    since: str
    """Revision of the store's schema; default: ``0001``."""
    required: bool
    """Whether it has no default."""
    doc: str
    """Description for JSON Schemas; empty if the field has none."""
    make_default: Callable[[], Any]


@functools.cache
def list_facts(kind: type) -> Mapping[str, Fact]:
    """Return a dataclass's fields by name, in order; those of later revisions come last."""
    hints = get_type_hints(kind, include_extras=True)
    found = []
    for field in fields(cast("Any", kind)):
        hint: Any = hints[field.name]
        said: list[Any] = []
        if get_origin(hint) is Annotated:
            hint, *said = get_args(hint)
        several: tuple[Any, ...] = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
        optional = _BLANK in several
        make: Callable[[], Any] = functools.partial(lambda default: default, field.default)
        if field.default_factory is not MISSING:
            make = field.default_factory
        required = field.default is MISSING and field.default_factory is MISSING
        since = next((each.revision for each in said if isinstance(each, Since)), "0001")
        doc = next((each.documentation for each in said if isinstance(each, Doc)), "")
        (type_,) = (each for each in several if each is not _BLANK)
        found.append(Fact(field.name, type_, optional, since, required, doc, make))
    return {fact.name: fact for fact in sorted(found, key=lambda fact: fact.since)}


def take(names: Iterable[str], source: object) -> dict[str, Any]:
    """Return the attributes with these names."""
    return {name: getattr(source, name) for name in names}


def rebuild(kind: type[T], plain: Mapping[str, Any]) -> T:
    """The inverse of `dataclasses.asdict`, for data of this process or its workers. Does not check single values."""
    known = list_facts(cast("Any", kind))
    return kind(**{name: rebuild_value(known[name].type, value) for name, value in plain.items()})


def rebuild_value(hint: Any, value: Any) -> Any:
    """The same for one value, of the type that ``hint`` names."""
    if value is None:
        return None
    if is_dataclass(hint):
        return rebuild(cast("type[Any]", hint), value)
    origin, parts = get_origin(hint), get_args(hint)
    if origin is tuple:
        return tuple(rebuild_value(parts[0], each) for each in value)
    return {key: rebuild_value(parts[1], each) for key, each in value.items()} if origin is Mapping else value


def make(kind: type[T], plain: object, where: str = "") -> T:
    """The same for plain data from a file; checks each value.

    Facts with defaults may be missing; unknown ones are an error. Raises ValueError that names the place:
    ``record.samples[0].finish_reason is an object, expected a text``.
    """
    if not isinstance(plain, Mapping):
        raise _wrong(where, plain, "an object")
    known = list_facts(cast("Any", kind))
    for name in plain:
        if name not in known:
            raise ValueError(f"{where}.{name} is no field of this version of pytest-boobench")
    for name, fact in known.items():
        if fact.required and name not in plain:
            raise ValueError(f"{where}.{name} is missing")
    return kind(**{name: _check_fact(known[name], value, f"{where}.{name}") for name, value in plain.items()})


def _check_fact(fact: Fact, value: Any, where: str) -> Any:
    return None if value is None and fact.optional else _check(fact.type, value, where)


def _check(hint: Any, value: Any, where: str) -> Any:
    """Return the value in the type of the hint."""
    if hint is Any:
        return value
    if is_dataclass(hint):
        return make(cast("type[Any]", hint), value, where)
    return _CHECKS.get(get_origin(hint), _check_single)(hint, value, where)


def _check_single(hint: Any, value: Any, where: str) -> Any:
    if isinstance(value, hint) and isinstance(value, bool) == (hint is bool):
        if hint is int and abs(value) >= _COUNT_LIMIT:
            raise ValueError(f"{where} is a number of more than 64 bits")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < _COUNT_LIMIT:
        return float(value)
    raise _wrong(where, value, _WORDS.get(hint, hint.__name__))


def _check_literal(hint: Any, value: Any, where: str) -> Any:
    if isinstance(value, str) and value in get_args(hint):
        return value
    raise _wrong(where, value, f"one of {', '.join(get_args(hint))}")


def _check_union(hint: Any, value: Any, where: str) -> Any:
    """Each of our unions is one type or None."""
    if value is None:
        return None
    (only,) = (each for each in get_args(hint) if each is not type(None))
    return _check(only, value, where)


def _check_mapping(hint: Any, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise _wrong(where, value, "an object")
    return {key: _check(get_args(hint)[1], each, f"{where}.{key}") for key, each in value.items()}


def _check_tuple(hint: Any, value: Any, where: str) -> Any:
    if not isinstance(value, list | tuple):
        raise _wrong(where, value, "a list")
    return tuple(_check(get_args(hint)[0], each, f"{where}[{place}]") for place, each in enumerate(value))


_CHECKS: Mapping[Any, Callable[[Any, Any, str], Any]] = {
    Literal: _check_literal,
    Union: _check_union,
    types.UnionType: _check_union,
    Mapping: _check_mapping,
    tuple: _check_tuple,
    Sequence: _check_tuple,
}


def _wrong(where: str, value: object, expected: str) -> ValueError:
    return ValueError(f"{where} is {show(value)}, expected {expected}")
