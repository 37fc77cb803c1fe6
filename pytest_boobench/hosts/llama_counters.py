"""Room 2: the slots and counters of one llama-server, read so that both show the same state."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlencode

import httpx

from pytest_boobench import wire
from pytest_boobench.facts import ForeignRequest
from pytest_boobench.hosts.watcher import read_text, sum_metrics, take_whole
from pytest_boobench.servers.clients import Clients
from pytest_boobench.untrusted import Fault, parse_json, to_count, to_object

NO_SEED = 0xFFFFFFFF
"""What a slot shows for a request without a seed."""
_SETTLE_STEP_S = 0.02
_OFF: Mapping[str, str] = {
    "/slots": "/slots is off, so foreign requests are not seen one by one; start the server without --no-slots",
    "/metrics": "/metrics is off, so foreign tokens are not counted; start the server with --metrics",
}
T = TypeVar("T")


class CannotTell(Exception):  # noqa: N818  # the server's state, not our error; never leaves the watchers
    """The server does not say; the text is a note for the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One of the places where a server processes requests."""

    task: int | None = None
    """Its request, or its last one while it is idle; unique while the server runs."""
    fresh: bool = False
    """Whether it has had no request yet."""
    processing: bool = False
    seed: int | None = None
    decoded_tokens: int = 0
    """Generated so far for the request; zero again when it has ended."""
    bare: bool = False
    """Whether the request may be an embedding: it has no parameter that only generation has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """The counters of a server since its start, and two gauges."""

    prompt_tokens: int
    """Evaluated tokens, without those from the cache; grows with each batch."""
    predicted_tokens: int
    """Grows by all tokens of a request at once, when it ends or is cancelled."""
    processing: int = 0
    queued: int = 0
    """Requests that wait for a slot."""
    process: str | None = None
    """Identifies the process: another value after a restart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaCounters:
    """Slots and counters of one state of the server; None if it does not show them; ``notes`` say why."""

    slots: tuple[Slot, ...] | None = None
    counters: Counters | None = None
    settled: bool = True
    """Whether both show one state. False if requests came and went too fast, or one of ours did not end."""
    notes: tuple[str, ...] = ()

    @property
    def working(self) -> tuple[Slot, ...]:
        """The slots that process a request."""
        return tuple(slot for slot in self.slots or () if slot.processing)

    @property
    def generated_tokens(self) -> int:
        """All tokens generated so far, including those of unfinished requests."""
        counted = self.counters.predicted_tokens if self.counters else 0
        return counted + sum(slot.decoded_tokens for slot in self.working)


class LlamaProcess:
    """Queries one llama-server. Behind a router, ``model`` selects it; a query never loads the model."""

    def __init__(self, clients: Clients, model: str | None = None) -> None:
        self._clients = clients
        self._query = "" if model is None else f"?{urlencode({'model': model, 'autoload': 'false'})}"

    async def ask_slots(self) -> tuple[Slot, ...]:
        """Read ``/slots``; empty while the model loads. Raises CannotTell if it is off or nothing answers."""
        response = await self._get("/slots")
        return _read_slots(response.status_code, response.content)

    async def glance(self) -> tuple[Slot, ...]:
        """As `ask_slots`, by the client of the measured requests, from which it takes less of a busy processor."""
        try:
            exchange = await self._clients.stream.get(f"/slots{self._query}")
        except wire.NoAnswer as error:
            raise CannotTell("/slots: no answer") from error
        if exchange.failure is not None:
            raise CannotTell("/slots: its answer breaks off")
        return _read_slots(exchange.status, exchange.body)

    async def ask_counters(self) -> Counters:
        """Read ``/metrics``, which resets its gauges of rates. Raises CannotTell if it is off or nothing answers."""
        response = await self._get("/metrics")
        if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            raise CannotTell("/metrics: the model is being loaded")
        return read_counters(read_text(response), response.headers.get("Process-Start-Time-Unix"))

    async def read_settled(
        self, own_seeds: Collection[int], *, shared_seeds: Collection[int] = (), patience_s: float
    ) -> LlamaCounters:
        """Read the counters between two looks at the slots that show the same requests, none of them ours.

        Then no request ended between the looks, and no generated token is both in the counters and in a slot. Waits up
        to ``patience_s`` for cancelled requests of ours, because the server notices that late. A request with one of
        ``shared_seeds``, which others may send too, counts as foreign after half of that time.
        """
        began_s = time.monotonic()
        while True:
            before, _ = await _attempt(self.ask_slots())
            counters, no_counters = await _attempt(self.ask_counters())
            after, no_slots = await _attempt(self.ask_slots())
            at_work = {slot.seed for slot in after or () if slot.processing}
            settled = _list_work(before) == _list_work(after) and at_work.isdisjoint(own_seeds)
            waited_s = time.monotonic() - began_s
            alone = at_work.isdisjoint(shared_seeds) or waited_s > patience_s / 2
            if (settled and alone) or waited_s > patience_s:
                notes = tuple(note for note in (no_slots, no_counters) if note)
                return LlamaCounters(slots=after, counters=counters, settled=settled, notes=notes)
            await asyncio.sleep(_SETTLE_STEP_S)

    async def _get(self, path: str) -> httpx.Response:
        try:
            response = await self._clients.control.get(path + self._query)
        except httpx.TransportError as error:
            raise CannotTell(f"{path}: {explain_failure(error)}") from error
        _check_status(path, response.status_code)
        return response


def _check_status(path: str, status: int) -> None:
    if status == httpx.codes.NOT_IMPLEMENTED:
        raise CannotTell(_OFF[path])
    if status not in (httpx.codes.OK, httpx.codes.SERVICE_UNAVAILABLE):
        raise CannotTell(f"{path}: {status}")


def _read_slots(status: int, content: bytes) -> tuple[Slot, ...]:
    _check_status("/slots", status)
    if status == httpx.codes.SERVICE_UNAVAILABLE:
        return ()
    try:
        return read_slots(parse_json(content))
    except Fault as fault:
        raise CannotTell(f"/slots: the answer {fault}") from fault


def explain_failure(error: httpx.TransportError) -> str:
    """In a few words, for a note."""
    return str(error) if isinstance(error, wire.BadAnswer) else "no answer"


async def _attempt(asking: Awaitable[T]) -> tuple[T | None, str]:
    """Return the answer, or why there is none."""
    try:
        return await asking, ""
    except CannotTell as note:
        return None, str(note)


def _list_work(slots: tuple[Slot, ...] | None) -> list[tuple[int | None, bool]] | None:
    return None if slots is None else [(slot.task, slot.processing) for slot in slots]


def read_slots(body: Any) -> tuple[Slot, ...]:
    """Parse the answer of ``/slots`` of any build. Raises Fault for anything else."""
    if not isinstance(body, list) or not all(isinstance(entry, Mapping) for entry in body):
        raise Fault("is not a list of slots")
    return tuple(_read_slot(entry) for entry in body)


def _read_slot(entry: Mapping[str, Any]) -> Slot:
    """Parse one slot. Builds before b4027 have ``state`` for ``is_processing``; some have ``task_id`` for ``id_task``.
    In those builds, the entry itself has the parameters."""
    params = entry.get("params")
    if not isinstance(params, Mapping):
        params = entry
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
        raise Fault("has a slot without is_processing and state")
    return state != 0


def read_counters(text: str, process: str | None) -> Counters:
    """Parse the answer of ``/metrics``. Raises CannotTell if it has no token counters."""
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


def name_slots(slots: Iterable[Slot], model: str) -> tuple[ForeignRequest, ...]:
    """Return the requests in slots."""
    return tuple(ForeignRequest(id=f"task {slot.task}", model=model, queued=False) for slot in slots)
