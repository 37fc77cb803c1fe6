"""Door 2: a server and the models that a first suite is for. Nothing is loaded by looking."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pytest_boobench.cli.init_probe import Embeddings, Speed, ask_embeddings, probe, read_options
from pytest_boobench.documents.validation import read_value
from pytest_boobench.documents.yaml_tree import Node, Problems
from pytest_boobench.errors import HostError
from pytest_boobench.facts import ModelFacts
from pytest_boobench.hosts.inventory import Host
from pytest_boobench.hosts.open_host import WATCHERS, choose, open_host
from pytest_boobench.metrics import Kind
from pytest_boobench.servers.clients import Patience, Server
from pytest_boobench.servers.connect import connect
from pytest_boobench.servers.control import show_names
from pytest_boobench.suite.names import model_name
from pytest_boobench.untrusted import hide_secrets

_EMBEDDER = re.compile(r"embed|minilm|(?<![a-z0-9])(bge|gte|e5|labse)(?![a-z])", re.IGNORECASE)
"""How models for embeddings are usually called."""
_NEITHER = re.compile(r"rerank|whisper|(?<![a-z])(tts|flux|sdxl|sd)(?![a-z])|diffusion", re.IGNORECASE)
"""How models are called that neither chat nor embed."""
LEAST_CONTEXT = 64
"""Tokens of a slot: a prompt that no other shares its begin with, and an answer."""


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
    """What was left out or could not be measured, and why."""


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
    nameable = tuple(filter(_can_be_named, names))
    embeddings = await ask_embeddings(server)
    purposes = {name: await _find_purpose(server, name, embeddings, nameable) for name in nameable}
    notes = [note for note in (_explain_embeddings(host, nameable, embeddings),) if note]
    chosen = []
    kinds: tuple[Kind, ...] = ("embedding", "chat")
    for kind in kinds:
        if fitting := [name for name, (purpose, _) in purposes.items() if purpose == kind]:
            model = await _choose(server, kind, fitting, ready, told=purposes[fitting[0]][1])
            if model.facts.n_ctx is None or model.facts.n_ctx >= LEAST_CONTEXT:
                chosen.append(model)
            else:
                notes.append(_explain_context(host, model.facts))
    if not chosen:
        nothing = f"{host.name}: no model there that chats or embeds; it lists {show_names(names)}"
        raise HostError("\n".join(notes) or nothing)
    return Discovery(
        host=host,
        kind=server.kind,
        version=facts.engine_build,
        models=names,
        unusable=tuple(name for name in names if purposes.get(name, (None, False))[0] is None),
        chosen=tuple(chosen),
        fixed_length=server.can.ignore_eos,
        sees_others=await _sees_others(server, chosen[0].name),
        notes=tuple(notes),
    )


async def _sees_others(server: Server, model: str) -> bool:
    """Of the kinds that can, some are started so that they cannot."""
    if server.kind not in WATCHERS:
        return False
    watcher = choose(server, model)
    try:
        return (await watcher.look()).known
    finally:
        await watcher.close()


async def _find_purpose(
    server: Server, name: str, embeddings: Embeddings | None, names: Sequence[str]
) -> tuple[Kind | None, bool]:
    """What a model is for, and whether the server said so; by its name where it does not.

    A llama-server has one model under all its names: with ``--embedding`` it is for that, but where one of the names
    says so and others do not.
    """
    said = await server.embeds(name)
    if said is not None:
        return ("embedding" if said else "chat"), True
    if _NEITHER.search(name):
        return None, False
    if embeddings == "on" and not any(map(_EMBEDDER.search, names)):
        return "embedding", True
    if not _EMBEDDER.search(name):
        return "chat", False
    return (None, True) if embeddings in ("off", "unpooled") else ("embedding", False)


def _explain_embeddings(host: Host, names: Sequence[str], embeddings: Embeddings | None) -> str | None:
    """Why there is no suite for embeddings where one could be looked for."""
    if embeddings == "unpooled":
        return (
            f"{host.name}: no suite for embeddings: it was started with --embedding, but its pooling is none, which "
            "/v1/embeddings refuses; start it with --pooling mean"
        )
    if embeddings == "off" and (name := next(filter(_EMBEDDER.search, names), None)) is not None:
        return f"{host.name}: no suite for {name}: it was started without --embedding"
    return None


def _explain_context(host: Host, facts: ModelFacts) -> str:
    return (
        f"{host.name}: no suite for {facts.name}: a slot's context has {facts.n_ctx} tokens, and a request needs "
        f"{LEAST_CONTEXT} at least; start it with a larger -c, or a smaller -np"
    )


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
        facts=await read_options(server, await server.model_facts(name)),
        others=tuple(other for other in names if other != name),
    )


async def _measure(found: Discovery, server: Server) -> Discovery:
    chosen, notes = [], [*found.notes]
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
    """Whether suites can carry a model's name; none that holds a secret."""
    if hide_secrets(name) != name:
        return False
    return read_value(model_name(), Node(name, 1, "", name), Problems("")) is not None
