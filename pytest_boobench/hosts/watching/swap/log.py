"""llama-swap's log of finished requests. It says nothing of who sent them: ours must be taken off by counting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from pytest_boobench.units import quantity
from pytest_boobench.untrusted import (
    Fault,
    get_count,
    parse_json,
    to_count,
    to_number,
    to_object,
    to_objects,
    to_text,
)

_ROWS_PER_PAGE = 999
_MOST_PAGES = 100
_RECENT_ROWS = 20
_RECENT = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One finished request."""

    id: int
    model: str
    path: str | None
    ended_at: datetime
    duration_ms: float | None
    """With waiting and loading."""
    status: int | None
    """Blank before v230."""
    tokens: int | None
    """Evaluated prompt tokens and generated ones; zero where it broke off."""

    @property
    def ran(self) -> bool:
        """Whether it got as far as the model. Where no status is told, no tokens say that it did not."""
        return self.status != httpx.codes.TOO_MANY_REQUESTS if self.status is not None else bool(self.tokens)

    def __str__(self) -> str:
        known = (self.model, self.path, self.status and str(self.status), quantity(self.duration_ms, "ms"))
        return f"{', '.join(part for part in known if part)} (ended {self.ended_at:%H:%M:%S} UTC)"


@dataclass(frozen=True, slots=True)
class _Page:
    rows: list[Row]
    read_at: datetime
    """By the host's own clock, where it tells the time."""


async def find_newest_id(client: httpx.AsyncClient) -> int | None:
    """The id of the request that ended last, 0 before the first one; None where no log is kept."""
    page = await _fetch(client, {"limit": 1})
    return None if page is None else max((row.id for row in page.rows), default=0)


async def fetch_rows(client: httpx.AsyncClient, after_id: int) -> list[Row] | None:
    """All requests that ended after the one with ``after_id``; None where no log is kept."""
    found: dict[int, Row] = {}
    for number in range(1, _MOST_PAGES + 1):
        asked: dict[str, str | int] = {"min_id": after_id + 1, "limit": _ROWS_PER_PAGE, "order": "asc", "page": number}
        page = await _fetch(client, asked)
        if page is None:
            return None
        new = {row.id: row for row in page.rows if row.id > after_id and row.id not in found}
        found |= new
        if len(new) < _ROWS_PER_PAGE:
            break
    return list(found.values())


async def fetch_recent(client: httpx.AsyncClient, after_id: int) -> list[Row]:
    """The last few requests that ended within the last minute, newest first."""
    page = await _fetch(client, {"limit": _RECENT_ROWS})
    if page is None:
        return []
    recent = [row for row in page.rows if row.id > after_id and row.ended_at >= page.read_at - _RECENT]
    return sorted(recent, key=lambda row: row.id, reverse=True)[:_RECENT_ROWS]


async def _fetch(client: httpx.AsyncClient, asked: Mapping[str, str | int]) -> _Page | None:
    """Rows by the paged log of v236 and later, else the whole of the older one."""
    try:
        response = await client.get("/api/metrics/activity", params=dict(asked))
        if response.status_code == httpx.codes.NOT_FOUND:
            response = await client.get("/api/metrics")
        if response.status_code != httpx.codes.OK:
            return None
        body = parse_json(response.content)
        rows = body if isinstance(body, list) else to_object(body).get("data", "none")
        if not isinstance(rows, list):
            return None if rows is not None else _Page([], datetime.now(UTC))
        read_at = _read_time(response.headers.get("date", ""))
        return _Page([_read(row, read_at) for row in to_objects(rows)], read_at)
    except (httpx.TransportError, Fault):
        return None


def _read_time(date: str) -> datetime:
    """Of an HTTP ``Date`` header, ours where there is none."""
    try:
        moment = parsedate_to_datetime(date)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return datetime.now(UTC)


def _read(row: Mapping[str, Any], read_at: datetime) -> Row:
    """Fault where a row has no number: without it rows cannot be told apart."""
    number = get_count(row, "id")
    if number is None:
        raise Fault("id is missing")
    counts = to_object(row.get("tokens", row))
    tokens = [to_count(counts.get(key)) for key in ("input_tokens", "output_tokens")]
    known = [many for many in tokens if many is not None and many >= 0]
    return Row(
        id=number,
        model=to_text(row.get("model")) or "a model",
        path=to_text(row.get("req_path")),
        ended_at=_read_moment(row.get("timestamp")) or read_at,
        duration_ms=None if to_number(row.get("duration_ms")) is None else row["duration_ms"],
        status=to_count(row.get("resp_status_code")),
        tokens=sum(known) if len(known) == len(tokens) else None,
    )


def _read_moment(value: object) -> datetime | None:
    try:
        return datetime.fromisoformat(value).astimezone(UTC) if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None
