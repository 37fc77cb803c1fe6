"""Door 3: one exchange with a model, by the wire and the clocks of a measurement, and never beside one.

All exchanges run in one thread with an event loop of its own: starting a server may take seconds.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from pytest_boobench import wire
from pytest_boobench.documents.yaml_tree import suggest
from pytest_boobench.environment import FOLDER, read_environment
from pytest_boobench.errors import HostError
from pytest_boobench.hosts.access import Grant, Hosts, Wanted
from pytest_boobench.hosts.inventory import Host, Inventory
from pytest_boobench.hosts.quiet import Manners
from pytest_boobench.metrics import Sample
from pytest_boobench.page.desk import Desk
from pytest_boobench.page.host_states import HostStates
from pytest_boobench.page.live_text import LiveText
from pytest_boobench.servers.clients import Call, Patience, Prompt, Server, ServerAnswer
from pytest_boobench.suite.cell import Cell, Plan

Tell = Callable[[str, Mapping[str, Any]], None]
"""Takes an event's kind and its data."""
T = TypeVar("T")
_TOGETHER_S = 0.02
"""Pieces of text that come this close are sent as one."""
_LIVE_EVERY_S = 0.25
_LOOK_EVERY_S = 0.5
_LEASE_EVERY_S = 20.0
_IDLE_S = 300.0
"""After which a server that was started for exchanges ends."""
_ONE_TOKEN_AN_EVENT = ("embedded", "llama-server", "llama-router", "llama-swap")


class UsedByRun(Exception):  # noqa: N818  # an answer to the user
    """A measurement uses the host."""

    def __init__(self, host: str, who: Sequence[str]) -> None:
        super().__init__(f"{host}: {', '.join(who)} measures there; wait for its end")
        self.who = tuple(who)


@dataclass(frozen=True, slots=True, kw_only=True)
class TalkRequest:
    """What is sent, and where."""

    host: str
    model: str
    messages: tuple[Mapping[str, Any], ...]
    """With the system prompt as the first."""
    sampling: Mapping[str, Any]
    max_tokens: int

    def make_cell(self) -> Cell:
        """As a cell: one lane, an answer as long as the model likes, and what is cached may be used."""
        return Cell(
            suite="page",
            host=self.host,
            model=self.model,
            kind="chat",
            output_tokens=self.max_tokens,
            concurrency=1,
            sampling=self.sampling,
            cache="warm",
            length="natural",
            plan=Plan(),
            id="try",
            line=1,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Talked:
    """An exchange that is over."""

    sample: Sample
    call: Call
    url: str


def read_sample(server: Server, answer: ServerAnswer, cell: Cell) -> Sample:
    """The sample of an answer, as a measurement reads it."""
    blank = Sample(phase="measure", lane=0, index=0, started_at=answer.sent_at, offset_ms=0.0)
    return server.read(blank, answer, cell)


async def converse(grant: Grant, request: TalkRequest, tell: Tell) -> Talked:
    """Send the messages, tell the text while it comes, and read the sample when it is complete."""
    server, cell = grant.server, request.make_cell()
    listed = await server.models()
    if listed and request.model not in listed and grant.listed_as is None:
        raise HostError(f"{request.host}: no model {request.model!r} there; {suggest(request.model, listed)}")
    cell = replace(cell, model=grant.listed_as or cell.model)
    if cell.model not in (await server.ready_models() or ()):
        tell("waiting", {"why": f"{request.host}: {request.model} is being loaded"})
    await server.load(cell.model)
    call = server.call(cell, Prompt(messages=request.messages))
    tell("start", {"model": request.model, "host": request.host})
    loop = asyncio.get_running_loop()
    parts: asyncio.Queue[tuple[bytes, float] | None] = asyncio.Queue()

    def observe(part: bytes, read_ns: int, sent_ns: int) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            loop.call_soon_threadsafe(parts.put_nowait, (part, (read_ns - sent_ns) / 1e6))

    showing = asyncio.create_task(_show(parts, tell, exact=server.kind in _ONE_TOKEN_AN_EVENT))
    token = wire.OBSERVER.set(observe)
    try:
        answer = await server.send(call, cell)
        parts.put_nowait(None)
        await showing
    finally:
        wire.OBSERVER.reset(token)
        showing.cancel()
    return Talked(sample=read_sample(server, answer, cell), call=call, url=server.url)


async def _show(parts: asyncio.Queue[tuple[bytes, float] | None], tell: Tell, *, exact: bool) -> None:
    """Tell the texts in these bytes, and how fast they come; None is their end."""
    text = LiveText()
    events = counted = 0
    first_ms = told_ms = 0.0
    over = False
    while not over:
        waiting = [await parts.get()]
        await asyncio.sleep(_TOGETHER_S)
        while not parts.empty():
            waiting.append(parts.get_nowait())
        over = None in waiting
        deltas: list[dict[str, Any]] = []
        for part, at_ms in filter(None, waiting):
            for piece in text.feed(part):
                first_ms = first_ms or at_ms
                events, counted = events + 1, piece.tokens or counted
                if deltas and deltas[-1]["reasoning"] == piece.reasoning:
                    deltas[-1]["text"] += piece.text
                else:
                    deltas.append({"text": piece.text, "reasoning": piece.reasoning, "at_ms": at_ms})
                last_ms = at_ms
        for delta in deltas:
            tell("delta", delta)
        if deltas and last_ms - told_ms >= _LIVE_EVERY_S * 1000:
            told_ms, took_s = last_ms, (last_ms - first_ms) / 1000
            tokens = counted or events
            known = took_s > 0 and (exact or counted)
            tell("live", {"tokens": tokens, "tok_s": (tokens - 1) / took_s if known else None})


@dataclass(eq=False)
class Talker:
    """The thread of the exchanges, and the hosts that they use."""

    desk: Desk
    states: HostStates
    uid: str = field(default_factory=lambda: uuid.uuid4().hex)
    _loop: asyncio.AbstractEventLoop = field(init=False)
    _thread: threading.Thread | None = None
    _hosts: Hosts | None = None
    _machines: dict[str, asyncio.Lock] = field(default_factory=dict)
    _users: int = 0
    _idle: asyncio.TimerHandle | None = None

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run in the thread, which the first exchange starts."""
        if self._thread is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="boobench talk", daemon=True)
            self._thread.start()
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def rest(self) -> None:
        """End the servers that were started for exchanges, unless one goes on."""
        if self._thread is not None:
            await asyncio.wrap_future(self.submit(self._close_hosts()))

    async def close(self) -> None:
        """End all exchanges and the thread."""
        if self._thread is None:
            return
        await asyncio.wrap_future(self.submit(self._cancel_all()))
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join)
        self._loop.close()

    async def _cancel_all(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        self._users = 0
        await self._close_hosts()

    async def _close_hosts(self) -> None:
        if self._hosts is not None and not self._users:
            hosts, self._hosts = self._hosts, None
            await hosts.close()

    @asynccontextmanager
    async def use(self, requests: Sequence[TalkRequest], tell: Tell, *, wait: bool) -> AsyncIterator[list[Grant]]:
        """Grants for the hosts of these requests, all at once. UsedByRun where a measurement uses one of them.

        A measurement that begins meanwhile waits for their end, as for any other session on this machine.
        """
        inventory = await asyncio.to_thread(self.desk.read_inventory)
        hosts = [inventory.get(request.host) for request in requests]
        machines = sorted({host.exclusive: host for host in hosts}.items())
        async with AsyncExitStack() as stack:
            for exclusive, _ in machines:
                lock = self._machines.setdefault(exclusive, asyncio.Lock())
                if lock.locked():
                    tell("waiting", {"why": "another exchange of this page"})
                await stack.enter_async_context(lock)
            for _, host in machines:
                await self._require_free(host, inventory, tell, wait=wait)
            await self._lease(stack, [host for _, host in machines])
            opened = self._open(inventory)
            stack.callback(self._leave)
            grants = []
            for request in requests:
                grant = await opened.grant(request.host, "try", Wanted(request.model, {}))
                stack.callback(grant.release)
                grants.append(grant)
            yield grants

    async def _require_free(self, host: Host, inventory: Inventory, tell: Tell, *, wait: bool) -> None:
        told = False
        while users := self.states.find_users(host, inventory):
            if not wait:
                raise UsedByRun(host.name, users)
            if not told:
                tell("waiting", {"why": f"{', '.join(users)} measures on {host.name}"})
                told = True
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _lease(self, stack: AsyncExitStack, hosts: Sequence[Host]) -> None:
        """Lease the machines in a store that others use too, until the exchange ends."""
        if not self.desk.shared_store:
            return
        around = await asyncio.to_thread(read_environment, self.desk.root)
        owner = f"{around.user or 'somebody'} on {around.machine or 'a machine without a name'}, a page"
        session = uuid.uuid4().hex
        addresses = [(host, address) for host in hosts if (address := host.exclusive_among_machines(around.machine))]

        def take() -> None:
            with self.desk.write_store() as store:
                for host, address in addresses:
                    if (held := store.take_lease(address, owner, session)) is not None:
                        raise UsedByRun(host.name, [held.owner])

        def give_back() -> None:
            with self.desk.write_store() as store:
                store.give_leases_back(session)

        async def renew() -> None:
            while True:
                await asyncio.sleep(_LEASE_EVERY_S)
                await asyncio.to_thread(take)

        if addresses:
            stack.push_async_callback(asyncio.to_thread, give_back)
            await asyncio.to_thread(take)
            stack.callback(asyncio.create_task(renew()).cancel)

    def _open(self, inventory: Inventory) -> Hosts:
        """The hosts, anew where the file has changed and no exchange goes on."""
        if self._idle is not None:
            self._idle.cancel()
        if self._hosts is None or (self._hosts.inventory != inventory and not self._users):
            if self._hosts is not None:
                self._loop.create_task(self._hosts.close())
            self._hosts = Hosts(
                inventory,
                self.uid,
                Manners(quiet_s=0.0, takeover=True),  # beside other people's requests, as any chat is
                patience=Patience(),
                logs=self.desk.root / FOLDER / "logs" / self.uid,
            )
        self._users += 1
        return self._hosts

    def _leave(self) -> None:
        self._users -= 1
        self._idle = self._loop.call_later(_IDLE_S, lambda: self._loop.create_task(self._close_hosts()))
