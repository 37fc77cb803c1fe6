"""Room 3: requests with own prompts: which line each has, what is sent, and what is compared."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from pytest_boobench.aggregate import find_own_prompts, find_trend
from pytest_boobench.gate.comparison import compare
from pytest_boobench.gate.reference import Reference
from pytest_boobench.measure import ClosedLoop, Groups, PhaseRun
from pytest_boobench.measure.open_loop import OpenLoop, find_window_s
from pytest_boobench.measure.own_prompts import make_own_requests
from pytest_boobench.measure.sending import Request, hide_prompt, run_requests
from pytest_boobench.metrics import METRICS, Sample
from pytest_boobench.servers.clients import Call, Prompt, ServerAnswer
from pytest_boobench.servers.ollama import fit_messages
from pytest_boobench.suite.cell import Cell, Plan
from pytest_boobench.suite.prompt_file import Image, PromptFile, PromptLine
from tests.making import make_cell, make_sample, summarize

E2E = METRICS["e2e_ms"]


class Scripted:
    """A server that sends nothing: a made prompt is its nonce, and an own text has as many tokens as characters."""

    def __init__(self) -> None:
        self.sent: list[int] = []

    async def make_prompts(self, cell: Cell, nonces: Sequence[str]) -> list[Prompt]:
        return [Prompt(text=nonce.ljust(4 * cell.prompt_tokens, ".")) for nonce in nonces]

    async def count_own(self, cell: Cell, own: Sequence[Prompt]) -> list[int]:
        return [len(prompt.text or "") for prompt in own]

    def call(self, cell: Cell, prompt: Prompt) -> Call:
        return Call("/", {"prompt": prompt, "cache": cell.cache, "most": cell.output_tokens})

    async def send(self, call: Call, cell: Cell) -> Any:
        self.sent.append(call.body["number"])
        await asyncio.sleep(0)
        return ServerAnswer(sent_at=0.0, sent_ns=0)

    async def alive(self) -> bool:
        return True


def file_of(*lines: PromptLine) -> PromptFile:
    return PromptFile("day", lines, tuple(b"" for _ in lines))


def make(own: PromptFile, numbers: Sequence[int], **changed: Any) -> list[Request]:
    cell = make_cell(prompt_tokens=0, own=own, prompts="x", **changed)
    return asyncio.run(make_own_requests(Scripted(), cell, own, "run", numbers))  # type: ignore[arg-type]


def prompts_of(requests: Sequence[Request]) -> list[Prompt]:
    return [request.call.body["prompt"] for request in requests]


def test_each_line_has_its_own_lengths() -> None:
    own = file_of(PromptLine(number=1, text="own"), PromptLine(number=4, prompt_tokens=20, output_tokens=3))
    requests = make(own, [-1, 0, 1, 2], kind="completion")
    assert [request.line.number for request in requests if request.line] == [4, 1, 4, 1]
    assert [request.cell.prompt_tokens for request in requests] == [20, 3, 20, 3]
    assert [request.call.body["most"] for request in requests] == [3, 8, 3, 8]
    texts = [prompt.text for prompt in prompts_of(requests)]
    assert texts[1] == texts[3] == "own"
    assert texts[0] != texts[2]
    assert len({prompt.salt for prompt in prompts_of(requests)}) == 4


def test_a_later_turn_repeats_the_turn_before_and_may_use_the_cache() -> None:
    turn = PromptLine(number=1, prompt_tokens=100, conversation="c", turn=1)
    own = file_of(turn, replace(turn, number=2, turn=2, prompt_tokens=200, cached_tokens=50))
    first, later = make(own, [0, 1])
    one, two = prompts_of([first, later])
    assert (first.call.body["cache"], later.call.body["cache"], one.salt == two.salt) == ("cold", "warm", True)
    head = (two.text or "").partition("\n")[0]
    assert len(head) == pytest.approx(200, abs=1)
    assert (one.text or "").startswith(head)
    alone = prompts_of(make(own, [1, 1]))
    assert "\n" not in "".join(prompt.text or "" for prompt in alone)


def test_images_are_in_the_last_message_of_the_user() -> None:
    said = ({"role": "user", "content": "a"}, {"role": "user", "content": "b"}, {"role": "assistant", "content": "c"})
    line = PromptLine(number=1, messages=said, images=(Image("image/png", b"\x89PNG"),))
    (prompt,) = prompts_of(make(file_of(line), [0]))
    url = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}}
    assert [message["content"] for message in prompt.messages] == ["a", [{"type": "text", "text": "b"}, url], "c"]
    assert fit_messages(prompt.messages)[1] == {"role": "user", "content": "b", "images": ["iVBORw=="]}


def test_turns_of_a_conversation_go_down_one_lane_in_their_order() -> None:
    turn = PromptLine(number=1, text="a", conversation="c", turn=1)
    alone = PromptLine(number=3, text="b")
    lines = [turn, alone, replace(turn, number=2, turn=2), turn, replace(turn, number=2, turn=2)]
    requests = [Request(Call("/", {"number": number}), make_cell(), line) for number, line in enumerate(lines)]
    server = Scripted()
    taken = asyncio.run(run_requests(server, make_cell(concurrency=2), requests, "measure"))  # type: ignore[arg-type]
    lanes = {ticket.number: ticket.lane for ticket, _ in taken.answers}
    assert sorted(server.sent) == [0, 1, 2, 3, 4]
    assert lanes[0] == lanes[2]
    assert lanes[3] == lanes[4]
    assert server.sent.index(0) < server.sent.index(2)
    assert server.sent.index(3) < server.sent.index(4)


@pytest.mark.parametrize("workload", [ClosedLoop(3), Groups(3, ((0, 1, 2), (3,), (4, 5)))])
def test_a_dead_host_ends_a_group(workload: Any) -> None:
    run = PhaseRun(None, None, "measure", 6, gone=True)  # type: ignore[arg-type]
    asyncio.run(workload.run(run))
    assert run.started == 0


def at(*times: float) -> Cell:
    own = file_of(*(PromptLine(number=1 + n, text="a", at_s=at_s) for n, at_s in enumerate(times)))
    return make_cell(arrival="recorded", own=own, plan=Plan(samples=len(times)))


def test_a_replay_has_the_times_of_its_lines_from_the_first_on() -> None:
    loop = OpenLoop.after_warm_up(at(5.0, 5.5, 9.0), [make_sample(e2e_ms=900.0)])
    assert (loop.offsets_s, loop.total, loop.aside) == ([0.0, 0.5, 4.0], 3, 0)
    assert [sample.index for sample in loop.mark([make_sample(index=n) for n in range(3)])] == [0, 1, 2]
    assert find_window_s(at(5.0, 5.5, 9.0), 3) == 6.0
    assert find_window_s(at(5.0), 1) == 0.0
    assert find_window_s(make_cell(rate=2.0), 10) == 5.0


# --- what is compared


def passes(times: Sequence[Sequence[float]]) -> list[Sample]:
    """Samples with these end-to-end times: one list a pass over the lines."""
    flat = [(line, time) for each in times for line, time in enumerate(each, start=1)]
    return [make_sample(index=n, prompt_line=line, e2e_ms=time) for n, (line, time) in enumerate(flat)]


FALLING = [800.0, 400.0, 200.0, 100.0, 50.0, 25.0, 12.0, 6.0]


@pytest.mark.parametrize(
    ("times", "warming"),
    [
        ([FALLING], False),
        ([FALLING, FALLING], False),
        ([FALLING, [time * 0.8 for time in FALLING]], True),
        ([FALLING, [time * 0.97 for time in FALLING]], False),
        ([FALLING[:5], [time * 0.8 for time in FALLING[:5]]], False),
    ],
)
def test_a_trend_is_one_of_the_same_prompts(times: list[list[float]], warming: bool) -> None:
    assert bool(find_trend(passes(times))) is warming


def test_prompts_of_different_lengths_are_no_scatter() -> None:
    """A regression of 30 % is found, though the prompts differ a hundredfold."""
    calm = [[time * (1.0 + 0.01 * (n % 2)) for time in FALLING] for n in range(4)]
    slow = [[time * 1.3 for time in each] for each in calm]
    found = find_own_prompts(passes(slow), E2E)
    assert found is not None
    assert (found.lines, found.scatter) == (8, pytest.approx(0.01, rel=0.3))
    assert find_own_prompts(passes(slow[:1]), E2E) is None
    assert find_own_prompts([make_sample(e2e_ms=1.0)], E2E) is None
    level = summarize(passes(calm), "chat")["e2e_ms"].median
    was = Reference(
        level=level,
        fast=None,
        scatter=3.0,
        requests=32,
        requests_of_run=32,
        sessions=1,
        known_sessions=1,
        run_noise=0.02,
    )
    now = summarize(passes(slow), "chat")
    told, untold = compare(E2E, now, was, 0.1, found), compare(E2E, now, was, 0.1)
    assert (told.slower, told.clean, told.noise < -told.gain) == (True, True, True)
    assert not untold.clean
    assert math.isclose(told.gain, untold.gain)


@pytest.mark.parametrize(
    ("said", "hidden"),
    [
        ("400: context size exceeded", False),
        ("400: cannot answer 'my very private question about taxes'", True),
        ("400: private question a", True),
        (None, False),
    ],
)
def test_a_server_that_repeats_the_prompt_is_not_quoted(said: str | None, hidden: bool) -> None:
    line = PromptLine(number=1, text="my very\n  private question about taxes")
    failed = make_sample(failure="status", failure_text=said, status=400)
    assert (hide_prompt(failed, line).failure_text == "400: the server repeats the prompt, left out") is hidden
    assert hide_prompt(failed, PromptLine(number=1, prompt_tokens=9)) == failed
