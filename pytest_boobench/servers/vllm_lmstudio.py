"""vLLM and LM Studio: OpenAI-compatible servers with a few pages of their own; rates by the client's clock."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import httpx

from pytest_boobench.errors import HostError
from pytest_boobench.facts import Logprobs, ModelFacts, ServerFacts
from pytest_boobench.metrics import Sample
from pytest_boobench.servers import answers, next_tokens
from pytest_boobench.servers.clients import Call, Capabilities, Prompt
from pytest_boobench.servers.control import Question
from pytest_boobench.servers.openai import PATHS, OpenAIServer, has_images, require_known
from pytest_boobench.suite.cell import Cell
from pytest_boobench.untrusted import Fault, show, to_count, to_natural, to_text

_VLLM_SAMPLING = {"temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "seed"}
_LM_STUDIO_SAMPLING = {
    "temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty", "repeat_penalty", "seed",
}  # fmt: skip
_CACHE_CONFIG = re.compile(r"^vllm:cache_config_info\{([^\n]*)\}", re.MULTILINE)
_LABEL = re.compile(r'(?:^|,)(\w+)="([^"\n]*)"')
_MOST_BLOCK = 1 << 20
"""Tokens; no block of a cache is larger."""


class Vllm(OpenAIServer):
    """A vLLM server; all models that it lists are loaded."""

    kind = "vllm"
    can = Capabilities(exact_tokens=True, cache_control=True, ignore_eos=True)
    _cache_block: int | None = None
    """Tokens in a block of its cache, once it was asked."""

    async def facts(self) -> ServerFacts:
        """From ``/version``."""
        version = await self._ask_object(Question("GET", "/version"))
        return ServerFacts(kind=self.kind, url=self.url, engine_build=to_text(version.get("version")))

    async def ready_models(self) -> Sequence[str] | None:
        """Return all models that it lists."""
        return await self.models()

    async def model_facts(self, model: str) -> ModelFacts:
        """From ``/v1/models``: the source of the weights and the longest context; ``/metrics``: the KV cache."""
        entry = await self._entry(model)
        cache = await self._read_cache_config()
        self._cache_block = _find_block(cache)
        return ModelFacts(
            name=model,
            path=to_text(entry.get("root")),
            n_ctx=to_natural(entry.get("max_model_len")),
            kv_type=to_text(cache.get("cache_dtype")),
            cache_block=self._cache_block,
        )

    async def _read_cache_config(self) -> Mapping[str, str]:
        response = await self._request(Question("GET", "/metrics"))
        page = response.content.decode("utf-8", "replace") if response.status_code == httpx.codes.OK else ""
        told = _CACHE_CONFIG.search(page)
        return dict(_LABEL.findall(told[1])) if told is not None else {}

    def _find_tolerance(self, sample: Sample, cell: Cell) -> answers.Tolerance:
        """A context that ends inside a block is evaluated again from the block's start."""
        found = super()._find_tolerance(sample, cell)
        if not cell.depth_tokens or not self._cache_block or cell.depth_tokens < self._cache_block:
            return found
        return replace(found, fewer=max(found.fewer, cell.depth_tokens % self._cache_block))

    async def make_prompts(self, cell: Cell, nonces: Sequence[str]) -> Sequence[Prompt]:
        """Count by ``/tokenize``, with the chat template: each prompt is exact before it is sent."""
        require_known(cell, _VLLM_SAMPLING, "vLLM")

        async def tokenize(text: str) -> tuple[int, ...]:
            return await self._ask_ids({"model": cell.model, "prompt": text, "add_special_tokens": False})

        async def tokenize_chat(text: str) -> tuple[int, ...]:
            return await self._ask_ids(
                {"model": cell.model, "messages": [{"role": "user", "content": text}], **cell.request}
            )

        if cell.depth_tokens:
            return await self.prefixes.make_prompts(cell, nonces, tokenize, tokenize_chat)
        return await self._make_exact_prompts(cell, nonces, lambda text: self._count(cell, text), tokenize)

    async def _count_template(self, cell: Cell) -> int:
        return await self._count(cell, "")

    async def _ask_next_tokens(self, model: str, timeout_s: float) -> Logprobs:
        """By ``logprobs`` of ``/v1/completions``."""

        async def ask(prefix: Sequence[int]) -> next_tokens.Top:
            body = {"model": model, "prompt": list(prefix), "max_tokens": 1, "logprobs": next_tokens.TOP, "top_k": -1}
            body |= {"return_tokens_as_token_ids": True}
            question = Question("POST", PATHS["completion"], {**next_tokens.PLAIN, **body})
            answer = await self._ask_object(question, timeout_s=timeout_s)
            try:
                return next_tokens.read_openai(answer, prefix)
            except Fault as fault:
                raise HostError(f"{self.name}: {question}: {fault}") from None

        ids = await self._ask_ids({"model": model, "prompt": next_tokens.TEXT, "add_special_tokens": True})
        return await next_tokens.ask_for_all(ids, ask, self.name)

    async def count_own(self, cell: Cell, own: Sequence[Prompt]) -> Sequence[int]:
        """By ``/tokenize``; of a prompt with images only running it tells."""
        require_known(cell, _VLLM_SAMPLING, "vLLM")
        return [0 if has_images(prompt) else await self._count_shape(cell, self._shape(prompt)) for prompt in own]

    def _shape(self, prompt: Prompt) -> Mapping[str, Any]:
        return {"messages": list(prompt.messages)} if prompt.messages else {"prompt": prompt.text}

    async def _count(self, cell: Cell, text: str) -> int:
        messages = ({"role": "user", "content": text},) if cell.kind == "chat" else ()
        return await self._count_shape(cell, self._shape(Prompt(text=text, messages=messages)))

    async def _count_shape(self, cell: Cell, shape: Mapping[str, Any]) -> int:
        question = Question("POST", "/tokenize", {"model": cell.model, **shape, **cell.request})
        counted = (await self._ask_object(question)).get("count")
        found = to_count(counted)
        if found is None or found < 0:
            raise HostError(f"{self.name}: {question}: expected a number under 'count', got {show(counted)}")
        return found

    def call(self, cell: Cell, prompt: Prompt) -> Call:
        """In a cold cell, add a unique salt, so that not even the template's first tokens come from the cache.

        All turns of a conversation have the salt of the first. A context before the prompt must come from the cache;
        then only the prompts themselves are unique.
        """
        call = super().call(cell, prompt)
        if cell.kind == "embedding" or cell.cache != "cold" or cell.depth_tokens:
            return call
        first = prompt.salt or (prompt.history[0]["content"] if prompt.history else prompt.ids or prompt.text)
        salt = hashlib.sha256(repr(first).encode()).hexdigest()
        return replace(call, body={"cache_salt": salt, **call.body})

    def _extras(self, cell: Cell) -> Mapping[str, Any]:
        told = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
        if cell.length == "natural" or cell.request.get("ignore_eos") is False:
            return told
        return {**told, "ignore_eos": True, "min_tokens": cell.output_tokens}


def _find_block(cache: Mapping[str, str]) -> int | None:
    """How many tokens a block has: attention may need larger ones than were asked for."""
    told = (cache.get(name, "") for name in ("block_size", "effective_attention_block_size"))
    sizes = [int(size) for size in told if size.isascii() and size.isdecimal() and len(size) < 10]
    return max((size for size in sizes if 0 < size <= _MOST_BLOCK), default=None)


class LmStudio(OpenAIServer):
    """An LM Studio server, 0.3.6 or newer; its own ``/api/v0`` lists models and their state."""

    kind = "lmstudio"
    can = Capabilities(load=True)

    async def facts(self) -> ServerFacts:
        """Return no version: it does not tell."""
        return ServerFacts(kind=self.kind, url=self.url)

    async def ready_models(self) -> Sequence[str] | None:
        """Return models with the state ``loaded``."""
        return [entry["id"] for entry in await self._model_list() if entry.get("state") == "loaded"]

    async def model_facts(self, model: str) -> ModelFacts:
        """From its entry in ``/api/v0/models``."""
        entry = await self._entry(model)
        return ModelFacts(
            name=model,
            quantisation=to_text(entry.get("quantization")),
            n_ctx=to_natural(entry.get("loaded_context_length")),
            n_ctx_train=to_natural(entry.get("max_context_length")),
        )

    async def embeds(self, model: str) -> bool | None:
        """From the type in its entry."""
        return (await self._entry(model)).get("type") == "embeddings"

    async def load(self, model: str) -> float | None:
        """Load by a request for one token, whose time is included: LM Studio loads a model at its first use."""
        entry = await self._entry(model)
        if entry.get("state") == "loaded":
            return None
        began = time.monotonic()
        if entry.get("type") == "embeddings":
            await self._load_by(Question("POST", PATHS["embedding"], {"model": model, "input": "a"}))
        else:
            body = {"model": model, "messages": [{"role": "user", "content": "a"}], "max_tokens": 1}
            await self._load_by(Question("POST", PATHS["chat"], body))
        return (time.monotonic() - began) * 1000

    async def make_prompts(self, cell: Cell, nonces: Sequence[str]) -> Sequence[Prompt]:
        """As in OpenAIServer, once the sampling fields are checked."""
        require_known(cell, _LM_STUDIO_SAMPLING, "LM Studio")
        return await super().make_prompts(cell, nonces)

    async def count_own(self, cell: Cell, own: Sequence[Prompt]) -> Sequence[int]:
        """As in OpenAIServer, once the sampling fields are checked."""
        require_known(cell, _LM_STUDIO_SAMPLING, "LM Studio")
        return await super().count_own(cell, own)

    async def _model_list(self) -> list[Mapping[str, Any]]:
        listed = await self._ask_list("/api/v0/models", "data", "is it LM Studio 0.3.6?")
        return [entry for entry in listed if isinstance(entry.get("id"), str)]
