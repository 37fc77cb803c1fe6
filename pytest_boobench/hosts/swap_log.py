"""Room 2: llama-swap's log of finished requests, and the foreign traffic by that log and by its events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from pytest_boobench.facts import OwnTraffic, Traffic
from pytest_boobench.hosts.swap_events import Detail, InFlight
from pytest_boobench.units import count, quantity
from pytest_boobench.untrusted import Fault, get_count, parse_json, to_count, to_number, to_object, to_objects, to_text

_ROWS_PER_PAGE = 999
_MOST_PAGES = 100
_RECENT_ROWS = 20
_NAMED = 5
"""How many foreign requests a Traffic names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedRequest:
    """One finished request."""

    id: int
    model: str
    path: str | None
    ended_at: datetime
    duration_ms: float | None
    """Includes the time for waiting and loading."""
    status: int | None
    """None before v230."""
    input_tokens: int | None = None
    """Zero if it was cancelled; whether cached ones are in it, `prompt_tokens` knows."""
    output_tokens: int | None = None
    cached_tokens: int | None = None
    timed: bool = False
    """Whether the log has the speed of the prompt: then the counts are those of llama.cpp's timings."""
    read_at: datetime
    """When it was read, by the host's clock, as `ended_at` is."""

    @property
    def tokens(self) -> int | None:
        """Evaluated prompt tokens and generated ones together; zero if it was cancelled."""
        if self.input_tokens is None or self.output_tokens is None:
            return None
        return self.input_tokens + self.output_tokens

    @property
    def prompt_tokens(self) -> int | None:
        """The whole prompt, with what was cached. llama.cpp's timings and Anthropic's usage leave cached tokens out of
        the input, OpenAI's usage has them in it (llama-swap v250, internal/server/metrics.go)."""
        apart = self.timed or (self.path or "").endswith("/v1/messages")
        return None if self.input_tokens is None else self.input_tokens + (self.cached_tokens or 0) * apart

    @property
    def ran(self) -> bool:
        """Whether the model processed it. Without a status, zero tokens mean that it did not."""
        return self.status != httpx.codes.TOO_MANY_REQUESTS if self.status is not None else bool(self.tokens)

    def __str__(self) -> str:
        known = (self.model, self.path, self.status and str(self.status), quantity(self.duration_ms, "ms"))
        return f"{', '.join(part for part in known if part)} (ended {self.ended_at:%H:%M:%S} UTC)"


async def find_newest_id(client: httpx.AsyncClient) -> int | None:
    """Return the id of the request that ended last, 0 before the first one; None without a log."""
    page = await _fetch(client, {"limit": 1})
    return None if page is None else max((row.id for row in page[0]), default=0)


async def fetch_rows(client: httpx.AsyncClient, after_id: int) -> list[LoggedRequest] | None:
    """Return all requests that ended after the one with ``after_id``; None without a log."""
    found: dict[int, LoggedRequest] = {}
    for number in range(1, _MOST_PAGES + 1):
        asked: dict[str, str | int] = {"min_id": after_id + 1, "limit": _ROWS_PER_PAGE, "order": "asc", "page": number}
        page = await _fetch(client, asked)
        if page is None:
            return None
        new = {row.id: row for row in page[0] if row.id > after_id and row.id not in found}
        found |= new
        if len(new) < _ROWS_PER_PAGE:
            break
    return list(found.values())


async def fetch_recent(client: httpx.AsyncClient, after_id: int) -> list[LoggedRequest]:
    """Return the last few requests that ended within the last minute, newest first."""
    rows, read_at = await _fetch(client, {"limit": _RECENT_ROWS}) or ([], datetime.now(UTC))
    recent = [row for row in rows if row.id > after_id and row.ended_at >= read_at - timedelta(minutes=1)]
    return sorted(recent, key=lambda row: row.id, reverse=True)[:_RECENT_ROWS]


async def _fetch(
    client: httpx.AsyncClient, asked: Mapping[str, str | int]
) -> tuple[list[LoggedRequest], datetime] | None:
    """Fetch one page of the log (v236 and later) or the whole older log; return it with the host's time."""
    try:
        response = await client.get("/api/metrics/activity", params=dict(asked))
        if response.status_code == httpx.codes.NOT_FOUND:
            response = await client.get("/api/metrics")
        if response.status_code != httpx.codes.OK:
            return None
        body = parse_json(response.content)
        rows = body if isinstance(body, list) else to_object(body).get("data", "none")
        if not isinstance(rows, list):
            return None if rows is not None else ([], datetime.now(UTC))
        read_at = _read_time(response.headers.get("date", ""))
        return [_read(row, read_at) for row in to_objects(rows)], read_at
    except (httpx.TransportError, Fault):
        return None


def _read_time(date: str) -> datetime:
    """The time of an HTTP ``Date`` header; our clock's if there is none."""
    try:
        moment = parsedate_to_datetime(date)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return datetime.now(UTC)


def _read(row: Mapping[str, Any], read_at: datetime) -> LoggedRequest:
    """Parse a row. Raises Fault for one without an id, because ids tell rows apart."""
    number = get_count(row, "id")
    if number is None:
        raise Fault("id is missing")
    counts = to_object(row.get("tokens", row))
    prompt_tok_s = to_number(counts.get("prompt_per_second"))
    return LoggedRequest(
        id=number,
        model=to_text(row.get("model")) or "a model",
        path=to_text(row.get("req_path")),
        ended_at=_read_moment(row.get("timestamp")) or read_at,
        duration_ms=None if to_number(row.get("duration_ms")) is None else row["duration_ms"],
        status=to_count(row.get("resp_status_code")),
        input_tokens=_read_tokens(counts.get("input_tokens")),
        output_tokens=_read_tokens(counts.get("output_tokens")),
        cached_tokens=_read_tokens(counts.get("cache_tokens")),
        timed=prompt_tok_s is not None and prompt_tok_s >= 0,
        read_at=read_at,
    )


def _read_tokens(value: object) -> int | None:
    """The count; None if it is missing or -1, which means unknown."""
    found = to_count(value)
    return found if found is not None and found >= 0 else None


def _read_moment(value: object) -> datetime | None:
    try:
        return datetime.fromisoformat(value).astimezone(UTC) if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None


@dataclass(slots=True, kw_only=True)
class Evidence:
    """What is known of a window: of its opening at first, and of all of it when it closes."""

    detail: Detail = "nothing"
    run_uid: str = ""
    """The value of our header in our own requests."""
    seen: tuple[InFlight, ...] = ()
    """All requests that were in flight in the window, including ours."""
    present: tuple[InFlight, ...] = ()
    """The foreign ones that were in flight when it opened."""
    total_at_start: int | None = None
    """How many were in flight when it opened; None if the host does not tell."""
    live_at_end: int = 0
    rows: Sequence[LoggedRequest] | None = None
    """Requests that ended in the window, including ours; None without a log."""
    model_swaps: int = 0
    reloads: int = 0
    """Event streams that llama-swap ended in order."""
    breaks: int = 0
    """Event streams that broke off."""
    trouble: str | None = None
    """Why there is no event stream."""


def weigh(evidence: Evidence, own: OwnTraffic) -> Traffic:
    """Return the Traffic of a window. Both counts of foreign requests can miss some, so the greater one holds."""
    seen, logged = count_seen(evidence, own), count_logged(evidence, own)
    known = [number for number in (seen, logged) if number is not None]
    foreign = max(known) if known else None
    named = evidence.present if evidence.detail == "requests" else leave_ours_out(evidence.seen, evidence.run_uid)
    return Traffic(
        in_flight_at_start=evidence.total_at_start,
        concurrent_foreign_requests=foreign,
        foreign_tokens=count_tokens(evidence, own) if foreign else foreign,
        model_swaps=evidence.model_swaps,
        server_restarts=evidence.reloads or int(evidence.breaks > 0 and evidence.model_swaps > 0),
        requests=tuple(entry.describe() for entry in named[:_NAMED]),
        notes=tuple(_find_doubts(evidence, own, seen, logged)),
    )


def leave_ours_out(entries: Iterable[InFlight], run_uid: str) -> tuple[InFlight, ...]:
    """Return the requests without our header's value."""
    return tuple(entry for entry in entries if entry.run_uid != run_uid)


def count_seen(evidence: Evidence, own: OwnTraffic) -> int | None:
    """Return the number of foreign requests by the events; None if the events do not name requests."""
    if evidence.detail == "callers":
        return len(leave_ours_out(evidence.seen, evidence.run_uid))
    if evidence.detail == "requests":
        # After a refusal we send our request again, and it gets another id.
        turned_away = sum(not row.ran for row in evidence.rows or ())
        posted = sum(entry.method == "POST" for entry in evidence.seen)
        return max(0, posted - own.requests - turned_away)
    return None


def count_logged(evidence: Evidence, own: OwnTraffic) -> int | None:
    """Count foreign requests by the log, plus those in flight if events tell only totals; None without a log."""
    if evidence.rows is None:
        return None
    ours_seen = len(evidence.seen) - len(leave_ours_out(evidence.seen, evidence.run_uid))
    finished = max(0, sum(row.ran for row in evidence.rows) - max(own.requests, ours_seen))
    return finished + (evidence.live_at_end if evidence.detail == "totals" else 0)


def count_tokens(evidence: Evidence, own: OwnTraffic) -> int | None:
    """Return the tokens of all finished requests minus ours; None if one of these numbers is not exact."""
    charged = [row.tokens for row in evidence.rows or () if row.ran]
    known = [tokens for tokens in charged if tokens is not None]
    if evidence.rows is None or not own.exact or len(known) < len(charged):
        return None
    return max(0, sum(known) - own.prompt_tokens - own.output_tokens)


def _find_doubts(evidence: Evidence, own: OwnTraffic, seen: int | None, logged: int | None) -> Iterator[str]:
    if evidence.trouble is not None:
        yield f"no event stream: {evidence.trouble}"
    elif evidence.detail == "nothing":
        yield "this llama-swap does not show requests in flight (v192 and later do): only finished requests are counted"
    elif evidence.detail != "callers":
        yield "this llama-swap does not show who sent a request (v240 and later do): the number of ours is subtracted"
    if evidence.rows is None:
        yield "no log of finished requests: only what was seen in flight is counted"
    if seen is not None and logged is not None and logged > seen:
        yield f"its log has {count(logged - seen, 'foreign request')} more than were seen in flight"
    if evidence.reloads:
        yield "its event stream ended: llama-swap reloaded its configuration or was restarted"
    if evidence.breaks:
        yield "its event stream broke off and was opened again: requests in between may be missing"
    if (seen or logged) and not own.exact:
        yield "requests of ours broke off, so the tokens of foreign requests are not known"
