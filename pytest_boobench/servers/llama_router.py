"""llama-server in router mode: one address before several models, each with a llama-server of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import httpx

from pytest_boobench.errors import HostError
from pytest_boobench.facts import ModelFacts, ServerFacts
from pytest_boobench.servers.clients import Clients
from pytest_boobench.servers.interface import Call, Capabilities, Prompt
from pytest_boobench.servers.llama_server import LlamaServer
from pytest_boobench.servers.openai import LOAD_TIMEOUT_S, OpenAIServer
from pytest_boobench.suite.cell import Cell

_POLL_S = 0.1


class LlamaRouter(LlamaServer):
    """The router. What is asked of one model goes to that model's own server, and never loads it by the way."""

    kind = "llama-router"
    can = Capabilities(server_timings=True, exact_tokens=True, cache_control=True, ignore_eos=True, load=True)

    async def facts(self) -> ServerFacts:
        """``/props``: build, and how many models it keeps loaded."""
        props = await self._props()
        keep = ("role", "max_instances", "models_autoload")
        return ServerFacts(
            kind=self.kind,
            url=self.url,
            engine_build=props.get("build_info"),
            extra={key: props[key] for key in keep if key in props},
        )

    async def ready_models(self) -> Sequence[str] | None:
        """Those whose status is ``loaded``, under all their names; a sleeping one has let go of its weights."""
        loaded = (entry for entry in await self._model_list() if _status(entry).get("value") == "loaded")
        return [name for entry in loaded for name in _names(entry)]

    async def model_facts(self, model: str) -> ModelFacts:
        """All that a loaded model's server tells, little of one that is not loaded."""
        if _status(await self._entry(model)).get("value") != "loaded":
            return await OpenAIServer.model_facts(self, model)
        return await self._server_of(model).model_facts(model)

    async def load(self, model: str) -> float | None:
        """By ``/models/load``; a sleeping model is woken. Seen every 100 ms."""
        state = _status(await self._entry(model)).get("value")
        if state == "loaded":
            return None
        began = time.monotonic()
        if state == "sleeping":
            await self._ask("POST", "/tokenize", {"model": model, "content": "a"}, timeout_s=LOAD_TIMEOUT_S)
        elif state != "loading":
            await self._ask("POST", "/models/load", {"model": model})
        while (status := _status(await self._entry(model))).get("value") != "loaded":
            if status.get("failed"):
                raise HostError(
                    f"{self.name}: {model} does not load: its server ended with exit code {status.get('exit_code')}; "
                    "see the router's log"
                )
            if time.monotonic() - began > LOAD_TIMEOUT_S:
                raise HostError(f"{self.name}: {model} is not loaded after {LOAD_TIMEOUT_S:g} s; see the router's log")
            await asyncio.sleep(_POLL_S)
        return (time.monotonic() - began) * 1000

    async def unload(self, model: str) -> None:
        """By ``/models/unload``."""
        await self._ask("POST", "/models/unload", {"model": model}, timeout_s=LOAD_TIMEOUT_S)

    async def make_prompts(self, cell: Cell, nonces: Sequence[str]) -> Sequence[Prompt]:
        """Counted by the model's own tokenizer."""
        return await self._server_of(cell.model).make_prompts(cell, nonces)

    def call(self, cell: Cell, prompt: Prompt) -> Call:
        """As any; a model that was pushed out meanwhile is a failed request, and no load time in a sample."""
        call = super().call(cell, prompt)
        return replace(call, path=f"{call.path}?autoload=false")

    def _server_of(self, model: str) -> LlamaServer:
        return _OneModel(self.name, self.url, self._clients, model)

    async def _entry(self, model: str) -> dict[str, Any]:
        return next((entry for entry in await self._model_list() if model in _names(entry)), {})


class _OneModel(LlamaServer):
    """A router's model as a llama-server: each control request says which one is meant, and that it is not to load."""

    def __init__(self, name: str, url: str, clients: Clients, model: str) -> None:
        super().__init__(name, url, clients)
        self._model = model

    async def _ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> httpx.Response:
        query = f"?model={quote(self._model, safe='')}&autoload=false"
        named = body if body is None else {**body, "model": self._model}
        return await super()._ask(method, path + query, named, timeout_s=timeout_s)


def _status(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a model's entry says of its state; empty where it says nothing."""
    status = entry.get("status")
    return status if isinstance(status, Mapping) else {}


def _names(entry: Mapping[str, Any]) -> tuple[str, ...]:
    return (entry["id"], *(entry.get("aliases") or ()))
