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
from pytest_boobench.servers.control import StillLoading, list_names, to_plain
from pytest_boobench.servers.interface import Call, Capabilities, Prompt
from pytest_boobench.servers.llama_server import LlamaServer
from pytest_boobench.servers.openai import OpenAIServer
from pytest_boobench.servers.patience import Waiting
from pytest_boobench.suite.cell import Cell
from pytest_boobench.units import span
from pytest_boobench.untrusted import show, to_object, to_text

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
            engine_build=to_text(props.get("build_info")),
            extra={key: to_plain(props[key]) for key in keep if key in props},
        )

    async def ready_models(self) -> Sequence[str] | None:
        """Those whose status is ``loaded``, under all their names; a sleeping one has let go of its weights."""
        loaded = (entry for entry in await self._model_list() if _status(entry).get("value") == "loaded")
        return [name for entry in loaded for name in list_names(entry)]

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
        patience = self._clients.patience
        if state == "sleeping":
            await self._load_by("POST", "/tokenize", {"model": model, "content": "a"})
        elif state != "loading":
            await self._ask("POST", "/models/load", {"model": model})
        while (status := _status(await self._entry(model))).get("value") != "loaded":
            if status.get("failed"):
                code = show(status.get("exit_code"))
                raise HostError(
                    f"{self.name}: {model} does not load: its server ended with exit code {code}; see the router's log"
                )
            waited_s, limit_s = time.monotonic() - began, patience.explicit_load_s
            if waited_s > limit_s:
                raise StillLoading(
                    f"{self.name}: {model} is not loaded after {span(limit_s)}; "
                    f"give it more time with {patience.option}, or see the router's log"
                )
            patience.tell(Waiting(self.name, "loading", waited_s))
            await asyncio.sleep(_POLL_S)
        return (time.monotonic() - began) * 1000

    async def unload(self, model: str) -> None:
        """By ``/models/unload``."""
        limit_s = self._clients.patience.explicit_load_s
        await self._ask("POST", "/models/unload", {"model": model}, timeout_s=limit_s)

    async def make_prompts(self, cell: Cell, nonces: Sequence[str]) -> Sequence[Prompt]:
        """Counted by the model's own tokenizer."""
        return await self._server_of(cell.model).make_prompts(cell, nonces)

    def call(self, cell: Cell, prompt: Prompt) -> Call:
        """As any; a model that was pushed out meanwhile is a failed request, and no load time in a sample."""
        call = super().call(cell, prompt)
        return replace(call, path=f"{call.path}?autoload=false")

    def _server_of(self, model: str) -> LlamaServer:
        return _OneModel(self.name, self.url, self._clients, model)

    async def _entry(self, model: str) -> Mapping[str, Any]:
        return next((entry for entry in await self._model_list() if model in list_names(entry)), {})


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
    return to_object(entry.get("status"))
