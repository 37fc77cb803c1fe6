"""Which kind of server a host is: as its entry says, or found out by asking it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version

import httpx

from pytest_boobench import wire
from pytest_boobench.errors import HostError
from pytest_boobench.facts import ServerFacts
from pytest_boobench.servers.clients import Clients
from pytest_boobench.servers.interface import Server
from pytest_boobench.servers.llama_server import LlamaServer
from pytest_boobench.servers.openai import OpenAIServer


class EmbeddedLlamaServer(LlamaServer):
    """The package's own llama-server, named apart so that records say so."""

    kind = "embedded"

    async def facts(self) -> ServerFacts:
        """Its build is xllamacpp's version: the wheel says "unknown" for llama.cpp's own."""
        return replace(await super().facts(), engine_build=f"xllamacpp {version('xllamacpp')}")


KINDS: Mapping[str, type[OpenAIServer]] = {kind.kind: kind for kind in (EmbeddedLlamaServer, LlamaServer, OpenAIServer)}


async def connect(name: str, url: str, clients: Clients, kind: str | None) -> Server:
    """The host's server, behind the interface. Raises HostError where nothing answers."""
    if kind is None:
        kind = await _recognise(name, url, clients)
    return KINDS.get(kind, OpenAIServer)(name, url, clients)


async def _recognise(name: str, url: str, clients: Clients) -> str:
    """llama-server is known by its ``/props``; what has none is taken as any OpenAI-compatible server."""
    try:
        response = await clients.control.get("/props")
    except httpx.TransportError as error:
        raise HostError(f"{name}: no answer from {url}: {wire.failure_of(error).text}") from error
    if response.status_code != httpx.codes.OK:
        return OpenAIServer.kind
    try:
        return LlamaServer.kind if "default_generation_settings" in response.json() else OpenAIServer.kind
    except ValueError:
        return OpenAIServer.kind
