"""LM Studio: its OpenAI-compatible side for what is measured, its own ``/api/v0`` for models and their state."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_boobench.facts import ModelFacts, ServerFacts
from pytest_boobench.servers.control import to_natural
from pytest_boobench.servers.interface import Capabilities, Prompt, require_known
from pytest_boobench.servers.openai import PATHS, OpenAIServer
from pytest_boobench.suite.cell import Cell
from pytest_boobench.untrusted import to_text

_SAMPLING = frozenset(
    {"temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty", "repeat_penalty", "seed"}
)


class LmStudio(OpenAIServer):
    """An LM Studio server, 0.3.6 or newer."""

    kind = "lmstudio"
    can = Capabilities(load=True)

    async def facts(self) -> ServerFacts:
        """It does not tell its version."""
        return ServerFacts(kind=self.kind, url=self.url)

    async def ready_models(self) -> Sequence[str] | None:
        """Those whose state is ``loaded``."""
        return [entry["id"] for entry in await self._model_list() if entry.get("state") == "loaded"]

    async def model_facts(self, model: str) -> ModelFacts:
        """Its entry in ``/api/v0/models``."""
        entry = await self._entry(model)
        return ModelFacts(
            name=model,
            quantisation=to_text(entry.get("quantization")),
            n_ctx=to_natural(entry.get("loaded_context_length")),
            n_ctx_train=to_natural(entry.get("max_context_length")),
        )

    async def embeds(self, model: str) -> bool | None:
        """By the type in its entry."""
        return (await self._entry(model)).get("type") == "embeddings"

    async def load(self, model: str) -> float | None:
        """By a request for one token, which the milliseconds contain: LM Studio loads a model at its first use."""
        entry = await self._entry(model)
        if entry.get("state") == "loaded":
            return None
        began = time.monotonic()
        if entry.get("type") == "embeddings":
            await self._load_by("POST", PATHS["embedding"], {"model": model, "input": "a"})
        else:
            body = {"model": model, "messages": [{"role": "user", "content": "a"}], "max_tokens": 1}
            await self._load_by("POST", PATHS["chat"], body)
        return (time.monotonic() - began) * 1000

    async def make_prompts(self, cell: Cell, nonces: Sequence[str]) -> Sequence[Prompt]:
        """As any."""
        require_known(cell, _SAMPLING, "LM Studio")
        return await super().make_prompts(cell, nonces)

    async def _entry(self, model: str) -> Mapping[str, Any]:
        return next((entry for entry in await self._model_list() if entry["id"] == model), {})

    async def _model_list(self) -> list[Mapping[str, Any]]:
        listed = await self._ask_list("/api/v0/models", "data", "is it LM Studio 0.3.6?")
        return [entry for entry in listed if isinstance(entry.get("id"), str)]
