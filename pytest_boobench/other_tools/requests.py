"""Room 5: times of single requests, as another tool's file has them -> Samples."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pytest_boobench.aggregate import add_totals
from pytest_boobench.metrics import Kind, Phase, Sample

_MOST_COMPARED = 2000
"""Requests of which each is compared with each other, for the tokens of all together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRequest:
    """One request by another tool's clock; blanks are what its file does not say. Times in milliseconds from its
    start."""

    started_at: float
    """Seconds since 1970 UTC, or where only the begin of all is known, that."""
    offset_ms: float = 0.0
    """After the first request of the cell; 0 where the file does not say."""
    phase: Phase = "measure"
    ttft_ms: float | None = None
    ttfo_ms: float | None = None
    e2e_ms: float | None = None
    decode_ms: float | None = None
    """From the first token to the last, where the file says it apart from the end of the request."""
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    gaps_ms: Sequence[float] = ()
    """Between the events that carried tokens; empty where the file does not have them."""
    failure: str | None = None
    """What went wrong, in the tool's words; blank for a good request."""


def make_samples(requests: Iterable[ToolRequest], concurrency: int, kind: Kind) -> tuple[Sample, ...]:
    """The samples, in the order of their starts, each phase numbered for itself.

    Lanes follow from when requests ran, and in turn where the file does not say that.
    """
    everything = list(requests)
    timed = any(request.offset_ms for request in everything)
    warm = _make_phase(everything, "warmup", concurrency, timed=timed)
    counted = _make_phase(everything, "measure", concurrency, timed=timed)
    if timed and concurrency > 1 and len(counted) <= _MOST_COMPARED:
        counted = add_totals(counted, kind)
    return (*warm, *counted)


def _make_phase(requests: Iterable[ToolRequest], phase: Phase, concurrency: int, *, timed: bool) -> list[Sample]:
    ours = (request for request in requests if request.phase == phase)
    ordered = sorted(ours, key=lambda request: request.offset_ms)
    lanes = _assign_lanes(ordered) if timed else [place % concurrency for place in range(len(ordered))]
    return [
        _make_sample(request, lane=lane, index=index)
        for index, (request, lane) in enumerate(zip(ordered, lanes, strict=True))
    ]


def _assign_lanes(ordered: Sequence[ToolRequest]) -> list[int]:
    """The lane of each request: the lowest one that is free at its start."""
    busy: list[tuple[float, int]] = []
    free: list[int] = []
    lanes = []
    for request in ordered:
        while busy and busy[0][0] <= request.offset_ms:
            heapq.heappush(free, heapq.heappop(busy)[1])
        lane = heapq.heappop(free) if free else len(busy)
        heapq.heappush(busy, (request.offset_ms + (request.e2e_ms or 0.0), lane))
        lanes.append(lane)
    return lanes


def count_lanes(requests: Iterable[ToolRequest]) -> int:
    """How many requests were in flight at once, at most."""
    ordered = sorted(requests, key=lambda request: request.offset_ms)
    return max(_assign_lanes(ordered), default=-1) + 1


def _make_sample(request: ToolRequest, *, lane: int, index: int) -> Sample:
    failed = request.failure is not None
    chunk_ms = _add_up(request)
    decode_tok_s, prefill_tok_s = (None, None) if failed else (_find_decode(request), _find_prefill(request))
    return Sample(
        phase=request.phase,
        lane=lane,
        index=index,
        started_at=request.started_at,
        offset_ms=request.offset_ms,
        ttft_ms=request.ttft_ms,
        ttfo_ms=request.ttfo_ms,
        e2e_ms=request.e2e_ms,
        chunk_ms=chunk_ms,
        prompt_tokens=request.prompt_tokens,
        cached_tokens=request.cached_tokens,
        output_tokens=request.output_tokens,
        decode_tok_s=decode_tok_s,
        prefill_tok_s=prefill_tok_s,
        rate_source="client" if decode_tok_s or prefill_tok_s else None,
        blanks=_find_blanks(request, len(chunk_ms)),
        failure="reported" if failed else None,
        failure_text=request.failure,
    )


def _add_up(request: ToolRequest) -> tuple[float, ...]:
    """When each event came."""
    if request.ttft_ms is None or not request.gaps_ms:
        return ()
    return tuple(itertools.accumulate(request.gaps_ms, initial=request.ttft_ms))


def _find_decode(request: ToolRequest) -> float | None:
    """(generated tokens - 1) / time from first to last token; None where one of them is not known."""
    length_ms = request.decode_ms
    if length_ms is None and request.e2e_ms is not None and request.ttft_ms is not None:
        length_ms = request.e2e_ms - request.ttft_ms
    tokens = request.output_tokens or 0
    return (tokens - 1) / length_ms * 1000 if tokens > 1 and length_ms is not None and length_ms > 0 else None


def _find_prefill(request: ToolRequest) -> float | None:
    """Evaluated prompt tokens / TTFT, as for servers that do not say how long the prompt took."""
    evaluated = (request.prompt_tokens or 0) - (request.cached_tokens or 0)
    return evaluated / request.ttft_ms * 1000 if evaluated > 1 and request.ttft_ms else None


def _find_blanks(request: ToolRequest, events: int) -> dict[str, str]:
    """Gaps between events are those between tokens only where each event has one token."""
    if events and request.output_tokens is not None and events != request.output_tokens:
        return {"itl_ms": f"{request.output_tokens} tokens came in {events} events: gaps are not those between tokens"}
    return {}
