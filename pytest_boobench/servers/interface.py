"""What every kind of server can be asked. A Protocol, since more than one kind stands behind it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pytest_boobench.errors import HostError
from pytest_boobench.facts import ModelFacts, ServerFacts
from pytest_boobench.metrics import Sample
from pytest_boobench.servers.clients import Clients, ServerAnswer
from pytest_boobench.suite.cell import Cell


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
    """It loads a model when it is told to."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request's input, either as text or as token ids; the other is blank."""

    text: str | None = None
    ids: tuple[int, ...] | None = None
    seed: int | None = None
    """A sampling seed that tells this request from others, for servers that show it; the suite's own goes before."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request to be measured."""

    path: str
    body: Mapping[str, Any]


class Server(Protocol):
    """A host's server. Methods raise HostError when it is dead or answers what it should not."""

    kind: str
    can: Capabilities
    url: str

    @property
    def clients(self) -> Clients:
        """The host's HTTP clients, for those who watch it."""
        ...

    async def alive(self) -> bool:
        """Whether it answers at all, loading or busy included."""
        ...

    async def facts(self) -> ServerFacts: ...

    async def models(self) -> Sequence[str]:
        """The models it lists; listing never loads one."""
        ...

    async def model_facts(self, model: str) -> ModelFacts: ...

    async def ready_models(self) -> Sequence[str] | None:
        """The models that are loaded now, None where it cannot tell; asking never loads one."""
        ...

    async def embeds(self, model: str) -> bool | None:
        """Whether it is for embeddings and nothing else, None where the server does not tell; asking never loads it."""
        ...

    async def load(self, model: str) -> float | None:
        """Load a model and wait until it is ready; milliseconds that took, None where there was nothing to load."""
        ...

    async def make_prompts(self, cell: Cell, nonces: Sequence[str]) -> Sequence[Prompt]:
        """One prompt per nonce, each of exactly ``cell.prompt_tokens``; PromptError where none can be made."""
        ...

    def call(self, cell: Cell, prompt: Prompt) -> Call:
        """The measured request for a prompt."""
        ...

    async def send(self, call: Call, cell: Cell) -> ServerAnswer:
        """Send a measured request down the time-stamping wire and bring the whole answer, unread."""
        ...

    def read(self, sample: Sample, answer: ServerAnswer, cell: Cell) -> Sample:
        """The sample with all that its answer says, checked against what the cell asks for."""
        ...

    def read_text(self, answer: ServerAnswer) -> str:
        """What the model said, reasoning first; empty where nothing can be read."""
        ...


def require_known(cell: Cell, known: Collection[str], server: str) -> None:
    """HostError where the suite names a sampling field that this kind of server ignores: its default would hold."""
    unknown = [name for name in cell.sampling if name not in known]
    if unknown:
        raise HostError(
            f"{cell.host}: sampling.{unknown[0]}: {server} ignores it, and its own default would hold; "
            f"leave it out, it knows {', '.join(sorted(known))}"
        )
