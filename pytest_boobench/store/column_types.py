"""Room 5: the column types. They decide which values may enter the database, and how they come back."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Double, Integer, Text
from sqlalchemy.types import TypeDecorator

from pytest_boobench.untrusted import hide_in

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_COUNT_LIMIT = 2**63

Id = BigInteger().with_variant(Integer(), "sqlite")
"""Row ids. SQLite assigns them only in a column declared INTEGER."""


def moment(seconds: float) -> datetime:
    """Convert seconds since 1970 UTC to the value of a `Moment` column, with microseconds."""
    return datetime.fromtimestamp(seconds, tz=UTC)


def storable_text(text: str) -> str:
    """Return the text with secrets hidden and with U+FFFD for NUL (PostgreSQL) and lone surrogates (UTF-8)."""
    return _UNSTORABLE.sub("\ufffd", hide_in(text))


def storable_json(value: Any) -> Any:
    """Return plain data as standard JSON: None for NaN and infinity, texts as by `storable_text`."""
    return _make_storable(hide_in(value))


def _make_storable(value: Any) -> Any:
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {_UNSTORABLE.sub("\ufffd", str(key)): _make_storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_make_storable(item) for item in value]
    return value


class Moment(TypeDecorator[datetime]):
    """A point in time: takes aware times, returns UTC. Refuses naive times, because their zone is unknown."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"expected a time with its time zone, got {value.isoformat()}")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Number(TypeDecorator[float]):
    """A measured number. NaN and infinity become NULL."""

    impl = Double
    cache_ok = True

    def process_bind_param(self, value: float | None, _dialect: Dialect) -> float | None:
        return value if value is not None and math.isfinite(value) else None


class Count(TypeDecorator[int]):
    """A whole number. One that does not fit into 64 bits becomes NULL."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: int | None, _dialect: Dialect) -> int | None:
        return value if value is not None and -_COUNT_LIMIT <= value < _COUNT_LIMIT else None


class PlainText(TypeDecorator[str]):
    """Text of any length from any source."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, _dialect: Dialect) -> str | None:
        return None if value is None else storable_text(value)


class PlainJson(TypeDecorator[Any]):
    """Standard JSON that keeps its order. None is NULL, never JSON's ``null``."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def process_bind_param(self, value: Any, _dialect: Dialect) -> Any:
        return storable_json(value)
