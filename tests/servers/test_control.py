"""Control requests: answers of any shape end in a sentence, and hosts that are not ready are waited for."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_boobench import wire
from pytest_boobench.cli import boobench
from pytest_boobench.errors import HostError
from pytest_boobench.facts import OwnTraffic, ServerFacts
from pytest_boobench.hosts.llama_watcher import SlotsWatcher
from pytest_boobench.hosts.swap_events import HostState
from pytest_boobench.hosts.swap_log import fetch_recent, fetch_rows, find_newest_id
from pytest_boobench.hosts.vllm_watcher import VllmWatcher
from pytest_boobench.hosts.watcher import OwnMarks
from pytest_boobench.servers.clients import Clients, Patience, Waiting, open_clients, read_retry_after
from pytest_boobench.servers.connect import KINDS, connect
from pytest_boobench.servers.control import Question, StillLoading, Unanswered, ask
from pytest_boobench.servers.llama_server import LlamaServer
from pytest_boobench.servers.openai import OpenAIServer
from tests import kinds_stand_in as kinds
from tests.conftest import BenchFolder
from tests.fault_server import JSON, FaultServer, Peer, Scenario, Seen, closed_port
from tests.kinds_stand_in import KindServer
from tests.making import make_cell

T = TypeVar("T")
KEY = "sk-very-secret-1234567890"
DEEP = "[" * 900 + "]" * 900
SOON = httpx.Timeout(0.3)
REMOTE = [kind for kind in KINDS if kind not in ("embedded", "llama-router")]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project that the command stands in."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def look(project: Path, *args: str, **host: Any) -> Result:
    """``boobench hosts rack-1``."""
    (project / "boobench.hosts.yaml").write_text(yaml.safe_dump({"hosts": {"rack-1": host}}), encoding="utf-8")
    return CliRunner().invoke(boobench, ["hosts", "rack-1", *args], standalone_mode=False)


class Always(FaultServer):
    """A server that answers everything alike."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__({"always": scenario})

    def _choose(self, request: Seen) -> str:
        return "always"


def body(content: bytes, *more: str) -> Scenario:
    async def answer(peer: Peer) -> None:
        await peer.head("200 OK", JSON, f"Content-Length: {len(content)}", *more)
        await peer.send(content)

    return answer


async def drip(peer: Peer) -> None:
    await peer.head("200 OK", JSON)
    for _ in range(1000):
        await peer.chunk(b" ")
        await asyncio.sleep(0.05)


async def break_off(peer: Peer) -> None:
    await peer.head("200 OK", JSON, "Content-Length: 100")
    await peer.send(b'{"data": ')
    peer.leave()


FAULTS: Mapping[str, tuple[Scenario, str]] = {
    "drip": (drip, "its answer does not end within 0.3 s"),
    "bad gzip": (body(b'{"a": 1}', "Content-Encoding: gzip"), "its answer is not compressed as its header says"),
    "half": (break_off, "its answer breaks off"),
    "deep": (body(DEEP.encode()), "the answer is nested more than 64 levels deep"),
    "charset": (body(b'{"a": "\xff\xfe"', "Content-Type: application/json; charset=hex"), "the answer is not JSON"),
    "null": (body(b"null"), "expected "),
    "list": (body(b"[[3]]"), "expected "),
    "text": (body(b'"hi"'), "expected "),
    "number": (body(b"1e400"), "expected "),
}


@pytest.mark.parametrize("kind", REMOTE)
@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_is_answered_ends_in_one_sentence(
    project: Path, monkeypatch: pytest.MonkeyPatch, fault: str, kind: str
) -> None:
    monkeypatch.setattr("pytest_boobench.wire.http_clients.CONTROL_TIMEOUT", SOON)
    scenario, said = FAULTS[fault]
    with Always(scenario) as server:
        result = look(project, url=server.url, server=kind)
    assert (result.return_value, result.exception) == (1, None)
    [_, line] = result.output.splitlines()
    assert line.startswith("  GET /")
    assert f": {said}" in line
    assert "no answer from" not in line


@pytest.mark.parametrize("fault", FAULTS)
def test_a_first_suite_is_not_written_for_it(project: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    monkeypatch.setattr("pytest_boobench.wire.http_clients.CONTROL_TIMEOUT", SOON)
    with Always(FAULTS[fault][0]) as server:
        result = CliRunner().invoke(boobench, ["init", server.url], standalone_mode=False)
    assert (result.return_value, result.exception) == (1, None)
    assert len(result.output.splitlines()) == 1
    assert sorted(path.name for path in project.iterdir()) == ["pytest.ini"]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("drip", "its answer does not end within 0.3 s"),
        ("bad gzip", "its answer is not compressed as its header says"),
        ("deep", "the answer is nested more than 64 levels deep"),
    ],
)
def test_a_page_that_tells_the_kind_and_cannot_be_read(
    project: Path, monkeypatch: pytest.MonkeyPatch, fault: str, said: str
) -> None:
    """Taken for another kind it would be measured by less."""
    monkeypatch.setattr("pytest_boobench.wire.http_clients.CONTROL_TIMEOUT", SOON)

    async def list_models(peer: Peer) -> None:
        await peer.answer("200 OK", {"data": [{"id": "m"}]})

    with FaultServer({"props": FAULTS[fault][0], "models": list_models, "version": list_models}) as server:
        result = look(project, url=server.url)
    assert (result.return_value, result.output.splitlines()[1]) == (1, f"  GET /props: {said}")


@contextmanager
def serving(scenario: Scenario, patience: Patience | None = None) -> Iterator[Callable[[Question], httpx.Response]]:
    with Always(scenario) as server:
        yield lambda question: asyncio.run(put(server.url, question, patience))


async def put(url: str, question: Question, patience: Patience | None = None) -> httpx.Response:
    clients = open_clients(url, {}, patience=patience)
    try:
        return await ask(clients, "rack-1", question)
    finally:
        await clients.close()


def test_an_answer_that_is_packed_and_one_that_is_a_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_boobench.wire.http_clients.MOST_BYTES", 2**20)
    for size, fits in ((2**20, True), (2**20 + 1, False)):
        packed = gzip.compress(b" " * size)
        with serving(body(packed, "Content-Encoding: gzip")) as put_question:
            if fits:
                assert len(put_question(Question("GET", "/props")).content) == size
                continue
            with pytest.raises(Unanswered, match=r"^rack-1: GET /props: its answer is longer than 1 MB$"):
                put_question(Question("GET", "/props"))


# --- answers with one part that is something else


def _vary(value: Any) -> st.SearchStrategy[Any]:
    """The value with something else in the place of one of its parts."""
    return st.one_of(ODD, _vary_inside(value)) if isinstance(value, dict | list) and value else ODD


def _vary_inside(value: Any) -> st.SearchStrategy[Any]:
    if isinstance(value, dict):
        return st.sampled_from(sorted(value)).flatmap(
            lambda key: _vary(value[key]).map(lambda odd: {**value, key: odd})
        )
    return st.integers(0, len(value) - 1).flatmap(
        lambda at: _vary(value[at]).map(lambda odd: [*value[:at], odd, *value[at + 1 :]])
    )


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([-1, 0, 3, 10**400, 1e308, float("nan"), float("inf"), "", "x\x1b[31m\x00", "\ud800", KEY]),
    st.sampled_from([[], {}, [[]], [{}], {"a": {}}, [None], ["x"], {"id": 3}, json.loads("[" * 50 + "]" * 50)]),
    st.integers(),
    st.text(max_size=5),
)
MODEL = {"id": "m", "aliases": ["n"], "meta": {"n_ctx": 8, "size": 9, "ftype": "Q4", "llamaswap": {"aliases": ["n"]}}}
ROUTED = {**MODEL, "status": {"value": "loaded", "exit_code": 1}}
SLOT = {"id": 0, "is_processing": True, "id_task": 3, "params": {"seed": 1}, "next_token": [{"n_decoded": 1}]}
PROPS = {
    "build_info": "b1", "total_slots": 4, "model_path": "/m", "default_generation_settings": {"n_ctx": 8}, "role": "x",
}  # fmt: skip
ROW = {
    "id": 1, "timestamp": "2026-11-24T06:04:52Z", "model": "m", "req_path": "/v1/x", "resp_status_code": 200,
    "tokens": {"input_tokens": 2, "output_tokens": 2}, "duration_ms": 5,
}  # fmt: skip
PAGES: Mapping[str, Any] = {
    "/v1/models": {"data": [{**ROUTED, "owned_by": "vllm", "root": "r", "max_model_len": 8}]},
    "/models": {"data": [ROUTED]},
    "/props": PROPS,
    "/slots": [SLOT],
    "/tokenize": {"tokens": [1, 2, 3], "count": 3},
    "/apply-template": {"prompt": "<boobenchtextgoeshere>"},
    "/version": {"version": "1"},
    "/api/version": {"version": "1", "commit": "c"},
    "/running": {"running": [{"model": "m", "state": "ready"}]},
    "/api/hardware": {"cpu": {"name": "c"}},
    "/api/performance": {"sys_stats": [{"a": 1}], "gpu_stats": [{"id": 1}]},
    "/api/metrics/activity": {"data": [ROW]},
    "/api/tags": {"models": [{"name": "m", "size": 3}]},
    "/api/ps": {"models": [{"name": "m", "context_length": 3}]},
    "/api/show": {"model_info": {"general.architecture": "q", "q.context_length": 3}, "capabilities": ["completion"]},
    "/api/v0/models": {"data": [{"id": "m", "state": "loaded", "type": "llm", "loaded_context_length": 3}]},
    "/upstream/m/props": PROPS,
    "/upstream/m/slots": [SLOT],
    "/upstream/m/v1/models": {"data": [MODEL]},
    "/upstream/m/tokenize": {"tokens": [1, 2, 3]},
    "/upstream/m/apply-template": {"prompt": "<boobenchtextgoeshere>"},
}
COUNTERS = "llamacpp:prompt_tokens_total {0}\nllamacpp:tokens_predicted_total 1\nvllm:num_requests_running {0}\n"
VARIED = st.sampled_from(sorted(PAGES)).flatmap(lambda path: st.tuples(st.just(path), _vary(PAGES[path])))


def clients_of(pages: Mapping[str, Any], counter: object = 1) -> Clients:
    """Clients whose control requests are answered from a table."""

    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path == "/metrics":
            return httpx.Response(200, content=COUNTERS.replace("{0}", str(counter)))
        found = path in pages
        return httpx.Response(200 if found else 404, content=json.dumps(pages[path]) if found else b"no such page")

    url = "http://rack.invalid"
    control = wire.ControlClient(transport=httpx.MockTransport(answer), base_url=url)
    return Clients(url=url, control=control, stream=wire.StreamClient(url))


async def attempt(asking: Awaitable[T]) -> T | None:
    """None where the host is refused in words."""
    try:
        return await asking
    except HostError as error:
        assert str(error).isprintable()
        assert str(error).startswith("rack-1: ")
        return None


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"embedded"}))
@given(varied=VARIED)
@settings(deadline=None, max_examples=30)
def test_one_odd_part_of_one_answer_is_a_sentence_at_most(kind: str, varied: tuple[str, Any]) -> None:
    async def work() -> None:
        clients = clients_of({**PAGES, varied[0]: varied[1]})
        server: OpenAIServer = KINDS[kind]("rack-1", "http://rack.invalid", clients)
        facts = await attempt(server.facts())
        assert facts is None or _can_be_stored(facts)
        for names in (await attempt(server.models()), await attempt(server.ready_models())):
            assert all(isinstance(name, str) for name in names or ())
        model = await attempt(server.model_facts("m"))
        for value in (model.n_ctx, model.size_bytes, model.slots) if model else ():
            assert value is None or 0 < value <= 2**53
        await attempt(server.embeds("m"))
        if isinstance(server, LlamaServer):
            await attempt(server.make_prompts(make_cell(model="m", kind="completion", prompt_tokens=2), ["nonce"]))
        await clients.close()

    asyncio.run(work())


def _can_be_stored(facts: ServerFacts) -> bool:
    text = json.dumps([facts.engine_build, facts.extra], allow_nan=False, ensure_ascii=False)
    return text.isprintable()


@given(varied=VARIED, counter=st.sampled_from(["nan", "1e400", "-1", "1e300", "x", "7"]))
@settings(deadline=None, max_examples=30)
def test_watchers_never_raise(varied: tuple[str, Any], counter: str) -> None:
    async def work() -> None:
        clients = clients_of({**PAGES, varied[0]: varied[1]}, counter)
        for watcher in (SlotsWatcher(clients, "m", patience_s=0.0), VllmWatcher(clients, "m", patience_s=0.0)):
            await watcher.look()
            await watcher.begin(OwnMarks("run", frozenset({1, 2})))
            traffic = await watcher.end(OwnTraffic(requests=1))
            assert (traffic.foreign_tokens or 0) < 2**55
            assert "".join(map(str, (*traffic.requests, *traffic.notes))).isprintable()
            await watcher.close()
        for row in await fetch_rows(clients.control, 0) or ():
            assert str(row).isprintable()
        await fetch_recent(clients.control, 0)
        await find_newest_id(clients.control)
        await clients.close()

    asyncio.run(work())


EVENTS = [
    ("inflight", {"operation": "snapshot", "requests": [{"id": "1", "req_headers": {"User-Agent": "a"}}]}),
    (
        "inflight",
        {"operation": "upsert", "request": {"id": "1", "elapsed_ms": 3, "resp_headers": {}, "remote_ip": "x"}},
    ),
    ("inflight", {"operation": "remove", "id": "1"}),
    ("inflight", {"total": 3}),
    ("modelStatus", [{"id": "m", "state": "ready", "aliases": ["n"]}]),
]


@given(odd=st.sampled_from(EVENTS).flatmap(lambda event: st.tuples(st.just(event[0]), _vary(event[1]))))
@settings(deadline=None)
def test_events_of_any_shape_are_taken_or_passed_over(odd: tuple[str, Any]) -> None:
    state = HostState()
    for kind, payload in (*EVENTS[:2], odd, (odd[0], DEEP)):
        state.take(json.dumps({"type": kind, "data": payload if payload is DEEP else json.dumps(payload)}))
    assert all(str(entry.describe()).isprintable() for entry in state.seen.values())
    assert state.take(DEEP) is None


# --- hosts that are not ready


def loading(times: int, status: str = "503 Service Unavailable") -> Scenario:
    left = iter(range(times))

    async def answer(peer: Peer) -> None:
        if next(left, None) is not None:
            await peer.answer(status, {"error": {"message": "Loading model"}})
        elif peer.request.target == "/props":
            await peer.answer("200 OK", PROPS)
        else:
            await peer.answer("200 OK", {"data": [{"id": "m"}]})

    return answer


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_boobench.servers.control._FIRST_STEP_S", 0.01)
    monkeypatch.setattr("pytest_boobench.servers.control._STEP_S", 0.02)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("status", ["503 Service Unavailable", "409 Conflict"])
def test_a_model_that_is_being_loaded_is_waited_for(project: Path, status: str) -> None:
    with Always(loading(3, status)) as server:
        result = look(project, url=server.url)
    assert result.return_value == 0
    assert result.stderr == "rack-1: loading the model, 0 s so far\n"
    assert "rack-1  llama-server  b1  " in result.stdout


@pytest.mark.usefixtures("hasty")
def test_no_longer_than_it_is_given(project: Path) -> None:
    with Always(loading(10_000)) as server:
        result = look(project, "--load-timeout", "100ms", url=server.url, server="llama-server")
        assert (result.return_value, result.stdout.splitlines()[1]) == (
            1,
            "  GET /props: still loading after 0.1 s (503: Loading model); "
            "give it more time with --load-timeout, or see the server's log",
        )
        with pytest.raises(StillLoading) as caught:
            asyncio.run(put(server.url, Question("GET", "/props"), Patience(load_s=0.0)))
    assert str(caught.value) == "rack-1: GET /props: 503: Loading model; try again when it is ready"


@pytest.mark.usefixtures("hasty")
def test_a_session_waits_and_says_so(bench: BenchFolder) -> None:
    class Slow(kinds.Vllm):
        left = 4

        async def __call__(self, peer: Peer) -> None:
            self.left -= 1
            if self.left >= 0:
                await peer.answer("503 Service Unavailable", {"error": {"message": "Loading model"}})
            else:
                await super().__call__(peer)

    with KindServer(Slow(("good",))) as server:
        bench.write_hosts(other={"url": server.url, "server": "vllm", "shared": False})
        bench.write_suite(hosts=["other"], models=["good"], grid={"prompt_tokens": [48], "output_tokens": [4]})
        result = bench.run()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["other good[[]pp48-tg4-c1[]] loading, other: loading the model, 0 s so far"])


def test_a_session_gives_up_by_the_option(bench: BenchFolder) -> None:
    with Always(loading(10_000)) as server:
        bench.write_hosts(other={"url": server.url, "server": "vllm", "shared": False})
        bench.write_suite(hosts=["other"], models=["good"], grid={"prompt_tokens": [48], "output_tokens": [4]})
        result = bench.run("--boobench-load-timeout", "50ms")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["other: GET *: still loading after 0.05 s (503: Loading model); give it more time *"])


def test_a_load_timeout_that_is_no_time(bench: BenchFolder) -> None:
    result = bench.run("--boobench-load-timeout", "soon")
    result.stderr.fnmatch_lines(
        ["ERROR: --boobench-load-timeout: expected a time such as 30s, 5m or 250ms, got 'soon'"]
    )


@pytest.mark.usefixtures("hasty")
def test_a_server_that_is_about_to_be_started_is_waited_for() -> None:
    port = closed_port()
    told: list[Waiting] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    async def work() -> int:
        patience = Patience(refused_s=60.0, tell=told.append)
        asking = asyncio.create_task(put(f"http://127.0.0.1:{port}", Question("GET", "/props"), patience))
        while not told:
            await asyncio.sleep(0.01)
        async with await asyncio.start_server(answer, "127.0.0.1", port):
            return (await asking).status_code

    assert asyncio.run(work()) == 200
    assert str(told[0]) == "rack-1: waiting for its server, which refuses connections, 0 s so far"


@pytest.mark.parametrize(
    ("said", "wait_s"), [("3", 3.0), ("", None), ("soon", None), ("9" * 400, 3600.0), ("-1", None)]
)
def test_how_long_a_host_wants_to_be_left_alone(said: str, wait_s: float | None) -> None:
    assert read_retry_after({"retry-after": said}) == wait_s


# --- keys


def locked(*open_pages: str, status: str = "401 Unauthorized") -> Scenario:
    """A llama-server with ``--api-key``: to those without it, all but ``open_pages`` is closed."""

    async def answer(peer: Peer) -> None:
        path = peer.request.target
        if path not in open_pages and peer.request.headers.get("authorization") != f"Bearer {KEY}":
            await peer.answer(status, {"error": {"message": "Invalid API Key", "type": "authentication_error"}})
        elif path == "/v1/models":
            await peer.answer("200 OK", {"data": [{"id": "m"}]})
        elif path == "/props":
            await peer.answer("200 OK", PROPS)
        else:
            await peer.answer("404 Not Found", {"error": {"message": "File Not Found"}})

    return answer


NO_KEY = "write api_key: ${NAME} in the hosts file, NAME being the environment variable that holds it"


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
def test_a_list_of_models_that_is_open_to_all_proves_no_key(
    project: Path, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    monkeypatch.setenv("WRONG", "sk-wrong-1234567890")
    monkeypatch.setenv("RIGHT", KEY)
    code = status[:3]
    with Always(locked("/health", "/v1/models", status=status)) as server:
        none = look(project, url=server.url)
        wrong = look(project, url=server.url, api_key="${WRONG}")
        right = look(project, url=server.url, api_key="${RIGHT}")
    assert none.output.splitlines()[1:] == [f"  GET /api/version: {code}: the host wants a key; {NO_KEY}"]
    assert wrong.output.splitlines()[1:] == [
        f"  GET /api/version: {code}: the host wants another key; see api_key in the hosts file"
    ]
    assert "llama-server  b1" in right.output


def test_init_names_the_option_and_writes_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WRONG", "sk-wrong-1234567890")
    with Always(locked("/health", "/v1/models")) as server:
        for args, hint in (
            ((), f"wants a key; {NO_KEY}; boobench init --api-key-env NAME does so"),
            (
                ("--api-key-env", "WRONG"),
                "wants another key; see api_key in the hosts file; --api-key-env names the variable that holds it",
            ),
        ):
            result = CliRunner().invoke(boobench, ["init", server.url, *args], standalone_mode=False)
            assert result.return_value == 1
            assert result.output == f"local: GET /api/version: 401: the host {hint}\n"
    assert sorted(path.name for path in project.iterdir()) == ["pytest.ini"]


@pytest.mark.parametrize(
    ("status", "key"), [("401 Unauthorized", KEY), ("403 Forbidden", KEY), ("403 Forbidden", None)]
)
def test_a_gateway_that_closes_what_it_does_not_know_is_a_plain_one(status: str, key: str | None) -> None:
    async def answer(peer: Peer) -> None:
        if peer.request.target == "/v1/models":
            await peer.answer("200 OK", {"data": [{"id": "m"}]})
        elif peer.request.target == "/v1/chat/completions":
            await peer.answer("400 Bad Request", {"error": {"message": "model is missing"}})
        else:
            await peer.answer(status, {"error": {"message": "no"}})

    async def work(url: str) -> str:
        clients = open_clients(url, {"Authorization": f"Bearer {key}"} if key else {})
        try:
            return (await connect("rack-1", url, clients, None)).kind
        finally:
            await clients.close()

    with Always(answer) as server:
        assert asyncio.run(work(server.url)) == "openai"


# --- names


def test_a_name_that_steers_a_terminal_is_not_listed(project: Path) -> None:
    async def answer(peer: Peer) -> None:
        await peer.answer("200 OK", {"data": [{"id": "good"}, {"id": "b\x1b[31mad"}]})

    with Always(answer) as server:
        result = look(project, url=server.url, server="openai")
    assert result.output.splitlines()[1:3] == [
        "  good  unknown",
        "  left out: 1 model whose name holds a control character",
    ]
