"""The embedded host: the model's file and its texts, a real server on it, and its end with its parent."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import string
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

import pytest_boobench
from pytest_boobench.errors import HostError, MissingExtra
from pytest_boobench.hosts.embedded import (
    MODELS,
    EmbeddedServer,
    EmbeddedSettings,
    find_problems,
    is_healthy,
    provide_model,
    start,
)
from pytest_boobench.hosts.embedded_model import F32, IQ3_S, Tensor, Value, pack_f16, pack_f32, write

PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))
LIGHT = EmbeddedSettings(layers=1, width=256, feed_forward=256, slots=2, context_tokens=1024)
PARENT = """
import os, sys, time
from pathlib import Path
from pytest_boobench.hosts.embedded import EmbeddedSettings, start
server = start(EmbeddedSettings(layers=1, width=256, feed_forward=256), cache=Path(sys.argv[1]))
heir = os.fork() if "fork" in sys.argv else 0
if heir or "fork" not in sys.argv:
    print(server.pid, server.url, heir, flush=True)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def server(cache: Path) -> Iterator[EmbeddedServer]:
    with start(LIGHT, cache=cache) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: EmbeddedServer) -> Iterator[httpx.Client]:
    afresh = httpx.Limits(max_keepalive_connections=0)  # the server closes after each stream while it says keep-alive
    with httpx.Client(base_url=server.url, trust_env=False, timeout=30.0, limits=afresh) as client:
        yield client


def post(client: httpx.Client, path: str, **body: Any) -> dict[str, Any]:
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def chat(client: httpx.Client, text: str, **more: Any) -> dict[str, Any]:
    return post(client, "/v1/chat/completions", messages=[{"role": "user", "content": text}], **more)


def stream(client: httpx.Client, path: str, **body: Any) -> list[dict[str, Any]]:
    response = client.post(path, json={**body, "stream": True})
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: ")]
    assert lines.pop() == "[DONE]"
    return [choice for line in lines for choice in json.loads(line)["choices"]]


def said(choice: dict[str, Any]) -> str:
    delta = choice.get("delta", {})
    return str(choice.get("text") or delta.get("content") or delta.get("reasoning_content") or "")


# The file


def test_gguf_layout(tmp_path: Path) -> None:
    metadata: dict[str, Value] = {"a": 1, "b": 0.5, "c": "é", "d": True, "e": ["x", "y"], "f": [-1, 2], "g": [0.5]}
    path = tmp_path / "file.gguf"
    with path.open("wb") as file:
        write(file, metadata, [Tensor("t", F32, (3,), pack_f32([1, 2, 3])), Tensor("z", IQ3_S, (256, 2))])
    header = (
        b"GGUF\x03\0\0\0\x02\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0"
        b"\x01\0\0\0\0\0\0\0a\x04\0\0\0\x01\0\0\0"
        b"\x01\0\0\0\0\0\0\0b\x06\0\0\0\0\0\0\x3f"
        b"\x01\0\0\0\0\0\0\0c\x08\0\0\0\x02\0\0\0\0\0\0\0\xc3\xa9"
        b"\x01\0\0\0\0\0\0\0d\x07\0\0\0\x01"
        b"\x01\0\0\0\0\0\0\0e\x09\0\0\0\x08\0\0\0\x02\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0x\x01\0\0\0\0\0\0\0y"
        b"\x01\0\0\0\0\0\0\0f\x09\0\0\0\x05\0\0\0\x02\0\0\0\0\0\0\0\xff\xff\xff\xff\x02\0\0\0"
        b"\x01\0\0\0\0\0\0\0g\x09\0\0\0\x06\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\x3f"
        b"\x01\0\0\0\0\0\0\0t\x01\0\0\0\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
        b"\x01\0\0\0\0\0\0\0z\x02\0\0\0\0\x01\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x15\0\0\0\x20\0\0\0\0\0\0\0"
    )
    numbers = b"\0\0\x80\x3f\0\0\0\x40\0\0\x40\x40"
    assert path.read_bytes() == header.ljust(288, b"\0") + numbers.ljust(32, b"\0") + bytes(224)


def test_f16_rounds_to_nearest() -> None:
    assert pack_f16([1.0, -2048.0, 0.1]) == b"\x00\x3c\x00\xe8\x66\x2e"


def test_default_model_is_the_same_to_the_byte_everywhere(cache: Path) -> None:
    path = provide_model(EmbeddedSettings(), cache)
    assert path.name == "tiny-l8-w512-f2048-v1.gguf"
    assert (
        hashlib.sha256(path.read_bytes()).hexdigest()
        == "9b2c69ef5f682429c7efd420a39e872d4a1b846dcbb26a7c8781b5b8312ba1f2"
    )


def test_model_is_written_once_and_whole(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "cache"
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(lambda _: provide_model(LIGHT, folder), range(4)))
    assert list(folder.iterdir()) == list(paths)
    (path,) = paths
    path.write_text("kept")
    assert provide_model(LIGHT, folder).read_text() == "kept"


def test_model_lies_in_the_users_cache_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("pytest_boobench.hosts.embedded.find_cache", lambda: tmp_path / "pytest-boobench")
    assert provide_model(LIGHT).parent == tmp_path / "pytest-boobench"


def test_settings_of_the_server_alone_share_a_file(tmp_path: Path) -> None:
    assert provide_model(LIGHT, tmp_path) == provide_model(
        EmbeddedSettings(layers=1, width=256, feed_forward=256, threads=2, slots=1, context_tokens=512), tmp_path
    )


# Settings


@pytest.mark.parametrize(
    ("values", "problems"),
    [
        ({}, {}),
        ({"layers": 128, "width": 4096, "url": "someone else's"}, {}),
        ({"layers": 0}, {"layers": "expected a whole number from 1 to 128, got 0"}),
        ({"layers": "4"}, {"layers": "expected a whole number from 1 to 128, got '4'"}),
        ({"threads": True}, {"threads": "expected a whole number from 1 to 64, got True"}),
        ({"slots": 1.0}, {"slots": "expected a whole number from 1 to 64, got 1.0"}),
        (
            {"width": 300, "feed_forward": 32768, "context_tokens": 8},
            {
                "width": "expected a multiple of 256 from 256 to 4096, got 300",
                "feed_forward": "expected a multiple of 256 from 256 to 16384, got 32768",
                "context_tokens": "expected a whole number from 256 to 131072, got 8",
            },
        ),
    ],
)
def test_problems_of_settings(values: dict[str, object], problems: dict[str, str]) -> None:
    assert find_problems(values) == problems


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        EmbeddedSettings(layers=0, width=300)
    assert str(caught.value) == (
        "layers: expected a whole number from 1 to 128, got 0; "
        "width: expected a multiple of 256 from 256 to 4096, got 300"
    )


# What the model says


def test_one_printable_character_is_one_token(client: httpx.Client) -> None:
    tokens = post(client, "/tokenize", content=PRINTABLE, add_special=True, parse_special=True)["tokens"]
    assert len(set(tokens)) == len(PRINTABLE) == 95
    assert post(client, "/detokenize", tokens=tokens)["content"] == PRINTABLE


def test_chat_template_adds_nothing(client: httpx.Client) -> None:
    messages = [{"role": "system", "content": "Be brief. "}, {"role": "user", "content": PRINTABLE}]
    assert post(client, "/apply-template", messages=messages)["prompt"] == f"Be brief. {PRINTABLE}"
    assert chat(client, PRINTABLE, max_tokens=1)["usage"]["prompt_tokens"] == len(PRINTABLE)


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("a", "bcdefghijklmnopqrstuvwxyzabc"),
        ("z", "abcdefghijklmnopqrstuvwxyzab"),
        ("Y", "ZABCDEFGHIJKLMNOPQRSTUVWXYZA"),
        ("7", "8901234567890123456789012345"),
        ("é", "abcdefghijklmnopqrstuvwxyzab"),
    ],
)
def test_each_token_leads_to_the_next(client: httpx.Client, prompt: str, answer: str) -> None:
    choice = chat(client, prompt, max_tokens=28, temperature=2.0)["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (answer, "length")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_after_any_character_but_the_question_each_token_is_a_chunk(client: httpx.Client, path: str) -> None:
    for character in PRINTABLE.replace("?", ""):
        prompt = {"messages": [{"role": "user", "content": character}], "prompt": character}
        choices = stream(client, path, **prompt, max_tokens=3, ignore_eos=True)
        assert [len(said(choice)) for choice in choices if said(choice)] == [1, 1, 1], character


def test_full_stop_ends_the_text(client: httpx.Client) -> None:
    answer = chat(client, "that is all.", max_tokens=20)
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["choices"][0]["message"]["content"] == ""
    assert answer["usage"]["completion_tokens"] == 1


def test_question_streams_a_thought_before_the_answer(client: httpx.Client) -> None:
    messages = [{"role": "user", "content": "why?"}]
    choices = stream(client, "/v1/chat/completions", messages=messages, max_tokens=31)
    deltas = [choice["delta"] for choice in choices if said(choice)]
    assert [delta["reasoning_content"] for delta in deltas[:26]] == list(string.ascii_uppercase)
    assert [delta["content"] for delta in deltas[26:]] == ["a", "b", "c"]


def test_embeddings(client: httpx.Client) -> None:
    texts = ["abc", "cab", "xyz", "w" * LIGHT.context_tokens]
    answer = post(client, "/v1/embeddings", model="tiny-embed", input=texts)
    vectors = [item["embedding"] for item in answer["data"]]
    assert answer["usage"]["prompt_tokens"] == sum(map(len, texts))
    assert [len(vector) for vector in vectors] == [LIGHT.width] * 4
    similarities = [sum(a * b for a, b in zip(vectors[0], vector, strict=True)) for vector in vectors]
    assert similarities == pytest.approx([1.0, 1.0, 0.0, 0.0], abs=1e-5)


# The server


def test_both_models_have_one_server(client: httpx.Client) -> None:
    (model,) = client.get("/v1/models").json()["data"]
    assert model["aliases"] == list(MODELS)
    assert model["meta"]["ftype"] == "IQ3_S - 3.4375 bpw"
    assert model["meta"]["n_ctx"] == LIGHT.context_tokens
    assert len(client.get("/slots").json()) == LIGHT.slots
    assert "llamacpp:requests_processing 0" in client.get("/metrics").text
    assert client.get("/").status_code == 404


def test_nothing_is_kept_of_a_cold_prompt(client: httpx.Client) -> None:
    for _ in range(2):
        timings = chat(client, "the same again", max_tokens=2, cache_prompt=False)["timings"]
        assert (timings["cache_n"], timings["prompt_n"], timings["predicted_n"]) == (0, 14, 2)


def test_more_layers_are_slower(cache: Path) -> None:
    def fastest_decode_tok_s(layers: int) -> float:
        with start(EmbeddedSettings(layers=layers, slots=1), cache=cache) as server:
            body = {"prompt": "go", "max_tokens": 24}
            answers = [httpx.post(f"{server.url}/v1/completions", json=body, trust_env=False) for _ in range(4)]
        timings = [answer.json()["timings"] for answer in answers]
        return max(float(timing["predicted_n"] - 1) / float(timing["predicted_ms"]) * 1000 for timing in timings)

    assert fastest_decode_tok_s(layers=8) < 0.6 * fastest_decode_tok_s(layers=2)


def test_interrupt_at_the_terminal_is_the_parents_to_handle(server: EmbeddedServer) -> None:
    os.kill(server.pid, signal.SIGINT)
    time.sleep(0.1)
    assert server.alive()
    assert is_healthy(server.url)


def test_stop_ends_it_whatever_it_does_and_is_repeatable(cache: Path) -> None:
    server = start(LIGHT, cache=cache)
    body = {"prompt": "a", "max_tokens": 900, "stream": True}
    with httpx.stream("POST", f"{server.url}/v1/completions", json=body, trust_env=False) as response:
        chunks = response.iter_raw()
        next(chunks)
        server.stop()
        with pytest.raises(httpx.TransportError):
            list(chunks)
    assert not server.alive()
    assert not is_healthy(server.url)
    server.stop()


def test_a_killed_server_is_not_alive(cache: Path) -> None:
    with start(LIGHT, cache=cache) as server:
        os.kill(server.pid, signal.SIGKILL)
        assert until(lambda: not server.alive())


# Its end with its parent


def until(condition: Any, within_s: float = 20.0) -> bool:
    deadline = time.monotonic() + within_s
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(met)


def runs(pid: int) -> bool:
    """Whether a process runs; one that waits to be reaped does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(") ")[2].startswith("Z"))


@pytest.mark.parametrize("way", ["alone", "fork"])
def test_killed_parent_takes_the_server_along(cache: Path, way: str, tmp_path: Path) -> None:
    """Also where a process that was forked from the parent lives on and holds its end of the pipe."""
    command = [sys.executable, "-c", PARENT, str(cache), way]
    home = Path(pytest_boobench.__file__).parents[1]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=home, env=environment) as parent:
        assert parent.stdout
        pid, url, heir = parent.stdout.readline().split()
        assert is_healthy(url)
        parent.kill()
        parent.wait()
        try:
            assert until(lambda: not runs(int(pid)))
        finally:
            if int(heir):
                os.kill(int(heir), signal.SIGKILL)
    assert list(tmp_path.iterdir()) == []


# What can go wrong at the start


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(MissingExtra) as caught:
        start(LIGHT, cache=tmp_path)
    assert str(caught.value) == (
        "the embedded host needs the extra 'embedded': pip install 'pytest-boobench[embedded]'"
    )
    assert list(tmp_path.iterdir()) == []


def test_cache_that_cannot_be_written(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(HostError) as caught:
        start(LIGHT, cache=blocked / "cache")
    assert str(caught.value) == (
        "the embedded host: its model cannot be written, expected a writable cache: "
        f"[Errno 20] Not a directory: '{blocked / 'cache'}'"
    )


def test_server_that_does_not_start_shows_its_log(tmp_path: Path) -> None:
    provide_model(LIGHT, tmp_path).write_text("no model at all")
    with pytest.raises(HostError) as caught:
        start(LIGHT, cache=tmp_path)
    first, *log = str(caught.value).splitlines()
    assert first == ("the embedded host: its server ended with exit code 1 before it was ready; the end of its log:")
    assert "invalid magic characters: 'no m', expected 'GGUF'" in "\n".join(log)
    assert "xllamacpp: Failed to init server, please check the input params." in log


def test_server_that_takes_too_long(cache: Path) -> None:
    with pytest.raises(HostError) as caught:
        start(LIGHT, cache=cache, deadline_s=0.0)
    assert str(caught.value) == "the embedded host: its server was not ready after 0 s; the end of its log:"
