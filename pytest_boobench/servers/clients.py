"""The interface of every kind of server, and a host's two HTTP clients.

A time-stamping client sends the measured requests, an ordinary one all others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from pytest_boobench import wire
from pytest_boobench.facts import Logprobs, ModelFacts, ServerFacts
from pytest_boobench.metrics import Sample
from pytest_boobench.suite.cell import Cell, Timeouts

LOADING_S = 300.0
"""Default time that a control request waits for a model that is loading."""
LOAD_TIMEOUT_S = 900.0
"""Default time for a load that we ask for."""
DEFAULT_WAIT_S = 1.0
"""Wait after a 429 if the host does not say how long."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A host that is not ready, at one moment."""

    host: str
    why: Literal["loading", "refused"]
    waited_s: float

    def __str__(self) -> str:
        what = "loading the model" if self.why == "loading" else "waiting for its server, which refuses connections"
        return f"{self.host}: {what}, {self.waited_s:.0f} s so far"


def tell_nobody(waiting: Waiting) -> None:
    """Ignore the progress of waiting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait for a host that is not ready."""

    load_s: float | None = None
    """None: the defaults, which allow more time for a load that we ask for."""
    waits: bool = True
    """Whether control requests wait for a model that is loading. A load that we ask for always does."""
    refused_s: float = 0.0
    """How long connections may be refused: the server may be starting."""
    option: str = "--boobench-load-timeout"
    """The command line option that allows more time."""
    tell: Callable[[Waiting], None] = tell_nobody
    """Called about once a second while a request waits."""

    @property
    def loading_s(self) -> float:
        """For a control request."""
        if not self.waits:
            return 0.0
        return LOADING_S if self.load_s is None else self.load_s

    @property
    def explicit_load_s(self) -> float:
        """For a load that we ask for."""
        return LOAD_TIMEOUT_S if self.load_s is None else self.load_s


NONE = Patience(waits=False)
"""Do not wait: for callers that want the current state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAnswer:
    """The result of one measured request, not yet parsed."""

    sent_at: float
    """Seconds since 1970 UTC."""
    sent_ns: int
    """Monotonic clock."""
    status: int | None = None
    exchange: wire.Exchange | None = None
    """None if no answer began."""
    failure: wire.Failure | None = None
    """Why the answer is missing or incomplete."""
    retry_after_s: float | None = None
    """How long the host asks to wait before the next try, if it says so."""
    turned_away: int = 0
    """How many earlier tries of this request the host answered with 429."""

    @property
    def unanswered(self) -> bool:
        """Whether the host may be dead: no answer began, or it broke off."""
        return self.failure is not None


@dataclass(frozen=True, slots=True)
class Call:
    """One request to measure."""

    path: str
    body: Mapping[str, Any]
    planned_ns: int | None = None
    """When to send it, by the monotonic clock; None: at once."""


@dataclass(slots=True)
class Clients:
    """Both clients of a host, with the same address, headers and TLS context."""

    url: str
    control: wire.ControlClient
    stream: wire.StreamClient
    patience: Patience = field(default_factory=Patience)
    """Callers may replace it, for example when no time is left."""

    async def send(self, call: Call, timeouts: Timeouts, max_bytes: int | None = None) -> ServerAnswer:
        """Send a measured request and read the answer, up to ``max_bytes``. Never raises for what the host does."""
        asked_at, asked_ns = time.time(), time.monotonic_ns()
        try:
            exchange = await self.stream.post(call.path, call.body, timeouts, max_bytes, call.planned_ns)
        except wire.NoAnswer as error:
            return ServerAnswer(sent_at=asked_at, sent_ns=asked_ns, failure=error.failure)
        return ServerAnswer(
            sent_at=exchange.sent_at,
            sent_ns=exchange.sent_ns,
            status=exchange.status,
            exchange=exchange,
            failure=exchange.failure,
            retry_after_s=read_retry_after(exchange.headers),
        )

    async def close(self) -> None:
        """Close both."""
        await self.control.aclose()
        await self.stream.aclose()


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of the ``Retry-After`` header, a number or a date, at most one hour; None without it."""
    said = headers.get("retry-after", "").strip()
    try:
        wait_s = float(said) if said.isdecimal() else parsedate_to_datetime(said).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(0.0, wait_s), 3600.0)


def open_clients(
    url: str,
    headers: Mapping[str, str],
    *,
    verify: bool | Path = True,
    proxies_from_env: bool = False,
    patience: Patience | None = None,
) -> Clients:
    """Open the clients of the host at ``url``. The caller closes them."""
    # loading certificates takes 30 ms, and only TLS needs them
    context = wire.tls_context(verify if url.startswith("https:") or proxies_from_env else False)
    return Clients(
        url=url,
        control=wire.control_client(url, headers, context, proxies_from_env=proxies_from_env),
        stream=wire.StreamClient(url, headers, context),
        patience=patience or Patience(),
    )


# --- what every kind of server can be asked


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a kind of server can do beyond the common core."""

    server_timings: bool = False
    """Answers carry the server's own counts and milliseconds."""
    exact_tokens: bool = False
    """It counts the tokens of a text without running the model."""
    cache_control: bool = False
    """A request can forbid the use of cached prompt tokens."""
    ignore_eos: bool = False
    """A request can forbid an early end."""
    load: bool = False
    """It loads a model on request."""

    @property
    def depth(self) -> bool:
        """Whether a context before the prompt can be exact, kept in the cache and proven to have come from there."""
        return self.exact_tokens and self.cache_control


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request's input, either as text or as token ids; the other is empty."""

    text: str | None = None
    ids: tuple[int, ...] | None = None
    seed: int | None = None
    """A sampling seed that marks this request as ours, if the server shows it. The suite's seed takes precedence."""
    messages: tuple[Mapping[str, Any], ...] = ()
    """All messages of a chat with own ones, in OpenAI's form; then there is no other text."""
    salt: str = ""
    """Parts this request's cache from that of others, where a server can; empty: its first text does."""
    history: tuple[Mapping[str, str], ...] = ()
    """The messages before it in its conversation; then the cache may be used."""
    slot: int | None = None
    """The slot whose cache the request needs, for a server that has slots; None: the server finds it."""


class Server(Protocol):
    """A host's server. Its methods raise HostError if it is dead or gives a wrong answer.
    Only `load`, `make_prompts`, `next_tokens` and `send` load a model."""

    kind: str
    can: Capabilities
    url: str
    clients: Clients

    async def alive(self) -> bool:
        """Whether it answers at all, even while it loads or is busy."""
        ...

    async def facts(self) -> ServerFacts: ...

    async def models(self) -> Sequence[str]: ...

    async def model_facts(self, model: str) -> ModelFacts: ...

    async def command(self, model: str) -> str | None:
        """Return the command line that started the model's server, as `write_command` writes it; None if unknown."""
        ...

    async def ready_models(self) -> Sequence[str] | None:
        """Return the models that are loaded now; None if the server does not tell."""
        ...

    async def embeds(self, model: str) -> bool | None:
        """Whether the model is only for embeddings; None if the server does not tell."""
        ...

    async def load(self, model: str) -> float | None:
        """Load a model and wait until it is ready. Returns milliseconds, None if nothing had to be loaded."""
        ...

    async def make_prompts(self, cell: Cell, nonces: Sequence[str]) -> Sequence[Prompt]:
        """Return one prompt of exactly ``cell.prompt_tokens`` per nonce. Raises PromptError if that is impossible.

        In a cell with a depth, each begins with the context of its lane: number i has lane i modulo the lanes.
        """
        ...

    async def make_turns(self, cell: Cell, nonces: Sequence[str]) -> Sequence[Prompt]:
        """Return one text of ``cell.turn_tokens`` per nonce, for later turns: the chat template does not count."""
        ...

    async def next_tokens(self, model: str, timeout_s: float) -> Logprobs:
        """Return what a model expects after each prefix of a fixed text; ``timeout_s`` is for each of the requests.
        Raises HostError if the server does not tell."""
        ...

    async def count_own(self, cell: Cell, own: Sequence[Prompt]) -> Sequence[int]:
        """Return the tokens of each prompt with own text; 0 if only running it tells. Raises HostError if the cell's
        ``cache`` cannot be kept with such prompts."""
        ...

    def call(self, cell: Cell, prompt: Prompt) -> Call:
        """Make the measured request for a prompt."""
        ...

    async def send(self, call: Call, cell: Cell) -> ServerAnswer:
        """Send a measured request with the time-stamping client; return the whole answer, not yet parsed."""
        ...

    def read(self, sample: Sample, answer: ServerAnswer, cell: Cell) -> Sample:
        """Return the sample with all facts of its answer, checked against the cell.

        In a later turn, the cell's ``prompt_tokens`` are those that are expected of the whole conversation so far.
        """
        ...

    def read_text(self, answer: ServerAnswer) -> str:
        """Return the model's text, reasoning first; empty if nothing can be parsed."""
        ...

    def read_reply(self, answer: ServerAnswer) -> Iterator[str]:
        """Yield the pieces of the model's visible text, one for each event: a caller may pause between them."""
        ...
