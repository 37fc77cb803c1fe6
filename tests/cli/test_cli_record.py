"""``boobench record``: what it writes of a llama-swap's requests, and that no text is in it."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from pytest_boobench.cli import main, record_command
from pytest_boobench.hosts import swap_recorder
from pytest_boobench.hosts.embedded import EmbeddedServer
from tests.fault_server import FaultServer
from tests.llama_swap_stand_in import DISPATCHED, LlamaSwapStandIn

MARKER = "zebra-lake-77"
"""Stands in everything that a llama-swap has of its callers and their texts."""
DAY = Path("day.jsonl")
OWN_HEADER = {"X-Boobench-Run": "run-7"}


@pytest.fixture(autouse=True)
def _stands_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pytest_boobench.hosts.swap_events._PRIMED_S", 0.5)


@pytest.fixture
def swap() -> Iterator[LlamaSwapStandIn]:
    with LlamaSwapStandIn({"qwen": "http://127.0.0.1:9", "org/gemma:Q4": "http://127.0.0.1:9"}) as server:
        write_hosts(server.url)
        yield server


def write_hosts(url: str) -> None:
    Path("boobench.hosts.yaml").write_text(yaml.safe_dump({"hosts": {"rack-1": {"url": url}, "rack-2": {"url": url}}}))


def lines(path: Path = DAY) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for(met: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not met():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.005)


def record(
    act: Callable[[], None], monkeypatch: pytest.MonkeyPatch, *more: str, end: signal.Signals = signal.SIGINT
) -> int:
    """Run the command in this process; ``act`` runs beside it once it records, and the signal follows."""
    recording = threading.Event()
    said = record_command._say

    def say(host: str, text: str) -> None:
        said(host, text)
        if text.startswith("recording"):
            recording.set()

    def run() -> None:
        if recording.wait(20):
            try:
                act()
            finally:
                os.kill(os.getpid(), end)

    monkeypatch.setattr(record_command, "_say", say)
    beside = threading.Thread(target=run)
    beside.start()
    try:
        return main(["record", "rack-1", "--model", "qwen", "--output", str(DAY), *more])
    finally:
        recording.set()
        beside.join()
        monkeypatch.setattr(record_command, "_say", said)


def test_lengths_gaps_and_turns(
    swap: LlamaSwapStandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def act() -> None:
        swap.log((100, 50), 0, duration_ms=0)
        wait_for(lambda: len(lines()) == 1)  # flushed at once
        swap.log((31, 20), 149, duration_ms=0)
        swap.log((64, 8), -1, duration_ms=0)
        swap.log((5, 5), 0, model="org/gemma:Q4")
        wait_for(lambda: len(lines()) == 3)

    assert record(act, monkeypatch) == 0
    first, second, third = lines()
    times = [each.pop("at_s") for each in (first, second, third)]
    assert times == sorted(times)
    assert times[0] == 0
    assert first == {"prompt_tokens": 100, "output_tokens": 50, "conversation": "c1", "turn": 1}
    assert second == {
        "prompt_tokens": 180,
        "output_tokens": 20,
        "conversation": "c1",
        "turn": 2,
        "cached_tokens": 149,
    }
    assert third == {"prompt_tokens": 64, "output_tokens": 8}
    said = capsys.readouterr()
    assert said.out == "day.jsonl: 3 new requests\n"
    assert said.err == "rack-1: recording; Ctrl-C ends it\n"


def test_a_conversation_with_a_real_server(llama: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []

    def chat(url: str, messages: list[dict[str, str]]) -> None:
        asked = {"model": "tiny-chat", "messages": messages, "max_tokens": 12, "cache_prompt": True, "id_slot": 0}
        answer = httpx.post(f"{url}/v1/chat/completions", json=asked, timeout=60).json()
        told.append(answer["usage"])
        messages += [answer["choices"][0]["message"], {"role": "user", "content": "and then? " * 8}]

    with LlamaSwapStandIn({"tiny-chat": llama.url}) as swap:
        write_hosts(swap.url)
        messages = [{"role": "user", "content": "once upon a time " * 12}]

        def act() -> None:
            for number in (1, 2, 3):
                chat(swap.url, messages)
                wait_for(lambda number=number: len(lines()) == number)  # type: ignore[misc]

        assert record(act, monkeypatch, "--model", "tiny-chat") == 0
    assert [(each["conversation"], each["turn"]) for each in lines()] == [("c1", 1), ("c1", 2), ("c1", 3)]
    counts = [(usage["prompt_tokens"], usage["completion_tokens"]) for usage in told]
    assert [(each["prompt_tokens"], each["output_tokens"]) for each in lines()] == counts
    assert all(0 < each["cached_tokens"] < each["prompt_tokens"] for each in lines()[1:])


def test_no_text_is_kept(swap: LlamaSwapStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    texts: dict[str, Any] = {
        "req_path": f"{DISPATCHED[0]}?q={MARKER}",
        "error_msg": MARKER,
        "resp_content_type": MARKER,
        "has_capture": True,
        "metadata": {MARKER: MARKER},
        "prompt": MARKER,
        "req_body": MARKER,
        "remote_ip": MARKER,
    }

    def act() -> None:
        with swap.foreign((31, 20), **{"User-Agent": MARKER, "X-Session-Id": MARKER, "X-Forwarded-For": MARKER}):
            swap.log((100, 50), 0, **texts)
            wait_for(lambda: len(lines()) == 1)
        wait_for(lambda: len(lines()) == 2)

    assert record(act, monkeypatch) == 0
    written = [path for path in Path().iterdir() if path.name != "boobench.hosts.yaml"]
    assert sorted(path.name for path in written) == ["day.jsonl", "day.recording.json"]
    for path in written:
        assert MARKER not in path.read_text()
        assert "curl" not in path.read_text()
        assert "127.0.0.1" not in path.read_text()
    allowed = {"prompt_tokens", "output_tokens", "at_s", "conversation", "turn", "cached_tokens"}
    assert {key for line in lines() for key in line} <= allowed
    assert not any("captures" in seen for seen in swap.seen)


def test_requests_of_boobench_are_left_out(
    swap: LlamaSwapStandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def act() -> None:
        with swap.foreign((31, 20), **OWN_HEADER):
            pass
        with swap.foreign((100, 50)):
            pass
        wait_for(lambda: len(lines()) == 1)

    assert record(act, monkeypatch) == 0
    assert [(each["prompt_tokens"], each["output_tokens"]) for each in lines()] == [(100, 50)]
    assert capsys.readouterr().out == "day.jsonl: 1 new request\nleft out: 1 request of boobench itself\n"


def test_claims_that_cannot_be_are_left_out_and_counted(
    swap: LlamaSwapStandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def act() -> None:
        swap.log((10, 5), 0, duration_ms=-1)
        swap.log((10, 5), 0, duration_ms=3_600_000)
        swap.log((10, 5), 0, timestamp=f"{datetime.now(UTC) + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}")
        swap.log((10**9, 5), 0)
        swap.log((10, 0), 0)
        swap.log((0, 0), 0)
        swap.log((10, 5), 0, resp_status_code=429)
        swap.log(
            (10, 5), 99, req_path="/v1/completions", tokens={"input_tokens": 10, "output_tokens": 5, "cache_tokens": 99}
        )
        swap.log((11, 6), 0)
        wait_for(lambda: len(lines()) == 1)

    assert record(act, monkeypatch) == 0
    assert [each["prompt_tokens"] for each in lines()] == [11]
    assert capsys.readouterr().out.splitlines() == [
        "day.jsonl: 1 new request",
        "left out: 1 request refused or failed",
        "left out: 1 request that ran longer than anybody could see",
        "left out: 2 requests whose counts cannot be",
        "left out: 1 request whose duration cannot be",
        "left out: 1 request whose end is in the future",
        "left out: 1 request without output tokens: cancelled, or embeddings",
        "left out: 1 request without prompt tokens: cancelled, or the server does not count",
    ]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        pytest.param({}, 130, id="timings: the cached ones are apart"),
        pytest.param({"prompt_per_second": -1}, 100, id="OpenAI's usage has them in it"),
    ],
)
def test_the_whole_prompt(
    changed: dict[str, Any], expected: int, swap: LlamaSwapStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = {"input_tokens": 100, "output_tokens": 5, "cache_tokens": 30, "prompt_per_second": 500.0, **changed}

    def act() -> None:
        swap.log((0, 0), tokens=tokens)
        wait_for(lambda: len(lines()) == 1)

    assert record(act, monkeypatch) == 0
    assert lines()[0]["prompt_tokens"] == expected


def test_it_goes_on_after_a_kill(swap: LlamaSwapStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    def begin() -> None:
        swap.log((100, 50), 0)
        wait_for(lambda: len(lines()) == 1)

    def go_on() -> None:
        swap.log((31, 20), 149)
        wait_for(lambda: len(lines()) == 2)

    assert record(begin, monkeypatch) == 0
    with DAY.open("a") as file:
        file.write('{"prompt_tokens": 1')  # where a kill broke a line off
    about = Path("day.recording.json")
    zero_ms = json.loads(about.read_text())["zero_ms"] - 3_600_000
    about.write_text(json.dumps({**json.loads(about.read_text()), "zero_ms": zero_ms}))
    assert record(go_on, monkeypatch, end=signal.SIGTERM) == 0
    first, second = lines()
    assert (first["at_s"], second["turn"], second["conversation"]) == (0, 2, "c1")
    assert second["at_s"] >= 3600  # by the clock: the file was an hour old


def test_the_past_is_taken_once(swap: LlamaSwapStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    old = f"{datetime.now(UTC) - timedelta(minutes=5):%Y-%m-%dT%H:%M:%SZ}"
    for tokens in ((10, 5), (10, 5), (20, 5)):
        swap.log(tokens, 0, timestamp=old)

    assert record(lambda: swap.log((30, 5), 0), monkeypatch, "--past") == 0
    assert [each["prompt_tokens"] for each in lines()] == [10, 10, 20, 30]
    assert 295 <= lines()[-1]["at_s"] - lines()[0]["at_s"] < 600
    swap.log((40, 5), 0)
    assert record(lambda: None, monkeypatch, "--past") == 0
    assert sorted(each["prompt_tokens"] for each in lines()) == [10, 10, 20, 30, 40]
    assert record(lambda: None, monkeypatch, "--past") == 1


def test_lines_end_in_the_order_of_their_beginnings(swap: LlamaSwapStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    swap.log((10, 5), 0, timestamp=now, duration_ms=1000)
    swap.log((20, 5), 0, timestamp=now, duration_ms=60_000)
    swap.log((30, 5), 0, timestamp=now, duration_ms=30_000)
    assert record(lambda: None, monkeypatch, "--past") == 0
    assert [each["prompt_tokens"] for each in lines()] == [20, 30, 10]
    times = [each["at_s"] for each in lines()]
    assert times[0] == 0
    assert times[2] - times[1] == pytest.approx(29, abs=0.5)


def test_a_llama_swap_that_restarts(
    swap: LlamaSwapStandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(swap_recorder, "_LOOK_AGAIN_S", 0.02)
    answer = swap._server._scenarios["stream"]

    async def refuse(peer: Any) -> None:
        await peer.answer("503 Service Unavailable", {"error": "starting"})

    said = []
    original = swap_recorder.SwapRecorder._tell_of_outage

    def note(self: Any, out: bool) -> None:
        original(self, out)
        said.append(out)

    monkeypatch.setattr(swap_recorder.SwapRecorder, "_tell_of_outage", note)

    def act() -> None:
        for number in range(1, 4):
            swap.log((100 * number, 50), 0)
        wait_for(lambda: len(lines()) == 3)
        swap._server._scenarios["stream"] = refuse
        swap.restart()
        wait_for(lambda: bool(said) and said[-1])
        swap._server._scenarios["stream"] = answer
        swap.log((7, 7), 0)  # id 1 again
        wait_for(lambda: len(lines()) == 4)
        wait_for(lambda: swap.listeners > 0)
        for number in range(4, 8):
            swap.log((number, 7), 0)
        wait_for(lambda: len(lines()) == 8)

    assert record(act, monkeypatch) == 0
    assert sorted(each["prompt_tokens"] for each in lines()) == [4, 5, 6, 7, 7, 100, 200, 300]
    told = capsys.readouterr().err.splitlines()
    assert told[1].startswith("rack-1: llama-swap's log cannot be read (")
    assert told[1].endswith("; trying again")
    assert told[2].startswith("rack-1: llama-swap's log can be read again, after ")


def test_a_file_for_each_model(swap: LlamaSwapStandIn) -> None:
    swap.log((10, 5), 0)
    swap.log((20, 5), 0, model="org/gemma:Q4")
    assert main(["record", "rack-1", "--past", "--for", "10ms"]) == 0
    assert [each["prompt_tokens"] for each in lines(Path("rack-1-qwen.jsonl"))] == [10]
    assert [each["prompt_tokens"] for each in lines(Path("rack-1-org-gemma-Q4.jsonl"))] == [20]


def test_models_with_nearly_the_same_name_have_a_file_each(swap: LlamaSwapStandIn) -> None:
    swap.log((10, 5), 0, model="org/qwen")
    swap.log((20, 5), 0, model="org:qwen")
    for _ in range(2):
        main(["record", "rack-1", "--past", "--for", "10ms"])
        found = sorted(lines(path)[0]["prompt_tokens"] for path in Path().glob("*.jsonl"))
        assert found == [10, 20]


def test_a_file_that_cannot_be_written(swap: LlamaSwapStandIn, capsys: pytest.CaptureFixture[str]) -> None:
    Path("rack-1.recording.json.new").mkdir()
    swap.log((10, 5), 0)
    assert main(["record", "rack-1", "--past", "--for", "10ms", "--model", "qwen"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "rack-1.jsonl: cannot be read and written: is a directory"


def test_two_recordings_in_one_file(
    swap: LlamaSwapStandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def act() -> None:
        swap.log((10, 5), 0)
        wait_for(lambda: len(lines()) == 1)
        with DAY.open("a") as file:
            file.write(DAY.read_text())
        swap.log((20, 5), 0)

    assert record(act, monkeypatch) == 2
    expected = "day.jsonl: another program has changed it; expected one recording at a time for a file\n"
    assert capsys.readouterr().err.endswith(expected)
    assert len(lines()) == 2


def test_an_old_llama_swap_does_not_tell_who_asks(capsys: pytest.CaptureFixture[str]) -> None:
    with LlamaSwapStandIn({"qwen": "http://127.0.0.1:9"}, version=200) as swap:
        write_hosts(swap.url)
        swap.log((10, 5), 0)
        assert main(["record", "rack-1", "--past", "--for", "10ms", "--model", "qwen"]) == 0
    assert (
        "rack-1: requests (v240 and later tell who sends them) are recorded whoever sent them"
        in capsys.readouterr().err
    )
    assert len(lines(Path("rack-1.jsonl"))) == 1


def test_what_cannot_be_recorded(swap: LlamaSwapStandIn, capsys: pytest.CaptureFixture[str]) -> None:
    def complain(*args: str, host: str = "rack-1") -> str:
        assert main(["record", host, "--for", "10ms", *args]) == 2
        return capsys.readouterr().err.splitlines()[-1]

    assert "no host 'rack-9'" in complain(host="rack-9")
    assert complain(host="embedded").startswith("embedded: boobench starts it, so nobody else uses it; expected a host")
    assert complain("--model", "qwenn") == "rack-1: --model: it has no 'qwenn'; it lists qwen, org/gemma:Q4"
    assert complain("--output", "day.txt").endswith("expected a name that ends with .jsonl, got 'day.txt'")
    assert complain("--output", "no/day.jsonl").endswith("no folder no; make it, or name another one")
    swap.log((10, 5), 0)
    assert main(["record", "rack-1", "--for", "10ms", "--past", "--model", "qwen", "--output", "day.jsonl"]) == 0
    other = complain("--model", "qwen", "--output", "day.jsonl", host="rack-2")
    assert other == (
        "Error: --output: day.jsonl is the recording of qwen on rack-1, not of qwen on rack-2; expected another file"
    )
    Path("day.recording.json").unlink()
    assert "day.jsonl is there, but no day.recording.json" in complain("--model", "qwen", "--output", "day.jsonl")


def test_another_kind_of_server(capsys: pytest.CaptureFixture[str]) -> None:
    with FaultServer() as server:
        Path("boobench.hosts.yaml").write_text(
            yaml.safe_dump({"hosts": {"rack-1": {"url": server.url, "server": "openai"}}})
        )
        assert main(["record", "rack-1"]) == 2
    assert capsys.readouterr().err == (
        "rack-1: it is a openai, whose requests nobody can look up; expected a host whose server is llama-swap, for "
        "its log of finished requests\n"
    )
