"""A model's own server behind llama-swap, and llama-swap's limit of requests."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

import httpx

from pytest_boobench.metrics import Sample
from pytest_boobench.servers.clients import DEFAULT_WAIT_S, Clients, ServerAnswer, Waiting, read_retry_after
from pytest_boobench.servers.control import Question, StillLoading, Unanswered, ask, telling
from pytest_boobench.servers.llama_server import LlamaServer
from pytest_boobench.suite.cell import Cell
from pytest_boobench.units import span
from pytest_boobench.untrusted import to_object, to_objects

_MOST_WAIT_S = 60.0
"""How long to repeat a control request after a 429."""


@dataclass(slots=True)
class Door:
    """Repeats measured requests that exceed the host's limit, and knows how many were admitted at once."""

    _stays: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """Model -> begin and end of each admitted request, monotonic nanoseconds."""

    async def send(self, attempt: Callable[[], Awaitable[ServerAnswer]], cell: Cell) -> ServerAnswer:
        """Return the first answer that is not a 429, or the last 429 when the request's time is up.

        Each try is a request with its own clock: no sample's times contain the waiting. At a rate there is one try:
        who is turned away has no answer.
        """
        began = time.monotonic()
        turned_away = 0
        while True:
            answer = await attempt()
            wait_s = DEFAULT_WAIT_S if answer.retry_after_s is None else answer.retry_after_s
            refused = answer.status == httpx.codes.TOO_MANY_REQUESTS
            if not refused or cell.planned or time.monotonic() - began + wait_s > cell.plan.timeouts.request_s:
                break
            turned_away += 1
            await asyncio.sleep(wait_s)
        if answer.exchange is not None and not refused:
            stay = (answer.exchange.sent_ns, answer.exchange.end_ns)
            self._stays.setdefault(cell.model, []).append(stay)
        return replace(answer, turned_away=turned_away)

    def check(self, sample: Sample, answer: ServerAnswer, cell: Cell) -> Sample:
        """Mark the sample failed if it got a 429 and the host never admitted as many requests as the cell has lanes."""
        refused = answer.turned_away or answer.status == httpx.codes.TOO_MANY_REQUESTS
        turns = [turn for began, ended in self._stays.get(cell.model, ()) for turn in ((began, 1), (ended, -1))]
        at_once = max(itertools.accumulate(step for _, step in sorted(turns)), default=0)
        if not refused or not 0 < at_once < cell.concurrency:
            return sample
        text = (
            f"429: the host lets {at_once} requests for {cell.model} in at once, the cell sends {cell.concurrency}; "
            "raise its concurrencyLimit (10 where its configuration does not say), or lower grid.concurrency"
        )
        return replace(sample, failure="status", failure_text=text)


class Upstream(LlamaServer):
    """A model's llama-server, under ``/upstream/MODEL/``. Every request loads the model and respects the limit."""

    def __init__(
        self, name: str, url: str, clients: Clients, model: str, starting: Callable[[], Awaitable[bool]] | None = None
    ) -> None:
        """``starting`` returns whether llama-swap is starting the model, which does not answer until then."""
        super().__init__(name, url, clients)
        self._model = model
        self._starting = starting
        self._prefix = f"/upstream/{quote(model, safe='/:')}"

    async def find_props(self) -> Mapping[str, Any]:
        """Return the server's ``/props``; empty if it is not a llama-server."""
        props = to_object(await self._find("/props"))
        return props if "default_generation_settings" in props else {}

    async def is_idle(self) -> bool:
        """Whether no slot is at work; False if ``/slots`` does not tell."""
        slots = await self._find("/slots")
        busy = [slot.get("is_processing", slot.get("state")) for slot in to_objects(slots)]  # state before b4027
        return isinstance(slots, list) and None not in busy and not any(busy)

    async def wait_until_ready(self) -> httpx.Response:
        """Return the answer of ``/health``, which llama-swap delays until the model is ready; repeat after a 503."""
        patience = self.clients.patience
        limit_s = patience.explicit_load_s
        health = Question("GET", f"{self._prefix}/health")
        try:
            async with telling(self.clients, self.name), asyncio.timeout(limit_s):
                return await self._admit(health, timeout_s=2 * limit_s, load_s=2 * limit_s)
        except TimeoutError:
            raise StillLoading(
                f"{self.name}: {self._model} is not ready after {span(limit_s)}; "
                f"give it more time with {patience.option}, or see llama-swap's log"
            ) from None

    async def _model_list(self) -> list[Mapping[str, Any]]:
        """Its only model, under llama-swap's name for it."""
        return [{**entry, "id": self._model} for entry in (await super()._model_list())[:1]]

    async def _request(self, question: Question, *, timeout_s: float | None = None) -> httpx.Response:
        """As in OpenAIServer, but wait if somebody else's request made llama-swap swap the model."""
        began = time.monotonic()
        patience = self.clients.patience
        while True:
            try:
                return await self._admit(replace(question, path=self._prefix + question.path), timeout_s=timeout_s)
            except Unanswered as error:
                waited_s = time.monotonic() - began
                if not error.timed_out or waited_s > patience.loading_s:
                    raise
                if self._starting is None or not await self._starting():
                    raise
                patience.tell(Waiting(self.name, "loading", waited_s))

    async def _admit(
        self, question: Question, *, timeout_s: float | None = None, load_s: float | None = None
    ) -> httpx.Response:
        """Return the answer, once llama-swap admits the request."""
        began = time.monotonic()
        while True:
            response = await ask(self.clients, self.name, question, timeout_s=timeout_s, load_s=load_s)
            wait_s = read_retry_after(response.headers) or DEFAULT_WAIT_S
            refused = response.status_code == httpx.codes.TOO_MANY_REQUESTS
            if not refused or time.monotonic() - began + wait_s > _MOST_WAIT_S:
                return response
            await asyncio.sleep(wait_s)
