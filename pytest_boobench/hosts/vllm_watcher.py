"""Room 2: watching vLLM by the counters and gauges of its ``/metrics``, read at the ends of a window.

In between only the use of the KV cache is read, and seldom: a page takes vLLM some milliseconds of the process that
also sends the answers. None of its gauges is reset by a reader.

vLLM counts a request when it is finished or aborted. So every request of a window either ended in it or is in flight
at its end. It counts tokens when it generates them.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import httpx

from pytest_boobench.facts import Hardware, OwnTraffic, Sighting, Traffic
from pytest_boobench.hosts.watcher import (
    OwnMarks,
    RecentlyEnded,
    Watcher,
    number_requests,
    read_text,
    sum_metrics,
    take_whole,
)
from pytest_boobench.servers.clients import Clients
from pytest_boobench.servers.speculation import Drafts
from pytest_boobench.untrusted import Fault

_SETTLE_STEP_S = 0.05
KV_FIRST_S = 1.0
"""After so long of a window the use of the KV cache is read for the first time."""
KV_EVERY_S = 5.0
_KV_USAGE = ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")
"""Gauges from 0 to 1, whatever their names say; the second one is that of older versions."""
_DRAFTS = "vllm:spec_decode_num_{}_total"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Counters and gauges, summed over models, engines and finish reasons."""

    running: int
    waiting: int
    ended: int
    prompt_tokens: int
    """Includes those from the cache."""
    generated_tokens: int
    kv_usage_share: float | None = None
    """Used share of the KV cache; None if it does not tell, or tells of several."""
    drafts: int | None = None
    """Steps with draft tokens; None if the server does not speculate."""
    drafted: int = 0
    accepted: int = 0
    process: float | None
    """Start of the process, seconds since 1970 UTC; None if vLLM runs several API servers."""


class VllmWatcher(Watcher):
    """Subtracts our own requests and tokens from vLLM's counters."""

    def __init__(self, clients: Clients, model: str, *, patience_s: float = 1.0) -> None:
        super().__init__(model)
        self._control = clients.control
        self._patience_s = patience_s
        self._opening: Reading | None = None
        self._ended = RecentlyEnded()
        self._looking: asyncio.Task[None] | None = None

    async def look(self) -> Sighting:
        """Return how many requests are in flight now."""
        reading = await self._read()
        if reading is None:
            return Sighting(known=False)
        self._ended.see_total(self.model, reading.ended, "request", time.time())
        in_flight = number_requests(reading.running, reading.waiting, self.model)
        return Sighting(known=True, in_flight=in_flight, recent=self._ended.tell(time.time()))

    async def begin(self, marks: OwnMarks) -> None:  # noqa: ARG002  # the others need it
        """Open a window."""
        await self.close()
        self.hardware = None
        self._opening = await self._read_settled()
        self._looking = asyncio.create_task(self._keep_looking())

    async def end(self, own: OwnTraffic) -> Traffic:
        """Close the window."""
        await self.close()
        self._ended.forget()
        self.drafts = None
        opening, closing = self._opening, await self._read_settled()
        if opening is None or closing is None:
            return Traffic(notes=("/metrics: no answer with vllm's counters, so foreign traffic is not known",))
        traffic = compare(opening, closing, own)
        self.drafts = count_drafts(opening, closing, own, traffic)
        return traffic

    async def close(self) -> None:
        """Stop looking at the KV cache."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
            self._looking = None

    async def _keep_looking(self) -> None:
        """Keep the greatest use of the KV cache."""
        await asyncio.sleep(KV_FIRST_S)
        most = 0.0
        while True:
            reading = await self._read()
            if reading is not None and reading.kv_usage_share is not None:
                most = max(most, reading.kv_usage_share)
                self.hardware = Hardware(kv_usage_share=most, source="vllm")
            await asyncio.sleep(KV_EVERY_S)

    async def _read(self) -> Reading | None:
        try:
            response = await self._control.get("/metrics")
        except httpx.TransportError:
            return None
        return read(read_text(response)) if response.status_code == httpx.codes.OK else None

    async def _read_settled(self) -> Reading | None:
        """Read until two readings count the same ended requests: vLLM counts one a little after its last byte."""
        give_up_s = time.monotonic() + self._patience_s
        last = await self._read()
        while last is not None and time.monotonic() < give_up_s:
            await asyncio.sleep(_SETTLE_STEP_S)
            reading = await self._read()
            if reading is None or reading.ended == last.ended:
                return reading
            last = reading
        return last


def read(text: str) -> Reading | None:
    """Parse vLLM's ``/metrics``; None if its counters are missing."""
    values = sum_metrics(text)
    try:
        return Reading(
            running=take_whole(values, "vllm:num_requests_running"),
            waiting=take_whole(values, "vllm:num_requests_waiting"),
            ended=take_whole(values, "vllm:request_success_total", 0),
            prompt_tokens=take_whole(values, "vllm:prompt_tokens_total"),
            generated_tokens=take_whole(values, "vllm:generation_tokens_total"),
            kv_usage_share=_find_share(text, values),
            drafts=take_whole(values, _DRAFTS.format("drafts")) if _DRAFTS.format("drafts") in values else None,
            drafted=take_whole(values, _DRAFTS.format("draft_tokens"), 0),
            accepted=take_whole(values, _DRAFTS.format("accepted_tokens"), 0),
            process=values.get("process_start_time_seconds"),
        )
    except KeyError:
        return None


def _find_share(text: str, values: Mapping[str, float]) -> float | None:
    """The use of the KV cache; None with several, one for each engine or model: the sum of their shares is none."""
    for name in _KV_USAGE:
        if name in values:
            alone = sum(line.startswith((f"{name}{{", f"{name} ")) for line in text.split("\n")) == 1
            return values[name] if alone and 0 <= values[name] <= 1 else None
    return None


def compare(opening: Reading, closing: Reading, own: OwnTraffic) -> Traffic:
    """Return the foreign traffic between two readings, both without a request of ours in flight."""
    in_flight, left = opening.running + opening.waiting, closing.running + closing.waiting
    at_ends = Traffic(in_flight_at_start=in_flight, concurrent_foreign_requests=max(in_flight, left))
    if closing.process != opening.process or closing.prompt_tokens < opening.prompt_tokens:
        return replace(at_ends, server_restarts=1, notes=("the server restarted, so its counts are lost",))
    ended = closing.ended - opening.ended - own.requests
    tokens = (
        closing.prompt_tokens - opening.prompt_tokens - own.prompt_tokens - own.cached_tokens,
        closing.generated_tokens - opening.generated_tokens - own.output_tokens,
    )
    if not own.exact or min(ended, *tokens) < 0:
        reason = "a request of ours broke off" if not own.exact else "the server counted less than it reported to us"
        note = f"{reason}, so foreign requests and tokens are known only at the start and end of the cell"
        return replace(at_ends, notes=(note,))
    return replace(at_ends, concurrent_foreign_requests=ended + left, foreign_tokens=sum(tokens))


def count_drafts(opening: Reading, closing: Reading, own: OwnTraffic, traffic: Traffic) -> Drafts | str | None:
    """Return the draft tokens of our requests between two readings, or why they are not known.

    vLLM counts only steps that had drafts. Each other step made one token, so the tokens that were generated show how
    many there were. The last step of an answer may have had more accepted than the answer needed, and these are counted
    too. Each event holds the tokens of one step or more, so there were at least as many steps as events.
    """
    if opening.drafts is None or closing.drafts is None:
        return None
    if traffic.disturbed or traffic.notes:
        return "others used the host, or may have: its counters of draft tokens are not ours alone"
    steps, drafted = closing.drafts - opening.drafts, closing.drafted - opening.drafted
    accepted, tokens = closing.accepted - opening.accepted, own.output_tokens - own.requests
    slack = math.ceil(drafted / steps) * own.requests if steps > 0 else 0
    try:
        return Drafts(
            tokens=tokens,
            drafted=drafted,
            accepted=accepted,
            steps=max(steps, tokens - accepted, min(own.events, tokens - accepted + slack)),
            slack=slack,
        )
    except Fault as fault:
        return str(fault)
