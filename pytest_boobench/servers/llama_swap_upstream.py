"""A model's own server behind llama-swap, under ``/upstream/MODEL/``. Whatever is asked of it loads the model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx

from pytest_boobench.errors import HostError
from pytest_boobench.servers.admission import DEFAULT_WAIT_S
from pytest_boobench.servers.clients import Clients, read_retry_after
from pytest_boobench.servers.llama_server import LlamaServer

_MOST_WAIT_S = 60.0
"""How long a control request waits to be let in."""


class Upstream(LlamaServer):
    """The llama-server of one model; what is in the way of llama-swap's own limit waits as it is told."""

    def __init__(self, name: str, url: str, clients: Clients, model: str) -> None:
        super().__init__(name, url, clients)
        self._model = model
        self._prefix = f"/upstream/{quote(model, safe='/:')}"

    async def find_props(self) -> Mapping[str, Any]:
        """The server's ``/props``; empty where it is no llama-server."""
        props = await self._find("/props")
        return props if isinstance(props, dict) and "default_generation_settings" in props else {}

    async def is_idle(self) -> bool:
        """Whether its ``/slots`` say that it works on nothing; False where it does not tell."""
        slots = await self._find("/slots")
        return isinstance(slots, list) and not any(slot.get("is_processing") for slot in slots)

    async def wait_until_ready(self, timeout_s: float) -> httpx.Response:
        """The answer to ``/health``, which llama-swap holds back until the model is ready; a 503 is asked again."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    response = await self._request("GET", "/health", timeout_s=2 * timeout_s)
                    if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                        return response
                    await asyncio.sleep(DEFAULT_WAIT_S)
        except TimeoutError:
            raise HostError(
                f"{self.name}: {self._model} is not ready after {timeout_s:g} s; see llama-swap's log"
            ) from None

    async def _model_list(self) -> list[dict[str, Any]]:
        """Its only model, under the name that llama-swap has for it."""
        return [{**entry, "id": self._model} for entry in (await super()._model_list())[:1]]

    async def _request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> httpx.Response:
        began = time.monotonic()
        while True:
            response = await super()._request(method, self._prefix + path, body, timeout_s=timeout_s)
            wait_s = read_retry_after(response.headers) or DEFAULT_WAIT_S
            refused = response.status_code == httpx.codes.TOO_MANY_REQUESTS
            if not refused or time.monotonic() - began + wait_s > _MOST_WAIT_S:
                return response
            await asyncio.sleep(wait_s)
