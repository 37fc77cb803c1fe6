"""Ollama by its native API: its own timings, loading on request; prompts fitted to its counts."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pytest_boobench.errors import HostError, PromptError
from pytest_boobench.facts import ModelFacts, ServerFacts
from pytest_boobench.metrics import Kind, Sample
from pytest_boobench.servers import answers
from pytest_boobench.servers.clients import Call, Capabilities, Prompt, ServerAnswer
from pytest_boobench.servers.control import Question
from pytest_boobench.servers.ollama_answers import Asked, list_chunks, translate_embedding
from pytest_boobench.servers.openai import OpenAIServer, require_known
from pytest_boobench.servers.prompts import NoFit
from pytest_boobench.suite.cell import Cell
from pytest_boobench.untrusted import Fault, get_count, to_count, to_natural, to_object, to_objects, to_text, to_texts

_PATHS: Mapping[Kind, str] = {"chat": "/api/chat", "completion": "/api/generate", "embedding": "/api/embed"}
_SAMPLING = {
    "temperature", "top_k", "top_p", "min_p", "typical_p", "repeat_last_n", "repeat_penalty", "presence_penalty",
    "frequency_penalty", "seed",
}  # fmt: skip
_CUT = (
    "if the model can hold more, its context is too small and Ollama cuts the prompt: write "
    "request: {options: {num_ctx: …}} in the suite, or set OLLAMA_CONTEXT_LENGTH on the host"
)


class Ollama(OpenAIServer):
    """An Ollama server. It always uses its prompt cache and does not report it: only the nonces prevent that."""

    kind = "ollama"
    can = Capabilities(server_timings=True, load=True)

    async def facts(self) -> ServerFacts:
        """From ``/api/version``."""
        version = await self._ask_object(Question("GET", "/api/version"))
        return ServerFacts(kind=self.kind, url=self.url, engine_build=to_text(version.get("version")))

    async def models(self) -> Sequence[str]:
        """Return the names in ``/api/tags``."""
        return self._keep_printable(entry["name"] for entry in await self._list("/api/tags"))

    async def ready_models(self) -> Sequence[str] | None:
        """Return the names in ``/api/ps``."""
        return [entry["name"] for entry in await self._list("/api/ps")]

    async def model_facts(self, model: str) -> ModelFacts:
        """Read ``/api/show`` for the file, ``/api/tags`` for its size.
        ``/api/ps`` gives the context and the split between GPU and CPU of the loaded model."""
        loaded = _find(await self._list("/api/ps"), model)
        shown = await self._show(model)
        info = to_object(shown.get("model_info"))
        family = to_text(info.get("general.architecture"))
        return ModelFacts(
            name=model,
            n_params=to_natural(info.get("general.parameter_count")),
            size_bytes=to_natural(_find(await self._list("/api/tags"), model).get("size")),
            quantisation=to_text(to_object(shown.get("details")).get("quantization_level")),
            n_ctx=to_natural(loaded.get("context_length")),
            n_ctx_train=to_natural(info.get(f"{family}.context_length")),
            n_embd=to_natural(info.get(f"{family}.embedding_length")),
            gpu_percent=_find_gpu_percent(loaded),
        )

    async def embeds(self, model: str) -> bool | None:
        """From ``/api/show``; before 0.6.4 it does not tell."""
        capabilities = to_texts((await self._show(model)).get("capabilities"))
        return "completion" not in capabilities if capabilities else None

    async def load(self, model: str) -> float | None:
        """Load by a request without a prompt."""
        if model in (await self.ready_models() or ()):
            return None
        only_embeds = await self.embeds(model)
        began = time.monotonic()
        if only_embeds:
            await self._load_by(Question("POST", _PATHS["embedding"], {"model": model, "input": []}))
        else:
            await self._load_by(Question("POST", _PATHS["completion"], {"model": model}))
        return (time.monotonic() - began) * 1000

    async def make_prompts(self, cell: Cell, nonces: Sequence[str]) -> Sequence[Prompt]:
        """Fit to ``prompt_eval_count``. Requires a large enough context, because Ollama truncates without a message."""
        require_known(cell, _SAMPLING, "Ollama")
        await self._require_context(cell)
        try:
            return await super().make_prompts(cell, nonces)
        except NoFit as error:
            raise PromptError(f"{self.name}: {error}; {_CUT}") from error

    async def count_own(self, cell: Cell, own: Sequence[Prompt]) -> Sequence[int]:
        """As in OpenAIServer, once sampling fields and context are checked."""
        require_known(cell, _SAMPLING, "Ollama")
        await self._require_context(cell)
        return await super().count_own(cell, own)

    def _input(self, cell: Cell, prompt: Prompt) -> dict[str, Any]:
        """Pictures are beside the text, and not in it."""
        if prompt.messages:
            return {"messages": fit_messages(prompt.messages)}
        return super()._input(cell, prompt)

    async def _require_context(self, cell: Cell) -> None:
        """Raise HostError if the model's context is known to be too small for prompt and output."""
        asked = to_count(to_object(cell.request.get("options")).get("num_ctx"))
        listed = to_objects(to_object(await self._find("/api/ps")).get("models"))
        context = asked or to_count(_find(listed, cell.model).get("context_length"))
        needed = cell.context_tokens
        if context is not None and context < needed:
            enough = -(-needed // 1024) * 1024  # contexts are multiples of 1024
            raise HostError(
                f"{self.name}: {cell.model} has a context of {context} tokens (num_ctx), prompt and output need "
                f"{needed}: Ollama would cut the prompt without a message; "
                f"write request: {{options: {{num_ctx: {enough}}}}} in the suite, or set "
                "OLLAMA_CONTEXT_LENGTH on the host"
            )

    async def _count_by_usage(self, cell: Cell, text: str) -> int:
        if not text and cell.kind != "chat":
            return 0  # without a prompt it would only load the model
        question = Question("POST", _PATHS[cell.kind], {**self._body(cell, Prompt(text=text), 1), "stream": False})
        answer = await self._ask_object(question, timeout_s=cell.plan.timeouts.request_s)
        try:
            counted = get_count(answer, "prompt_eval_count")
        except Fault as fault:
            raise PromptError(f"{self.name}: {question}: {fault}") from None
        if counted is None:
            raise PromptError(
                f"{self.name}: {question}: no prompt_eval_count in the answer, so no exact prompt can be made; "
                "a newer Ollama is needed"
            )
        return counted

    def call(self, cell: Cell, prompt: Prompt) -> Call:
        """Make the cell's request; sampling and length go into ``options``, beside the suite's own options."""
        stream = {} if cell.kind == "embedding" else {"stream": True}
        return Call(_PATHS[cell.kind], {**self._body(cell, prompt, cell.output_tokens), **stream})

    def _body(self, cell: Cell, prompt: Prompt, output_tokens: int | None) -> dict[str, Any]:
        body: dict[str, Any] = {"model": cell.model, **self._input(cell, prompt)}
        if cell.kind == "completion":
            body["raw"] = True
        options = {**(cell.request.get("options") or {}), **cell.sampling}
        if cell.kind != "embedding":
            options["num_predict"] = output_tokens
        return {**body, **cell.request, "options": options}

    def read(self, sample: Sample, answer: ServerAnswer, cell: Cell) -> Sample:
        exchange = answer.exchange
        if cell.kind == "embedding" and exchange is not None:
            answer = replace(answer, exchange=replace(exchange, body=translate_embedding(exchange.body)))
        tolerance = self._find_tolerance(sample, cell)
        asked = Asked(cell.prompt_tokens, tolerance.slack, cold=cell.cache == "cold")
        found = answers.read(sample, answer, cell, tolerance, lambda exchange: list_chunks(exchange, asked))
        if (asked.cold or sample.turn > 1) and "prompt_eval_cached_count" not in found.timings:
            found = replace(found, cached_tokens=None)  # it does not report it, and a matching count proves nothing
        counted = found.prompt_tokens
        if found.failure == "prompt-length" and counted is not None and counted < cell.prompt_tokens:
            text = f"{found.failure_text}: the rest came from its cache, or was cut; {_CUT}"
            return replace(found, failure_text=text)
        return found

    def read_text(self, answer: ServerAnswer) -> str:
        return answers.read_text(answer, list_chunks)

    def read_reply(self, answer: ServerAnswer) -> Iterator[str]:
        return answers.read_reply(answer, list_chunks)

    async def _show(self, model: str) -> Mapping[str, Any]:
        return await self._ask_object(Question("POST", "/api/show", {"model": model}))

    async def _list(self, path: str) -> list[Mapping[str, Any]]:
        listed = await self._ask_list(path, "models", "is this Ollama?")
        return [entry for entry in listed if isinstance(entry.get("name"), str)]


def fit_messages(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the messages as Ollama takes them: pictures beside the text, and not in it."""
    fitted: list[Mapping[str, Any]] = []
    for message in messages:
        parts = message.get("content")
        if not isinstance(parts, list):
            fitted.append(message)
            continue
        texts = [part["text"] for part in parts if part["type"] == "text"]
        images = [part["image_url"]["url"].partition(",")[2] for part in parts if part["type"] == "image_url"]
        fitted.append({**message, "content": "\n".join(texts), "images": images})
    return fitted


def _find(entries: Sequence[Mapping[str, Any]], model: str) -> Mapping[str, Any]:
    return next((entry for entry in entries if entry.get("name") == model), {})


def _find_gpu_percent(loaded: Mapping[str, Any]) -> int | None:
    """Percentage of a loaded model that is on GPUs; None if unknown or not a share of the whole."""
    size, on_gpus = to_natural(loaded.get("size")), to_count(loaded.get("size_vram"))
    if size is None or on_gpus is None or not 0 <= on_gpus <= size:
        return None
    return round(100 * on_gpus / size)
