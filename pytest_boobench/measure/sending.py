"""Room 3: the requests of a phase: made before it, sent when a workload says, their answers read after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from pytest_boobench import measure
from pytest_boobench.aggregate import add_totals
from pytest_boobench.measure.open_loop import OpenLoop, count_from_plan
from pytest_boobench.measure.talks import Script, TurnReader
from pytest_boobench.metrics import Phase, Sample
from pytest_boobench.servers.clients import Call, Server, ServerAnswer
from pytest_boobench.servers.prompts import make_nonce, make_seed
from pytest_boobench.servers.speculation import add_undrafted
from pytest_boobench.suite.cell import Cell
from pytest_boobench.suite.prompt_file import PromptLine

_WINDOW = 16
"""So many equal characters are no chance."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, and what its answer is checked against."""

    call: Call
    cell: Cell
    """With the lengths of its own prompt, if the suite has own prompts."""
    line: PromptLine | None = None
    """Its own prompt; None if the prompt is made."""


async def make_requests(server: Server, cell: Cell, seed: str, count: int, warm_key: str = "") -> list[Request]:
    """``count`` requests for a cell. Cold: no two prompts start alike, in this or any other run. Warm: all are equal.

    ``seed`` is a text that differs from all other series' of requests; ``warm_key`` is the key of the cell whose warm
    prompt is sent, by default its own.
    """
    if not count:
        return []
    cold = cell.cache == "cold"
    nonces = [make_nonce(seed, number) if cold else make_nonce(warm_key or cell.key, 0) for number in range(count)]
    prompts = await server.make_prompts(cell, nonces)
    seeded = [replace(prompt, seed=make_seed(seed, number)) for number, prompt in enumerate(prompts)]
    return [Request(server.call(cell, prompt), cell) for prompt in seeded]


async def run_requests(
    server: Server,
    cell: Cell,
    requests: Sequence[Request],
    phase: Phase,
    observe: measure.Observe = measure.ignore_progress,
    loop: OpenLoop | None = None,
) -> measure.PhaseResult:
    """Send the requests in their order, down the cell's lanes or at the times of an open loop.

    With a depth, each goes down the lane that has its context; the turns of one conversation go down one lane.
    """

    async def send(ticket: measure.Ticket) -> ServerAnswer:
        request = requests[ticket.number]
        return await server.send(replace(request.call, planned_ns=ticket.planned_ns), request.cell)

    workload: measure.Workload = loop or _choose_loop(cell, requests)
    return await measure.run_phase(send, server.alive, phase, workload, count=len(requests), observe=observe)


def _choose_loop(cell: Cell, requests: Sequence[Request]) -> measure.Workload:
    if cell.depth_tokens:
        return measure.EqualShares(cell.concurrency)
    groups: list[list[int]] = []
    awaited: dict[tuple[str, int], list[int]] = {}
    for number, request in enumerate(requests):
        line = request.line
        group = awaited.pop((line.conversation, line.turn), None) if line and line.turn else None
        if group is None:
            groups.append(group := [])
        group.append(number)
        if line and line.turn:
            awaited[line.conversation, line.turn + 1] = group
    if len(groups) < len(requests):
        return measure.Groups(cell.concurrency, tuple(map(tuple, groups)))
    return measure.ClosedLoop(cell.concurrency)


@dataclass(frozen=True, slots=True)
class Batch:
    """What a server is sent in one phase: single requests, or whole conversations."""

    server: Server
    cell: Cell
    requests: Sequence[Request]
    script: Script | None = None
    """The conversations; then the requests are without what was said before them."""

    @classmethod
    async def converse(cls, server: Server, cell: Cell, series: str, count: int) -> Self:
        """So many conversations; ``series`` as in `Script.write`."""
        script = await Script.write(server, cell, series, count)
        return cls(server, cell, [Request(call, cell) for call in script.list_calls()], script)

    @property
    def seeds(self) -> frozenset[int]:
        """The sampling seeds of all requests."""
        return find_seeds(self.requests)

    def take_round(self, number: int) -> Self:
        """Only one round, from 0: a request or a conversation for each lane."""
        lanes, size = self.cell.concurrency, self.cell.concurrency * self.cell.turns
        script = self.script.take(slice(number * lanes, (number + 1) * lanes)) if self.script else None
        return replace(self, requests=self.requests[number * size : (number + 1) * size], script=script)

    async def run(
        self, observe: measure.Observe = measure.ignore_progress, loop: OpenLoop | None = None
    ) -> measure.PhaseResult:
        """Send everything, as the requests that are measured."""
        if self.script is not None:
            return await self.script.run("measure", observe)
        return await run_requests(self.server, self.cell, self.requests, "measure", observe, loop)


def find_seeds(requests: Sequence[Request]) -> frozenset[int]:
    """The sampling seeds of these requests, by which a watcher recognises them as ours."""
    seeds = [request.call.body.get("seed") for request in requests]
    return frozenset(seed for seed in seeds if isinstance(seed, int))


def read_answers(  # noqa: PLR0913  # what a sample is told about its place
    server: Server,
    cell: Cell,
    requests: Sequence[Request],
    result: measure.PhaseResult,
    *,
    block: int = 1,
    attempt: int = 1,
    reference: bool = False,
) -> list[Sample]:
    """The samples of a phase that is over: reading them earlier would disturb its clocks."""
    reader = TurnReader(server, cell)

    def read(ticket: measure.Ticket, answer: ServerAnswer) -> Sample:
        request = requests[ticket.number]
        sample = Sample(
            phase=ticket.phase,
            lane=ticket.lane,
            index=ticket.index,
            block=block,
            attempt=attempt,
            reference=reference,
            started_at=answer.sent_at,
            offset_ms=(answer.sent_ns - ticket.phase_began_ns) / 1e6,
            turn=ticket.turn,
            prompt_line=request.line.number if request.line else 0,
        )
        if request.line is None:
            found = reader.read(sample, answer)
        else:
            found = hide_prompt(server.read(sample, answer, request.cell), request.line)
        return count_from_plan(found, ticket, answer)

    samples = add_undrafted([read(ticket, answer) for ticket, answer in result.answers])
    return add_totals(samples, cell.kind) if cell.concurrency > 1 or cell.planned else samples


def hide_prompt(sample: Sample, line: PromptLine) -> Sample:
    """Return the sample without a server's words that repeat a part of the line's own text."""
    said = sample.failure_text
    if not said or line.prompt_tokens:
        return sample
    own = " ".join(" ".join(_list_texts(line)).split())
    window = min(_WINDOW, len(own))
    if window and any(said[at : at + window] in own for at in range(len(said) - window + 1)):
        return replace(sample, failure_text=f"{sample.status or 'no status'}: the server repeats the prompt, left out")
    return sample


def _list_texts(line: PromptLine) -> list[str]:
    return [line.text or "", *(str(message.get("content") or "") for message in line.messages)]
