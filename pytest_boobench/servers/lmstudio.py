"""LM Studio: its OpenAI-compatible side for what is measured, its own ``/api/v0`` for models and their state."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from pytest_boobench.errors import HostError
from pytest_boobench.facts import ModelFacts, ServerFacts
from pytest_boobench.servers.interface import Capabilities, Prompt
from pytest_boobench.servers.openai import LOAD_TIMEOUT_S, PATHS, OpenAIServer
from pytest_boobench.servers.sampling import require_known
from pytest_boobench.suite.cell import Cell

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
            quantisation=entry.get("quantization"),
            n_ctx=entry.get("loaded_context_length"),
            n_ctx_train=entry.get("max_context_length"),
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
            await self._ask("POST", PATHS["embedding"], {"model": model, "input": "a"}, timeout_s=LOAD_TIMEOUT_S)
        else:
            body = {"model": model, "messages": [{"role": "user", "content": "a"}], "max_tokens": 1}
            await self._ask("POST", PATHS["chat"], body, timeout_s=LOAD_TIMEOUT_S)
        return (time.monotonic() - began) * 1000

    async def make_prompts(self, cell: Cell, nonces: Sequence[str]) -> Sequence[Prompt]:
        """As any."""
        require_known(cell, _SAMPLING, "LM Studio")
        return await super().make_prompts(cell, nonces)

    async def _entry(self, model: str) -> dict[str, Any]:
        return next((entry for entry in await self._model_list() if entry["id"] == model), {})

    async def _model_list(self) -> list[dict[str, Any]]:
        body = (await self._ask("GET", "/api/v0/models")).json()
        listed = body.get("data") if isinstance(body, dict) else None
        if not isinstance(listed, list):
            raise HostError(f"{self.name}: GET /api/v0/models: expected a list under 'data'; is it LM Studio 0.3.6?")
        return [entry for entry in listed if isinstance(entry, dict) and "id" in entry]
