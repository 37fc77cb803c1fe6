"""What every kind of server can be asked, and the two HTTP clients of a host that ask it.

A time-stamping client sends the measured requests, an ordinary one all others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from pytest_boobench import wire
from pytest_boobench.facts import ModelFacts, ServerFacts
from pytest_boobench.metrics import Sample
from pytest_boobench.suite.cell import Cell, Timeouts

LOADING_S = 300.0
"""Default time that a control request waits for a model that is loading."""
LOAD_TIMEOUT_S = 900.0
"""Default time for a load that we ask for."""
DEFAULT_WAIT_S = 1.0
"""Wait after a 429 where the host does not say how long."""


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
    """Blank: the defaults, which allow more time for a load that we ask for."""
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
"""Do not wait: for callers that want the state of this moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAnswer:
    """The result of one measured request, unread."""

    sent_at: float
    """Seconds since 1970 UTC."""
    sent_ns: int
    """Monotonic clock."""
    status: int | None = None
    exchange: wire.Exchange | None = None
    """Blank where no answer began."""
    failure: wire.Failure | None = None
    """Why the answer is missing or incomplete."""
    retry_after_s: float | None = None
    """When the host wants to be asked again, where it says so."""
    turned_away: int = 0
    """How many tries of this request the host answered with 429 before."""

    @property
    def unanswered(self) -> bool:
        """Whether the host may be dead: no answer began, or it broke off."""
        return self.failure is not None


@dataclass(slots=True)
class Clients:
    """Both clients of a host, with the same address, headers and TLS context."""

    url: str
    control: wire.ControlClient
    stream: wire.StreamClient
    patience: Patience = field(default_factory=Patience)
    """Callers may replace it, as when no time is left."""

    async def send(
        self, path: str, body: Mapping[str, Any], timeouts: Timeouts, max_bytes: int | None = None
    ) -> ServerAnswer:
        """Send a measured request and read the answer, up to ``max_bytes``; never raises for what the host does."""
        asked_at, asked_ns = time.time(), time.monotonic_ns()
        try:
            exchange = await self.stream.post(path, body, timeouts, max_bytes)
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
    """Seconds to wait by the ``Retry-After`` header, a number or a date, one hour at most; None without one."""
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
    """The clients of the host at ``url``; close them."""
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


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request's input, either as text or as token ids; the other is blank."""

    text: str | None = None
    ids: tuple[int, ...] | None = None
    seed: int | None = None
    """A sampling seed that marks this request as ours, for servers that show it; the suite's own takes precedence."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request to be measured."""

    path: str
    body: Mapping[str, Any]


class Server(Protocol):
    """A host's server. Methods raise HostError when it is dead or gives a wrong answer; only `load`, `make_prompts` and
    `send` load a model."""

    kind: str
    can: Capabilities
    url: str
    clients: Clients

    async def alive(self) -> bool:
        """Whether it answers at all, even if it loads or is busy."""
        ...

    async def facts(self) -> ServerFacts: ...

    async def models(self) -> Sequence[str]: ...

    async def model_facts(self, model: str) -> ModelFacts: ...

    async def command(self, model: str) -> str | None:
        """The command line that started the model's server, as `write_command` writes it; None where nobody tells."""
        ...

    async def ready_models(self) -> Sequence[str] | None:
        """The models that are loaded now; None where the server does not tell."""
        ...

    async def embeds(self, model: str) -> bool | None:
        """Whether the model is only for embeddings; None where the server does not tell."""
        ...

    async def load(self, model: str) -> float | None:
        """Load a model and wait until it is ready; milliseconds that took, None where nothing had to be loaded."""
        ...

    async def make_prompts(self, cell: Cell, nonces: Sequence[str]) -> Sequence[Prompt]:
        """One prompt per nonce, each of exactly ``cell.prompt_tokens``; PromptError where that is impossible."""
        ...

    def call(self, cell: Cell, prompt: Prompt) -> Call:
        """The measured request for a prompt."""
        ...

    async def send(self, call: Call, cell: Cell) -> ServerAnswer:
        """Send a measured request by the time-stamping client; returns the whole answer, unread."""
        ...

    def read(self, sample: Sample, answer: ServerAnswer, cell: Cell) -> Sample:
        """The sample with all that its answer says, checked against what the cell asks for."""
        ...

    def read_text(self, answer: ServerAnswer) -> str:
        """The model's text, reasoning first; empty where nothing can be read."""
        ...
