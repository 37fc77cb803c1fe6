"""Room 3: conversations that grow: each turn sends what was said before, the model's own answers among it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import httpx

from pytest_boobench import measure
from pytest_boobench.errors import HostError, PromptError
from pytest_boobench.facts import ModelFacts
from pytest_boobench.metrics import Phase, Sample
from pytest_boobench.servers.clients import Call, Prompt, Server, ServerAnswer
from pytest_boobench.servers.prompts import make_nonce, make_seed
from pytest_boobench.suite.cell import Cell

_PIECES = 32
"""Pieces of an answer's text that are read at once, while other lanes may have bytes to read."""


@dataclass(slots=True)
class Talk:
    """One conversation: what its user will say, and what was said."""

    texts: Sequence[Prompt]
    """The user's text of each turn."""
    said: list[dict[str, str]] = field(default_factory=list)
    """The messages so far."""
    answer: ServerAnswer | None = None
    """The newest answer, which is not among the messages yet."""

    async def make_prompt(self, server: Server, turn: int) -> Prompt:
        """The prompt of a turn. Adds the newest answer's visible text to what was said, as chat clients do."""
        if self.answer is not None:
            pieces = []
            for number, piece in enumerate(server.read_reply(self.answer), start=1):
                pieces.append(piece)
                if number % _PIECES == 0:
                    await asyncio.sleep(0)
            self.said.append({"role": "assistant", "content": "".join(pieces)})
        prompt = replace(self.texts[turn - 1], history=tuple(self.said))
        self.said.append({"role": "user", "content": prompt.text or ""})
        return prompt


@dataclass(frozen=True, slots=True)
class Conversations:
    """Each lane has one conversation after the other, turn by turn.

    A conversation ends early with a request that was not answered: its next turn would not be the same.
    """

    lanes: int
    turns: int
    think_time_s: float = 0.0

    async def run(self, phase: measure.PhaseRun) -> None:
        """Have whole conversations until no requests are left."""
        left = iter(range(phase.count // self.turns))

        async def run_lane(lane: int) -> None:
            for _ in left:
                for turn in range(1, self.turns + 1):
                    if turn > 1 and self.think_time_s:
                        await asyncio.sleep(self.think_time_s)
                    answer = await phase.request(lane, turn=turn)
                    if answer is None or answer.unanswered or answer.status != httpx.codes.OK:
                        break

        async with asyncio.TaskGroup() as group:
            for lane in range(min(self.lanes, phase.count // self.turns)):
                group.create_task(run_lane(lane))


@dataclass(frozen=True, slots=True)
class Script:
    """What the users of all conversations of a phase say."""

    server: Server
    cell: Cell
    talks: tuple[Sequence[Prompt], ...]

    @classmethod
    async def write(cls, server: Server, cell: Cell, series: str, count: int) -> Self:
        """Write so many conversations; the first text of each is new to any cache.

        ``series`` is a text that differs from all other series' of requests.
        """
        turns = cell.turns
        first = await server.make_prompts(cell, [make_nonce(series, number) for number in range(count)])
        nonces = [make_nonce(f"{series}/turns", number) for number in range(count * (turns - 1))]
        try:
            later = await server.make_turns(cell, nonces)
        except PromptError as error:
            raise PromptError(str(error).replace("prompt_tokens", "turn_tokens")) from error
        talks = []
        for number, prompt in enumerate(first):
            texts = (prompt, *later[number * (turns - 1) : (number + 1) * (turns - 1)])
            places = range(number * turns, (number + 1) * turns)
            talks.append([replace(text, seed=make_seed(series, at)) for at, text in zip(places, texts, strict=True)])
        return cls(server, cell, tuple(talks))

    def list_calls(self) -> list[Call]:
        """The requests without what was said before them."""
        return [self.server.call(self.cell, text) for texts in self.talks for text in texts]

    def take(self, places: slice) -> Self:
        """Only the conversations of these places."""
        return replace(self, talks=self.talks[places])

    async def run(self, phase: Phase, observe: measure.Observe) -> measure.PhaseResult:
        """Have the conversations. A request is made before its clock starts."""
        left: Iterator[Sequence[Prompt]] = iter(self.talks)
        going: dict[int, Talk] = {}

        async def send(ticket: measure.Ticket) -> ServerAnswer:
            if ticket.turn == 1:
                going[ticket.lane] = Talk(next(left))
            talk = going[ticket.lane]
            prompt = await talk.make_prompt(self.server, ticket.turn)
            talk.answer = await self.server.send(self.server.call(self.cell, prompt), self.cell)
            return talk.answer

        cell = self.cell
        return await measure.run_phase(
            send,
            self.server.alive,
            phase,
            Conversations(cell.concurrency, cell.turns, cell.think_time_s),
            count=len(self.talks) * cell.turns,
            observe=observe,
        )


@dataclass(slots=True)
class TurnReader:
    """Reads the answers of a phase in their order, each as the turn after the one before it in its lane."""

    server: Server
    cell: Cell
    _newest: dict[int, Sample] = field(default_factory=dict)
    """By lane."""

    def read(self, sample: Sample, answer: ServerAnswer) -> Sample:
        """The sample with all facts of its answer, checked against the cell or against the turn before."""
        before = self._newest.get(sample.lane) if sample.turn > 1 else None
        if before is None:
            found = self.server.read(sample, answer, self.cell)
        elif before.prompt_tokens is None:
            found = replace(sample, failure="stream-error", failure_text=f"turn {before.turn} before it failed")
        else:
            found = self.server.read(sample, answer, self._expect_after(before, before.prompt_tokens))
        self._newest[sample.lane] = found
        return found

    def _expect_after(self, before: Sample, prompt_tokens: int) -> Cell:
        """The cell with the prompt of its next turn: in the middle between none and all of the last answer's tokens."""
        tokens = prompt_tokens + (before.output_tokens or 0) // 2 + self.cell.turn_tokens
        return replace(self.cell, prompt_tokens=tokens, cache="warm")


def require_context(cell: Cell, model: ModelFacts | None) -> None:
    """Raise HostError if the last turn is known not to fit into the model's context."""
    context = model.n_ctx if model is not None else None
    if context is not None and context < cell.context_tokens:
        raise HostError(
            f"{cell.host}: turn {cell.turns} needs {cell.context_tokens} tokens of context and its chat template, "
            f"{cell.model} has {context}; start the server with more context, or ask for fewer turns or tokens"
        )
