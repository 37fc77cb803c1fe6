"""llama.cpp's llama-server and its router: exact token counts, cache control, its own timings."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from pytest_boobench.errors import HostError
from pytest_boobench.facts import Logprobs, ModelFacts, ServerFacts
from pytest_boobench.metrics import Sample
from pytest_boobench.servers import next_tokens
from pytest_boobench.servers.clients import Call, Capabilities, Clients, Prompt, ServerAnswer, Waiting
from pytest_boobench.servers.command_line import write_command
from pytest_boobench.servers.control import Question, StillLoading, list_names
from pytest_boobench.servers.openai import OpenAIServer, has_images
from pytest_boobench.servers.speculation import count_undrafted
from pytest_boobench.suite.cell import Cell
from pytest_boobench.units import span
from pytest_boobench.untrusted import Fault, clean_json, show, to_natural, to_object, to_objects, to_text

_MARK = "boobenchtextgoeshere"
"""Marks the place of the user's text in the chat template."""
_POLL_S = 0.1


class LlamaServer(OpenAIServer):
    """A llama-server that serves one model under any name."""

    kind = "llama-server"
    can = Capabilities(server_timings=True, exact_tokens=True, cache_control=True, ignore_eos=True)
    _kept_props: tuple[str, ...] = (
        "total_slots", "model_path", "model_alias", "chat_template_caps", "modalities", "is_sleeping",
    )  # fmt: skip

    def __init__(self, name: str, url: str, clients: Clients) -> None:
        super().__init__(name, url, clients)
        self._speculating: set[str] = set()
        """Models whose server has told that it speculates."""

    async def alive(self) -> bool:
        """Whether ``/health`` answers; it needs no key and no free slot."""
        return await self._answers("/health")

    async def facts(self) -> ServerFacts:
        """Return the build and other facts of the server, from ``/props``."""
        props = await self._props()
        return ServerFacts(
            kind=self.kind,
            url=self.url,
            engine_build=to_text(props.get("build_info")),
            extra={key: clean_json(props[key]) for key in self._kept_props if key in props},
        )

    async def ready_models(self) -> Sequence[str] | None:
        """Return the model that it was started with, under all its names."""
        return await self.models()

    async def model_facts(self, model: str) -> ModelFacts:
        """Read ``/v1/models`` for the file, ``/props`` for path, slots and context per slot, ``/slots`` for the rest.

        No page tells the types of the KV cache, flash attention, batches or layers on the GPU.
        """
        props = await self._props()
        listed = await super().model_facts(model)
        settings = to_object(props.get("default_generation_settings"))
        return self._remember(
            replace(
                listed,
                path=to_text(props.get("model_path")),
                quantisation=listed.quantisation or to_text(props.get("model_ftype")),
                n_ctx=to_natural(settings.get("n_ctx")) or listed.n_ctx,
                slots=to_natural(props.get("total_slots")),
                speculative=await self._find_speculation(),
            )
        )

    def _remember(self, facts: ModelFacts) -> ModelFacts:
        if facts.speculative == "on":
            self._speculating.add(facts.name)
        return facts

    async def _find_speculation(self) -> str | None:
        """From the first slot, if slots are shown: ``/props`` always says ``none``."""
        with contextlib.suppress(HostError):
            slots = to_objects(await self._ask(Question("GET", "/slots")))
            told = slots[0].get("speculative") if slots else None
            return ("on" if told else "off") if isinstance(told, bool) else None
        return None

    async def make_prompts(self, cell: Cell, nonces: Sequence[str]) -> Sequence[Prompt]:
        """Count by ``/tokenize``, with the chat template: each prompt is exact before it is sent."""
        before, after = await self._template(cell) if cell.kind == "chat" else ("", "")

        async def tokenize(text: str, *, special: bool = False) -> tuple[int, ...]:
            return await self._ask_ids({"content": text, "add_special": special, "parse_special": True})

        async def tokenize_request(text: str) -> tuple[int, ...]:
            return await tokenize(f"{before}{text}{after}", special=True)

        async def count(text: str) -> int:
            return len(await tokenize_request(text))

        if cell.depth_tokens:
            return await self.prefixes.make_prompts(cell, nonces, tokenize, tokenize_request)
        return await self._make_exact_prompts(cell, nonces, count, tokenize)

    async def make_turns(self, cell: Cell, nonces: Sequence[str]) -> Sequence[Prompt]:
        """Count the bare text by ``/tokenize``."""

        async def tokenize(text: str) -> tuple[int, ...]:
            return await self._ask_ids({"content": text, "add_special": False, "parse_special": True})

        async def count(text: str) -> int:
            return len(await tokenize(text))

        return await self._make_exact_prompts(replace(cell, prompt_tokens=cell.turn_tokens), nonces, count, tokenize)

    async def count_own(self, cell: Cell, own: Sequence[Prompt]) -> Sequence[int]:
        """By ``/apply-template`` and ``/tokenize``; of a prompt with images only running it tells."""
        return [0 if has_images(prompt) else await self._count(cell, prompt) for prompt in own]

    async def _count(self, cell: Cell, prompt: Prompt) -> int:
        text = prompt.text
        if prompt.messages:
            text = await self._apply_template(cell, prompt.messages)
        return len(await self._ask_ids({"content": text, "add_special": True, "parse_special": True}))

    async def _apply_template(self, cell: Cell, messages: Sequence[Mapping[str, Any]]) -> str:
        """The text that the chat template makes, with the fields that the suite sends along."""
        body = {"messages": list(messages), "model": cell.model, **cell.request}
        whole = (await self._ask_object(Question("POST", "/apply-template", body))).get("prompt")
        if not isinstance(whole, str):
            raise HostError(f"{self.name}: POST /apply-template: expected a text under 'prompt', got {show(whole)}")
        return whole

    async def _template(self, cell: Cell) -> tuple[str, str]:
        """The chat template's text before and after the user's, made with the fields that the suite sends along."""
        whole = await self._apply_template(cell, [{"role": "user", "content": _MARK}])
        before, mark, after = whole.partition(_MARK)
        if not mark:
            raise HostError(f"{self.name}: POST /apply-template: the chat template drops or changes the user's text")
        return before, after

    async def _ask_next_tokens(self, model: str, timeout_s: float) -> Logprobs:  # noqa: ARG002  # it has only one
        """By ``n_probs`` of ``/completion``; the cache keeps what two prefixes share."""

        async def ask(prefix: Sequence[int]) -> next_tokens.Top:
            fields = {"n_predict": 1, "n_probs": next_tokens.TOP, "cache_prompt": True, "top_k": 0, **next_tokens.PLAIN}
            question = Question("POST", "/completion", {"prompt": list(prefix), **fields})
            answer = await self._ask_object(question, timeout_s=timeout_s)
            try:
                return next_tokens.read_llama(answer, prefix)
            except Fault as fault:
                raise HostError(f"{self.name}: {question}: {fault}") from None

        ids = await self._ask_ids({"content": next_tokens.TEXT, "add_special": True, "parse_special": False})
        return await next_tokens.ask_for_all(ids, ask, self.name)

    async def _props(self) -> Mapping[str, Any]:
        return await self._ask_object(Question("GET", "/props"))

    def call(self, cell: Cell, prompt: Prompt) -> Call:
        """Unless the suite sets a seed, add one that ``/slots`` shows: it marks the request as ours."""
        call = super().call(cell, prompt)
        if cell.kind == "embedding":
            return call
        ours = {"seed": prompt.seed, "id_slot": prompt.slot}
        return replace(call, body={**{key: value for key, value in ours.items() if value is not None}, **call.body})

    def read(self, sample: Sample, answer: ServerAnswer, cell: Cell) -> Sample:
        """If the context is too small, the failure says how to enlarge it."""
        found = super().read(sample, answer, cell)
        if cell.model in self._speculating:
            found = count_undrafted(found)
        if found.failure not in ("status", "stream-error") or "context size" not in (found.failure_text or "").lower():
            return found
        shared = " (its lanes share it)" if cell.concurrency > 1 else ""
        text = f"{found.failure_text}; start the server with a larger -c{shared}, or ask for fewer tokens or lanes"
        return replace(found, failure_text=text)

    def _extras(self, cell: Cell) -> Mapping[str, Any]:
        exact = {"ignore_eos": True} if cell.length == "exact" else {}
        return {"cache_prompt": cell.cache == "warm" or cell.depth_tokens > 0, **exact}


class LlamaRouter(LlamaServer):
    """llama-server as a router. Requests about one model go to that model's own server, and never load it."""

    kind = "llama-router"
    can = replace(LlamaServer.can, load=True)
    _kept_props = ("role", "max_instances", "models_autoload")

    async def ready_models(self) -> Sequence[str] | None:
        """Return models with the status ``loaded``, under all their names; a sleeping one has dropped its weights."""
        loaded = (entry for entry in await self._model_list() if _status(entry).get("value") == "loaded")
        return [name for entry in loaded for name in list_names(entry)]

    async def model_facts(self, model: str) -> ModelFacts:
        """From the model's own server if it is loaded, else the few facts that the router lists."""
        if _status(await self._entry(model)).get("value") != "loaded":
            return await OpenAIServer.model_facts(self, model)
        return self._remember(await self._server_of(model).model_facts(model))

    async def command(self, model: str) -> str | None:
        """Return the words that the router started the model's server with."""
        words = _status(await self._entry(model)).get("args")
        told = [word for word in words if isinstance(word, str)] if isinstance(words, list) else []
        return write_command(told) or self.started_with

    async def load(self, model: str) -> float | None:
        """Load by ``/models/load``, or by a first request to a sleeping model; poll its status every 100 ms."""
        state = _status(await self._entry(model)).get("value")
        if state == "loaded":
            return None
        began = time.monotonic()
        patience = self.clients.patience
        if state == "sleeping":
            await self._load_by(Question("POST", "/tokenize", {"model": model, "content": "a"}))
        elif state != "loading":
            await self._ask(Question("POST", "/models/load", {"model": model}))
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

    async def make_prompts(self, cell: Cell, nonces: Sequence[str]) -> Sequence[Prompt]:
        """Count by the model's own tokenizer."""
        return await self._server_of(cell.model).make_prompts(cell, nonces)

    async def make_turns(self, cell: Cell, nonces: Sequence[str]) -> Sequence[Prompt]:
        """Count by the model's own tokenizer."""
        return await self._server_of(cell.model).make_turns(cell, nonces)

    async def count_own(self, cell: Cell, own: Sequence[Prompt]) -> Sequence[int]:
        """By the model's own tokenizer."""
        return await self._server_of(cell.model).count_own(cell, own)

    async def _ask_next_tokens(self, model: str, timeout_s: float) -> Logprobs:
        """From the model's own server."""
        return await self._server_of(model).next_tokens(model, timeout_s)

    def call(self, cell: Cell, prompt: Prompt) -> Call:
        """If the router has unloaded the model meanwhile, the request fails: no load time gets into a sample."""
        call = super().call(cell, prompt)
        return replace(call, path=f"{call.path}?autoload=false")

    def _server_of(self, model: str) -> LlamaServer:
        routed = _RoutedModel(self.name, self.url, self.clients, model)
        routed.prefixes = self.prefixes
        return routed


class _RoutedModel(LlamaServer):
    """A router's model as a llama-server: each control request names it, and does not load it."""

    def __init__(self, name: str, url: str, clients: Clients, model: str) -> None:
        super().__init__(name, url, clients)
        self._model = model

    async def _ask(self, question: Question, *, timeout_s: float | None = None) -> Any:
        path = f"{question.path}?model={quote(self._model, safe='')}&autoload=false"
        body = None if question.body is None else {**question.body, "model": self._model}
        return await super()._ask(Question(question.method, path, body), timeout_s=timeout_s)


def _status(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    return to_object(entry.get("status"))
