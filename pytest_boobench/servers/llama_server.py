"""llama.cpp's llama-server, and whatever speaks as it does: exact token counts, cache control, its own timings."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import httpx

from pytest_boobench import wire
from pytest_boobench.errors import HostError
from pytest_boobench.facts import ModelFacts, ServerFacts
from pytest_boobench.metrics import Sample
from pytest_boobench.servers import prompts
from pytest_boobench.servers.clients import Clients, ServerAnswer, Waiting
from pytest_boobench.servers.control import StillLoading, list_names, to_ids, to_natural, to_plain
from pytest_boobench.servers.interface import Call, Capabilities, Prompt
from pytest_boobench.servers.openai import OpenAIServer
from pytest_boobench.suite.cell import Cell
from pytest_boobench.units import span
from pytest_boobench.untrusted import show, to_object, to_text

_MARK = "boobenchtextgoeshere"
"""Stands for the user's text while the chat template is looked at."""


class LlamaServer(OpenAIServer):
    """A llama-server that serves one model under any name."""

    kind = "llama-server"
    can = Capabilities(server_timings=True, exact_tokens=True, cache_control=True, ignore_eos=True)

    async def alive(self) -> bool:
        """Whether ``/health`` answers; it needs no key and no free slot."""
        try:
            await self._clients.control.get("/health")
        except httpx.TransportError as error:
            return isinstance(error, wire.BadAnswer)
        return True

    async def facts(self) -> ServerFacts:
        """``/props``: build, slots, context."""
        props = await self._props()
        keep = ("total_slots", "model_path", "model_alias", "chat_template_caps", "modalities", "is_sleeping")
        return ServerFacts(
            kind=self.kind,
            url=self.url,
            engine_build=to_text(props.get("build_info")),
            extra={key: to_plain(props[key]) for key in keep if key in props},
        )

    async def ready_models(self) -> Sequence[str] | None:
        """The one that it was started with, under all its names."""
        return await self.models()

    async def model_facts(self, model: str) -> ModelFacts:
        """``/v1/models`` for the file, ``/props`` for path, slots and the context of one of them."""
        props = await self._props()
        listed = await super().model_facts(model)
        settings = to_object(props.get("default_generation_settings"))
        return replace(
            listed,
            path=to_text(props.get("model_path")),
            quantisation=listed.quantisation or to_text(props.get("model_ftype")),
            n_ctx=to_natural(settings.get("n_ctx")) or listed.n_ctx,
            slots=to_natural(props.get("total_slots")),
        )

    async def make_prompts(self, cell: Cell, nonces: Sequence[str]) -> Sequence[Prompt]:
        """Counted by ``/tokenize``, the chat template included: each prompt is exact before it is sent."""
        if cell.kind == "completion":
            return [await self._ids(cell, nonce) for nonce in nonces]
        before, after = await self._template(cell) if cell.kind == "chat" else ("", "")

        async def count(text: str) -> int:
            return len(await self._tokenize(f"{before}{text}{after}", special=True))

        made: dict[str, Prompt] = {}
        guess: int | None = None
        for nonce in nonces:
            if nonce not in made:
                text = await prompts.fit(count, cell.prompt_tokens, nonce, guess=guess)
                made[nonce] = Prompt(text=text)
                guess = len(text)
        return [made[nonce] for nonce in nonces]

    async def _ids(self, cell: Cell, nonce: str) -> Prompt:
        """The first N token ids of a text that surely has as many: N ids are N tokens, no begin-of-text is added."""
        characters = 8 * cell.prompt_tokens + len(nonce)
        ids = await self._tokenize(prompts.make_text(nonce, characters), special=False)
        return Prompt(ids=ids[: cell.prompt_tokens])

    async def _template(self, cell: Cell) -> tuple[str, str]:
        """What the chat template puts before and after a user's text, with the fields that the suite sends along."""
        body = {"messages": [{"role": "user", "content": _MARK}], "model": cell.model, **cell.request}
        whole = (await self._ask_object("POST", "/apply-template", body)).get("prompt")
        if not isinstance(whole, str):
            raise HostError(f"{self.name}: POST /apply-template: expected a text under 'prompt', got {show(whole)}")
        before, mark, after = whole.partition(_MARK)
        if not mark:
            raise HostError(f"{self.name}: POST /apply-template: the chat template drops or changes the user's text")
        return before, after

    async def _tokenize(self, text: str, *, special: bool) -> tuple[int, ...]:
        body = {"content": text, "add_special": special, "parse_special": True}
        ids = to_ids((await self._ask_object("POST", "/tokenize", body)).get("tokens"))
        if ids is None:
            raise HostError(f"{self.name}: POST /tokenize: expected a list of token ids under 'tokens'")
        return ids

    async def _props(self) -> Mapping[str, Any]:
        return await self._ask_object("GET", "/props")

    def call(self, cell: Cell, prompt: Prompt) -> Call:
        """As any; where the suite leaves the seed free, one that is shown in ``/slots`` and says that this is ours."""
        call = super().call(cell, prompt)
        if cell.kind == "embedding" or prompt.seed is None:
            return call
        return replace(call, body={"seed": prompt.seed, **call.body})

    def read(self, sample: Sample, answer: ServerAnswer, cell: Cell) -> Sample:
        """As any; where the context is too small, with what gives the server more."""
        found = super().read(sample, answer, cell)
        if found.failure not in ("status", "stream-error") or "context size" not in (found.failure_text or "").lower():
            return found
        shared = " (its lanes share it)" if cell.concurrency > 1 else ""
        text = f"{found.failure_text}; start the server with a larger -c{shared}, or ask for fewer tokens or lanes"
        return replace(found, failure_text=text)

    def _extras(self, cell: Cell) -> Mapping[str, Any]:
        """Fixed length by ``ignore_eos``, the prompt cache as the cell wants it."""
        if cell.kind == "embedding":
            return {}
        exact = {"ignore_eos": True} if cell.length == "exact" else {}
        return {"cache_prompt": cell.cache == "warm", **exact}


_POLL_S = 0.1


class LlamaRouter(LlamaServer):
    """The router. What is asked of one model goes to that model's own server, and never loads it by the way."""

    kind = "llama-router"
    can = Capabilities(server_timings=True, exact_tokens=True, cache_control=True, ignore_eos=True, load=True)

    async def facts(self) -> ServerFacts:
        """``/props``: build, and how many models it keeps loaded."""
        props = await self._props()
        keep = ("role", "max_instances", "models_autoload")
        return ServerFacts(
            kind=self.kind,
            url=self.url,
            engine_build=to_text(props.get("build_info")),
            extra={key: to_plain(props[key]) for key in keep if key in props},
        )

    async def ready_models(self) -> Sequence[str] | None:
        """Those whose status is ``loaded``, under all their names; a sleeping one has let go of its weights."""
        loaded = (entry for entry in await self._model_list() if _status(entry).get("value") == "loaded")
        return [name for entry in loaded for name in list_names(entry)]

    async def model_facts(self, model: str) -> ModelFacts:
        """All that a loaded model's server tells, little of one that is not loaded."""
        if _status(await self._entry(model)).get("value") != "loaded":
            return await OpenAIServer.model_facts(self, model)
        return await self._server_of(model).model_facts(model)

    async def load(self, model: str) -> float | None:
        """By ``/models/load``; a sleeping model is woken. Seen every 100 ms."""
        state = _status(await self._entry(model)).get("value")
        if state == "loaded":
            return None
        began = time.monotonic()
        patience = self._clients.patience
        if state == "sleeping":
            await self._load_by("POST", "/tokenize", {"model": model, "content": "a"})
        elif state != "loading":
            await self._ask("POST", "/models/load", {"model": model})
        while (status := _status(await self._entry(model))).get("value") != "loaded":
            if status.get("failed"):
                code = show(status.get("exit_code"))
                raise HostError(
                    f"{self.name}: {model} does not load: its server ended with exit code {code}; see the router's log"
                )
            waited_s, limit_s = time.monotonic() - began, patience.explicit_load_s
            if waited_s > limit_s:
                raise StillLoading(
                    f"{self.name}: {model} is not loaded after {span(limit_s)}; "
                    f"give it more time with {patience.option}, or see the router's log"
                )
            patience.tell(Waiting(self.name, "loading", waited_s))
            await asyncio.sleep(_POLL_S)
        return (time.monotonic() - began) * 1000

    async def unload(self, model: str) -> None:
        """By ``/models/unload``."""
        limit_s = self._clients.patience.explicit_load_s
        await self._ask("POST", "/models/unload", {"model": model}, timeout_s=limit_s)

    async def make_prompts(self, cell: Cell, nonces: Sequence[str]) -> Sequence[Prompt]:
        """Counted by the model's own tokenizer."""
        return await self._server_of(cell.model).make_prompts(cell, nonces)

    def call(self, cell: Cell, prompt: Prompt) -> Call:
        """As any; a model that was pushed out meanwhile is a failed request, and no load time in a sample."""
        call = super().call(cell, prompt)
        return replace(call, path=f"{call.path}?autoload=false")

    def _server_of(self, model: str) -> LlamaServer:
        return _OneModel(self.name, self.url, self._clients, model)

    async def _entry(self, model: str) -> Mapping[str, Any]:
        return next((entry for entry in await self._model_list() if model in list_names(entry)), {})


class _OneModel(LlamaServer):
    """A router's model as a llama-server: each control request says which one is meant, and that it is not to load."""

    def __init__(self, name: str, url: str, clients: Clients, model: str) -> None:
        super().__init__(name, url, clients)
        self._model = model

    async def _ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> httpx.Response:
        query = f"?model={quote(self._model, safe='')}&autoload=false"
        named = body if body is None else {**body, "model": self._model}
        return await super()._ask(method, path + query, named, timeout_s=timeout_s)


def _status(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a model's entry says of its state; empty where it says nothing."""
    return to_object(entry.get("status"))
