"""Room 2: one window over all the llama-server processes behind an address: an Account for each of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace

from pytest_boobench.facts import OwnTraffic, Traffic
from pytest_boobench.hosts.watching.account import SHOWN, Account
from pytest_boobench.hosts.watching.ours import Ours
from pytest_boobench.hosts.watching.processes import Processes
from pytest_boobench.hosts.watching.stock import CannotTell, Counters, LlamaProcess, Stock

_NEWBORN = Stock(slots=(), counters=Counters(prompt_tokens=0, predicted_tokens=0))
"""The opening of a process that began inside the window."""
_GONE = Stock(notes=("was unloaded, so its count of tokens is lost",))


class Window:
    """From `open` to `close`, with looks in between; none of them raises for what the host does."""

    def __init__(self, processes: Processes, ours: Ours, model: str, *, patience_s: float) -> None:
        """``patience_s`` is how long each end of the window may wait for requests of ours that broke off."""
        self._processes = processes
        self._ours = ours
        self._model = model
        self._patience_s = patience_s
        self._found: Mapping[str, LlamaProcess] = {}
        self._accounts: dict[str, Account] = {}
        self._opening = Stock()
        """What is known of the beginning of a process that is found inside the window."""
        self._swaps = 0
        self._notes: list[str] = []

    async def open(self) -> None:
        """Take stock of every process."""
        try:
            self._found = await self._processes.find(self._model)
        except CannotTell as note:
            self._notes.append(str(note))
            return
        for name, process in self._found.items():
            self._accounts[name] = Account(await self._take_stock(process), self._ours, name)
        self._opening = _NEWBORN

    async def look(self) -> None:
        """One look at the slots of every process, those included that have come since."""
        with suppress(CannotTell):
            self._welcome(await self._processes.find(self._model))
        for name, process in self._found.items():
            with suppress(CannotTell):
                self._accounts[name].see(await process.ask_slots())

    async def close(self, own: OwnTraffic) -> Traffic:
        """Take stock again, and say what was not ours."""
        await self.look()
        traffics = []
        for name, account in self._accounts.items():
            process = self._found.get(name)
            closing = await self._take_stock(process) if process else _GONE
            traffic = account.close(closing, own if name == self._model else OwnTraffic())
            traffics.append(await self._reword(name, traffic))
        whole = add_up(traffics)
        swaps = max(self._swaps, whole.model_swaps)
        return replace(whole, model_swaps=swaps, notes=(*self._notes, *whole.notes))

    async def _take_stock(self, process: LlamaProcess) -> Stock:
        shared = self._ours.shared
        return await process.take_stock(self._ours.seeds, shared_seeds=shared, patience_s=self._patience_s)

    def _welcome(self, found: Mapping[str, LlamaProcess]) -> None:
        if self._model in self._found and self._model not in found:
            self._swaps += 1
        for name in found:
            if name not in self._accounts:
                self._accounts[name] = Account(self._opening, self._ours, name)
                self._notes += [f"{name}: was loaded meanwhile"] if self._opening is _NEWBORN else []
        self._found = found

    async def _reword(self, name: str, traffic: Traffic) -> Traffic:
        """Behind a router a restart of our model's process is a swap, and notes say of which model they are."""
        with suppress(CannotTell):
            if await self._processes.behind_router():
                swaps = traffic.server_restarts if name == self._model else 0
                notes = tuple(f"{name}: {note}" for note in traffic.notes)
                return replace(traffic, server_restarts=0, model_swaps=swaps, notes=notes)
        return traffic


def add_up(traffics: Iterable[Traffic]) -> Traffic:
    """What several processes did in one window; blank where one of them is, or where there is none."""
    several = list(traffics)

    def total(field: str) -> int | None:
        values = [getattr(traffic, field) for traffic in several]
        return sum(values) if values and None not in values else None

    return Traffic(
        in_flight_at_start=total("in_flight_at_start"),
        concurrent_foreign_requests=total("concurrent_foreign_requests"),
        foreign_tokens=total("foreign_tokens"),
        model_swaps=sum(traffic.model_swaps for traffic in several),
        server_restarts=sum(traffic.server_restarts for traffic in several),
        requests=tuple(request for traffic in several for request in traffic.requests)[:SHOWN],
        notes=tuple(note for traffic in several for note in traffic.notes),
    )
