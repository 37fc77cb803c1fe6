"""Room 3: conversations: their order, whole ones only, and what each turn sends; the load is a scripted one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from pytest_boobench.errors import HostError
from pytest_boobench.facts import ModelFacts
from pytest_boobench.measure import PhaseResult, Ticket, run_phase
from pytest_boobench.measure.talks import Conversations, Talk, TurnReader, require_context
from pytest_boobench.metrics import Sample
from pytest_boobench.servers.clients import Prompt
from pytest_boobench.suite.cell import Cell, Plan


@dataclass(frozen=True)
class Reply:
    unanswered: bool = False
    status: int = 200
    text: str = ""


class Script:
    """A load that keeps the tickets and answers as it is told."""

    def __init__(self, answers: dict[int, Reply] | None = None) -> None:
        self.answers = answers or {}
        self.tickets: list[Ticket] = []

    async def send(self, ticket: Ticket) -> Reply:
        self.tickets.append(ticket)
        await asyncio.sleep(0)
        return self.answers.get(ticket.index, Reply())

    async def alive(self) -> bool:
        return True

    def run(self, workload: Conversations, count: int) -> PhaseResult:
        told: Any = self.send
        return asyncio.run(run_phase(told, self.alive, "measure", workload, count=count))

    @property
    def turns(self) -> dict[int, list[int]]:
        """Lane -> its turns in their order."""
        lanes = sorted({ticket.lane for ticket in self.tickets})
        return {lane: [ticket.turn for ticket in self.tickets if ticket.lane == lane] for lane in lanes}


def test_a_lane_has_whole_conversations_turn_by_turn() -> None:
    script = Script()
    result = script.run(Conversations(1, 3), 9)
    assert script.turns == {0: [1, 2, 3, 1, 2, 3, 1, 2, 3]}
    assert [ticket.index for ticket, _ in result.answers] == list(range(9))


def test_several_lanes_talk_at_once_and_share_the_conversations() -> None:
    script = Script()
    script.run(Conversations(2, 3), 9)
    assert sorted(map(len, script.turns.values())) == [3, 6]
    assert [ticket.lane for ticket in script.tickets[:4]] == [0, 1, 0, 1]


def test_a_part_of_a_conversation_is_not_begun() -> None:
    script = Script()
    script.run(Conversations(4, 3), 8)
    assert script.turns == {0: [1, 2, 3], 1: [1, 2, 3]}


@pytest.mark.parametrize("broken", [Reply(unanswered=True), Reply(status=500)])
def test_a_conversation_ends_with_a_request_that_failed(broken: Reply) -> None:
    script = Script({1: broken})
    script.run(Conversations(1, 3), 9)
    assert script.turns == {0: [1, 2, 1, 2, 3, 1, 2, 3]}


def test_think_time_comes_before_later_turns_only() -> None:
    paused: list[tuple[int, float]] = []
    script = Script()

    async def pause(seconds: float) -> None:
        if seconds:
            paused.append((len(script.tickets), seconds))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pytest_boobench.measure.talks.asyncio.sleep", pause)
        script.run(Conversations(1, 2, think_time_s=3.0), 4)
    assert paused == [(1, 3.0), (3, 3.0)]


CELL = Cell(
    suite="s", host="h", model="m", kind="chat", prompt_tokens=100, output_tokens=10, concurrency=1, cache="cold",
    turns=3, turn_tokens=40, plan=Plan(), id="i", line=1,
)  # fmt: skip


class Reading:
    """A server that keeps how it was asked to read, and reads what it is told."""

    def __init__(self, *counts: int | None) -> None:
        self.counts = iter(counts)
        self.cells: list[Cell] = []

    def read(self, sample: Sample, answer: Reply, cell: Cell) -> Sample:
        self.cells.append(cell)
        count = next(self.counts)
        return replace(sample, prompt_tokens=count, output_tokens=10, failure=None if count else "status")

    def read_reply(self, answer: Reply) -> Iterator[str]:
        yield from answer.text


def _sample(turn: int, lane: int = 0) -> Sample:
    return Sample(phase="measure", lane=lane, index=turn, started_at=0.0, offset_ms=0.0, turn=turn)


def _reader(server: Reading) -> Any:
    return TurnReader(server, CELL)  # type: ignore[arg-type]


def test_a_turn_is_read_by_what_the_turn_before_it_had() -> None:
    server = Reading(100, 200, 155, 100)
    reader = _reader(server)
    for turn, lane in ((1, 0), (1, 1), (2, 0), (2, 1)):
        reader.read(_sample(turn, lane), Reply())
    assert [cell.prompt_tokens for cell in server.cells] == [100, 100, 145, 245]
    assert [cell.cache for cell in server.cells] == ["cold", "cold", "warm", "warm"]


def test_nothing_is_expected_after_a_turn_without_a_count() -> None:
    server = Reading(None)
    reader = _reader(server)
    reader.read(_sample(1), Reply())
    found = reader.read(_sample(2), Reply())
    assert (found.failure, found.failure_text) == ("stream-error", "turn 1 before it failed")
    assert len(server.cells) == 1


def test_a_turn_sends_the_answers_before_it_as_they_came() -> None:
    talk = Talk([Prompt(text="one"), Prompt(text="two"), Prompt(text="three")])
    server: Any = Reading()

    async def run() -> list[Prompt]:
        prompts = []
        for turn, answer in ((1, "A" * 100), (2, ""), (3, "C")):
            prompts.append(await talk.make_prompt(server, turn))
            talk.answer = Reply(text=answer)  # type: ignore[assignment]
        return prompts

    first, second, third = asyncio.run(run())
    assert (first.text, first.history) == ("one", ())
    assert [*second.history] == [{"role": "user", "content": "one"}, {"role": "assistant", "content": "A" * 100}]
    assert [message["content"] for message in third.history] == ["one", "A" * 100, "two", ""]


def test_a_last_turn_without_room_is_said_before_anything_is_sent() -> None:
    assert CELL.context_tokens == 100 + 10 + 2 * 50
    require_context(CELL, ModelFacts(name="m", n_ctx=210))
    require_context(CELL, ModelFacts(name="m"))
    require_context(CELL, None)
    with pytest.raises(
        HostError, match="h: turn 3 needs 210 tokens of context and its chat template, m has 209; start"
    ):
        require_context(CELL, ModelFacts(name="m", n_ctx=209))
