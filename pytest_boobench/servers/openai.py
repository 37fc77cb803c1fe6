"""Any OpenAI-compatible server: the common core that the other kinds extend.

Such a server counts tokens only by running a request. So prompts are fitted to ``usage``, each try with its own nonce,
and rates come from the client's clock.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pytest_boobench.errors import HostError, PromptError
from pytest_boobench.facts import Logprobs, ModelFacts, ServerFacts
from pytest_boobench.metrics import Kind, Sample
from pytest_boobench.servers import answers, prompts
from pytest_boobench.servers.clients import Call, Capabilities, Clients, Prompt, ServerAnswer
from pytest_boobench.servers.control import ControlRequests, Ids, Question, list_names
from pytest_boobench.servers.prefixes import Prefixes
from pytest_boobench.suite.cell import Cell
from pytest_boobench.untrusted import Fault, get_count, get_object, to_natural, to_object, to_text

PATHS: Mapping[Kind, str] = {
    "chat": "/v1/chat/completions",
    "completion": "/v1/completions",
    "embedding": "/v1/embeddings",
}


class OpenAIServer(ControlRequests):
    """A server of which only the URL is known."""

    kind = "openai"
    can = Capabilities()

    def __init__(self, name: str, url: str, clients: Clients) -> None:
        super().__init__(name, url, clients)
        self._template_tokens: dict[tuple[str, Kind], int] = {}
        """Tokens of the chat template alone, by model and kind: they may come from a cache that cannot be disabled."""
        self.prefixes = Prefixes()
        self.left_out = 0
        """Models of the last listing that `models` omits, because their names hold control characters."""
        self._next_tokens: dict[str, Logprobs] = {}
        """What each model expects in the fixed text."""
        self.started_with: str | None = None
        """The command line as `write_command` writes it, set by the code that started the server; else None."""

    async def alive(self) -> bool:
        """Whether anything answers HTTP there."""
        return await self._answers("/v1/models")

    async def facts(self) -> ServerFacts:
        """Return the header that names the server; there are no other facts."""
        question = Question("GET", "/v1/models")
        response = await self._request(question)
        self._read_json(question, response)
        return ServerFacts(kind=self.kind, url=self.url, engine_build=to_text(response.headers.get("server")))

    async def models(self) -> Sequence[str]:
        """Return the ids and aliases in ``/v1/models``, in its order."""
        return self._keep_printable(name for entry in await self._model_list() for name in list_names(entry))

    async def model_facts(self, model: str) -> ModelFacts:
        """From the model's entry in ``/v1/models``, if it has a ``meta`` object like llama.cpp's."""
        meta = to_object((await self._entry(model)).get("meta"))
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

    async def command(self, model: str) -> str | None:  # noqa: ARG002
        """Known only for a server that we started."""
        return self.started_with

    async def ready_models(self) -> Sequence[str] | None:
        """None: such a server does not tell."""
        return None

    async def embeds(self, model: str) -> bool | None:  # noqa: ARG002
        """None: such a server does not tell."""
        return None

    async def load(self, model: str) -> float | None:  # noqa: ARG002
        """Do nothing: such a server has its models loaded, or loads them when it wants."""
        return None

    async def make_prompts(self, cell: Cell, nonces: Sequence[str]) -> Sequence[Prompt]:
        """Fit to ``usage``, each try with its own nonce. Each request's real count is checked later."""
        if cell.depth_tokens:
            raise HostError(
                f"{self.name}: depth_tokens: this kind of server, {self.kind}, counts no text without running it, so "
                "that no context of exact length can be kept in its cache; leave it out, or use llama-server or vLLM"
            )
        trial = itertools.count()

        async def count(text: str) -> int:
            if not text:
                return await self._count_template(cell)
            fresh = prompts.make_nonce(f"{nonces[0]}/trial", next(trial))
            return await self._count_by_usage(cell, fresh + text[len(fresh) :])

        # no text has more tokens than bytes, so the first try surely fits into the context
        most, slack = cell.prompt_tokens, self._find_slack(cell)
        fitted = await prompts.fit(count, most, nonces[0], guess=most, slack=slack)
        await self._count_template(cell)
        return [Prompt(text=prompts.make_text(nonce, len(fitted) + len(nonce) - len(nonces[0]))) for nonce in nonces]

    async def make_turns(self, cell: Cell, nonces: Sequence[str]) -> Sequence[Prompt]:
        """As first prompts that are longer by the chat template."""
        template = await self._count_template(cell)
        return await self.make_prompts(replace(cell, prompt_tokens=template + cell.turn_tokens), nonces)

    async def count_own(self, cell: Cell, own: Sequence[Prompt]) -> Sequence[int]:
        """Refuse a cold cell: such a server cannot be told to leave its cache unused, which may know own text."""
        if cell.cache == "cold" and cell.kind != "embedding" and own:
            raise HostError(
                f"{self.name}: prompts: this server ({self.kind}) cannot be told to leave its cache unused, and it may "
                "hold a part of own text; write cache: warm in the suite, or use llama-server or vLLM"
            )
        return [0] * len(own)

    async def _count_template(self, cell: Cell) -> int:
        """Count the tokens of the chat template alone, once per model; 0 if the server refuses an empty message."""
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
        question = Question("POST", PATHS[cell.kind], body)
        answer = await self._ask_object(question, timeout_s=cell.plan.timeouts.request_s)
        try:
            counted = get_count(get_object(answer, "usage"), "prompt_tokens", "usage")
        except Fault as fault:
            raise PromptError(f"{self.name}: {question}: {fault}") from None
        if counted is None:
            raise PromptError(
                f"{self.name}: the server says nothing of prompt tokens (no usage in its answer), "
                "so no exact prompt can be made; a server that counts is needed"
            )
        return counted

    async def _make_exact_prompts(
        self, cell: Cell, nonces: Sequence[str], count: prompts.Count, tokenize: Callable[[str], Awaitable[Ids]]
    ) -> list[Prompt]:
        """Return prompts that ``count`` finds exact; for a completion, the first N ids of a long text.

        ``tokenize`` adds no begin-of-text, so that N ids are N tokens.
        """
        made: dict[str, Prompt] = {}
        guess: int | None = None
        for nonce in dict.fromkeys(nonces):
            if cell.kind == "completion":
                ids = await tokenize(prompts.make_text(nonce, 8 * cell.prompt_tokens + len(nonce)))
                made[nonce] = Prompt(ids=ids[: cell.prompt_tokens])
            else:
                text = await prompts.fit(count, cell.prompt_tokens, nonce, guess=guess)
                made[nonce] = Prompt(text=text)
                guess = len(text)
        return [made[nonce] for nonce in nonces]

    def _input(self, cell: Cell, prompt: Prompt) -> dict[str, Any]:
        if prompt.messages:
            return {"messages": list(prompt.messages)}
        content = list(prompt.ids) if prompt.ids is not None else prompt.text
        if cell.kind == "chat":
            return {"messages": [*prompt.history, {"role": "user", "content": content}]}
        return {"input": content} if cell.kind == "embedding" else {"prompt": content}

    def call(self, cell: Cell, prompt: Prompt) -> Call:
        """Make the cell's request: the suite's fields as written, and no other sampling fields."""
        body: dict[str, Any] = {"model": cell.model, **self._input(cell, prompt)}
        if cell.kind != "embedding":
            body |= {"max_tokens": cell.output_tokens, "stream": True, "stream_options": {"include_usage": True}}
            body |= self._extras(replace(cell, cache="warm") if prompt.history else cell)
        return Call(PATHS[cell.kind], {**body, **cell.sampling, **cell.request})

    def _extras(self, cell: Cell) -> Mapping[str, Any]:  # noqa: ARG002  # the other kinds use it
        """Fields that only this kind of server knows, for a chat or a completion."""
        return {}

    async def send(self, call: Call, cell: Cell) -> ServerAnswer:
        most = None if cell.output_tokens is None else answers.find_most_bytes(cell.output_tokens)
        return await self.clients.send(call, cell.plan.timeouts, most)

    def _find_slack(self, cell: Cell) -> int:
        """By how many tokens a prompt may be off: 0 if it is counted before it is sent."""
        return 0 if self.can.exact_tokens else answers.find_slack(cell.prompt_tokens)

    def _find_tolerance(self, sample: Sample, cell: Cell) -> answers.Tolerance:
        if sample.turn > 1:
            return answers.find_turn_tolerance(cell.output_tokens or 0)
        slack = self._find_slack(cell)
        if self.can.cache_control:
            return answers.Tolerance(slack)
        # two prompts may begin with the same few tokens by chance
        return answers.Tolerance(slack, slack + self._template_tokens.get((cell.model, cell.kind), 0))

    def read(self, sample: Sample, answer: ServerAnswer, cell: Cell) -> Sample:
        return answers.read(sample, answer, cell, self._find_tolerance(sample, cell))

    def read_text(self, answer: ServerAnswer) -> str:
        return answers.read_text(answer)

    def read_reply(self, answer: ServerAnswer) -> Iterator[str]:
        return answers.read_reply(answer)

    async def _model_list(self) -> list[Mapping[str, Any]]:
        return await self._ask_list("/v1/models", "data", "is this an LLM server?")

    async def _entry(self, model: str) -> Mapping[str, Any]:
        """The model's entry in the listing; empty if it is not listed."""
        return next((entry for entry in await self._model_list() if model in list_names(entry)), {})

    async def next_tokens(self, model: str, timeout_s: float) -> Logprobs:
        """Ask once for each model: it does not change while its server runs."""
        if model not in self._next_tokens:
            self._next_tokens[model] = await self._ask_next_tokens(model, timeout_s)
        return self._next_tokens[model]

    async def _ask_next_tokens(self, model: str, timeout_s: float) -> Logprobs:  # noqa: ARG002  # the other kinds need it
        """HostError: without token ids, a text's prefixes and the tokens after them have no names."""
        raise HostError(
            f"{self.name}: quality: kld needs probabilities of tokens with their ids, which llama-server gives, also "
            f"behind llama-swap, and vLLM, but not this server ({self.kind}); leave quality out"
        )

    def _keep_printable(self, names: Iterable[str]) -> list[str]:
        """Each name once; omits names with control characters, because requests need them unchanged."""
        found = list(dict.fromkeys(names))
        printable = [name for name in found if name.isprintable()]
        self.left_out = len(found) - len(printable)
        return printable


def has_images(prompt: Prompt) -> bool:
    """Whether pictures are in its messages: no tokenizer counts them."""
    return any(isinstance(message.get("content"), list) for message in prompt.messages)


def require_known(cell: Cell, known: Collection[str], server: str) -> None:
    """Raise HostError for a sampling field that this kind of server ignores: it would use its default."""
    unknown = [name for name in cell.sampling if name not in known]
    if unknown:
        raise HostError(
            f"{cell.host}: sampling.{unknown[0]}: {server} ignores it, and its own default would be used; "
            f"leave it out, it knows {', '.join(sorted(known))}"
        )
