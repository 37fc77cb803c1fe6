"""Door 2: what ``boobench init`` finds out about a server, and the models it chooses. Nothing is loaded for it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import httpx

from pytest_boobench.cli.hosts_command import look_at_traffic
from pytest_boobench.documents.validation import read_value
from pytest_boobench.documents.yaml_tree import Node, Problems
from pytest_boobench.errors import HostError
from pytest_boobench.facts import ModelFacts
from pytest_boobench.hosts.inventory import Host
from pytest_boobench.metrics import Kind
from pytest_boobench.servers.clients import Server
from pytest_boobench.servers.control import show_names
from pytest_boobench.servers.llama_server import LlamaRouter, LlamaServer
from pytest_boobench.suite.names import model_name
from pytest_boobench.untrusted import Fault, hide_secrets, parse_json, to_object, to_objects

_EMBEDDER = re.compile(r"embed|minilm|(?<![a-z0-9])(bge|gte|e5|labse)(?![a-z])", re.IGNORECASE)
"""Usual names of embedding models."""
_NEITHER = re.compile(r"rerank|whisper|(?<![a-z])(tts|flux|sdxl|sd)(?![a-z])|diffusion", re.IGNORECASE)
"""Usual names of models that neither chat nor embed."""
_LEAST_CONTEXT = 64
"""Tokens of a slot that a suite needs: a prompt with a beginning of its own, and an answer."""
_AUTO_SLOTS = 4
"""Slots of a llama-server without ``--parallel``; they share its context."""

Embeddings = Literal["on", "off", "unpooled"]
"""Unpooled: a vector for each token, which OpenAI's interface has no answer for."""


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
    """Other models for the same suite."""
    prompt_tok_s: float | None = None
    """Of prefill, or of the whole request of an embedding; None where it was not measured."""
    decode_tok_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """A server as it was found."""

    host: Host
    kind: str
    version: str | None
    models: tuple[str, ...]
    unusable: tuple[str, ...]
    """Models whose names no suite can have, and those that neither chat nor embed."""
    chosen: tuple[Chosen, ...]
    """One for each kind of request, the embedding model first."""
    fixed_length: bool
    """Whether it can be told to generate exactly as many tokens as a request asks for."""
    keeps_prefixes: bool
    """Whether its requests can use a prefix cache and say how much came from it."""
    sees_others: bool
    """Whether it can tell of other users."""
    keeps_depth: bool = False
    """Whether its cache can keep a context before the prompts, and prove it."""
    notes: tuple[str, ...] = ()
    """What was left out or could not be measured, and why."""


async def discover(host: Host, server: Server) -> Discovery:
    """Ask the host's server what it is and has. HostError where it is out of reach, or has no model for a suite."""
    facts = await server.facts()
    names = tuple(await server.models())
    ready = await server.ready_models()
    nameable = tuple(filter(_can_be_named, names))
    embeddings = await _ask_embeddings(server)
    purposes = {name: await _find_purpose(server, name, embeddings, nameable) for name in nameable}
    notes = _explain_embeddings(nameable, embeddings)
    chosen = []
    kinds: tuple[Kind, ...] = ("embedding", "chat")
    for kind in kinds:
        fitting = [name for name, (purpose, _) in purposes.items() if purpose == kind]
        if fitting:
            model = await _choose(server, kind, fitting, ready, told=purposes[fitting[0]][1])
            note = _explain_context(model.facts)
            if note:
                notes.append(note)
            else:
                chosen.append(model)
    notes = [f"{host.name}: no suite for {note}" for note in notes]
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
        keeps_prefixes=server.can.cache_control,
        keeps_depth=server.can.depth,
        sees_others=(await look_at_traffic(server, chosen[0].name)).known,
        notes=tuple(notes),
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
        facts=await _add_options(server, await server.model_facts(name)),
        others=tuple(other for other in names if other != name),
    )


def _explain_context(facts: ModelFacts) -> str:
    """Why a slot's context is too small for a suite; empty where it is not, or is not known."""
    if facts.n_ctx is None or facts.n_ctx >= _LEAST_CONTEXT:
        return ""
    return (
        f"{facts.name}: a slot's context has {facts.n_ctx} tokens, and a request needs {_LEAST_CONTEXT} at least; "
        "start it with a larger -c, or a smaller -np"
    )


def _can_be_named(name: str) -> bool:
    """Whether a suite can have the model's name, which no secret may be part of."""
    return hide_secrets(name) == name and read_value(model_name(), Node(name, 1, "", name), Problems("")) is not None


async def _ask_embeddings(server: Server) -> Embeddings | None:
    """How llama-server answers a request without an input, which runs no model; None for other kinds of server.

    Neither ``/props`` nor ``/v1/models`` says anything about ``--embedding``.
    """
    if server.kind != LlamaServer.kind:
        return None
    try:
        answer = await server.clients.control.post("/v1/embeddings", json={})
    except httpx.HTTPError:
        return None
    if answer.status_code == httpx.codes.NOT_IMPLEMENTED:
        return "off"
    if "input" in answer.text:
        return "on"
    return "unpooled" if "Pooling type 'none'" in answer.text else None


async def _find_purpose(
    server: Server, name: str, embeddings: Embeddings | None, names: Sequence[str]
) -> tuple[Kind | None, bool]:
    """What a model is for, and whether the server says so; else its name tells.

    A llama-server has one model under all its names. With ``--embedding`` it is an embedding model, unless only some of
    the names look like one.
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


def _explain_embeddings(names: Sequence[str], embeddings: Embeddings | None) -> list[str]:
    """Why there is no suite for embeddings where a user may expect one."""
    if embeddings == "unpooled":
        return [
            "embeddings: it was started with --embedding, but its pooling is none, which /v1/embeddings refuses; "
            "start it with --pooling mean"
        ]
    embedders = list(filter(_EMBEDDER.search, names))
    return [f"{embedders[0]}: it was started without --embedding"] if embeddings == "off" and embedders else []


async def _add_options(server: Server, facts: ModelFacts) -> ModelFacts:
    """The facts with context and slots from the options that a router will start the model with, where it has them."""
    if server.kind != LlamaRouter.kind or facts.n_ctx is not None:
        return facts
    try:
        listed = parse_json((await server.clients.control.get("/models")).content)
    except (httpx.HTTPError, Fault):
        return facts
    options = find_options(listed, facts.name)
    n_ctx, slots = _read_number(options, "--ctx-size"), _read_number(options, "--parallel")
    if n_ctx is None:
        return facts
    if slots is not None and "--kv-unified" not in options:
        n_ctx //= slots
    return replace(facts, n_ctx=n_ctx, slots=slots or _AUTO_SLOTS)


def find_options(listed: Any, model: str) -> Sequence[str]:
    """A model's command line in a router's list of models, empty where there is none."""
    entries = to_objects(to_object(listed).get("data"))
    entry: Mapping[str, Any] = next((entry for entry in entries if entry.get("id") == model), {})
    options = to_object(entry.get("status")).get("args")
    return [option for option in options if isinstance(option, str)] if isinstance(options, list) else []


def _read_number(options: Sequence[str], name: str) -> int | None:
    """The positive whole number behind an option, of nine digits at most."""
    if name not in options[:-1]:
        return None
    value = options[options.index(name) + 1]
    return (int(value) or None) if value.isdecimal() and len(value) <= 9 else None
