"""vLLM: exact token counts by ``/tokenize``, a fixed length, a salted prefix cache; rates by the client's clock."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pytest_boobench.errors import HostError
from pytest_boobench.facts import ModelFacts, ServerFacts
from pytest_boobench.servers import prompts
from pytest_boobench.servers.control import to_ids, to_natural
from pytest_boobench.servers.interface import Call, Capabilities, Prompt, require_known
from pytest_boobench.servers.openai import OpenAIServer
from pytest_boobench.suite.cell import Cell
from pytest_boobench.untrusted import show, to_count, to_text

_SAMPLING = frozenset({"temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "seed"})


class Vllm(OpenAIServer):
    """A vLLM server; all models that it lists are loaded."""

    kind = "vllm"
    can = Capabilities(exact_tokens=True, cache_control=True, ignore_eos=True)

    async def facts(self) -> ServerFacts:
        """``/version``."""
        version = await self._ask_object("GET", "/version")
        return ServerFacts(kind=self.kind, url=self.url, engine_build=to_text(version.get("version")))

    async def ready_models(self) -> Sequence[str] | None:
        """All that it lists."""
        return await self.models()

    async def model_facts(self, model: str) -> ModelFacts:
        """``/v1/models``: where the weights came from, and the longest context."""
        entry = next((entry for entry in await self._model_list() if entry.get("id") == model), {})
        return ModelFacts(name=model, path=to_text(entry.get("root")), n_ctx=to_natural(entry.get("max_model_len")))

    async def make_prompts(self, cell: Cell, nonces: Sequence[str]) -> Sequence[Prompt]:
        """Counted by ``/tokenize``, the chat template included: each prompt is exact before it is sent."""
        require_known(cell, _SAMPLING, "vLLM")
        made: dict[str, Prompt] = {}
        guess: int | None = None
        for nonce in dict.fromkeys(nonces):
            if cell.kind == "completion":
                made[nonce] = await self._cut_ids(cell, nonce)
                continue
            text = await prompts.fit(lambda text: self._count(cell, text), cell.prompt_tokens, nonce, guess=guess)
            made[nonce] = Prompt(text=text)
            guess = len(text)
        return [made[nonce] for nonce in nonces]

    async def _cut_ids(self, cell: Cell, nonce: str) -> Prompt:
        """The first N token ids of a text that surely has as many: N ids are N tokens, no begin-of-text is added."""
        text = prompts.make_text(nonce, 8 * cell.prompt_tokens + len(nonce))
        body = {"model": cell.model, "prompt": text, "add_special_tokens": False}
        ids = to_ids((await self._ask_object("POST", "/tokenize", body)).get("tokens"))
        if ids is None:
            raise HostError(f"{self.name}: POST /tokenize: expected a list of token ids under 'tokens'")
        return Prompt(ids=ids[: cell.prompt_tokens])

    async def _count(self, cell: Cell, text: str) -> int:
        shape = {"messages": [{"role": "user", "content": text}]} if cell.kind == "chat" else {"prompt": text}
        counted = (await self._ask_object("POST", "/tokenize", {"model": cell.model, **shape, **cell.request})).get(
            "count"
        )
        found = to_count(counted)
        if found is None or found < 0:
            raise HostError(f"{self.name}: POST /tokenize: expected a number under 'count', got {show(counted)}")
        return found

    def call(self, cell: Cell, prompt: Prompt) -> Call:
        """As any; cold with a salt of its own, so that not even the template's first tokens come from the cache."""
        call = super().call(cell, prompt)
        if cell.kind == "embedding" or cell.cache != "cold":
            return call
        salt = hashlib.sha256(repr(prompt.ids or prompt.text).encode()).hexdigest()
        return replace(call, body={"cache_salt": salt, **call.body})

    def _extras(self, cell: Cell) -> Mapping[str, Any]:
        """Fixed length; and with each event how many tokens there are until then."""
        if cell.kind == "embedding":
            return {}
        told = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
        if cell.length == "natural" or cell.request.get("ignore_eos") is False:
            return told
        return {**told, "ignore_eos": True, "min_tokens": cell.output_tokens}
