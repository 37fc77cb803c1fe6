"""Room 2: watching vLLM by the counters and gauges of its ``/metrics``, read at the ends of a window only.

Requests are counted when they end, whether finished or aborted, so those that ended in the window and those in flight
at its end are all that there were. Tokens are counted as they are made.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import httpx

from pytest_boobench.facts import OwnTraffic, Sighting, Traffic
from pytest_boobench.hosts.llama_account import RecentlyEnded
from pytest_boobench.hosts.llama_counters import number_requests, read_text
from pytest_boobench.hosts.watcher import OwnMarks, sum_metrics, take_whole
from pytest_boobench.servers.clients import Clients

_SETTLE_STEP_S = 0.05
_UNKNOWN = "/metrics: no answer with vllm's counters, so foreign traffic is not known"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """All that is read, summed over models, engines and reasons to finish."""

    running: int
    waiting: int
    ended: int
    prompt_tokens: int
    """Those from the cache included."""
    generated_tokens: int
    process: float | None
    """When the process was started; blank where vLLM runs several API servers."""


class VllmWatcher:
    """Needs nothing to know ours by: what they were charged is subtracted."""

    def __init__(self, clients: Clients, model: str, *, patience_s: float = 1.0) -> None:
        self.model = model
        self._control = clients.control
        self._patience_s = patience_s
        self._opening: Reading | None = None
        self._ended = RecentlyEnded()

    async def look(self) -> Sighting:
        """What is in flight now, by number."""
        reading = await self._read()
        if reading is None:
            return Sighting(known=False)
        self._ended.see_total(self.model, reading.ended, "request", time.time())
        in_flight = number_requests(reading.running, reading.waiting, self.model)
        return Sighting(known=True, in_flight=in_flight, recent=self._ended.tell(time.time()))

    async def begin(self, marks: OwnMarks) -> None:  # noqa: ARG002  # the others need it
        """Open a window."""
        self._opening = await self._read_settled()

    async def end(self, own: OwnTraffic) -> Traffic:
        """Close the window."""
        self._ended.forget()
        opening, closing = self._opening, await self._read_settled()
        if opening is None or closing is None:
            return Traffic(notes=(_UNKNOWN,))
        return compare(opening, closing, own)

    async def close(self) -> None:
        """Nothing runs between the ends of a window."""

    async def _read(self) -> Reading | None:
        try:
            response = await self._control.get("/metrics")
        except httpx.TransportError:
            return None
        return read(read_text(response)) if response.status_code == httpx.codes.OK else None

    async def _read_settled(self) -> Reading | None:
        """Read until twice the same requests have ended: vLLM counts a request a little after its last byte."""
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
    """``/metrics`` of vLLM; None where its counters are not in it."""
    values = sum_metrics(text)
    try:
        return Reading(
            running=take_whole(values, "vllm:num_requests_running"),
            waiting=take_whole(values, "vllm:num_requests_waiting"),
            ended=take_whole(values, "vllm:request_success_total", 0),
            prompt_tokens=take_whole(values, "vllm:prompt_tokens_total"),
            generated_tokens=take_whole(values, "vllm:generation_tokens_total"),
            process=values.get("process_start_time_seconds"),
        )
    except KeyError:
        return None


def compare(opening: Reading, closing: Reading, own: OwnTraffic) -> Traffic:
    """What happened between two readings, less ours, none of which is in flight at either."""
    in_flight, left = opening.running + opening.waiting, closing.running + closing.waiting
    if closing.process != opening.process or closing.prompt_tokens < opening.prompt_tokens:
        return Traffic(
            in_flight_at_start=in_flight,
            concurrent_foreign_requests=max(in_flight, left),
            server_restarts=1,
            notes=("the server restarted, so its counts are lost",),
        )
    ended = closing.ended - opening.ended - own.requests
    tokens = (
        closing.prompt_tokens - opening.prompt_tokens - own.prompt_tokens - own.cached_tokens,
        closing.generated_tokens - opening.generated_tokens - own.output_tokens,
    )
    if not own.exact or min(ended, *tokens) < 0:
        reason = "a request of ours broke off" if not own.exact else "the server counted less than its answers to us"
        return Traffic(
            in_flight_at_start=in_flight,
            concurrent_foreign_requests=max(in_flight, left),
            notes=(f"{reason}, so foreign requests and tokens are known at the window's ends only",),
        )
    return Traffic(
        in_flight_at_start=in_flight,
        concurrent_foreign_requests=ended + left,
        foreign_tokens=sum(tokens),
    )
