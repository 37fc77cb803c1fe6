"""The other kinds of server: recognised, loaded, measured and read, each by a stand-in of its kind."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any, TypeVar

import pytest

from pytest_boobench import wire
from pytest_boobench.errors import HostError
from pytest_boobench.facts import ModelFacts
from pytest_boobench.hosts.embedded import EmbeddedServer
from pytest_boobench.servers.clients import Prompt, ServerAnswer, open_clients
from pytest_boobench.servers.connect import connect
from pytest_boobench.servers.llama_server import LlamaRouter
from pytest_boobench.servers.ollama import Ollama
from pytest_boobench.servers.ollama_answers import read_lines
from pytest_boobench.servers.openai import OpenAIServer
from pytest_boobench.servers.vllm_lmstudio import LmStudio, Vllm
from tests import kinds_stand_in as kinds
from tests.conftest import BenchFolder
from tests.fault_server import FaultServer, Peer, closed_port
from tests.kinds_stand_in import KindServer, StandIn
from tests.making import make_cell, make_sample
from tests.stand_in import openai_server

T = TypeVar("T")
GRID = {"prompt_tokens": [48], "output_tokens": [4]}


def ask(url: str, what: Callable[[Any], Awaitable[T]], kind: str | None = None) -> T:
    """What a host's server says, connected to as a session does."""

    async def run() -> T:
        clients = open_clients(url, {})
        try:
            return await what(await connect("rack-1", url, clients, kind))
        finally:
            await clients.close()

    return asyncio.run(run())


async def kind_of(server: OpenAIServer) -> str:
    return server.kind


def query(bench: BenchFolder, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(bench.path / ".boobench" / "store.db")) as connection:
        return connection.execute(sql).fetchall()


def write(bench: BenchFolder, server: KindServer, **changed: Any) -> None:
    """A suite on a stand-in, whose kind the hosts file leaves out."""
    bench.write_hosts(other={"url": server.url, "shared": False})
    bench.write_suite(**{"hosts": ["other"], "models": ["good"], "grid": GRID, **changed})


STAND_INS: list[tuple[StandIn, str]] = [
    (kinds.Router(("good",)), "llama-router"),
    (kinds.Vllm(("good",)), "vllm"),
    (kinds.Ollama(("good",)), "ollama"),
    (kinds.LmStudio(("good",)), "lmstudio"),
]


@pytest.mark.parametrize(("stand_in", "kind"), STAND_INS, ids=[kind for _, kind in STAND_INS])
def test_a_kind_is_recognised_and_nothing_is_loaded_by_it(stand_in: StandIn, kind: str) -> None:
    loaded = set(stand_in.loaded)
    with KindServer(stand_in) as server:
        assert ask(server.url, kind_of) == kind
    assert stand_in.loaded == loaded
    assert {seen.method for seen in server.seen} == {"GET"}
    assert len(stand_in.asked) == len(set(stand_in.asked)), "each page is asked for once"


def test_a_llama_server_and_a_plain_one_are_recognised(llama: EmbeddedServer) -> None:
    assert ask(llama.url, kind_of) == "llama-server"
    with openai_server() as server:
        assert ask(server.url, kind_of) == "openai"


def test_a_named_kind_is_believed_but_for_a_router() -> None:
    with KindServer(kinds.Router(("good",))) as server:
        assert ask(server.url, kind_of, "llama-server") == "llama-router"
        assert ask(server.url, kind_of, "openai") == "openai"
    dead = f"http://127.0.0.1:{closed_port()}"
    assert ask(dead, kind_of, "llama-server") == "llama-server"


def test_a_dead_host_has_no_kind() -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    with pytest.raises(HostError, match=rf"^rack-1: no answer from {url}: "):
        ask(url, kind_of)


def test_a_server_that_hangs_up_on_what_it_does_not_know_is_a_plain_one() -> None:
    async def hang_up(peer: Peer) -> None:
        peer.leave()

    async def refuse(peer: Peer) -> None:
        await peer.answer("404 Not Found", {})

    with FaultServer({"props": refuse, "models": hang_up, "": hang_up}) as server:
        assert ask(server.url, kind_of) == "openai"


@pytest.mark.parametrize("kind", ["chat", "completion"])
def test_ollama_is_measured_by_its_own_nanoseconds(bench: BenchFolder, kind: str) -> None:
    with KindServer(kinds.Ollama(("good",))) as server:
        write(bench, server, kind=kind, sampling={"temperature": 0.0, "seed": 7}, request={"options": {"num_ctx": 512}})
        bench.run().assert_outcomes(passed=1)
    measured = [seen for seen in server.seen if seen.fields.get("stream")]
    assert {seen.target for seen in measured} == {"/api/chat" if kind == "chat" else "/api/generate"}
    assert {json.dumps(seen.fields["options"]) for seen in measured} == {
        '{"num_ctx": 512, "temperature": 0.0, "seed": 7, "num_predict": 4}'
    }
    assert query(
        bench,
        "select distinct rate_source, prompt_tokens, cached_tokens, output_tokens, prompt_ms, predicted_ms, "
        "decode_tok_s, prefill_tok_s, json_extract(timings, '$.load_ms'), json_extract(timings, '$.eval_duration'), "
        "finish_reason, ttft_ms < e2e_ms from bench_samples",
    ) == [("server", 48, None, 4, 20.0, 50.0, 60.0, 2400.0, 7.0, 50_000_000, "length", 1)]
    assert query(bench, "select load_ms > 0 from bench_cells") == [(1,)]
    assert query(bench, "select engine_build from bench_runs") == [("0.31.1",)]


def test_a_warm_ollama_has_no_prefill_rate(bench: BenchFolder) -> None:
    """Its count contains cached tokens, its time does not."""
    with KindServer(kinds.Ollama(("good",))) as server:
        write(bench, server, cache="warm")
        bench.run().assert_outcomes(passed=1)
    assert query(bench, "select distinct prompt_tokens, prefill_tok_s from bench_samples") == [(48, None)]


def test_a_context_that_is_too_small_for_ollama(bench: BenchFolder) -> None:
    """Ollama would cut the prompt without a message."""
    with KindServer(kinds.Ollama(("good",))) as server:
        write(bench, server, grid={"prompt_tokens": [4090], "output_tokens": [16]})
        result = bench.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "other: good has a context of 4096 tokens (num_ctx), prompt and output need 4106: Ollama would cut the "
            "prompt without a message; write request: {options: {num_ctx: 5120}} in the suite, or set "
            "OLLAMA_CONTEXT_LENGTH on the host"
        ]
    )


def test_a_prompt_that_ollama_cut_all_the_same(bench: BenchFolder) -> None:
    class Cutting(kinds.Ollama):
        async def _tell(self, peer: Peer, fields: dict[str, Any], prompt: int, line: Any) -> None:
            await super()._tell(peer, fields, prompt if not fields.get("stream") else 20, line)

    with KindServer(Cutting(("good",))) as server:
        write(bench, server)
        result = bench.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*the server counted 20 tokens in a prompt of 48 tokens (within 2): the rest came *"])
    result.stdout.fnmatch_lines(["*num_ctx*"])


def test_ollama_thinks_before_it_speaks(bench: BenchFolder) -> None:
    with KindServer(kinds.Ollama(("thinker",))) as server:
        write(bench, server, models=["thinker"])
        bench.run().assert_outcomes(passed=1)
    assert query(bench, "select distinct ttft_ms < ttfo_ms from bench_samples") == [(1,)]


def test_ollama_embeds(bench: BenchFolder) -> None:
    with KindServer(kinds.Ollama(("embedder",))) as server:
        write(bench, server, models=["embedder"], kind="embedding", grid={"prompt_tokens": [48]})
        bench.run().assert_outcomes(passed=1)
    assert query(bench, "select distinct prompt_tokens, embed_tok_s > 0 from bench_samples") == [(48, 1)]
    loads = [seen.fields for seen in server.seen if seen.fields.get("input") == []]
    assert loads == [{"model": "embedder", "input": []}]


def test_an_error_in_a_stream_of_ollama(bench: BenchFolder) -> None:
    with KindServer(kinds.Ollama(("broken",))) as server:
        write(bench, server, models=["broken"])
        result = bench.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["other: every request failed: 1 × stream-error: out of memory"])


@pytest.mark.parametrize(
    ("make", "sampling", "line"),
    [
        (
            kinds.Ollama,
            {"dry_base": 1.5},
            "other: sampling.dry_base: Ollama ignores it, and its own default would be used; leave it out, it "
            "knows frequency_penalty, min_p, presence_penalty, repeat_last_n, repeat_penalty, seed, temperature, "
            "top_k, top_p, typical_p",
        ),
        (
            kinds.Vllm,
            {"repeat_penalty": 1.1},
            "other: sampling.repeat_penalty: vLLM ignores it, and its own default would be used; leave it out, it "
            "knows frequency_penalty, min_p, presence_penalty, seed, temperature, top_k, top_p",
        ),
        (
            kinds.LmStudio,
            {"min_p": 0.1},
            "other: sampling.min_p: LM Studio ignores it, and its own default would be used; leave it out, it knows "
            "frequency_penalty, presence_penalty, repeat_penalty, seed, temperature, top_k, top_p",
        ),
    ],
)
def test_sampling_that_a_server_would_drop_is_refused(
    bench: BenchFolder, make: type[StandIn], sampling: dict[str, float], line: str
) -> None:
    with KindServer(make(("good",))) as server:
        write(bench, server, sampling=sampling)
        result = bench.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([line])


def test_ollama_tells_of_its_models() -> None:
    async def look(server: Ollama) -> tuple[Any, ...]:
        before = await server.ready_models()
        loaded_ms = await server.load("good")
        again_ms = await server.load("good")
        after = await server.ready_models()
        return before, loaded_ms, again_ms, after, await server.model_facts("good")

    with KindServer(kinds.Ollama(("good", "embedder"))) as server:
        before, loaded_ms, again_ms, after, facts = ask(server.url, look)
    assert (before, again_ms, after) == ([], None, ["good"])
    assert loaded_ms > 0
    assert facts == ModelFacts(
        name="good",
        n_params=8_000_000,
        size_bytes=4_000,
        quantisation="Q4_K_M",
        n_ctx=4096,
        n_ctx_train=131_072,
        n_embd=4096,
        gpu_percent=80,
    )


@pytest.mark.parametrize(
    ("entry", "percent"),
    [
        ({"size": 200, "size_vram": 200}, 100),
        ({"size": 300, "size_vram": 200}, 67),
        ({"size": 200, "size_vram": 0}, 0),
        ({"size": 200}, None),
        ({"size": 0, "size_vram": 0}, None),
        ({"size": 200, "size_vram": 201}, None),
        ({"size": 200, "size_vram": -1}, None),
        ({"size": "200", "size_vram": True}, None),
    ],
)
def test_how_much_of_a_model_ollama_has_on_the_gpu(entry: dict[str, Any], percent: int | None) -> None:
    pages = {
        **kinds.Ollama(("good",)).pages(),
        "/api/ps": kinds.fixed({"models": [{"name": "good", **entry}]}),
    }
    stand_in = kinds.Ollama(("good",))
    stand_in.pages = lambda: pages  # type: ignore[method-assign]
    with KindServer(stand_in) as server:
        assert ask(server.url, lambda ollama: ollama.model_facts("good"), "ollama").gpu_percent == percent


@pytest.mark.parametrize(
    ("page", "kv_type"),
    [
        ('vllm:cache_config_info{block_size="16",cache_dtype="fp8_e4m3",engine="0"} 1.0\n', "fp8_e4m3"),
        ('# TYPE x gauge\nvllm:cache_config_info{cache_dtype="auto"} 1.0', "auto"),
        ('vllm:cache_config_info{block_size="16"} 1.0\nother{cache_dtype="fp8"} 1', None),
        ('vllm:cache_config_info{mamba_cache_dtype="fp8"} 1', None),
        ('vllm:cache_config_info{cache_dtype=""} 1', None),
        ("", None),
    ],
)
def test_the_type_of_vllms_cache(page: str, kv_type: str | None) -> None:
    async def metrics(peer: Peer, fields: dict[str, Any]) -> None:
        await peer.head("200 OK", "text/plain", f"Content-Length: {len(page)}")
        await peer.send(page.encode())

    stand_in = kinds.Vllm(("good",))
    pages = {**stand_in.pages(), "/metrics": metrics}
    stand_in.pages = lambda: pages  # type: ignore[method-assign]
    with KindServer(stand_in) as server:
        found = ask(server.url, lambda vllm: vllm.model_facts("good"), "vllm")
    assert (found.kv_type, found.cache_block) == (kv_type, 16 if 'block_size="16"' in page else None)


def test_a_router_tells_how_it_started_a_models_server() -> None:
    with KindServer(kinds.Router(("good", "other"), ("good",))) as server:
        told = ask(server.url, lambda router: router.command("good"), "llama-router")
        assert told == "/bin/llama-server --port {port} -m good.gguf"
        assert ask(server.url, lambda router: router.command("other"), "llama-router") is None


def test_whoever_started_a_server_knows_its_command(llama: EmbeddedServer) -> None:
    async def command(server: OpenAIServer) -> tuple[str | None, str | None]:
        before = await server.command("tiny-chat")
        server.started_with = "llama-server -m q.gguf"
        return before, await server.command("tiny-chat")

    assert ask(llama.url, command) == (None, "llama-server -m q.gguf")


def test_what_is_no_ollama() -> None:
    with openai_server() as server, pytest.raises(HostError) as caught:
        ask(server.url, Ollama.models, "ollama")
    assert str(caught.value).startswith("rack-1: GET /api/tags: the answer is not JSON: 'data: {")
    assert str(caught.value).endswith(f"…'; is {server.url} an LLM server?")
    with KindServer(kinds.LmStudio(("good",))) as server, pytest.raises(HostError) as caught:
        ask(server.url, lambda other: other._list("/props"), "ollama")
    assert str(caught.value) == "rack-1: GET /props: expected a list of models under 'models'; is this Ollama?"


def test_an_ollama_that_does_not_count() -> None:
    async def answer(peer: Peer) -> None:
        await peer.answer("200 OK", {"done": True})

    with FaultServer({"chat": answer, "qwen": answer}) as server, pytest.raises(HostError) as caught:
        ask(server.url, lambda other: other.make_prompts(make_cell(), ["nonce"]), "ollama")
    assert str(caught.value) == (
        "rack-1: POST /api/chat: no prompt_eval_count in the answer, so no exact prompt can be made; "
        "a newer Ollama is needed"
    )


LINES = [b'{"message": {"content": "a"}, "done": false}\n', b"\r\n", b'{"message": {"content": "b"}, "done": true}']


def exchange_of(*pieces: bytes, complete: bool = True) -> wire.Exchange:
    """Pieces 10 ms apart, the first one at 10 ms."""
    arrivals = []
    end = 0
    for number, piece in enumerate(pieces, 1):
        end += len(piece)
        arrivals.append(wire.Arrival(end, number * 10_000_000))
    return wire.Exchange(
        connect_ms=0.5,
        sent_at=1_795_500_000.0,
        sent_ns=0,
        headers_ns=5_000_000,
        end_ns=len(pieces) * 10_000_000,
        status=200,
        headers={},
        body=b"".join(pieces),
        arrivals=tuple(arrivals),
        clock="kernel",
        client_lag_ms=0.02,
        clock_step=False,
        failure=None if complete else wire.Failure("truncated", "cut"),
    )


@pytest.mark.parametrize(
    ("pieces", "complete", "expected"),
    [
        (LINES, True, [(LINES[0].decode().strip(), 10.0), (LINES[2].decode(), 30.0)]),
        (LINES, False, [(LINES[0].decode().strip(), 10.0)]),
        ([b'{"a"', b": 1}", b"\n"], True, [('{"a": 1}', 20.0)]),
        ([b"one\ntwo", b"\n"], True, [("one", 10.0), ("two", 10.0)]),
        ([b"caf\xc3", b"\xa9\n"], True, [("café", 20.0)]),
        ([b"\n"], True, []),
    ],
)
def test_lines_arrive_with_their_last_byte(
    pieces: list[bytes], complete: bool, expected: list[tuple[str, float]]
) -> None:
    events = read_lines(exchange_of(*pieces, complete=complete))
    assert [(event.data, event.arrival_ms) for event in events] == expected


@pytest.mark.parametrize(
    ("pieces", "failure", "text"),
    [
        ([b'{"message": {"content": "a"}}\n', b"nonsense\n"], "protocol", "an event is not JSON: nonsense"),
        ([b"[1]\n"], "protocol", "an event is a list, expected a JSON object"),
        (
            [b'{"message": {"content": "a"}}\n'],
            "truncated",
            "the stream ended without its proper end: no finish_reason",
        ),
    ],
)
def test_lines_that_are_no_answer(pieces: list[bytes], failure: str, text: str) -> None:
    exchange = exchange_of(*pieces)
    answer = ServerAnswer(sent_at=exchange.sent_at, sent_ns=0, status=200, exchange=exchange)
    server = Ollama("rack-1", "http://rack-1", clients=None)  # type: ignore[arg-type]
    sample = server.read(make_sample(), answer, make_cell())
    assert (sample.failure, sample.failure_text) == (failure, text)


def test_an_ollama_that_does_not_answer_is_a_failed_sample() -> None:
    server = Ollama("rack-1", "http://rack-1", clients=None)  # type: ignore[arg-type]
    nothing = ServerAnswer(sent_at=0.0, sent_ns=0, failure=wire.Failure("connect", "refused"))
    cell = make_cell(kind="embedding", output_tokens=None)
    assert server.read(make_sample(), nothing, cell).failure_text == "refused"
    exchange = exchange_of(b'{"embeddings": 1}')
    answer = ServerAnswer(sent_at=0.0, sent_ns=0, status=200, exchange=exchange)
    assert server.read(make_sample(), answer, cell).failure == "protocol"


@pytest.mark.parametrize("kind", ["chat", "completion"])
def test_vllm_has_exact_prompts_a_fixed_length_and_a_salt(bench: BenchFolder, kind: str) -> None:
    with KindServer(kinds.Vllm(("good",))) as server:
        write(bench, server, kind=kind)
        bench.run().assert_outcomes(passed=1)
    assert query(
        bench, "select distinct rate_source, prompt_tokens, cached_tokens, output_tokens from bench_samples"
    ) == [("client", 48, 0, 4)]
    sent = [seen.fields for seen in server.seen if seen.fields.get("stream")]
    assert {(fields["ignore_eos"], fields["min_tokens"], fields["max_tokens"]) for fields in sent} == {(True, 4, 4)}
    assert all(fields["stream_options"]["continuous_usage_stats"] for fields in sent)
    assert len({fields["cache_salt"] for fields in sent}) == len(sent)
    assert not [seen for seen in server.seen if "completions" in seen.target and not seen.fields.get("stream")]
    assert query(bench, "select engine_build from bench_runs") == [("0.21.0",)]
    assert query(bench, "select json_extract(model_facts, '$.n_ctx') from bench_cells") == [(8192,)]


def test_vllm_embeds(bench: BenchFolder) -> None:
    with KindServer(kinds.Vllm(("good",))) as server:
        write(bench, server, kind="embedding", grid={"prompt_tokens": [48]})
        bench.run().assert_outcomes(passed=1)
    assert query(bench, "select distinct prompt_tokens, embed_tok_s > 0 from bench_samples") == [(48, 1)]


def test_a_vllm_that_takes_from_its_cache_all_the_same(bench: BenchFolder) -> None:
    with KindServer(kinds.Vllm(("plain",))) as server:
        write(bench, server, models=["plain"])
        result = bench.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["other: cached: cache: cold, but the server took 16 prompt tokens from its cache"])


def test_a_warm_vllm_has_no_salt(bench: BenchFolder) -> None:
    with KindServer(kinds.Vllm(("good",))) as server:
        write(bench, server, cache="warm")
        bench.run().assert_outcomes(passed=1)
    assert not [seen for seen in server.seen if "cache_salt" in seen.fields]
    assert query(bench, "select distinct cached_tokens from bench_samples") == [(16,)]


def test_vllm_has_all_its_models_ready() -> None:
    with KindServer(kinds.Vllm(("good", "plain"))) as server:
        assert ask(server.url, Vllm.ready_models) == ["good", "plain"]


def test_a_vllm_that_does_not_tokenise() -> None:
    async def answer(peer: Peer) -> None:
        await peer.answer("200 OK", {})

    with FaultServer({"tokenize": answer, "qwen": answer}) as server, pytest.raises(HostError) as caught:
        ask(server.url, lambda other: other.make_prompts(make_cell(), ["nonce"]), "vllm")
    assert str(caught.value) == "rack-1: POST /tokenize: expected a number under 'count', got null"


@pytest.mark.parametrize("kind", ["chat", "embedding"])
def test_lm_studio_is_loaded_first_and_measured_by_the_clients_clock(bench: BenchFolder, kind: str) -> None:
    model = "good" if kind == "chat" else "embedder"
    with KindServer(kinds.LmStudio(("good", "embedder"))) as server:
        write(bench, server, models=[model], kind=kind, grid=GRID if kind == "chat" else {"prompt_tokens": [48]})
        bench.run().assert_outcomes(passed=1)
    assert query(bench, "select distinct rate_source, prompt_tokens from bench_samples") == [("client", 48)]
    assert query(bench, "select load_ms > 0, json_extract(model_facts, '$.quantisation') from bench_cells") == [
        (1, "Q4_K_M")
    ]


def test_lm_studio_tells_which_models_are_loaded() -> None:
    async def look(server: LmStudio) -> tuple[Any, ...]:
        return await server.models(), await server.ready_models(), await server.load("good"), await server.facts()

    with KindServer(kinds.LmStudio(("good", "embedder"), ("good",))) as server:
        models, ready, load_ms, facts = ask(server.url, look)
    assert (models, ready, load_ms, facts.engine_build) == (["good", "embedder"], ["good"], None, None)


def test_an_old_lm_studio() -> None:
    with KindServer(kinds.Ollama(("good",))) as server, pytest.raises(HostError) as caught:
        ask(server.url, LmStudio.models, "lmstudio")
    assert str(caught.value) == "rack-1: GET /api/v0/models: 404: no such path: /api/v0/models"


def test_what_is_no_list_of_lm_studio() -> None:
    async def answer(peer: Peer) -> None:
        await peer.answer("200 OK", {"data": None})

    with FaultServer({"models": answer}) as server, pytest.raises(HostError) as caught:
        ask(server.url, LmStudio.models, "lmstudio")
    assert (
        str(caught.value)
        == "rack-1: GET /api/v0/models: expected a list of models under 'data'; is it LM Studio 0.3.6?"
    )


@pytest.mark.parametrize("kind", ["chat", "completion"])
def test_a_routers_model_is_loaded_first_and_then_measured_as_a_llama_server(bench: BenchFolder, kind: str) -> None:
    with KindServer(kinds.Router(("good", "other"))) as server:
        write(bench, server, kind=kind)
        bench.run().assert_outcomes(passed=1)
    assert query(bench, "select distinct rate_source, prompt_tokens, output_tokens from bench_samples") == [
        ("server", 48, 4)
    ]
    assert query(
        bench,
        "select load_ms > 0, json_extract(model_facts, '$.path'), json_extract(model_facts, '$.slots') "
        "from bench_cells",
    ) == [(1, "/models/good.gguf", 2)]
    sent = [seen.fields for seen in server.seen if seen.fields.get("stream")]
    assert {(fields["model"], fields["cache_prompt"], fields["ignore_eos"]) for fields in sent} == {
        ("good", False, True)
    }


def test_a_router_keeps_its_models_apart() -> None:
    stand_in = kinds.Router(("good", "sleeper"), ("good",))

    async def look(server: LlamaRouter) -> tuple[Any, ...]:
        before = await server.ready_models()
        asleep = await server.model_facts("sleeper")
        woken_ms = await server.load("sleeper")
        loaded_ms = await server.load("good-alias")
        return before, asleep, woken_ms, loaded_ms, await server.ready_models()

    with KindServer(stand_in) as server:
        before, asleep, woken_ms, loaded_ms, after = ask(server.url, look)
    assert (before, loaded_ms) == (["good", "good-alias"], None)
    assert after == ["good", "good-alias", "sleeper", "sleeper-alias"]
    assert woken_ms > 0
    assert asleep == ModelFacts(name="sleeper")
    assert "/models/load" not in stand_in.asked


def test_a_router_whose_model_is_being_loaded_waits_for_it() -> None:
    stand_in = kinds.Router(("good",))
    stand_in.states["good"] = "loading"
    with KindServer(stand_in) as server:
        assert ask(server.url, lambda router: router.load("good"), "llama-router") > 0
    assert "/models/load" not in stand_in.asked


def test_a_routers_model_that_does_not_load(bench: BenchFolder) -> None:
    with KindServer(kinds.Router(("doomed",))) as server:
        write(bench, server, models=["doomed"])
        result = bench.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["other: doomed does not load: its server ended with exit code 1; see the router's log"]
    )


def test_a_routers_model_that_never_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_boobench.servers.clients.LOAD_TIMEOUT_S", 0.01)
    stand_in = kinds.Router(("stuck",))
    with KindServer(stand_in) as server, pytest.raises(HostError) as caught:
        ask(server.url, lambda router: router.load("stuck"), "llama-router")
    assert str(caught.value) == (
        "rack-1: stuck is not loaded after 0.01 s; "
        "give it more time with --boobench-load-timeout, or see the router's log"
    )


def test_a_router_that_let_go_of_a_model_fails_the_sample(bench: BenchFolder) -> None:
    """Rather than loading it anew inside of a measured request."""
    stand_in = kinds.Router(("good",), ("good",))
    with KindServer(stand_in) as server:

        async def send(router: LlamaRouter) -> Any:
            cell = make_cell(model="good")
            stand_in.states["good"] = "unloaded"
            call = router.call(cell, Prompt(text="hello"))
            return router.read(make_sample(), await router.send(call, cell), cell)

        sample = ask(server.url, send)
    assert (sample.failure, sample.failure_text) == ("status", "400: model is not loaded")
