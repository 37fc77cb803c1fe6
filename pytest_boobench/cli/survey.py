"""Door 2: what a host says of itself now. It waits for a model that is being loaded, starts and loads nothing."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from importlib.metadata import version
from typing import Literal

from pytest_boobench.errors import BoobenchError, MissingExtra
from pytest_boobench.hosts import embedded
from pytest_boobench.hosts.connection import open_host, require_direct
from pytest_boobench.hosts.inventory import EMBEDDED, Host
from pytest_boobench.hosts.watching.choose import choose
from pytest_boobench.servers.clients import Clients
from pytest_boobench.servers.connect import KINDS, connect
from pytest_boobench.servers.interface import Capabilities, Server
from pytest_boobench.servers.llama_router import LlamaRouter
from pytest_boobench.servers.llama_server import LlamaServer
from pytest_boobench.servers.openai import OpenAIServer
from pytest_boobench.servers.patience import NONE, Patience
from pytest_boobench.untrusted import clean

Use = Literal["quiet", "busy", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReport:
    """One host as it is now; blanks are what it does not say."""

    name: str
    url: str | None = None
    reachable: bool = False
    """Whether it answers us as a server of its kind."""
    error: str | None = None
    """Why it does not."""
    kind: str | None = None
    version: str | None = None
    models: tuple[tuple[str, str], ...] = ()
    """Name and state of each: ``ready``, ``not loaded``, ``unknown``; ``on demand`` for the embedded host."""
    left_out: int = 0
    """Models whose names cannot be shown."""
    capabilities: tuple[str, ...] = ()
    use: Use | None = None
    requests: tuple[str, ...] = ()
    """What is in flight, a line each."""


async def survey(hosts: Iterable[Host], patience: Patience = NONE) -> list[HostReport]:
    """A report for each host, in the same order; they are asked at the same time."""
    return list(await asyncio.gather(*(_look_at(host, patience) for host in hosts)))


async def _look_at(host: Host, patience: Patience) -> HostReport:
    if host.embedded is not None:
        return _describe_embedded(host)
    try:
        clients = open_host(host, host.base_url, patience=patience)
    except BoobenchError as error:
        return HostReport(name=host.name, url=host.base_url, kind=host.server, error=str(error))
    try:
        await require_direct(host)
        return await _ask(host, await connect(host.name, host.base_url, clients, host.server))
    except BoobenchError as error:
        text = f"{error}{await _correct_kind(host, clients)}"
        return HostReport(name=host.name, url=host.base_url, kind=host.server, error=text)
    finally:
        await clients.close()


async def _correct_kind(host: Host, clients: Clients) -> str:
    """Where the hosts file calls it another kind of server than it is: what it is; else empty."""
    if host.server is None:
        return ""
    clients.patience = NONE
    try:
        kind = (await connect(host.name, host.base_url, clients, None)).kind
    except BoobenchError:
        return ""
    same = {kind, host.server} <= {LlamaServer.kind, LlamaRouter.kind}
    return (
        ""
        if same or kind in (host.server, OpenAIServer.kind)
        else f"; it answers as {kind}: mend server in the hosts file"
    )


async def _ask(host: Host, server: Server) -> HostReport:
    facts = await server.facts()
    names = await server.models()
    ready = await server.ready_models()
    use, requests = await _look_for_others(server, next(iter(ready or names), ""))
    return HostReport(
        name=host.name,
        url=host.base_url,
        reachable=True,
        kind=server.kind,
        version=facts.engine_build,
        models=tuple((clean(name), _state(name, ready)) for name in names),
        left_out=getattr(server, "left_out", 0),
        capabilities=_list_capabilities(server.can),
        use=use,
        requests=requests,
    )


async def _look_for_others(server: Server, model: str) -> tuple[Use, tuple[str, ...]]:
    """What is in flight on the whole host; ``model`` is one of its, loaded if any is."""
    watcher = choose(server, model)
    try:
        sighting = await watcher.look()
    finally:
        await watcher.close()
    if not sighting.known:
        return "unknown", ()
    return ("busy" if sighting.in_flight else "quiet"), tuple(map(str, sighting.in_flight))


def _state(name: str, ready: Sequence[str] | None) -> str:
    if ready is None:
        return "unknown"
    return "ready" if name in ready else "not loaded"


def _list_capabilities(can: Capabilities) -> tuple[str, ...]:
    return tuple(field.name for field in fields(can) if getattr(can, field.name))


def _describe_embedded(host: Host) -> HostReport:
    """Told without starting it."""
    if importlib.util.find_spec("xllamacpp") is None:
        return HostReport(name=host.name, kind=EMBEDDED, error=str(MissingExtra("the embedded host", "embedded")))
    return HostReport(
        name=host.name,
        reachable=True,
        kind=EMBEDDED,
        version=f"xllamacpp {version('xllamacpp')}",
        models=tuple((model, "on demand") for model in embedded.MODELS),
        capabilities=_list_capabilities(KINDS[EMBEDDED].can),
        use="quiet",
    )
