"""A context before the prompts: evaluated once a lane, kept, proven, and an error where it is not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from pytest_boobench.hosts.embedded import EmbeddedServer
from tests import kinds_stand_in as kinds
from tests.conftest import BenchFolder
from tests.depth_server import Remembering
from tests.fault_server import Peer
from tests.kinds_stand_in import KindServer, stream_openai
from tests.llama_swap_stand_in import LlamaSwapStandIn
from tests.plugin.test_session import query

DEPTH, PROMPT = 2000, 40
LOST = (
    "rack-1: cached: depth_tokens: 2000 tokens should come from the cache, and {} did: it does not hold the context; "
    "give the server room for the contexts of all lanes (llama-server: -c and -np, for a model with a sliding window "
    "--swa-full), or ask for a smaller depth or fewer lanes"
)


def measure(bench: BenchFolder, server: Remembering | kinds.StandIn, *args: str, **changed: Any) -> pytest.RunResult:
    """A suite on a stand-in whose one cell has a depth, but for what is said otherwise."""
    with KindServer(server) as running:
        bench.write_hosts(**{"rack-1": {"url": running.url, "shared": False}})
        grid = {"prompt_tokens": PROMPT, "output_tokens": 4, "depth_tokens": DEPTH, **changed.pop("grid", {})}
        bench.write_suite(**{"hosts": ["rack-1"], "models": [server.models[0]], "grid": grid, "samples": 6, **changed})
        return bench.run(*args)


@pytest.mark.parametrize("kind", ["chat", "completion"])
@pytest.mark.parametrize("lanes", [1, 3])
def test_the_context_is_evaluated_once_a_lane_and_only_prompts_after_it(
    bench: BenchFolder, kind: str, lanes: int
) -> None:
    server = Remembering()
    measure(bench, server, kind=kind, grid={"concurrency": lanes}).assert_outcomes(passed=1)
    contexts = [tokens for tokens in server.evaluated if tokens > PROMPT]
    assert contexts == [DEPTH + PROMPT] * lanes
    assert len(server.evaluated) > 2 * lanes
    assert query(bench, "select distinct prompt_tokens, cached_tokens from bench_samples") == [(DEPTH + PROMPT, DEPTH)]
    ((name, depth, took_ms),) = query(bench, "select node_id, depth_tokens, depth_ms from bench_cells")
    assert name.endswith(f"[pp40-tg4-c{lanes}-d2000]")
    assert depth == DEPTH
    truth_ms = lanes * DEPTH * server.token_s * 1000
    assert truth_ms <= took_ms < 2 * truth_ms


def test_prefill_counts_the_prompts_tokens_alone(bench: BenchFolder) -> None:
    """10,000 tokens a second. By the client's clock too, where the server says nothing of times."""
    measure(bench, Remembering(token_s=0.001), grid={"depth_tokens": 200, "prompt_tokens": 200}).assert_outcomes(
        passed=1
    )
    rates = query(bench, "select rate_source, prefill_tok_s from bench_samples where phase = 'measure'")
    assert {source for source, _ in rates} == {"server"}
    assert all(rate <= 1000 for _, rate in rates)


def test_cells_share_their_contexts_and_go_from_shallow_to_deep(bench: BenchFolder) -> None:
    """Two sizes at three depths: each depth is evaluated once, and the deeper one goes on where the other ended."""
    server = Remembering(slots=1)
    grid = {"prompt_tokens": [40, 60], "depth_tokens": [3000, 0, 1000]}
    result = measure(bench, server, "-v", kind="completion", grid=grid, warmup=1)
    result.assert_outcomes(passed=6)
    names = [
        line.partition("[")[2].partition("]")[0] for line in result.outlines if "::rack-1::" in line and "[pp" in line
    ]
    depths = [int((name + "-d0").partition("-d")[2].partition("-")[0]) for name in dict.fromkeys(names)]
    assert depths == sorted(depths)
    assert [tokens for tokens in server.evaluated if tokens > 60] == [1000 + 40, 2000 + 40]


@pytest.mark.parametrize(
    ("server", "said"),
    [
        pytest.param(Remembering(keeps=lambda common: 0), LOST.format(0), id="lost"),
        pytest.param(Remembering(keeps=lambda common: common // 2), LOST.format(1000), id="half of it kept"),
        pytest.param(
            Remembering(says=lambda common, kept: None),
            "rack-1: cached: depth_tokens: 2000 tokens should come from the cache, and the server does not say how "
            "many did; vLLM says so if it is started with --enable-prompt-tokens-details",
            id="silent",
        ),
        pytest.param(
            Remembering(keeps=lambda common: 0, says=lambda common, kept: common, token_s=0.0005),
            "rack-1: depth_tokens: the server says that 2000 tokens came from its cache, and no first token came "
            "before * ms, while evaluating all tokens takes it * ms: it evaluates them again, and its count cannot be "
            "right",
            id="a lie",
        ),
        pytest.param(
            Remembering(says=lambda common, kept: kept + 10),
            "rack-1: cached: cache: cold, but the server took 2010 tokens from its cache, 10 more than the 2000 of "
            "depth_tokens",
            id="more than the context",
        ),
    ],
)
def test_a_cache_that_does_not_hold_is_an_error(bench: BenchFolder, server: Remembering, said: str) -> None:
    result = measure(bench, server)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*{said.replace('[', '[[]')}*"])
    assert query(bench, "select count(*) from bench_aggregates where n > 0 and metric = 'decode_tok_s'") == [(0,)]


@pytest.mark.parametrize(
    ("server", "lanes", "said"),
    [
        (
            Remembering(n_ctx=2043),
            1,
            "rack-1: depth_tokens: a request needs 2044 tokens of context (2000 of depth, 40 of the prompt, 4 of "
            "output), and a slot has 2043; start the server with more context (llama-server: a larger -c, or a smaller "
            "-np), or ask for a smaller depth",
        ),
        (
            Remembering(slots=2),
            3,
            "rack-1: depth_tokens: 3 lanes keep a context each, and the server has 2 slots to keep one; start it with "
            "-np 3, or lower grid.concurrency",
        ),
    ],
)
def test_without_room_nothing_is_evaluated(bench: BenchFolder, server: Remembering, lanes: int, said: str) -> None:
    result = measure(bench, server, grid={"concurrency": lanes})
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*{said}*"])
    assert server.evaluated == []


def test_a_long_evaluation_has_the_time_of_a_whole_request(bench: BenchFolder) -> None:
    """Longer than any other wait may be; what is too long says which wait to raise."""
    waits = {"first_byte": "0.3s", "stall": "0.3s", "request": "1m"}
    slow = {"token_s": 0.0005}
    measure(bench, Remembering(**slow), timeouts=waits).assert_outcomes(passed=1)
    result = measure(bench, Remembering(**slow), timeouts={**waits, "request": "0.3s"})
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "*rack-1: depth_tokens: 2000 tokens of context were not evaluated in 0.3 s; give them more time with "
            "timeouts: {request: 1s} in the suite, or ask for a smaller depth*"
        ]
    )


def test_both_sides_of_a_duet_have_the_context(bench: BenchFolder) -> None:
    ours, other = Remembering(), Remembering()
    with KindServer(other) as running:
        bench.write_hosts(old={"url": running.url, "shared": False})
        args = ("--boobench-duet=old", "--boobench-max-drop=99%", "--boobench-policy=literal")
        measure(bench, ours, *args, grid={"concurrency": 2}).assert_outcomes(passed=1)
    for side in (ours, other):
        assert [tokens for tokens in side.evaluated if tokens > PROMPT] == [DEPTH + PROMPT] * 2
    assert query(bench, "select distinct cached_tokens from bench_samples") == [(DEPTH,)]


def test_a_warm_prompt_comes_from_the_cache_with_its_context(bench: BenchFolder) -> None:
    server = Remembering()
    measure(bench, server, cache="warm").assert_outcomes(passed=1)
    assert server.evaluated[-1] == 0
    assert query(bench, "select min(cached_tokens) from bench_samples where phase = 'measure'") == [(DEPTH + PROMPT,)]


def test_the_text_of_the_canary_has_no_context(bench: BenchFolder) -> None:
    server = Remembering()
    measure(bench, server, output_canary=True).assert_outcomes(passed=1)
    assert server.evaluated[0] == PROMPT
    assert query(bench, "select text_digest is not null from bench_cells") == [(1,)]


@pytest.mark.parametrize("kind", ["chat", "completion"])
def test_a_real_server_keeps_the_context_of_each_lane(bench: BenchFolder, kind: str) -> None:
    grid = {"prompt_tokens": [32], "output_tokens": [8], "concurrency": [1, 3], "depth_tokens": [0, 700]}
    bench.write_suite(kind=kind, grid=grid, samples=6)
    bench.run().assert_outcomes(passed=4)
    assert query(bench, "select distinct prompt_tokens, cached_tokens from bench_samples order by 1") == [
        (32, 0),
        (732, 700),
    ]


class _Blocks(kinds.Vllm):
    """vLLM with a cache of whole blocks that it finds by their content; ``told``: it was started to say so."""

    told = True

    def __init__(self, block: int = 16) -> None:
        super().__init__(("good",))
        self.block = block
        self._known: set[str] = set()

    def pages(self) -> Mapping[str, kinds.Page]:
        return {**super().pages(), "/metrics": self._tell_config}

    async def _tell_config(self, peer: Peer, fields: dict[str, Any]) -> None:
        """As vLLM for CPUs does: blocks of 16 were asked for, and attention needs larger ones."""
        text = f'vllm:cache_config_info{{block_size="16",effective_attention_block_size="{self.block}"}} 1.0\n'
        await peer.head("200 OK", "text/plain", f"Content-Length: {len(text)}")
        await peer.send(text.encode())

    async def _complete(self, peer: Peer, fields: dict[str, Any]) -> None:
        chat = "messages" in fields
        prompt = kinds.TEMPLATE + fields["messages"][0]["content"] if chat else json.dumps(fields["prompt"])
        assert "cache_salt" not in fields, "a salt keeps out of the cache"
        ids = [ord(letter) for letter in prompt] if chat else fields["prompt"]
        blocks = [json.dumps(ids[:end]) for end in range(self.block, len(ids) + 1, self.block)]
        cached = self.block * next((at for at, block in enumerate(blocks) if block not in self._known), len(blocks))
        self._known.update(blocks)
        details: Mapping[str, Any] = (
            {"prompt_tokens_details": {"cached_tokens": cached}} if cached and self.told else {}
        )
        usage = {"prompt_tokens": len(ids), "completion_tokens": fields["max_tokens"], **details}
        await stream_openai(peer, chat, fields["max_tokens"], usage)


class _Silent(_Blocks):
    told = False


@pytest.mark.parametrize("kind", ["chat", "completion"])
@pytest.mark.parametrize("block", [16, 128])
def test_vllm_keeps_whole_blocks(bench: BenchFolder, kind: str, block: int) -> None:
    measure(bench, _Blocks(block), kind=kind, grid={"concurrency": 2}).assert_outcomes(passed=1)
    ((cached,),) = query(bench, "select distinct cached_tokens from bench_samples")
    assert cached == DEPTH // block * block
    evaluated = DEPTH + PROMPT - cached
    ((least, most),) = query(
        bench, "select min(prefill_tok_s * ttft_ms), max(prefill_tok_s * ttft_ms) from bench_samples"
    )
    assert round(least / 1000) == round(most / 1000) == evaluated


def test_more_than_the_begun_block_may_not_be_lost(bench: BenchFolder) -> None:
    """It says that its blocks have 128 tokens, and keeps fewer of them than the context fills."""

    class Forgetful(_Blocks):
        async def _tell_config(self, peer: Peer, fields: dict[str, Any]) -> None:
            self.block, told = 128, self.block
            await super()._tell_config(peer, fields)
            self.block = told

    result = measure(bench, Forgetful(512))
    result.assert_outcomes(errors=1)
    kept = DEPTH // 512 * 512
    result.stdout.fnmatch_lines([f"*2000 tokens should come from the cache, and {kept} did*"])


def test_a_depth_of_less_than_a_block_is_an_error(bench: BenchFolder) -> None:
    server = _Blocks(128)
    result = measure(bench, server, grid={"depth_tokens": 127})
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "*rack-1: depth_tokens: the server's cache keeps whole blocks of 128 tokens, and so nothing of 127; ask "
            "for 128 or a multiple of it*"
        ]
    )
    assert "/v1/chat/completions" not in server.asked, "nothing is evaluated"


def test_vllm_that_does_not_tell_is_an_error(bench: BenchFolder) -> None:
    result = measure(bench, _Silent())
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*is started with --enable-prompt-tokens-details*"])


@pytest.mark.parametrize("stand_in", [kinds.Ollama, kinds.LmStudio])
def test_a_server_that_cannot_prove_it_is_an_error(bench: BenchFolder, stand_in: type[kinds.StandIn]) -> None:
    server = stand_in(("good",))
    result = measure(bench, server)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "*rack-1: depth_tokens: this kind of server, *, counts no text without running it, so that no context of "
            "exact length can be kept in its cache; leave it out, or use llama-server or vLLM*"
        ]
    )


def test_behind_llama_swap(bench: BenchFolder, llama: EmbeddedServer) -> None:
    """Nothing of it is foreign, and the context is fitted once."""
    with LlamaSwapStandIn({"tiny-chat": llama.url}) as swap:
        bench.write_hosts(**{"rack-1": {"url": swap.url}})
        grid = {"prompt_tokens": 40, "output_tokens": 4, "depth_tokens": 600, "concurrency": 2}
        bench.write_suite(hosts=["rack-1"], models=["tiny-chat"], grid=grid, samples=4)
        bench.run().assert_outcomes(passed=1)
    assert query(bench, "select distinct prompt_tokens, cached_tokens from bench_samples") == [(640, 600)]
    assert query(bench, "select concurrent_foreign_requests from bench_cells") == [(0,)]
    long = [seen for seen in swap._server.seen if seen.target.endswith("/tokenize") and len(seen.body) > 500]
    assert len(long) <= 12
