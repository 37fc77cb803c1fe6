"""Which kind of server a host is: from the hosts file, or detected by its pages. Detection never loads a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import httpx

from pytest_boobench.errors import HostError
from pytest_boobench.facts import ServerFacts
from pytest_boobench.servers.clients import Clients, Server
from pytest_boobench.servers.control import Question, StillLoading, Unanswered, ask
from pytest_boobench.servers.llama_server import LlamaRouter, LlamaServer
from pytest_boobench.servers.llama_swap import LlamaSwap
from pytest_boobench.servers.ollama import Ollama
from pytest_boobench.servers.openai import PATHS, OpenAIServer
from pytest_boobench.servers.refusals import KEY_WANTED, explain_key
from pytest_boobench.servers.vllm_lmstudio import LmStudio, Vllm
from pytest_boobench.untrusted import Fault, parse_json, to_object, to_objects


class EmbeddedLlamaServer(LlamaServer):
    """The llama-server that we start ourselves; a class of its own, so that records name it."""

    kind = "embedded"

    async def facts(self) -> ServerFacts:
        """Return xllamacpp's version as the build: the wheel says "unknown" for llama.cpp's own."""
        return replace(await super().facts(), engine_build=f"xllamacpp {version('xllamacpp')}")


KINDS: Mapping[str, type[OpenAIServer]] = {
    kind.kind: kind
    for kind in (EmbeddedLlamaServer, LlamaServer, LlamaRouter, LlamaSwap, Vllm, Ollama, LmStudio, OpenAIServer)
}


async def connect(name: str, url: str, clients: Clients, kind: str | None) -> Server:
    """Return the host's server, after waiting for one that loads its model. ``kind`` None: detect it.

    Raises HostError in detection if nothing answers or a key is missing. A router named as llama-server becomes one.
    """
    pages = _Pages(name, clients)
    if kind is None:
        kind = await _recognise(pages)
    elif kind == LlamaServer.kind:
        try:
            kind = LlamaRouter.kind if await _is_router(pages) else kind
        except HostError as error:
            if isinstance(error, StillLoading) or clients.patience.refused_s:
                raise  # we waited already; otherwise its first request reports that it is dead
    return KINDS.get(kind, OpenAIServer)(name, url, clients)


class _Pages:
    """A host's answers to GETs, each requested once; a page that needs a key may not exist."""

    def __init__(self, name: str, clients: Clients) -> None:
        self._name, self._clients = name, clients
        self._known: dict[str, Any] = {}
        self._locked: dict[str, httpx.Response] = {}
        """Pages that need a key, or another key."""

    async def get(self, path: str) -> Any:
        """Return JSON, or text, or None if the status is not 200. Raises HostError if nothing ever answered."""
        if path not in self._known:
            self._known[path] = await self._ask(path)
        return self._known[path]

    async def get_object(self, path: str) -> Mapping[str, Any]:
        """Return a page's JSON object; empty if it is something else."""
        return to_object(await self.get(path))

    async def get_list(self, path: str) -> list[Mapping[str, Any]]:
        """Return the objects in a page's list of models."""
        return to_objects((await self.get_object(path)).get("data"))

    async def require_open(self) -> None:
        """Raise HostError if a page needs a key because the whole host does.

        A locked list of models shows it. If only other pages are locked, an empty chat request decides: llama.cpp lists
        its models without a key, and some gateways answer 401 or 403 to every unknown path.
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
        """Whether the answer to an empty request shows that our key is right, or that none is needed."""
        has_key = "authorization" in locked.request.headers
        if not has_key and locked.status_code == httpx.codes.UNAUTHORIZED:
            return False
        try:
            response = await ask(self._clients, self._name, Question("POST", PATHS["chat"], {}))
        except Unanswered:
            return has_key
        return response.status_code not in KEY_WANTED and (has_key or response.status_code != httpx.codes.NOT_FOUND)

    async def _ask(self, path: str) -> Any:
        try:
            response = await ask(self._clients, self._name, Question("GET", path))
        except Unanswered as error:
            if self._known and not (error.bad_answer or error.timed_out):
                return None
            if self._known or error.bad_answer:
                raise
            raise HostError(f"{self._name}: {error.why}") from error
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


async def _is_router(pages: _Pages) -> bool:
    return (await pages.get_object("/props")).get("role") == "router"


async def _recognise(pages: _Pages) -> str:  # noqa: PLR0911  # one for each kind
    """Return the kind whose pages exist; else any OpenAI-compatible server."""
    if "build_date" in await pages.get_object("/api/version"):  # which Ollama's version lacks
        return LlamaSwap.kind
    owners = [entry.get("owned_by") for entry in await pages.get_list("/v1/models")]
    if "llama-swap" in owners:  # before v173
        return LlamaSwap.kind
    if await _is_router(pages):
        return LlamaRouter.kind
    if "default_generation_settings" in await pages.get_object("/props"):
        return LlamaServer.kind
    # a proxy may list vLLM's models without its other endpoints
    if "vllm" in owners and "version" in await pages.get_object("/version"):
        return Vllm.kind
    page = await pages.get("/")
    if isinstance(page, str) and page.strip() == "Ollama is running":
        return Ollama.kind
    entries = await pages.get_list("/api/v0/models")
    if any(entry.get("state") in ("loaded", "not-loaded") for entry in entries):
        return LmStudio.kind
    await pages.require_open()
    return OpenAIServer.kind
