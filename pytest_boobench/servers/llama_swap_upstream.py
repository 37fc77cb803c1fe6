"""A model's own server behind llama-swap, under ``/upstream/MODEL/``. Whatever is asked of it loads the model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote

import httpx

from pytest_boobench.errors import HostError
from pytest_boobench.servers.clients import DEFAULT_WAIT_S, Clients, Waiting, read_retry_after
from pytest_boobench.servers.control import Question, StillLoading, ask, explain_failure, telling
from pytest_boobench.servers.llama_server import LlamaServer
from pytest_boobench.units import span
from pytest_boobench.untrusted import to_object, to_objects

_MOST_WAIT_S = 60.0
"""How long a control request waits to be let in."""


class Upstream(LlamaServer):
    """The llama-server of one model; what is in the way of llama-swap's own limit waits as it is told."""

    def __init__(
        self, name: str, url: str, clients: Clients, model: str, starting: Callable[[], Awaitable[bool]] | None = None
    ) -> None:
        """``starting`` tells whether llama-swap is about to start the model: then it holds answers back, in silence."""
        super().__init__(name, url, clients)
        self._model = model
        self._starting = starting
        self._prefix = f"/upstream/{quote(model, safe='/:')}"

    async def find_props(self) -> Mapping[str, Any]:
        """The server's ``/props``; empty where it is no llama-server."""
        props = to_object(await self._find("/props"))
        return props if "default_generation_settings" in props else {}

    async def is_idle(self) -> bool:
        """Whether its ``/slots`` say that it works on nothing; False where it does not tell."""
        slots = await self._find("/slots")
        busy = [slot.get("is_processing", slot.get("state")) for slot in to_objects(slots)]  # state before b4027
        return isinstance(slots, list) and None not in busy and not any(busy)

    async def wait_until_ready(self) -> httpx.Response:
        """The answer to ``/health``, which llama-swap holds back until the model is ready; a 503 is asked again."""
        patience = self._clients.patience
        limit_s = patience.explicit_load_s
        health = Question("GET", f"{self._prefix}/health")
        try:
            async with telling(self._clients, self.name), asyncio.timeout(limit_s):
                return await self._admit(health, timeout_s=2 * limit_s, load_s=2 * limit_s)
        except TimeoutError:
            raise StillLoading(
                f"{self.name}: {self._model} is not ready after {span(limit_s)}; "
                f"give it more time with {patience.option}, or see llama-swap's log"
            ) from None

    async def _model_list(self) -> list[Mapping[str, Any]]:
        """Its only model, under the name that llama-swap has for it."""
        return [{**entry, "id": self._model} for entry in (await super()._model_list())[:1]]

    async def _request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> httpx.Response:
        """As any; where another one's swap began meanwhile, the model is waited for."""
        began = time.monotonic()
        patience = self._clients.patience
        question = Question(method, self._prefix + path, body)
        while True:
            try:
                return await self._admit(question, timeout_s=timeout_s)
            except _Silence as silence:
                waited_s = time.monotonic() - began
                if waited_s > patience.loading_s or self._starting is None or not await self._starting():
                    raise HostError(str(silence)) from silence
                patience.tell(Waiting(self.name, "loading", waited_s))

    async def _admit(
        self, question: Question, *, timeout_s: float | None = None, load_s: float | None = None
    ) -> httpx.Response:
        """The answer, once llama-swap lets the request in."""
        began = time.monotonic()
        while True:
            try:
                response = await ask(self._clients, self.name, question, timeout_s=timeout_s, load_s=load_s)
            except httpx.TransportError as error:
                kind = _Silence if isinstance(error, httpx.ReadTimeout) else HostError
                raise kind(f"{self.name}: {question}: {explain_failure(error, self.url)}") from error
            wait_s = read_retry_after(response.headers) or DEFAULT_WAIT_S
            refused = response.status_code == httpx.codes.TOO_MANY_REQUESTS
            if not refused or time.monotonic() - began + wait_s > _MOST_WAIT_S:
                return response
            await asyncio.sleep(wait_s)


class _Silence(HostError):  # noqa: N818  # what the host does
    """No answer in time: the model's server hangs, or is being started."""
