"""Room 2: what foreign requests are called where a server tells little of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from pytest_boobench import wire
from pytest_boobench.facts import ForeignRequest
from pytest_boobench.hosts.watcher import sum_metrics, take_whole
from pytest_boobench.untrusted import Fault, parse_json, to_count, to_object

NO_SEED = 0xFFFFFFFF
"""What a slot shows for a request that named no seed."""
_SETTLE_STEP_S = 0.02
_OFF: Mapping[str, str] = {
    "/slots": "/slots is off, so foreign requests are not seen one by one; start the server without --no-slots",
    "/metrics": "/metrics is off, so foreign tokens are not counted; start the server with --metrics",
}
T = TypeVar("T")


class CannotTell(Exception):  # noqa: N818  # the server's state, not our error; never leaves the watchers
    """The server does not say; the text is a note for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One of the places where a server works on requests."""

    task: int | None = None
    """The request it works on, or the last one it worked on; unique while the server lives."""
    fresh: bool = False
    """Whether it never worked on any."""
    processing: bool = False
    seed: int | None = None
    decoded_tokens: int = 0
    """Generated so far by the request in work; zero again when it has ended."""
    bare: bool = False
    """Whether the request names nothing that only a generating one has: it may be an embedding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What a server has counted since it was started, and two gauges."""

    prompt_tokens: int
    """Evaluated ones, those from the cache left out; grows with each batch."""
    predicted_tokens: int
    """Grows by all tokens of a request at once, when it ends or is cancelled."""
    processing: int = 0
    queued: int = 0
    """Requests that wait for a slot."""
    process: str | None = None
    """Another one after a restart; says nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaCounters:
    """Slots and counters of one state of the server; blank where it does not tell, and then ``notes`` say why."""

    slots: tuple[Slot, ...] | None = None
    counters: Counters | None = None
    settled: bool = True
    """False: requests came and went too fast, or one of ours did not go, for both to tell of one state."""
    notes: tuple[str, ...] = ()

    @property
    def working(self) -> tuple[Slot, ...]:
        """The slots at work."""
        return tuple(slot for slot in self.slots or () if slot.processing)

    @property
    def generated_tokens(self) -> int:
        """All tokens generated until then, those of requests still at work included."""
        counted = self.counters.predicted_tokens if self.counters else 0
        return counted + sum(slot.decoded_tokens for slot in self.working)


class LlamaProcess:
    """Asks one llama-server; ``model`` names it where a router stands before it, and is never loaded by asking."""

    def __init__(self, control: httpx.AsyncClient, model: str | None = None) -> None:
        self._control = control
        self._params = {"model": model, "autoload": "false"} if model is not None else None

    async def ask_slots(self) -> tuple[Slot, ...]:
        """``/slots``, none while the model is being loaded; CannotTell where it is off or nothing answers."""
        response = await self._get("/slots")
        if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            return ()
        try:
            return read_slots(parse_json(response.content))
        except Fault as fault:
            raise CannotTell(f"/slots: the answer {fault}") from fault

    async def ask_counters(self) -> Counters:
        """``/metrics``; CannotTell where it is off or nothing answers. Resets the gauges of rates that others read."""
        response = await self._get("/metrics")
        if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            raise CannotTell("/metrics: the model is being loaded")
        return read_counters(read_text(response), response.headers.get("Process-Start-Time-Unix"))

    async def take_stock(
        self, own_seeds: Collection[int], *, shared_seeds: Collection[int] = (), patience_s: float
    ) -> LlamaCounters:
        """Counters between two looks at the slots that show the same requests, none of them ours.

        So no request ended between them, and generated tokens can be told apart into counted ones and those in the
        slots. Waits for requests of ours that broke off: the server works on until it notices. What outlasts half of
        that and has a seed that others may send too is not ours.
        """
        began_s = time.monotonic()
        while True:
            before, _ = await _attempt(self.ask_slots())
            counters, no_counters = await _attempt(self.ask_counters())
            after, no_slots = await _attempt(self.ask_slots())
            at_work = {slot.seed for slot in after or () if slot.processing}
            settled = _work(before) == _work(after) and at_work.isdisjoint(own_seeds)
            waited_s = time.monotonic() - began_s
            alone = at_work.isdisjoint(shared_seeds) or waited_s > patience_s / 2
            if (settled and alone) or waited_s > patience_s:
                notes = tuple(note for note in (no_slots, no_counters) if note)
                return LlamaCounters(slots=after, counters=counters, settled=settled, notes=notes)
            await asyncio.sleep(_SETTLE_STEP_S)

    async def _get(self, path: str) -> httpx.Response:
        try:
            response = await self._control.get(path, params=self._params)
        except httpx.TransportError as error:
            raise CannotTell(f"{path}: {explain_failure(error)}") from error
        if response.status_code == httpx.codes.NOT_IMPLEMENTED:
            raise CannotTell(_OFF[path])
        if response.status_code not in (httpx.codes.OK, httpx.codes.SERVICE_UNAVAILABLE):
            raise CannotTell(f"{path}: {response.status_code}")
        return response


def explain_failure(error: httpx.TransportError) -> str:
    """In a few words: a note stands beside others."""
    return str(error) if isinstance(error, wire.BadAnswer) else "no answer"


def read_text(response: httpx.Response) -> str:
    """Its body, whatever charset it claims to have."""
    return response.content.decode("utf-8", "replace")


async def _attempt(asking: Awaitable[T]) -> tuple[T | None, str]:
    """What was told, or why it was not."""
    try:
        return await asking, ""
    except CannotTell as note:
        return None, str(note)


def _work(slots: tuple[Slot, ...] | None) -> list[tuple[int | None, bool]] | None:
    return None if slots is None else [(slot.task, slot.processing) for slot in slots]


def read_slots(body: Any) -> tuple[Slot, ...]:
    """The answer of ``/slots``, of any build; Fault where it is none."""
    if not isinstance(body, list) or not all(isinstance(entry, Mapping) for entry in body):
        raise Fault("is not a list of slots")
    return tuple(_read_slot(entry) for entry in body)


def _read_slot(entry: Mapping[str, Any]) -> Slot:
    """Builds before b4027 have ``state`` for ``is_processing``, some ``task_id`` for ``id_task``, and a request's
    parameters beside them."""
    told = entry.get("params")
    params = told if isinstance(told, Mapping) else entry
    following = entry.get("next_token")
    if isinstance(following, list):  # an object in older builds
        following = following[0] if following else None
    task = to_count(entry.get("id_task", entry.get("task_id")))
    seed = to_count(params.get("seed"))
    return Slot(
        task=task if task is not None and task >= 0 else None,  # older builds: -1 while idle
        fresh=task is None and not entry.get("prompt"),
        processing=_is_at_work(entry),
        seed=None if seed is None else seed & NO_SEED,
        decoded_tokens=max(0, to_count(to_object(following).get("n_decoded")) or 0),
        bare=seed in (None, NO_SEED) and not params.get("stream") and params.get("max_tokens", -1) == -1,
    )


def _is_at_work(entry: Mapping[str, Any]) -> bool:
    now = entry.get("is_processing")
    if isinstance(now, bool):
        return now
    state = to_count(entry.get("state"))
    if state is None:
        raise Fault("says of a slot neither is_processing nor state")
    return state != 0


def read_counters(text: str, process: str | None) -> Counters:
    """The answer of ``/metrics``; CannotTell where it has no token counters."""
    values = sum_metrics(text)
    try:
        return Counters(
            prompt_tokens=take_whole(values, "llamacpp:prompt_tokens_total"),
            predicted_tokens=take_whole(values, "llamacpp:tokens_predicted_total"),
            processing=take_whole(values, "llamacpp:requests_processing", 0),
            queued=take_whole(values, "llamacpp:requests_deferred", 0),
            process=process,
        )
    except KeyError as error:
        raise CannotTell(f"/metrics: no {error.args[0]} in it") from error


_MOST = 10_000
"""Requests that are told apart; a server that says more makes no sense."""


def name_slots(slots: Iterable[Slot], model: str) -> tuple[ForeignRequest, ...]:
    """Requests that have a slot."""
    return tuple(ForeignRequest(id=f"task {slot.task}", model=model, queued=False) for slot in slots)


def number_requests(running: int, waiting: int, model: str) -> tuple[ForeignRequest, ...]:
    """Requests of which the server only says how many there are."""
    return tuple(
        ForeignRequest(id=f"request {number}", model=model, queued=number > running)
        for number in range(1, min(running + waiting, _MOST) + 1)
    )
