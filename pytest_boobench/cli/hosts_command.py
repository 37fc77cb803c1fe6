"""Door 2: ``boobench hosts``: which hosts there are, what they run, and whether others use them."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Literal

import click

from pytest_boobench.cli import show_examples
from pytest_boobench.cli.parameters import echo, hosts_option, json_option, load_timeout_option
from pytest_boobench.cli.project import find_project, read_inventory
from pytest_boobench.errors import BoobenchError, HostError, MissingExtra
from pytest_boobench.facts import Sighting
from pytest_boobench.hosts import embedded
from pytest_boobench.hosts.host_fields import EMBEDDED
from pytest_boobench.hosts.inventory import Host, Inventory
from pytest_boobench.hosts.open_host import choose, open_host, require_direct
from pytest_boobench.hosts.start_fields import Start
from pytest_boobench.servers.clients import NONE, Capabilities, Clients, Patience, Server
from pytest_boobench.servers.connect import KINDS, connect
from pytest_boobench.servers.llama_server import LlamaRouter, LlamaServer
from pytest_boobench.servers.openai import OpenAIServer
from pytest_boobench.units import count
from pytest_boobench.untrusted import clean


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReport:
    """One host as it is now; None and empty fields are what it does not tell."""

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
    use: Literal["quiet", "busy", "unknown"] | None = None
    requests: tuple[str, ...] = ()
    """Requests in flight, in words."""


async def ask_hosts_now(hosts: Iterable[Host], patience: Patience = NONE) -> list[HostReport]:
    """A report for each host, in the same order; all are asked at the same time."""
    return list(await asyncio.gather(*(_ask_host(host, patience) for host in hosts)))


async def look_at_traffic(server: Server, model: str) -> Sighting:
    """What is in flight on the whole host; ``model`` is one of its models, a loaded one if there is any."""
    watcher = choose(server, model)
    try:
        return await watcher.look()
    finally:
        await watcher.close()


async def _ask_host(host: Host, patience: Patience) -> HostReport:
    if host.embedded is not None:
        return _describe_embedded(host)
    if host.start is not None:
        return _describe_started(host, host.start)
    about = HostReport(name=host.name, url=host.base_url, kind=host.server)
    try:
        clients = open_host(host, host.base_url, patience=patience)
    except BoobenchError as error:
        return replace(about, error=str(error))
    try:
        await require_direct(host)
        return await _ask_server(about, await connect(host.name, host.base_url, clients, host.server))
    except BoobenchError as error:
        return replace(about, error=f"{error}{await _correct_kind(host, clients)}")
    finally:
        await clients.close()


async def _correct_kind(host: Host, clients: Clients) -> str:
    """The kind of the server, in words, where the hosts file says a wrong one; else empty."""
    if host.server is None:
        return ""
    clients.patience = NONE
    try:
        kind = (await connect(host.name, host.base_url, clients, None)).kind
    except BoobenchError:
        return ""
    same = {kind, host.server} <= {LlamaServer.kind, LlamaRouter.kind}
    if same or kind in (host.server, OpenAIServer.kind):
        return ""
    return f"; it answers as {kind}: mend server in the hosts file"


async def _ask_server(about: HostReport, server: Server) -> HostReport:
    facts = await server.facts()
    names = await server.models()
    ready = await server.ready_models()
    sighting = await look_at_traffic(server, next(iter(ready or names), ""))
    use: Literal["quiet", "busy"] = "busy" if sighting.in_flight else "quiet"
    if ready is None:
        models = [(clean(name), "unknown") for name in names]
    else:
        models = [(clean(name), "ready" if name in ready else "not loaded") for name in names]
    return replace(
        about,
        reachable=True,
        kind=server.kind,
        version=facts.engine_build,
        models=tuple(models),
        left_out=getattr(server, "left_out", 0),
        capabilities=_list_capabilities(server.can),
        use=use if sighting.known else "unknown",
        requests=tuple(map(str, sighting.in_flight)) if sighting.known else (),
    )


def _list_capabilities(can: Capabilities) -> tuple[str, ...]:
    return tuple(field.name for field in fields(can) if getattr(can, field.name))


def _describe_embedded(host: Host) -> HostReport:
    """The embedded host's report, without starting it."""
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


def _describe_started(host: Host, start: Start) -> HostReport:
    """The report of a host that we start by a command, without starting it: that takes a cell's values."""
    return HostReport(
        name=host.name,
        reachable=True,
        kind=host.server,
        models=tuple((model, "started with its cells") for model in start.files),
        capabilities=_list_capabilities(KINDS[host.server].can) if host.server else (),
        use="quiet",
    )


@click.command(
    epilog=show_examples(
        ("boobench hosts", "all of them"),
        ("boobench hosts rack-1", "one; exit code 1 where it is out of reach"),
        ("boobench hosts --json | jq '.hosts[] | select(.use == \"quiet\") | .name'", ""),
    )
)
@click.argument("names", nargs=-1, metavar="[HOST]...")
@hosts_option
@load_timeout_option
@json_option
def command(names: Sequence[str], hosts_file: Path | None, patience: Patience, as_json: bool) -> int:
    """Ask the hosts for their kind, version, models and other users. Nothing is loaded by it; a model that is being
    loaded already is waited for.

    All hosts of the hosts file, or those named. Exit code 1 where one is out of reach.
    """
    inventory = read_inventory(find_project(Path.cwd()), hosts_file)
    reports = asyncio.run(ask_hosts_now(choose_hosts(inventory, names or inventory.names), patience))
    plain = {"hosts": [{**asdict(report), "models": dict(report.models)} for report in reports]}
    echo(plain if as_json else chain.from_iterable(map(_render, reports)))
    # The embedded host is always listed, also for those who never installed it.
    missed = [report for report in reports if not report.reachable and (names or report.kind != EMBEDDED)]
    return 1 if missed else 0


def choose_hosts(inventory: Inventory, names: Sequence[str]) -> list[Host]:
    """The hosts of these names; a usage error where there is none of a name."""
    try:
        return [inventory.get(name) for name in names]
    except HostError as error:
        raise click.UsageError(str(error)) from error


def _render(report: HostReport) -> Iterator[str]:
    yield "  ".join(part for part in (report.name, report.kind, report.version, report.url) if part)
    if not report.reachable:
        yield from (f"  {line}" for line in (report.error or "").removeprefix(f"{report.name}: ").splitlines())
        if report.kind == EMBEDDED:
            yield "  it is there to try things without a server; other hosts do not need it"
        return
    width = max((len(name) for name, _ in report.models), default=0)
    yield from (f"  {name:<{width}}  {state}" for name, state in report.models)
    if report.left_out:
        yield f"  left out: {count(report.left_out, 'model')} whose name holds a control character"
    yield f"  can: {', '.join(name.replace('_', ' ') for name in report.capabilities) or 'the common core'}"
    if report.use == "busy":
        yield f"  busy: {count(len(report.requests), 'request')} in flight"
        yield from (f"    {request}" for request in report.requests)
    else:
        yield "  cannot tell whether others use it" if report.use == "unknown" else "  quiet"
