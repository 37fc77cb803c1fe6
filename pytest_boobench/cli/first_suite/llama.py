"""Door 2: what llama.cpp's servers tell beyond what sessions need: embeddings or not, and how a model will start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import httpx

from pytest_boobench.facts import ModelFacts
from pytest_boobench.servers.interface import Server
from pytest_boobench.servers.llama_router import LlamaRouter
from pytest_boobench.servers.llama_server import LlamaServer
from pytest_boobench.untrusted import Fault, parse_json, to_object, to_objects

Embeddings = Literal["on", "off", "unpooled"]
"""Unpooled: a vector for each token, which OpenAI's interface has no answer for."""

_AUTO_SLOTS = 4
"""What a llama-server without ``--parallel`` has; they share its context."""
_MOST_DIGITS = 9


async def ask_embeddings(server: Server) -> Embeddings | None:
    """By a request without an input, for which no model runs; None for other kinds of server.

    Neither ``/props`` nor ``/v1/models`` says anything of ``--embedding``.
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


async def read_options(server: Server, facts: ModelFacts) -> ModelFacts:
    """With context and slots by the options that a router will start the model with; else as they are."""
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
    """The positive whole number behind an option."""
    if name not in options[:-1]:
        return None
    value = options[options.index(name) + 1]
    return (int(value) or None) if value.isdecimal() and len(value) <= _MOST_DIGITS else None
