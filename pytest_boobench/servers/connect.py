"""Which kind of server a host is: as its entry says, or found out by asking it. Asking never loads a model."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import httpx

from pytest_boobench import wire
from pytest_boobench.errors import HostError
from pytest_boobench.facts import ServerFacts
from pytest_boobench.servers.clients import Clients
from pytest_boobench.servers.control import Question, StillLoading, ask, explain_failure
from pytest_boobench.servers.interface import Server
from pytest_boobench.servers.llama_server import LlamaRouter, LlamaServer
from pytest_boobench.servers.llama_swap import LlamaSwap
from pytest_boobench.servers.lmstudio import LmStudio
from pytest_boobench.servers.ollama import Ollama
from pytest_boobench.servers.openai import PATHS, OpenAIServer
from pytest_boobench.servers.refusals import KEY_WANTED, explain_key
from pytest_boobench.servers.vllm import Vllm
from pytest_boobench.untrusted import Fault, parse_json, to_object, to_objects


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
    """The host's server, behind the interface. Waits for one that loads its model. Raises HostError where nothing
    answers and its kind is to be found, and where it wants a key.

    A llama-server that turns out to be a router is taken as one.
    """
    pages = _Pages(name, url, clients)
    if kind is None:
        kind = await _recognise(pages)
    elif kind == LlamaServer.kind and await _is_router_if_alive(pages, clients):
        kind = LlamaRouter.kind
    return KINDS.get(kind, OpenAIServer)(name, url, clients)


class _Pages:
    """What a host answers to GETs, each asked for once; a page that wants a key may be one that it does not have."""

    def __init__(self, name: str, url: str, clients: Clients) -> None:
        self._name, self._url, self._clients = name, url, clients
        self._known: dict[str, Any] = {}
        self._locked: dict[str, httpx.Response] = {}
        """Pages that want a key, or another one."""

    async def get(self, path: str) -> Any:
        """JSON, or text where it is none, or None where it is no 200. HostError where nothing ever answered."""
        if path not in self._known:
            self._known[path] = await self._ask(path)
        return self._known[path]

    async def get_object(self, path: str) -> Mapping[str, Any]:
        """A JSON object, empty where it is none."""
        return to_object(await self.get(path))

    async def get_list(self, path: str) -> list[Mapping[str, Any]]:
        """The objects of a list of models."""
        return to_objects((await self.get_object(path)).get("data"))

    async def require_open(self) -> None:
        """HostError where a page wants a key because the whole host does.

        llama.cpp lists its models to anybody. So a list of models proves no key; and there are gateways that answer
        401 or 403 to every path that they do not know. What is measured decides where it can be asked for nothing.
        """
        if not self._locked:
            return
        path, response = next(iter(self._locked.items()))
        if "/v1/models" in self._locked:
            path, response = "/v1/models", self._locked["/v1/models"]
        elif await self._is_open(response):
            return
        raise HostError(f"{self._name}: GET {path}: {explain_key(response)}")

    async def _is_open(self, locked: httpx.Response) -> bool:
        """Whether our key is right for requests, or none is needed, for all that the answer to an empty one tells."""
        has_key = "authorization" in locked.request.headers
        if not has_key and locked.status_code == httpx.codes.UNAUTHORIZED:
            return False
        try:
            response = await ask(self._clients, self._name, Question("POST", PATHS["chat"], {}))
        except httpx.TransportError:
            return has_key
        return response.status_code not in KEY_WANTED and (has_key or response.status_code != httpx.codes.NOT_FOUND)

    async def _ask(self, path: str) -> Any:
        try:
            response = await ask(self._clients, self._name, Question("GET", path))
        except (wire.BadAnswer, httpx.ReadTimeout) as error:
            where = f"{self._name}: GET {path}" if self._known or isinstance(error, wire.BadAnswer) else self._name
            raise HostError(f"{where}: {explain_failure(error, self._url)}") from error
        except httpx.TransportError as error:
            if self._known:
                return None
            raise HostError(f"{self._name}: {explain_failure(error, self._url)}") from error
        if response.status_code in KEY_WANTED:
            self._locked[path] = response
        if response.status_code != httpx.codes.OK:
            return None
        try:
            return parse_json(response.content)
        except Fault as fault:
            if not str(fault).startswith("is not JSON"):
                raise HostError(f"{self._name}: GET {path}: the answer {fault}") from fault
            return response.content.decode("utf-8", "replace")


async def _is_llama_swap(pages: _Pages) -> bool:
    """By its version's build date, which Ollama's lacks; before v173 by its list of models."""
    if "build_date" in await pages.get_object("/api/version"):
        return True
    return any(entry.get("owned_by") == "llama-swap" for entry in await pages.get_list("/v1/models"))


async def _is_router(pages: _Pages) -> bool:
    return (await pages.get_object("/props")).get("role") == "router"


async def _is_router_if_alive(pages: _Pages, clients: Clients) -> bool:
    try:
        return await _is_router(pages)
    except StillLoading:
        raise
    except HostError:
        if clients.patience.refused_s:
            raise  # it was waited for
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
    return any(entry.get("state") in ("loaded", "not-loaded") for entry in listed)


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
    await pages.require_open()
    return OpenAIServer.kind
