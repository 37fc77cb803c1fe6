"""The truth server speaks what our reader accepts, on the schedule that a request asks for. No absolute times."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import pytest

from pytest_boobench import wire
from pytest_boobench.servers import answers
from pytest_boobench.servers.clients import Call, ServerAnswer, open_clients
from pytest_boobench.suite.cell import Timeouts
from tests.benchmarks import stage
from tests.benchmarks.clients import CLIENTS, Heard, Load, find_limit
from tests.benchmarks.schedule import Schedule, read_schedule, write_script
from tests.benchmarks.traces import Trace, round_to_two_digits, spread, trace
from tests.making import make_cell, make_sample

PROMPT = "x" * 24
QUICK = Schedule(ttft_ms=4, gap_ms=1, tokens=8)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with stage.truth_servers(1, QUICK) as urls:
        yield urls[0]


def body_of(schedule: Schedule | None = None) -> dict[str, Any]:
    fields = asdict(schedule) if schedule else {}
    return {"model": "truth", "stream": True, "messages": [{"role": "user", "content": PROMPT}], **fields}


def ask(url: str, count: int = 1, schedule: Schedule | None = None) -> list[ServerAnswer]:
    async def ask_all() -> list[ServerAnswer]:
        clients = open_clients(url, {})
        try:
            asked = (clients.send(Call("/v1/chat/completions", body_of(schedule)), Timeouts()) for _ in range(count))
            return await asyncio.gather(*asked)
        finally:
            await clients.close()

    return asyncio.run(ask_all())


def get(url: str, data: bytes | None = None) -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, data)) as answer:
        return json.load(answer)


def trace_of(answer: ServerAnswer) -> Trace:
    assert answer.exchange is not None
    events = [(0, json.loads(event.data)) for event in wire.events(answer.exchange) if event.data != "[DONE]"]
    return trace(0, events, 0)


@pytest.mark.parametrize(
    ("schedule", "chunks"),
    [
        (QUICK, 8),
        (Schedule(ttft_ms=1, gap_ms=1, tokens=10, tokens_per_event=4), 3),
        (Schedule(ttft_ms=4, gap_ms=2, tokens=12, jitter_ms=2), 12),
        (Schedule(ttft_ms=1, gap_ms=0, tokens=1), 1),
    ],
)
def test_reader_accepts_its_stream(url: str, schedule: Schedule, chunks: int) -> None:
    cell = make_cell(prompt_tokens=len(PROMPT), output_tokens=schedule.tokens)
    sample = answers.read(make_sample(), ask(url, schedule=schedule)[0], cell)
    assert sample.failure_text is None
    assert (sample.output_tokens, sample.cached_tokens, sample.finish_reason) == (schedule.tokens, 0, "length")
    assert len(sample.chunk_ms) == chunks
    due_ms = [due / 1e6 for due in schedule.due_ns()]
    assert sample.prompt_ms == pytest.approx(due_ms[0])
    assert sample.predicted_ms == pytest.approx(due_ms[-1] - due_ms[0])


def test_what_it_says_of_its_sends_keeps_the_schedule(url: str) -> None:
    schedule = Schedule(ttft_ms=3, gap_ms=2, tokens=6, jitter_ms=1)
    seen = trace_of(ask(url, schedule=schedule)[0])
    offsets_ns = [sent - seen.asked_ns for sent in seen.sent_ns]
    late_ns = [offset - due for offset, due in zip(offsets_ns, schedule.due_ns(), strict=True)]
    assert min(late_ns) >= 0
    assert max(late_ns) == seen.late_ns
    assert seen.asked_ns <= seen.read_ns < seen.sent_ns[0] < seen.sent_ns[-1] < seen.end_sent_ns


def test_64_streams_at_once_all_come_whole(url: str) -> None:
    get(f"{url}/requests")
    answered = ask(url, 64)
    assert [answer.failure for answer in answered] == [None] * 64
    assert {len(trace_of(answer).seen_ns) for answer in answered} == {QUICK.tokens}
    told = get(f"{url}/requests")
    assert len(told) == 64
    assert all(one["asked_ns"] <= one["read_ns"] < one["first_ns"] < one["end_ns"] for one in told)
    assert get(f"{url}/requests") == []


def test_it_answers_what_other_tools_ask(url: str) -> None:
    assert [model["id"] for model in get(f"{url}/v1/models")["data"]] == ["truth"]
    whole = get(f"{url}/v1/chat/completions", json.dumps({**body_of(), "stream": False, "max_tokens": 3}).encode())
    assert whole["choices"][0]["message"]["content"] == "xxx"
    assert whole["usage"] == {"prompt_tokens": 24, "completion_tokens": 3, "total_tokens": 27}


def test_prompt_in_parts_counts_as_its_text(url: str) -> None:
    parts = [{"type": "text", "text": PROMPT}, {"type": "image_url"}, {"type": "text", "text": "four"}]
    asked = {"messages": [{"role": "system", "content": "one"}, {"role": "user", "content": parts}], "max_tokens": 3}
    whole = get(f"{url}/v1/chat/completions", json.dumps(asked).encode())
    assert whole["usage"] == {"prompt_tokens": 31, "completion_tokens": 3, "total_tokens": 34}


@pytest.mark.parametrize("name", ["wire", "httpx", "sockets"])
def test_every_client_sees_every_event(url: str, name: str) -> None:
    result = stage.run_client(name, Load([url], streams=3, rounds=2, body=body_of()))
    assert result.lost == []
    assert len(result.traces) == 6
    assert result.events == 6 * QUICK.tokens
    assert all(error >= 0 for one in result.traces for error in one.chunk_errors_ms())
    assert all(after >= before for one in result.traces for before, after in pairwise(one.seen_ns))


def test_stamps_that_late_events_share_are_told_as_a_cell_would() -> None:
    token = {"id": "x", "choices": [{"delta": {"content": "x"}}]}
    assert find_limit([Heard(0, [(10, token), (10, token), (20, token)], 20, [4.0, 5.0, 0.1])]) == (
        "the client was the bottleneck: it read up to 5.00 ms late, which may change this by 33.3 %, more than "
        "the tolerated 5 %; use fewer lanes or a less busy client"
    )
    assert find_limit([Heard(0, [(10, token), (20, token)], 20, [4.0, 5.0]), ValueError()]) is None
    assert find_limit([Heard(0, [(10, token), (10, token)], 20)]) is None


def test_a_client_that_cannot_run_says_why(url: str) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)^nobody: its process ended with exit code 1: .*KeyError: 'nobody'$"):
        stage.run_client("nobody", Load([url], 1, 1, {}))


def test_body_decides_the_schedule() -> None:
    assert read_schedule({"tokens": 5, "gap_ms": 2.5, "max_tokens": 9}, QUICK) == Schedule(4, 2.5, 5)
    assert read_schedule({"max_tokens": 9}, QUICK) == Schedule(4, 1, 9)
    assert read_schedule({"max_completion_tokens": 7}, QUICK) == Schedule(4, 1, 7)
    assert read_schedule({}, QUICK) == QUICK


def test_length_of_a_chunk_does_not_depend_on_the_time() -> None:
    script = write_script(QUICK, 1)
    for template, filled in ((script.events[1], (7,)), (script.events[1], (10**18,))):
        size, chunk = (template % filled).split(b"\r\n", 1)
        assert len(chunk) == int(size, 16) + 2


def test_errors_are_differences_of_what_was_seen_and_sent() -> None:
    seen = Trace(
        began_ns=1_000_000,
        seen_ns=[12_000_000, 23_000_000],
        ended_ns=24_000_000,
        sent_ns=[11_000_000, 21_000_000],
        end_sent_ns=21_500_000,
        asked_ns=2_000_000,
        read_ns=3_000_000,
        late_ns=0,
    )
    assert seen.chunk_errors_ms() == [1, 2]
    assert seen.itl_errors_ms() == [1]
    assert seen.ttft_error_ms() == 11 - 9
    assert seen.ttft_error_ms(from_read=True) == 11 - 8
    assert seen.e2e_error_ms() == 23 - 19.5


def test_spread_is_of_sizes() -> None:
    assert str(spread([-3.0, 1.0, 2.0])) == "2.0 / 3.0 / 3.0"
    assert str(spread([])) == "– / – / –"
    assert [round_to_two_digits(value) for value in (0, 0.00213, 0.0, 62.4, 623.7)] == ["0", "0.0021", "0", "62", "624"]


def test_a_stream_that_is_not_whole_is_no_trace() -> None:
    with pytest.raises(ValueError, match=r"^a stream that is not whole: 0 tokens came, and its end did not$"):
        trace(0, [], 0)


def test_clients_are_named() -> None:
    assert list(CLIENTS) == ["wire", "httpx", "aiohttp", "sockets"]
