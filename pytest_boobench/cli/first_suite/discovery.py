"""Door 2: a server and the models that a first suite is for. Nothing is loaded by looking."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pytest_boobench.cli.first_suite.probe import Speed, probe
from pytest_boobench.documents.node import Node
from pytest_boobench.errors import HostError
from pytest_boobench.facts import ModelFacts
from pytest_boobench.hosts.connection import open_host
from pytest_boobench.hosts.inventory import Host
from pytest_boobench.hosts.watching.choose import WATCHERS
from pytest_boobench.metrics import Kind
from pytest_boobench.servers.connect import connect
from pytest_boobench.servers.control import show_names
from pytest_boobench.servers.interface import Server
from pytest_boobench.servers.patience import Patience
from pytest_boobench.suite.names import node_name
from pytest_boobench.untrusted import hide_secrets

_EMBEDDER = re.compile(r"embed|minilm|(?<![a-z0-9])(bge|gte|e5|labse)(?![a-z])", re.IGNORECASE)
"""How models for embeddings are usually called."""
_NEITHER = re.compile(r"rerank|whisper|(?<![a-z])(tts|flux|sdxl|sd)(?![a-z])|diffusion", re.IGNORECASE)
"""How models are called that neither chat nor embed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A model for a suite."""

    name: str
    kind: Kind
    told: bool
    """Whether the server says what the model is for; else its name was taken for it."""
    ready: bool | None
    """Whether it is loaded; None where the server does not tell."""
    facts: ModelFacts
    others: tuple[str, ...] = ()
    """What else would do."""
    speed: Speed | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """A server as it was found."""

    host: Host
    kind: str
    version: str | None
    models: tuple[str, ...]
    unusable: tuple[str, ...]
    """Models whose names no suite can carry, and those that neither chat nor embed."""
    chosen: tuple[Chosen, ...]
    """One for each kind of request, the embedding model first."""
    fixed_length: bool
    """Whether it can be told to generate all tokens that are asked for."""
    sees_others: bool
    """Whether it can tell of other users."""
    notes: tuple[str, ...] = ()
    """What could not be measured, and why."""


async def discover(host: Host, *, measure: bool, patience: Patience | None = None) -> Discovery:
    """Ask the host's server what it is and has. HostError where it is out of reach, or has no model for a suite.

    With ``measure``, models that are loaded already are sent a few requests.
    """
    clients = open_host(host, host.base_url, patience=patience)
    try:
        server = await connect(host.name, host.base_url, clients, host.server)
        found = await _look(host, server)
        if measure:
            found = await _measure(found, server)
    finally:
        await clients.close()
    return found


async def _look(host: Host, server: Server) -> Discovery:
    facts = await server.facts()
    names = tuple(await server.models())
    ready = await server.ready_models()
    purposes: dict[str, tuple[Kind | None, bool]] = {}
    for name in filter(_can_be_named, names):
        purposes[name] = await _find_purpose(server, name)
    chosen = []
    kinds: tuple[Kind, ...] = ("embedding", "chat")
    for kind in kinds:
        if fitting := [name for name, (purpose, _) in purposes.items() if purpose == kind]:
            chosen.append(await _choose(server, kind, fitting, ready, told=purposes[fitting[0]][1]))
    if not chosen:
        raise HostError(f"{host.name}: no model there that chats or embeds; it lists {show_names(names)}")
    return Discovery(
        host=host,
        kind=server.kind,
        version=facts.engine_build,
        models=names,
        unusable=tuple(name for name in names if purposes.get(name, (None, False))[0] is None),
        chosen=tuple(chosen),
        fixed_length=server.can.ignore_eos,
        sees_others=server.kind in WATCHERS,
    )


async def _find_purpose(server: Server, name: str) -> tuple[Kind | None, bool]:
    """What a model is for, and whether the server said so; by its name where it does not."""
    said = await server.embeds(name)
    if said is not None:
        return ("embedding" if said else "chat"), True
    if _NEITHER.search(name):
        return None, False
    return ("embedding" if _EMBEDDER.search(name) else "chat"), False


async def _choose(
    server: Server, kind: Kind, names: Sequence[str], ready: Sequence[str] | None, *, told: bool
) -> Chosen:
    """The first of the models that is loaded, else the first."""
    name = next((name for name in names if name in (ready or ())), names[0])
    return Chosen(
        name=name,
        kind=kind,
        told=told,
        ready=None if ready is None else name in ready,
        facts=await server.model_facts(name),
        others=tuple(other for other in names if other != name),
    )


async def _measure(found: Discovery, server: Server) -> Discovery:
    chosen, notes = [], []
    for model in found.chosen:
        if not model.ready:
            why = "is not loaded" if model.ready is False else "may not be loaded, which the server does not tell"
            notes.append(f"{found.host.name}: not measured: {model.name} {why}")
            chosen.append(model)
            continue
        try:
            speed = await probe(server, found.host.name, model.name, model.kind, model.facts.n_ctx)
            chosen.append(replace(model, speed=speed))
        except HostError as error:
            notes.append(str(error))
            chosen.append(model)
    return replace(found, chosen=tuple(chosen), notes=tuple(notes))


def _can_be_named(name: str) -> bool:
    """Whether suites and node ids can carry a model's name; none that holds a secret."""
    if hide_secrets(name) != name:
        return False
    try:
        node_name().accept(Node(name, 1, "", name))
    except ValueError:
        return False
    return True
