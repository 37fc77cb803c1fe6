"""Room 2: watching llama-server by its slots and counters; behind a router, those of each loaded model.

A look at ``/slots`` delays no decode that has a core for itself (``python -m tests.benchmarks.watching``). ``/metrics``
is read only at the ends of a window, since reading it resets gauges of rates; none of these is used.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from pytest_boobench.facts import ForeignRequest, OwnTraffic, Sighting, Traffic
from pytest_boobench.hosts.llama_account import SHOWN, LlamaAccount, OwnRequests
from pytest_boobench.hosts.llama_counters import (
    CannotTell,
    Counters,
    LlamaCounters,
    LlamaProcess,
    explain_failure,
    name_slots,
)
from pytest_boobench.hosts.watcher import OwnMarks, RecentlyEnded, Watcher, number_requests
from pytest_boobench.servers.clients import Clients
from pytest_boobench.servers.control import list_names
from pytest_boobench.untrusted import Fault, clean, parse_json, to_object, to_objects

_BLIND = (
    "its /slots and /metrics are both off, so it cannot tell whether others use it: start it without --no-slots, or "
    "with --metrics"
)
LOOK_EVERY_S = 0.5
"""Foreign requests that last longer are seen in a slot. What the looks cost: how-far-to-trust-it.md."""


class Processes:
    """Finds the llama-server process of each loaded model."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._router: bool | None = None

    async def find(self, model: str) -> Mapping[str, LlamaProcess]:
        """Return loaded model -> its process. The one that we measure is called ``model`` even if that is an alias.

        Raises CannotTell if the host does not answer.
        """
        if not await self.behind_router():
            return {model: LlamaProcess(self._clients)}
        entries = to_objects((await self._ask("/models")).get("data"))
        return {
            model if model in list_names(entry) else clean(entry["id"]): LlamaProcess(self._clients, entry["id"])
            for entry in entries
            if isinstance(entry.get("id"), str) and to_object(entry.get("status")).get("value") == "loaded"
        }

    async def behind_router(self) -> bool:
        """Whether the host is a router. Raises CannotTell if it does not answer."""
        if self._router is None:
            self._router = (await self._ask("/props")).get("role") == "router"
        return self._router

    async def asleep(self) -> bool:
        """Whether the server has unloaded its model until the next request; never for a router."""
        return (await self._ask("/props")).get("is_sleeping") is True

    async def _ask(self, path: str) -> Mapping[str, Any]:
        try:
            return to_object(parse_json((await self._clients.control.get(path)).content))
        except httpx.TransportError as error:
            raise CannotTell(f"{path}: {explain_failure(error)}") from error
        except Fault as fault:
            raise CannotTell(f"{path}: the answer {fault}") from fault


_NEW_PROCESS = LlamaCounters(slots=(), counters=Counters(prompt_tokens=0, predicted_tokens=0))
"""The opening of a process that started inside the window."""
_UNLOADED = LlamaCounters(notes=("was unloaded, so its count of tokens is lost",))


@dataclass(slots=True)
class Window:
    """From `open` to `close`, with looks in between. Its methods never raise for what the host does."""

    _processes: Processes
    _ours: OwnRequests
    _model: str
    _patience_s: float
    """How long each end of the window may wait for cancelled requests of ours."""
    _found: Mapping[str, LlamaProcess] = field(default_factory=dict)
    _accounts: dict[str, LlamaAccount] = field(default_factory=dict)
    _opening: LlamaCounters = field(default_factory=LlamaCounters)
    """The opening of a process that is first found inside the window."""
    _swaps: int = 0
    _notes: list[str] = field(default_factory=list)

    async def open(self) -> None:
        """Read the counters of every process."""
        try:
            self._found = await self._processes.find(self._model)
        except CannotTell as note:
            self._notes.append(str(note))
            return
        for name, process in self._found.items():
            self._accounts[name] = LlamaAccount(await self._read_settled(process), self._ours, name)
        self._opening = _NEW_PROCESS

    async def look(self) -> None:
        """Look once at the slots of every process, including new ones."""
        with suppress(CannotTell):
            found = await self._processes.find(self._model)
            if self._model in self._found and self._model not in found:
                self._swaps += 1
            for name in (name for name in found if name not in self._accounts):
                self._accounts[name] = LlamaAccount(self._opening, self._ours, name)
                self._notes += [f"{name}: was loaded meanwhile"] if self._opening is _NEW_PROCESS else []
            self._found = found
        for name, process in self._found.items():
            with suppress(CannotTell):
                self._accounts[name].see(await process.glance())

    async def close(self, own: OwnTraffic) -> Traffic:
        """Read the counters again; return the traffic that is not ours."""
        await self.look()
        traffics = []
        for name, account in self._accounts.items():
            process = self._found.get(name)
            closing = await self._read_settled(process) if process else _UNLOADED
            traffic = account.close(closing, own if name == self._model else OwnTraffic())
            if await self._processes.behind_router():  # then a restart of our model's process is a swap
                swaps = traffic.server_restarts if name == self._model else 0
                notes = tuple(f"{name}: {note}" for note in traffic.notes)
                traffic = replace(traffic, server_restarts=0, model_swaps=swaps, notes=notes)
            traffics.append(traffic)
        whole = add_up(traffics)
        swaps = max(self._swaps, whole.model_swaps)
        return replace(whole, model_swaps=swaps, notes=(*self._notes, *whole.notes))

    async def _read_settled(self, process: LlamaProcess) -> LlamaCounters:
        ours = self._ours
        return await process.read_settled(ours.seeds, shared_seeds=ours.shared, patience_s=self._patience_s)


def add_up(traffics: Sequence[Traffic]) -> Traffic:
    """Sum the traffic of several processes in one window. A sum is None if one part is, or if there is none."""

    def total(field: str) -> int | None:
        values = [getattr(traffic, field) for traffic in traffics]
        return sum(values) if values and None not in values else None

    return Traffic(
        in_flight_at_start=total("in_flight_at_start"),
        concurrent_foreign_requests=total("concurrent_foreign_requests"),
        foreign_tokens=total("foreign_tokens"),
        model_swaps=sum(traffic.model_swaps for traffic in traffics),
        server_restarts=sum(traffic.server_restarts for traffic in traffics),
        requests=tuple(request for traffic in traffics for request in traffic.requests)[:SHOWN],
        notes=tuple(note for traffic in traffics for note in traffic.notes),
    )


class SlotsWatcher(Watcher):
    """Recognizes our requests by their seeds. Embeddings have none: only the tokens of foreign ones are known."""

    def __init__(
        self, clients: Clients, model: str, *, look_every_s: float = LOOK_EVERY_S, patience_s: float = 3.0
    ) -> None:
        super().__init__(model)
        self._processes = Processes(clients)
        self._look_every_s = look_every_s
        self._patience_s = patience_s
        self._ours = OwnRequests()
        self._window: Window | None = None
        self._looking: asyncio.Task[None] | None = None
        self._ended = RecentlyEnded()

    async def look(self) -> Sighting:
        """Return what is in flight now; never loads a model or wakes one that sleeps."""
        try:
            if await self._processes.asleep():
                return Sighting(known=True)
            found = await self._processes.find(self.model)
            in_flight = [request for name in found for request in await self._look_at(name, found[name])]
        except CannotTell as note:
            return Sighting(known=False, why=_BLIND if "is off" in str(note) else "")
        return Sighting(known=True, in_flight=tuple(in_flight), recent=self._ended.tell(time.time()))

    async def _look_at(self, name: str, process: LlamaProcess) -> tuple[ForeignRequest, ...]:
        try:
            slots = [slot for slot in await process.ask_slots() if not self._ours.has(slot)]
        except CannotTell:
            counters = await process.ask_counters()
            self._ended.see_total(name, counters.prompt_tokens + counters.predicted_tokens, "token", time.time())
            return number_requests(counters.processing, counters.queued, name)
        ended = {slot.task for slot in slots if not slot.processing and slot.task is not None}
        self._ended.see_tasks(name, ended, time.time())
        return name_slots((slot for slot in slots if slot.processing), name)

    async def begin(self, marks: OwnMarks) -> None:
        """Open a window: read the counters, then look at the slots every ``look_every_s``."""
        await self.close()
        self._ours = OwnRequests.by(marks.seeds, known=self._ours.seeds)
        self._window = Window(self._processes, self._ours, self.model, self._patience_s)
        await self._window.open()
        self._looking = asyncio.create_task(self._keep_looking(self._window))

    async def _keep_looking(self, window: Window) -> None:
        while True:
            await asyncio.sleep(self._look_every_s)
            await window.look()

    async def end(self, own: OwnTraffic) -> Traffic:
        """Close the window. Tokens are exact or None; requests too short for any look count as at least 1."""
        window = self._window
        await self.close()
        return await window.close(own) if window is not None else Traffic()

    async def close(self) -> None:
        """Stop looking; an open window is dropped."""
        self._ended.forget()
        self._window = None
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking
            self._looking = None
