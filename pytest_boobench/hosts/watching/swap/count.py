"""What a window on a llama-swap comes to: requests seen in flight and requests in its log, ours taken off, weighed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pytest_boobench.facts import OwnTraffic, Traffic
from pytest_boobench.hosts.watching.swap.events import Detail, Entry
from pytest_boobench.hosts.watching.swap.log import Row
from pytest_boobench.units import count

_NAMED = 5
"""Foreign requests that a Traffic names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of a window when it closes."""

    detail: Detail
    run_uid: str
    """By this value of our header a request is ours."""
    seen: tuple[Entry, ...]
    """All requests in flight at some time in the window, ours among them."""
    present: tuple[Entry, ...]
    """Those of them that were there when it opened."""
    total_at_start: int | None
    """How many that were; blank where nothing tells."""
    live_at_end: int
    rows: Sequence[Row] | None
    """Requests that ended in the window, ours among them; blank where no log is kept."""
    model_swaps: int
    reloads: int
    """Event streams that llama-swap ended itself."""
    breaks: int
    """Event streams that broke off."""
    trouble: str | None
    """Why there is no event stream."""


def weigh(evidence: Evidence, own: OwnTraffic) -> Traffic:
    """The Traffic of a window. Of two counts of foreign requests the greater one holds: both can only miss some."""
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


def leave_ours_out(entries: Sequence[Entry], run_uid: str) -> tuple[Entry, ...]:
    """The entries that do not carry our header's value."""
    return tuple(entry for entry in entries if entry.run_uid != run_uid)


def count_seen(evidence: Evidence, own: OwnTraffic) -> int | None:
    """Foreign requests by the events; None where these tell of none."""
    if evidence.detail == "callers":
        return len(leave_ours_out(evidence.seen, evidence.run_uid))
    if evidence.detail == "requests":
        # Each of ours that was turned away came again under another id.
        turned_away = sum(not row.ran for row in evidence.rows or ())
        posted = sum(entry.method == "POST" for entry in evidence.seen)
        return max(0, posted - own.requests - turned_away)
    return None


def count_logged(evidence: Evidence, own: OwnTraffic) -> int | None:
    """Foreign requests by the log, and where only totals are told those still in flight; None without a log."""
    if evidence.rows is None:
        return None
    ours_seen = len(evidence.seen) - len(leave_ours_out(evidence.seen, evidence.run_uid))
    finished = max(0, sum(row.ran for row in evidence.rows) - max(own.requests, ours_seen))
    return finished + (evidence.live_at_end if evidence.detail == "totals" else 0)


def count_tokens(evidence: Evidence, own: OwnTraffic) -> int | None:
    """Tokens of all finished requests less our own; None where either is not known to the token."""
    charged = [row.tokens for row in evidence.rows or () if row.ran]
    known = [tokens for tokens in charged if tokens is not None]
    if evidence.rows is None or not own.exact or len(known) < len(charged):
        return None
    return max(0, sum(known) - own.prompt_tokens - own.output_tokens)


def _find_doubts(evidence: Evidence, own: OwnTraffic, seen: int | None, logged: int | None) -> Iterator[str]:
    if evidence.trouble is not None:
        yield f"no event stream: {evidence.trouble}"
    elif evidence.detail == "nothing":
        yield "this llama-swap does not tell what is in flight (v192 and later do): only what ended is counted"
    elif evidence.detail != "callers":
        yield "this llama-swap does not tell who sent a request (v240 and later do): ours are taken off by number"
    if evidence.rows is None:
        yield "no log of finished requests: only what was seen in flight is counted"
    if seen is not None and logged is not None and logged > seen:
        yield f"its log has {count(logged - seen, 'foreign request')} more than were seen in flight"
    if evidence.reloads:
        yield "its event stream ended: its configuration was reloaded, or it was started again"
    if evidence.breaks:
        yield "its event stream broke off and was opened again: what came in between may be missing"
    if (seen or logged) and not own.exact:
        yield "requests of ours broke off: how many tokens the foreign ones took cannot be told"
