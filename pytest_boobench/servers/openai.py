"""Any OpenAI-compatible server: the common core that the other kinds build on.

Such a server counts tokens only by running a request, so prompts are fitted against ``usage``, each try with a nonce
of its own; and its rates come from the client's clock.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from pytest_boobench.errors import HostError, PromptError
from pytest_boobench.facts import ModelFacts, ServerFacts
from pytest_boobench.metrics import Kind, Sample
from pytest_boobench.servers import answers, prompts
from pytest_boobench.servers.clients import Answer, Clients
from pytest_boobench.servers.interface import Call, Capabilities, Prompt
from pytest_boobench.servers.refusals import explain_answer, explain_silence
from pytest_boobench.suite.cell import Cell

LOAD_TIMEOUT_S = 900.0
"""How long a host may take to load a model."""
PATHS: Mapping[Kind, str] = {
    "chat": "/v1/chat/completions",
    "completion": "/v1/completions",
    "embedding": "/v1/embeddings",
}


class OpenAIServer:
    """A server known by its URL and nothing else."""

    kind = "openai"
    can = Capabilities()

    def __init__(self, name: str, url: str, clients: Clients) -> None:
        self.name = name
        self.url = url
        self._clients = clients
        self._template_tokens: dict[tuple[str, Kind], int] = {}
        """What the chat template alone counts, by model and kind: it comes from a cache that cannot be forbidden."""

    @property
    def clients(self) -> Clients:
        """The host's HTTP clients."""
        return self._clients

    async def alive(self) -> bool:
        """Whether anything answers HTTP there."""
        try:
            await self._clients.control.get("/v1/models")
        except httpx.TransportError:
            return False
        return True

    async def facts(self) -> ServerFacts:
        """What little such a server tells of itself: the header that names it."""
        response = await self._ask("GET", "/v1/models")
        return ServerFacts(kind=self.kind, url=self.url, engine_build=response.headers.get("server"))

    async def models(self) -> Sequence[str]:
        """The ids of ``/v1/models`` and their aliases, in its order."""
        names = (
            name for entry in await self._model_list() for name in (entry.get("id"), *(entry.get("aliases") or ()))
        )
        return list(dict.fromkeys(name for name in names if isinstance(name, str)))

    async def model_facts(self, model: str) -> ModelFacts:
        """The model's entry in ``/v1/models``, where it has a ``meta`` object as llama.cpp's has."""
        entries = await self._model_list()
        entry = next((entry for entry in entries if model in (entry.get("id"), *(entry.get("aliases") or ()))), {})
        meta = entry.get("meta") or {}
        return ModelFacts(
            name=model,
            n_params=meta.get("n_params"),
            size_bytes=meta.get("size"),
            quantisation=meta.get("ftype"),
            n_ctx=meta.get("n_ctx"),
            n_ctx_train=meta.get("n_ctx_train"),
            n_embd=meta.get("n_embd"),
            n_vocab=meta.get("n_vocab"),
        )

    async def ready_models(self) -> Sequence[str] | None:
        """Such a server does not tell."""
        return None

    async def embeds(self, model: str) -> bool | None:  # noqa: ARG002
        """Such a server does not tell."""
        return None

    async def load(self, model: str) -> float | None:  # noqa: ARG002
        """Such a server has its models loaded, or loads them as it pleases."""
        return None

    async def make_prompts(self, cell: Cell, nonces: Sequence[str]) -> Sequence[Prompt]:
        """Fitted against ``usage`` with a nonce of their own; what each request really had is checked afterwards."""
        trial = itertools.count()

        async def count(text: str) -> int:
            fresh = prompts.make_nonce(f"{nonces[0]}/trial", next(trial))
            return await self._count_by_usage(cell, fresh + text[len(nonces[0]) :] if text else "")

        fitted = await prompts.fit(count, cell.prompt_tokens, nonces[0], slack=self._find_slack(cell))
        await self._learn_template(cell)
        return [Prompt(text=prompts.make_text(nonce, len(fitted) + len(nonce) - len(nonces[0]))) for nonce in nonces]

    async def _learn_template(self, cell: Cell) -> None:
        """Once for each model; a server that refuses an empty message says nothing."""
        known = cell.model, cell.kind
        if cell.kind != "chat" or known in self._template_tokens:
            return
        self._template_tokens[known] = 0
        with contextlib.suppress(HostError):
            self._template_tokens[known] = await self._count_by_usage(cell, "")

    async def _count_by_usage(self, cell: Cell, text: str) -> int:
        body = {**self._input(cell, Prompt(text=text)), "model": cell.model, **cell.request}
        if cell.kind != "embedding":
            body["max_tokens"] = 1
        answer = (await self._ask("POST", PATHS[cell.kind], body, timeout_s=cell.plan.timeouts.request_s)).json()
        counted = (answer.get("usage") or {}).get("prompt_tokens")
        if not isinstance(counted, int):
            raise PromptError(
                f"{self.name}: the server says nothing of prompt tokens (no usage in its answer), "
                "so no exact prompt can be made; a server that counts is needed"
            )
        return counted

    def _input(self, cell: Cell, prompt: Prompt) -> dict[str, Any]:
        content = list(prompt.ids) if prompt.ids is not None else prompt.text
        if cell.kind == "chat":
            return {"messages": [{"role": "user", "content": content}]}
        return {"input": content} if cell.kind == "embedding" else {"prompt": content}

    def call(self, cell: Cell, prompt: Prompt) -> Call:
        """The cell's request: what the suite names is sent as written, and nothing that it does not name."""
        body: dict[str, Any] = {"model": cell.model, **self._input(cell, prompt)}
        if cell.kind != "embedding":
            body |= {"max_tokens": cell.output_tokens, "stream": True, "stream_options": {"include_usage": True}}
        return Call(PATHS[cell.kind], {**body, **self._extras(cell), **cell.sampling, **cell.request})

    def _extras(self, cell: Cell) -> Mapping[str, Any]:  # noqa: ARG002  # the other kinds look at it
        """Fields of this kind of server; none that every server knows."""
        return {}

    async def send(self, call: Call, cell: Cell) -> Answer:
        """Send a measured request and bring the whole answer, unread."""
        most = None if cell.output_tokens is None else answers.find_most_bytes(cell.output_tokens)
        return await self._clients.send(call.path, call.body, cell.plan.timeouts, most)

    def _find_slack(self, cell: Cell) -> int:
        """By how many tokens a prompt may be off: by none where it is counted before it is sent."""
        return 0 if self.can.exact_tokens else answers.find_slack(cell.prompt_tokens)

    def _find_tolerance(self, cell: Cell) -> answers.Tolerance:
        """What of a prompt may be otherwise than asked, since this server leaves no choice."""
        template = 0 if self.can.cache_control else self._template_tokens.get((cell.model, cell.kind), 0)
        return answers.Tolerance(self._find_slack(cell), template)

    def read(self, sample: Sample, answer: Answer, cell: Cell) -> Sample:
        """The sample with all that the answer says, checked against what the cell asks for."""
        return answers.read(sample, answer, cell, self._find_tolerance(cell))

    def read_text(self, answer: Answer) -> str:
        """What the model said; empty where nothing can be read."""
        return answers.read_text(answer)

    async def _model_list(self) -> list[dict[str, Any]]:
        body = (await self._ask("GET", "/v1/models")).json()
        listed = body.get("data") if isinstance(body, dict) else None
        if not isinstance(listed, list):
            raise HostError(
                f"{self.name}: GET /v1/models: expected a list of models under 'data'; is this an LLM server?"
            )
        return [entry for entry in listed if isinstance(entry, dict)]

    async def _ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> httpx.Response:
        """A control request; anything but a 200 with JSON is a HostError that says what came instead.

        ``timeout_s`` is for those that may take long, such as loading a model.
        """
        response = await self._request(method, path, body, timeout_s=timeout_s)
        if response.status_code == httpx.codes.OK:
            with contextlib.suppress(ValueError):
                response.json()
                return response
        raise HostError(f"{self.name}: {method} {path}: {explain_answer(response, self.url)}")

    async def _find(self, path: str) -> Any:
        """The JSON of a page that not every server has; None where this one has not."""
        response = await self._request("GET", path)
        try:
            return response.json() if response.status_code == httpx.codes.OK else None
        except ValueError:
            return None

    async def _request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> httpx.Response:
        """A control request and whatever is answered; HostError where nothing is."""
        timeout = self._clients.control.timeout if timeout_s is None else httpx.Timeout(timeout_s)
        try:
            return await self._clients.control.request(method, path, json=body, timeout=timeout)
        except httpx.TransportError as error:
            text = explain_silence(error)
            raise HostError(f"{self.name}: {method} {path}: no answer from {self.url}: {text}") from error
