"""Any OpenAI-compatible server: the common core that the other kinds build on.

Such a server counts tokens only by running a request, so prompts are fitted against ``usage``, each try with a nonce
of its own; and its rates come from the client's clock.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import httpx

from pytest_boobench import wire
from pytest_boobench.errors import HostError, PromptError
from pytest_boobench.facts import ModelFacts, ServerFacts
from pytest_boobench.metrics import Kind, Sample
from pytest_boobench.servers import answers, prompts
from pytest_boobench.servers.clients import Clients, ServerAnswer
from pytest_boobench.servers.control import (
    Question,
    StillLoading,
    ask,
    can_be_shown,
    explain_failure,
    list_names,
    telling,
    to_natural,
)
from pytest_boobench.servers.interface import Call, Capabilities, Prompt
from pytest_boobench.servers.refusals import explain_answer
from pytest_boobench.suite.cell import Cell
from pytest_boobench.units import span
from pytest_boobench.untrusted import Fault, get_count, get_object, parse_json, show, to_object, to_objects, to_text

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
        self.left_out = 0
        """Models that the last listing had and `models` does not: their names hold characters that steer a terminal."""

    @property
    def clients(self) -> Clients:
        """The host's HTTP clients."""
        return self._clients

    async def alive(self) -> bool:
        """Whether anything answers HTTP there."""
        try:
            await self._clients.control.get("/v1/models")
        except httpx.TransportError as error:
            return isinstance(error, wire.BadAnswer)
        return True

    async def facts(self) -> ServerFacts:
        """What little such a server tells of itself: the header that names it."""
        response = await self._ask("GET", "/v1/models")
        return ServerFacts(kind=self.kind, url=self.url, engine_build=to_text(response.headers.get("server")))

    async def models(self) -> Sequence[str]:
        """The ids of ``/v1/models`` and their aliases, in its order."""
        return self._keep_fit(name for entry in await self._model_list() for name in list_names(entry))

    async def model_facts(self, model: str) -> ModelFacts:
        """The model's entry in ``/v1/models``, where it has a ``meta`` object as llama.cpp's has."""
        entries = await self._model_list()
        entry = next((entry for entry in entries if model in list_names(entry)), {})
        meta = to_object(entry.get("meta"))
        return ModelFacts(
            name=model,
            n_params=to_natural(meta.get("n_params")),
            size_bytes=to_natural(meta.get("size")),
            quantisation=to_text(meta.get("ftype")),
            n_ctx=to_natural(meta.get("n_ctx")),
            n_ctx_train=to_natural(meta.get("n_ctx_train")),
            n_embd=to_natural(meta.get("n_embd")),
            n_vocab=to_natural(meta.get("n_vocab")),
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
            if not text:
                return await self._count_template(cell)
            fresh = prompts.make_nonce(f"{nonces[0]}/trial", next(trial))
            return await self._count_by_usage(cell, fresh + text[len(nonces[0]) :])

        # no text has more tokens than bytes, so that the first one surely fits into the context
        most, slack = cell.prompt_tokens, self._find_slack(cell)
        fitted = await prompts.fit(count, most, nonces[0], guess=most, slack=slack)
        await self._count_template(cell)
        return [Prompt(text=prompts.make_text(nonce, len(fitted) + len(nonce) - len(nonces[0]))) for nonce in nonces]

    async def _count_template(self, cell: Cell) -> int:
        """Tokens of the chat template alone, asked once for each model; 0 where the server refuses an empty message."""
        known = cell.model, cell.kind
        if cell.kind == "chat" and known not in self._template_tokens:
            self._template_tokens[known] = 0
            with contextlib.suppress(HostError):
                self._template_tokens[known] = await self._count_by_usage(cell, "")
        return self._template_tokens.get(known, 0)

    async def _count_by_usage(self, cell: Cell, text: str) -> int:
        body = {**self._input(cell, Prompt(text=text)), "model": cell.model, **cell.request}
        if cell.kind != "embedding":
            body["max_tokens"] = 1
        path = PATHS[cell.kind]
        answer = await self._ask_object("POST", path, body, timeout_s=cell.plan.timeouts.request_s)
        try:
            counted = get_count(get_object(answer, "usage"), "prompt_tokens", "usage")
        except Fault as fault:
            raise PromptError(f"{self.name}: POST {path}: {fault}") from None
        if counted is None:
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

    async def send(self, call: Call, cell: Cell) -> ServerAnswer:
        """Send a measured request and bring the whole answer, unread."""
        most = None if cell.output_tokens is None else answers.find_most_bytes(cell.output_tokens)
        return await self._clients.send(call.path, call.body, cell.plan.timeouts, most)

    def _find_slack(self, cell: Cell) -> int:
        """By how many tokens a prompt may be off: by none where it is counted before it is sent."""
        return 0 if self.can.exact_tokens else answers.find_slack(cell.prompt_tokens)

    def _find_tolerance(self, cell: Cell) -> answers.Tolerance:
        """What of a prompt may be otherwise than asked, since this server leaves no choice."""
        slack = self._find_slack(cell)
        if self.can.cache_control:
            return answers.Tolerance(slack)
        # and by chance two prompts begin with the same token or two
        return answers.Tolerance(slack, slack + self._template_tokens.get((cell.model, cell.kind), 0))

    def read(self, sample: Sample, answer: ServerAnswer, cell: Cell) -> Sample:
        """The sample with all that the answer says, checked against what the cell asks for."""
        return answers.read(sample, answer, cell, self._find_tolerance(cell))

    def read_text(self, answer: ServerAnswer) -> str:
        """What the model said; empty where nothing can be read."""
        return answers.read_text(answer)

    async def _model_list(self) -> list[Mapping[str, Any]]:
        return await self._ask_list("/v1/models", "data", "is this an LLM server?")

    def _keep_fit(self, names: Iterable[str]) -> list[str]:
        """Each name once, without those that no terminal may see."""
        found = list(dict.fromkeys(names))
        fit = [name for name in found if can_be_shown(name)]
        self.left_out = len(found) - len(fit)
        return fit

    async def _ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> httpx.Response:
        """A control request; anything but a 200 with JSON is a HostError that says what came instead.

        ``timeout_s`` is for those that may take long, such as counting by a request.
        """
        response = await self._request(method, path, body, timeout_s=timeout_s)
        if response.status_code == httpx.codes.OK:
            try:
                parse_json(response.content)
            except Fault as fault:
                if not str(fault).startswith("is not JSON"):
                    raise HostError(f"{self.name}: {method} {path}: the answer {fault}") from fault
            else:
                return response
        raise HostError(f"{self.name}: {method} {path}: {explain_answer(response, self.url)}")

    async def _ask_object(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> Mapping[str, Any]:
        """The JSON object that is answered; HostError where it is something else."""
        found = parse_json((await self._ask(method, path, body, timeout_s=timeout_s)).content)
        if not isinstance(found, Mapping):
            where = f"{self.name}: {method} {path}"
            raise HostError(f"{where}: expected an object, got {show(found)}; is {self.url} an LLM server?")
        return found

    async def _ask_list(self, path: str, key: str, question: str) -> list[Mapping[str, Any]]:
        """The objects of a list of models; HostError, with a question, where there is no such list."""
        found = parse_json((await self._ask("GET", path)).content)
        listed = to_object(found).get(key)
        if not isinstance(listed, list):
            raise HostError(f"{self.name}: GET {path}: expected a list of models under {key!r}; {question}")
        return to_objects(listed)

    async def _load_by(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> httpx.Response:
        """A control request that is answered when a model is loaded; HostError where it is no 200."""
        limit_s = self._clients.patience.explicit_load_s
        question = Question(method, path, body)
        where = f"{self.name}: {question}"
        try:
            async with telling(self._clients, self.name):
                response = await ask(self._clients, self.name, question, timeout_s=limit_s, load_s=limit_s)
        except httpx.ReadTimeout as error:
            raise StillLoading(
                f"{where}: still loading after {span(limit_s)}; "
                f"give it more time with {self._clients.patience.option}, or see the server's log"
            ) from error
        except httpx.TransportError as error:
            raise HostError(f"{where}: {explain_failure(error, self.url)}") from error
        if response.status_code != httpx.codes.OK:
            raise HostError(f"{where}: {explain_answer(response, self.url)}")
        return response

    async def _find(self, path: str) -> Any:
        """The JSON of a page that not every server has; None where this one has not."""
        response = await self._request("GET", path)
        try:
            return parse_json(response.content) if response.status_code == httpx.codes.OK else None
        except Fault:
            return None

    async def _request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> httpx.Response:
        """A control request and whatever is answered, once the host has no model to load; HostError where nothing
        is."""
        try:
            return await ask(self._clients, self.name, Question(method, path, body), timeout_s=timeout_s)
        except httpx.TransportError as error:
            raise HostError(f"{self.name}: {method} {path}: {explain_failure(error, self.url)}") from error
