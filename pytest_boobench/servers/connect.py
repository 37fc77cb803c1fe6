"""Which kind of server a host is: as its entry says, or found out by asking it. Asking never loads a model."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import httpx

from pytest_boobench.errors import HostError
from pytest_boobench.facts import ServerFacts
from pytest_boobench.servers.answers import body_error_text
from pytest_boobench.servers.clients import Clients
from pytest_boobench.servers.interface import Server
from pytest_boobench.servers.llama_router import LlamaRouter
from pytest_boobench.servers.llama_server import LlamaServer
from pytest_boobench.servers.llama_swap import LlamaSwap
from pytest_boobench.servers.lmstudio import LmStudio
from pytest_boobench.servers.ollama import Ollama
from pytest_boobench.servers.openai import OpenAIServer
from pytest_boobench.servers.refusals import explain_silence
from pytest_boobench.servers.vllm import Vllm


class EmbeddedLlamaServer(LlamaServer):
    """The package's own llama-server, named apart so that records say so."""

    kind = "embedded"

    async def facts(self) -> ServerFacts:
        """Its build is xllamacpp's version: the wheel says "unknown" for llama.cpp's own."""
        return replace(await super().facts(), engine_build=f"xllamacpp {version('xllamacpp')}")


KINDS: Mapping[str, type[OpenAIServer]] = {
    kind.kind: kind
    for kind in (EmbeddedLlamaServer, LlamaServer, LlamaRouter, LlamaSwap, Vllm, Ollama, LmStudio, OpenAIServer)
}


async def connect(name: str, url: str, clients: Clients, kind: str | None) -> Server:
    """The host's server, behind the interface. Raises HostError where nothing answers and its kind is to be found.

    A llama-server that turns out to be a router is taken as one.
    """
    pages = _Pages(name, url, clients)
    if kind is None:
        kind = await _recognise(pages)
    elif kind == LlamaServer.kind and await _is_router_if_alive(pages):
        kind = LlamaRouter.kind
    return KINDS.get(kind, OpenAIServer)(name, url, clients)


class _Pages:
    """What a host answers to GETs, each asked for once."""

    def __init__(self, name: str, url: str, clients: Clients) -> None:
        self._name, self._url, self._clients = name, url, clients
        self._known: dict[str, Any] = {}

    async def get(self, path: str) -> Any:
        """JSON, or text where it is none, or None where it is no 200. HostError where nothing ever answered."""
        if path not in self._known:
            self._known[path] = await self._ask(path)
        return self._known[path]

    async def get_object(self, path: str) -> Mapping[str, Any]:
        """A JSON object, empty where it is none."""
        page = await self.get(path)
        return page if isinstance(page, dict) else {}

    async def get_list(self, path: str) -> list[Mapping[str, Any]]:
        """The objects of a list of models."""
        listed = (await self.get_object(path)).get("data")
        return [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []

    async def _ask(self, path: str) -> Any:
        try:
            response = await self._clients.control.get(path)
        except httpx.TransportError as error:
            if self._known:
                return None
            raise HostError(f"{self._name}: no answer from {self._url}: {explain_silence(error)}") from error
        if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            text = body_error_text(response.content)
            raise HostError(f"{self._name}: GET {path}: 503: {text}; try again when it is ready, or name its 'server'")
        if response.status_code != httpx.codes.OK:
            return None
        try:
            return response.json()
        except ValueError:
            return response.text


async def _is_llama_swap(pages: _Pages) -> bool:
    """By its version's build date, which Ollama's lacks; before v173 by its list of models."""
    if "build_date" in await pages.get_object("/api/version"):
        return True
    return any(entry.get("owned_by") == "llama-swap" for entry in await pages.get_list("/v1/models"))


async def _is_router(pages: _Pages) -> bool:
    return (await pages.get_object("/props")).get("role") == "router"


async def _is_router_if_alive(pages: _Pages) -> bool:
    try:
        return await _is_router(pages)
    except HostError:
        return False  # whoever uses it will say that it is dead


async def _is_llama_server(pages: _Pages) -> bool:
    return "default_generation_settings" in await pages.get_object("/props")


async def _is_vllm(pages: _Pages) -> bool:
    """Both, since a proxy may list vLLM's models and has none of its other endpoints."""
    listed = await pages.get_list("/v1/models")
    return any(entry.get("owned_by") == "vllm" for entry in listed) and "version" in await pages.get_object("/version")


async def _is_ollama(pages: _Pages) -> bool:
    page = await pages.get("/")
    return isinstance(page, str) and page.strip() == "Ollama is running"


async def _is_lmstudio(pages: _Pages) -> bool:
    listed = await pages.get_list("/api/v0/models")
    return any(entry.get("state") in {"loaded", "not-loaded"} for entry in listed)


_SIGNS: tuple[tuple[str, Callable[[_Pages], Awaitable[bool]]], ...] = (
    (LlamaSwap.kind, _is_llama_swap),
    (LlamaRouter.kind, _is_router),  # before llama-server, whose sign it shows too
    (LlamaServer.kind, _is_llama_server),
    (Vllm.kind, _is_vllm),
    (Ollama.kind, _is_ollama),
    (LmStudio.kind, _is_lmstudio),
)


async def _recognise(pages: _Pages) -> str:
    """The first kind whose sign is there; what has none is taken as any OpenAI-compatible server."""
    for kind, is_it in _SIGNS:
        if await is_it(pages):
            return kind
    return OpenAIServer.kind
