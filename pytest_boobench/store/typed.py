"""Room 5: plain data -> a frozen dataclass, each value of the type that its field declares, or a ValueError that says
where not."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from pytest_boobench.untrusted import show

T = TypeVar("T")
_COUNT_LIMIT = 2**63
_WORDS: Mapping[type, str] = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}


def make(kind: type[T], plain: object, where: str) -> T:
    """The dataclass with all its parts; fields that have defaults may be missing, others may not be there.

    ValueError names the place: ``record.samples[0].finish_reason is an object, expected a text``.
    """
    if not isinstance(plain, Mapping):
        raise _wrong(where, plain, "an object")
    known = _list_fields(cast("Any", kind))
    for name in plain:
        if name not in known:
            raise ValueError(f"{where}.{name} is no field of this version of pytest-boobench")
    made = {}
    for name, (field, hint) in known.items():
        if name in plain:
            made[name] = _check(hint, plain[name], f"{where}.{name}")
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{where}.{name} is missing")
    return kind(**made)


@functools.cache
def _list_fields(kind: type) -> Mapping[str, tuple[Field[Any], Any]]:
    hints = get_type_hints(kind)
    return {field.name: (field, hints[field.name]) for field in fields(kind)}


def _check(hint: Any, value: Any, where: str) -> Any:
    """The value, made what the hint says."""
    if hint is Any:
        return value
    if is_dataclass(hint):
        return make(hint, value, where)  # type: ignore[arg-type]  # a type, since hints are
    return _CHECKS.get(get_origin(hint), _check_plain)(hint, value, where)


def _check_plain(hint: Any, value: Any, where: str) -> Any:
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
    """Of our unions all are of one type and a blank."""
    if value is None:
        return None
    (only,) = (each for each in get_args(hint) if each is not type(None))
    return _check(only, value, where)


def _check_mapping(hint: Any, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise _wrong(where, value, "an object")
    return {key: _check(get_args(hint)[1], each, f"{where}.{key}") for key, each in value.items()}


def _check_tuple(hint: Any, value: Any, where: str) -> Any:
    if not isinstance(value, list):
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
