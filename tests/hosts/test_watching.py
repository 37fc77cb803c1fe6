"""Room 2: watching by slots and counters: foreign clients on a real llama.cpp at known times, and odd servers."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import re
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from pytest_boobench.facts import ForeignRequest, OwnTraffic, Traffic
from pytest_boobench.hosts.embedded import EmbeddedServer, start
from pytest_boobench.hosts.llama_account import LlamaAccount, OwnRequests
from pytest_boobench.hosts.llama_counters import NO_SEED, Counters, LlamaCounters, LlamaProcess, Slot, read_slots
from pytest_boobench.hosts.llama_watcher import SlotsWatcher
from pytest_boobench.hosts.open_host import WATCHERS, choose
from pytest_boobench.hosts.vllm_watcher import Reading, VllmWatcher, compare
from pytest_boobench.hosts.watcher import OwnMarks, RecentlyEnded, Watcher, sum_metrics
from pytest_boobench.servers.clients import Clients, open_clients
from pytest_boobench.servers.connect import KINDS
from pytest_boobench.untrusted import Fault
from tests.conftest import LIGHT
from tests.fault_server import JSON, FaultServer, Peer

TRIALS = 10
NOWHERE = "http://127.0.0.1:1"
MODEL = "tiny-chat"
SEEDS = itertools.count(1000)


@asynccontextmanager
async def clients_of(url: str) -> AsyncIterator[Clients]:
    clients = open_clients(url, {})
    try:
        yield clients
    finally:
        await clients.close()


def on_host(url: str, work: Callable[[Clients], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with clients_of(url) as clients:
            await work(clients)

    asyncio.run(run())


def body(tokens: int, number: int, **more: Any) -> dict[str, Any]:
    """A completion that no cache knows: its first character is its own."""
    prompt = f"{number} says hello to the world"
    return {"prompt": prompt, "max_tokens": tokens, "ignore_eos": True, "cache_prompt": False, **more}


class Foreign:
    """Somebody else's request, in a thread; a context manager that waits for its end."""

    def __init__(self, url: str, tokens: int, number: int = 0, **more: Any) -> None:
        self._body = {**body(tokens, number), "stream": True, **more}
        self._url = url
        self._leave = threading.Event()
        self.began = threading.Event()
        self.received = 0
        self.charged_tokens = 0
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with httpx.stream("POST", f"{self._url}/v1/completions", json=self._body, trust_env=False) as response:
            for line in response.iter_lines():
                if line.startswith("data: {"):
                    self.received += 1
                    self.began.set()
                    timings = json.loads(line.removeprefix("data: ")).get("timings") or {}
                    self.charged_tokens = timings.get("prompt_n", 0) + timings.get("predicted_n", 0)
                if self._leave.is_set():
                    return

    def leave(self) -> None:
        self._leave.set()
        self._thread.join()

    def wait(self) -> None:
        self._thread.join()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self.began.wait(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.wait()


def run_foreign(url: str, tokens: int, number: int = 0, **more: Any) -> int:
    """The tokens that a request was charged, start to end."""
    with Foreign(url, tokens, number, **more) as foreign:
        pass
    return foreign.charged_tokens


async def ask_own(clients: Clients, seed: int, tokens: int = 30) -> OwnTraffic:
    answer = await clients.control.post("/v1/completions", json=body(tokens, seed, seed=seed))
    return own_of(answer.json()["timings"])


def own_of(*timings: dict[str, Any]) -> OwnTraffic:
    return OwnTraffic(
        requests=len(timings),
        prompt_tokens=sum(entry["prompt_n"] for entry in timings),
        cached_tokens=sum(entry["cache_n"] for entry in timings),
        output_tokens=sum(entry["predicted_n"] for entry in timings),
    )


def add(*several: OwnTraffic) -> OwnTraffic:
    return OwnTraffic(
        requests=sum(own.requests for own in several),
        prompt_tokens=sum(own.prompt_tokens for own in several),
        output_tokens=sum(own.output_tokens for own in several),
    )


def take_seeds(count: int) -> list[int]:
    return list(itertools.islice(SEEDS, count))


def marks(*seeds: int) -> OwnMarks:
    return OwnMarks("run-1", frozenset(seeds))


async def measure(clients: Clients, seeds: list[int]) -> OwnTraffic:
    """Requests of ours, all at once."""
    return add(*await asyncio.gather(*(ask_own(clients, seed) for seed in seeds)))


# Real llama.cpp: what is ours


def test_own_requests_are_never_foreign(llama: EmbeddedServer) -> None:
    async def work(clients: Clients) -> None:
        watcher = SlotsWatcher(clients, MODEL, look_every_s=0.01)
        for _ in range(TRIALS):
            seeds = take_seeds(8)
            await watcher.begin(marks(*seeds))
            own = add(await measure(clients, seeds[:4]), await measure(clients, seeds[4:]))
            assert await watcher.end(own) == Traffic(
                in_flight_at_start=0, concurrent_foreign_requests=0, foreign_tokens=0
            )

    on_host(llama.url, work)


@pytest.mark.parametrize("seed", [42, -1, -5, 2**32 + 7])
def test_a_seed_that_the_suite_fixes_is_ours(llama: EmbeddedServer, seed: int) -> None:
    async def work(clients: Clients) -> None:
        watcher = SlotsWatcher(clients, MODEL, look_every_s=0.01)
        await watcher.begin(marks(seed))
        own = await measure(clients, [seed] * 4)
        traffic = await watcher.end(own)
        assert not traffic.disturbed
        assert traffic.notes == ()

    on_host(llama.url, work)


SAME_SEED = "the suite sets the seed, so foreign requests with the same seed are found only by their number"
SAME = "embeddings carry no mark, so foreign ones are found only by their number"


@pytest.mark.parametrize(("seed", "theirs"), [(-1, {}), (42, {"seed": 42})])
def test_foreign_requests_with_our_seed_are_counted_beside_ours(
    llama: EmbeddedServer, seed: int, theirs: dict[str, int]
) -> None:
    """-1 is what slots show of all who name no seed."""

    async def work(clients: Clients) -> None:
        watcher = SlotsWatcher(clients, MODEL, look_every_s=0.005)
        for trial in range(TRIALS):
            await watcher.begin(marks(seed))
            own, charged = await asyncio.gather(
                measure(clients, [seed] * 3), asyncio.to_thread(run_foreign, llama.url, 100, trial, **theirs)
            )
            traffic = await watcher.end(own)
            assert (traffic.in_flight_at_start, traffic.concurrent_foreign_requests) == (0, 1)
            assert traffic.foreign_tokens == charged
            assert traffic.notes in ((SAME_SEED,), (NOBODY_SEEN,))

    on_host(llama.url, work)


def test_a_foreign_request_with_our_seed_is_seen_before_the_window_and_after_it(llama: EmbeddedServer) -> None:
    async def work(clients: Clients) -> None:
        watcher = SlotsWatcher(clients, MODEL, patience_s=0.1)
        with Foreign(llama.url, 4000) as foreign:
            await watcher.begin(marks(-1))
            own = await measure(clients, [-1] * 2)
            traffic = await watcher.end(own)
            [seen] = (await watcher.look()).in_flight
            foreign.leave()
        assert (traffic.in_flight_at_start, traffic.concurrent_foreign_requests) == (1, 1)
        assert traffic.foreign_tokens is not None
        assert traffic.foreign_tokens > 0
        assert traffic.notes == (SAME_SEED,)
        assert str(seen) == "tiny-chat (running)"

    on_host(llama.url, work)


BARE = Slot(task=5, seed=NO_SEED, bare=True)
WITH_42 = Slot(task=5, seed=42)
AT_WORK = replace(WITH_42, processing=True)


@pytest.mark.parametrize(
    ("ours", "slots", "own", "foreign"),
    [
        pytest.param(OwnRequests.by([42]), [WITH_42], OwnTraffic(requests=1), 0, id="ours"),
        pytest.param(OwnRequests.by([42]), [WITH_42, replace(WITH_42, task=6)], OwnTraffic(requests=1), 1, id="more"),
        pytest.param(OwnRequests.by([42]), [AT_WORK], OwnTraffic(requests=1), 1, id="works on"),
        pytest.param(OwnRequests.by([42]), [AT_WORK], OwnTraffic(requests=1, exact=False), 0, id="broke off"),
        pytest.param(OwnRequests.by([43], known=[42]), [WITH_42], OwnTraffic(), 0, id="of a window before"),
        pytest.param(OwnRequests.by([42, 43]), [WITH_42, replace(WITH_42, task=6)], OwnTraffic(), 0, id="of their own"),
        pytest.param(OwnRequests.by([]), [BARE], OwnTraffic(requests=1), 0, id="embedding"),
        pytest.param(OwnRequests.by([]), [BARE, replace(BARE, task=6)], OwnTraffic(requests=1), 1, id="embeddings"),
        pytest.param(OwnRequests.by([]), [replace(BARE, decoded_tokens=3)], OwnTraffic(requests=1), 1, id="generates"),
    ],
)
def test_whose_a_slots_request_is(ours: OwnRequests, slots: list[Slot], own: OwnTraffic, foreign: int) -> None:
    traffic = LlamaAccount(LlamaCounters(slots=(Slot(),)), ours, "m").close(LlamaCounters(slots=tuple(slots)), own)
    assert traffic.concurrent_foreign_requests == foreign
    assert traffic.notes == ((SAME_SEED,) if ours.shared else (SAME,) if ours.seedless else ())


def test_a_request_that_looked_as_ours_do_and_then_generates_is_counted_once() -> None:
    account = LlamaAccount(LlamaCounters(slots=(Slot(),)), OwnRequests.by([]), "m")
    account.see([replace(BARE, processing=True)])
    account.see([replace(BARE, processing=True, decoded_tokens=3)])
    account.see([BARE])
    account.see([replace(BARE, task=6)])
    traffic = account.close(LlamaCounters(slots=(replace(BARE, task=6),)), OwnTraffic(requests=1))
    assert traffic.concurrent_foreign_requests == 1


async def embed_own(clients: Clients, text: str) -> int:
    answer = await clients.control.post("/v1/embeddings", json={"input": text})
    return int(answer.json()["usage"]["prompt_tokens"])


@pytest.mark.parametrize("foreign", [0, 1])
def test_embeddings_are_told_apart_by_their_tokens(llama: EmbeddedServer, foreign: int) -> None:
    async def work(clients: Clients) -> None:
        watcher = SlotsWatcher(clients, MODEL, look_every_s=0.005)
        for _ in range(TRIALS):
            await watcher.begin(marks())
            counts = await asyncio.gather(*(embed_own(clients, "hello " * 10 * (lane + 1)) for lane in range(4)))
            counts += await asyncio.gather(*(embed_own(clients, "world " * 15) for _ in range(4)))
            stray = sum([await embed_own(clients, "not ours " * 5) for _ in range(foreign)])
            traffic = await watcher.end(OwnTraffic(requests=8, prompt_tokens=sum(counts)))
            assert (traffic.concurrent_foreign_requests, traffic.foreign_tokens) == (foreign, stray)
            assert traffic.notes in ((NOBODY_SEEN,) * foreign, (SAME,) * foreign)

    on_host(llama.url, work)


NOBODY_SEEN = "foreign tokens, but no look at the slots showed their request: at least 1 foreign request"


def test_a_foreign_text_among_our_embeddings_is_seen_by_its_slot(llama: EmbeddedServer) -> None:
    async def work(clients: Clients) -> None:
        watcher = SlotsWatcher(clients, MODEL, look_every_s=0.01)
        await watcher.begin(marks())
        own = await embed_own(clients, "hello " * 50)
        charged = await asyncio.to_thread(run_foreign, llama.url, 50)
        traffic = await watcher.end(OwnTraffic(requests=1, prompt_tokens=own))
        assert (traffic.concurrent_foreign_requests, traffic.foreign_tokens, traffic.notes) == (1, charged, (SAME,))

    on_host(llama.url, work)


def test_our_streams_that_broke_off_are_ours_and_make_tokens_blank(llama: EmbeddedServer) -> None:
    async def break_off(clients: Clients, seed: int) -> None:
        async with clients.control.stream(
            "POST", "/v1/completions", json={**body(3000, seed, seed=seed), "stream": True}
        ) as answer:
            async for _ in answer.aiter_lines():
                return

    async def work(clients: Clients) -> None:
        watcher = SlotsWatcher(clients, MODEL, look_every_s=0.01)
        for _ in range(5):
            seeds = take_seeds(8)
            await watcher.begin(marks(*seeds))
            await asyncio.gather(*(break_off(clients, seed) for seed in seeds[:4]))
            await asyncio.gather(*(break_off(clients, seed) for seed in seeds[4:]))
            traffic = await watcher.end(OwnTraffic(exact=False))
            assert traffic == Traffic(
                in_flight_at_start=0,
                concurrent_foreign_requests=0,
                notes=("a request of ours broke off, so its tokens cannot be separated from foreign ones",),
            )
            assert (await watcher.look()).in_flight == ()
            await asyncio.gather(*(break_off(clients, seed) for seed in seeds[:4]))  # and goes on into the next window
            await watcher.begin(marks(*take_seeds(1)))
            assert await watcher.end(OwnTraffic()) == Traffic(
                in_flight_at_start=0, concurrent_foreign_requests=0, foreign_tokens=0
            )

    on_host(llama.url, work)


# Real llama.cpp: what is not


def test_requests_inside_the_window_are_exact(llama: EmbeddedServer) -> None:
    """Two at a time, among four lanes of ours, on four slots: some of them queue."""

    async def work(clients: Clients) -> None:
        watcher = SlotsWatcher(clients, MODEL, look_every_s=0.01)
        for trial in range(TRIALS):
            seeds = take_seeds(4)
            await watcher.begin(marks(*seeds))
            own, *charged = await asyncio.gather(
                measure(clients, seeds),
                asyncio.to_thread(run_foreign, llama.url, 400, trial),
                asyncio.to_thread(run_foreign, llama.url, 300 + trial, trial + 1, seed=7),
            )
            traffic = await watcher.end(own)
            assert (traffic.in_flight_at_start, traffic.server_restarts, traffic.notes) == (0, 0, ())
            assert (traffic.concurrent_foreign_requests, traffic.foreign_tokens) == (2, sum(charged))
            assert {request.model for request in traffic.requests} == {MODEL}

    on_host(llama.url, work)


def test_requests_before_the_window_are_not_in_it(llama: EmbeddedServer) -> None:
    async def work(clients: Clients) -> None:
        watcher = SlotsWatcher(clients, MODEL)
        for trial in range(TRIALS):
            await asyncio.to_thread(run_foreign, llama.url, 5, trial)
            await watcher.begin(marks(*(seeds := take_seeds(2))))
            own = await measure(clients, seeds)
            assert await watcher.end(own) == Traffic(
                in_flight_at_start=0, concurrent_foreign_requests=0, foreign_tokens=0
            )

    on_host(llama.url, work)


def test_requests_shorter_than_any_look_are_found_by_what_they_leave(llama: EmbeddedServer) -> None:
    async def work(clients: Clients) -> None:
        watcher = SlotsWatcher(clients, MODEL, look_every_s=60)
        for trial in range(TRIALS):
            await watcher.begin(marks(1, 2))
            charged = await asyncio.to_thread(run_foreign, llama.url, 1, trial)
            traffic = await watcher.end(OwnTraffic())
            assert (traffic.concurrent_foreign_requests, traffic.foreign_tokens) == (1, charged)

    on_host(llama.url, work)


def test_requests_across_both_ends_are_charged_once(llama: EmbeddedServer) -> None:
    """Windows that share a stock share a request: what it is charged in each adds up to all of it."""

    async def work(clients: Clients) -> None:
        process = LlamaProcess(clients)
        trials, tokens = 0, 800
        while trials < TRIALS:
            first = await process.read_settled((), patience_s=2.0)
            with Foreign(llama.url, tokens, trials) as foreign:
                second = await process.read_settled((), patience_s=2.0)
                third = await process.read_settled((), patience_s=2.0)
                await asyncio.to_thread(foreign.wait)
            if not third.working:
                tokens = min(2 * tokens, 3200)
                continue  # on a busy machine it may be over before we look
            trials += 1
            fourth = await process.read_settled((), patience_s=2.0)
            stocks = (first, second, third, fourth)
            traffics = [
                LlamaAccount(opening, OwnRequests(), MODEL).close(closing, OwnTraffic())
                for opening, closing in itertools.pairwise(stocks)
            ]
            assert [traffic.in_flight_at_start for traffic in traffics] == [0, 1, 1]
            assert [traffic.concurrent_foreign_requests for traffic in traffics] == [1, 1, 1]
            charged = [traffic.foreign_tokens for traffic in traffics]
            assert sum(filter(None, charged)) == foreign.charged_tokens
            assert all(charged)
            assert all(traffic.notes == () for traffic in traffics)

    on_host(llama.url, work)


def test_a_watcher_counts_those_that_came_before_and_those_that_stay(llama: EmbeddedServer) -> None:
    async def work(clients: Clients) -> None:
        watcher = SlotsWatcher(clients, MODEL)
        with Foreign(llama.url, 4000) as early:
            await watcher.begin(marks(*(seeds := take_seeds(2))))
            own = await measure(clients, seeds)
            early.leave()
            with Foreign(llama.url, 4000, 1) as late:
                traffic = await watcher.end(own)
                late.leave()
        assert (traffic.in_flight_at_start, traffic.concurrent_foreign_requests) == (1, 2)
        assert traffic.foreign_tokens is not None
        assert 0 < traffic.foreign_tokens < 8000
        assert len(traffic.requests) == 2

    on_host(llama.url, work)


def test_a_foreign_request_that_breaks_off_is_charged_what_it_got(llama: EmbeddedServer) -> None:
    async def work(clients: Clients) -> None:
        watcher = SlotsWatcher(clients, MODEL)
        await watcher.begin(marks(1, 2))
        with Foreign(llama.url, 3000) as foreign:
            foreign.leave()
        traffic = await watcher.end(OwnTraffic())
        assert traffic.concurrent_foreign_requests == 1
        assert traffic.foreign_tokens is not None
        assert foreign.received < traffic.foreign_tokens < 3000

    on_host(llama.url, work)


def test_a_look_shows_who_is_there_and_who_was(llama: EmbeddedServer) -> None:
    async def work(clients: Clients) -> None:
        watcher = SlotsWatcher(clients, MODEL)
        assert (await watcher.look()).in_flight == ()
        with Foreign(llama.url, 2000):
            sighting = await watcher.look()
        assert sighting.known
        [request] = sighting.in_flight
        assert str(request) == "tiny-chat (running)"
        sighting = await watcher.look()
        assert sighting.in_flight == ()
        [line] = sighting.recent
        assert re.fullmatch(rf"tiny-chat, {request.id} \(ended \d\d:\d\d:\d\d UTC\)", line)
        await watcher.close()
        await ask_own(clients, 1)
        assert len((await watcher.look()).recent) == 1  # nothing is told of what ran while we measured

    on_host(llama.url, work)


def test_a_restart_is_counted(llama: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> None:
    async def work(clients: Clients) -> None:
        watcher = SlotsWatcher(clients, MODEL, look_every_s=0.01)
        await ask_own(clients, 1)
        await watcher.begin(marks(1, 2))
        with start(LIGHT, cache=tmp_path_factory.mktemp("models")) as successor:
            clients.control.base_url = httpx.URL(successor.url)
            await asyncio.sleep(0.1)
            await asyncio.to_thread(run_foreign, successor.url, 5)
            traffic = await watcher.end(OwnTraffic())
        assert traffic.server_restarts == 1
        assert traffic.foreign_tokens is None
        assert traffic.concurrent_foreign_requests == 1
        assert traffic.notes == ("the server restarted, so its count of tokens is lost",)

    on_host(llama.url, work)


def test_a_host_that_dies_is_no_trouble(tmp_path_factory: pytest.TempPathFactory) -> None:
    async def work(clients: Clients) -> None:
        watcher = SlotsWatcher(clients, MODEL, look_every_s=0.01)
        await watcher.begin(marks(1, 2))
        server.stop()
        await asyncio.sleep(0.05)
        assert not (await watcher.look()).known
        traffic = await watcher.end(OwnTraffic())
        assert (traffic.concurrent_foreign_requests, traffic.foreign_tokens) == (0, None)
        assert traffic.notes == ("/slots: no answer", "/metrics: no answer")
        await watcher.begin(marks(1, 2))
        assert (await watcher.end(OwnTraffic())).notes == ("/slots: no answer", "/metrics: no answer")
        unheard = SlotsWatcher(clients, MODEL)
        await unheard.begin(marks(1, 2))
        assert await unheard.end(OwnTraffic()) == Traffic(notes=("/props: no answer",))

    with start(LIGHT, cache=tmp_path_factory.mktemp("models")) as server:
        on_host(server.url, work)


def test_windows_out_of_order_are_harmless(llama: EmbeddedServer) -> None:
    async def work(clients: Clients) -> None:
        watcher = SlotsWatcher(clients, MODEL)
        assert await watcher.end(OwnTraffic()) == Traffic()
        await watcher.begin(marks(1, 2))
        await watcher.begin(marks(1, 2))
        assert not (await watcher.end(OwnTraffic())).disturbed
        await watcher.close()

    on_host(llama.url, work)


# Servers that cannot run here, or do not tell all


def slot(number: int, task: int | None = None, **more: Any) -> dict[str, Any]:
    """A slot as llama-server tells it; without a task one that never worked."""
    if task is None:
        return {"id": number, "is_processing": False}
    params = {"seed": more.pop("seed", NO_SEED), "stream": True, "max_tokens": 64}
    decoded = more.pop("n_decoded", 0)
    return {
        "id": number,
        "id_task": task,
        "is_processing": more.pop("busy", True),
        "params": params,
        "next_token": [{"n_decoded": decoded}],
    }


def exposition(prompt: int = 0, predicted: int = 0, processing: int = 0, queued: int = 0) -> str:
    return (
        f"# TYPE llamacpp:prompt_tokens_total counter\nllamacpp:prompt_tokens_total {prompt}\n"
        f"llamacpp:tokens_predicted_total {predicted}\nllamacpp:requests_processing {processing}\n"
        f"llamacpp:requests_deferred {queued}\n"
    )


OFF = 501
LOADING = 503


@dataclass
class Scripted:
    """What a server says at the ends of paths; a number is a status. Keys with a model are for a router's."""

    said: dict[str, Any] = field(default_factory=dict)

    async def __call__(self, peer: Peer) -> None:
        path, _, query = peer.request.target.partition("?")
        model = re.search("model=([^&]+)&autoload=false", query)
        value = self.said.get(f"{path}?{model[1]}" if model else path, 404)
        status, value = (value, {"error": {"message": "no"}}) if isinstance(value, int) else (200, value)
        content = value if isinstance(value, str) else json.dumps(value)
        await peer.head(f"{status} status", JSON, f"Content-Length: {len(content)}", "Process-Start-Time-Unix: 1")
        await peer.send(content.encode())


def on_script(
    said: dict[str, Any], work: Callable[[Clients, dict[str, Any]], Coroutine[Any, Any, None]]
) -> FaultServer:
    """Run ``work`` beside a server that says ``said``, which the work may change."""
    script = Scripted({"/props": {}, **said})
    with FaultServer(dict.fromkeys(("props", "slots", "metrics", "models"), script)) as server:
        on_host(server.url, lambda clients: work(clients, script.said))
    return server


METRICS_OFF = "/metrics is off, so foreign tokens are not counted; start the server with --metrics"
SLOTS_OFF = "/slots is off, so foreign requests are not seen one by one; start the server without --no-slots"


@pytest.mark.parametrize(
    ("before", "after", "own", "expected"),
    [
        pytest.param(
            {"/slots": [slot(0)], "/metrics": OFF},
            {"/slots": [slot(0, 5, n_decoded=3)]},
            OwnTraffic(),
            Traffic(
                in_flight_at_start=0,
                concurrent_foreign_requests=1,
                requests=(ForeignRequest(id="task 5", model="m", queued=False),),
                notes=(METRICS_OFF,),
            ),
            id="no-metrics",
        ),
        pytest.param(
            {"/slots": OFF, "/metrics": exposition(10, 10)},
            {"/metrics": exposition(17, 19)},
            OwnTraffic(requests=1, prompt_tokens=3, output_tokens=4),
            Traffic(
                in_flight_at_start=0,
                concurrent_foreign_requests=1,
                foreign_tokens=9,
                notes=(
                    SLOTS_OFF,
                    "foreign tokens, but no look at the slots showed their request: at least 1 foreign request",
                ),
            ),
            id="no-slots",
        ),
        pytest.param(
            {"/slots": OFF, "/metrics": exposition(10, 10, 1, 1)},
            {"/metrics": exposition(17, 19, 3)},
            OwnTraffic(),
            Traffic(
                in_flight_at_start=2,
                concurrent_foreign_requests=3,
                notes=(
                    SLOTS_OFF,
                    "without /slots, the tokens of requests that began before or ended after the cell are not known",
                ),
            ),
            id="no-slots-but-busy",
        ),
        pytest.param(
            {"/slots": OFF, "/metrics": OFF},
            {},
            OwnTraffic(),
            Traffic(notes=(SLOTS_OFF, METRICS_OFF)),
            id="neither",
        ),
        pytest.param(
            {"/slots": 401, "/metrics": "no counters here"},
            {},
            OwnTraffic(),
            Traffic(notes=("/slots: 401", "/metrics: no llamacpp:prompt_tokens_total in it")),
            id="odd",
        ),
        pytest.param(
            {"/slots": {"error": 1}, "/metrics": LOADING},
            {},
            OwnTraffic(),
            Traffic(notes=("/slots: the answer is not a list of slots", "/metrics: the model is being loaded")),
            id="odder",
        ),
        pytest.param(
            {"/slots": [slot(0, 1, busy=False)], "/metrics": exposition(9, 9)},
            {"/slots": LOADING, "/metrics": exposition(2, 9)},
            OwnTraffic(),
            Traffic(
                in_flight_at_start=0,
                concurrent_foreign_requests=0,
                server_restarts=1,
                notes=("the server restarted, so its count of tokens is lost",),
            ),
            id="counters-fell",
        ),
        pytest.param(
            {"/slots": [slot(0, 1, busy=False)], "/metrics": OFF},
            {"/slots": [slot(0)]},
            OwnTraffic(),
            Traffic(in_flight_at_start=0, concurrent_foreign_requests=0, server_restarts=1, notes=(METRICS_OFF,)),
            id="slots-began-anew",
        ),
        pytest.param(
            {"/slots": [slot(0)], "/metrics": exposition()},
            {"/slots": [slot(0, 1, seed=1, busy=False)], "/metrics": exposition(5, 5)},
            OwnTraffic(requests=1, prompt_tokens=6, output_tokens=5),
            Traffic(
                in_flight_at_start=0,
                concurrent_foreign_requests=0,
                notes=("the server counted fewer tokens than it reported to us, so foreign ones are not known",),
            ),
            id="too-few",
        ),
        pytest.param(
            {"/slots": [slot(0, 3, n_decoded=4)], "/metrics": exposition(9, 9, 1, 2)},
            {"/slots": [slot(0, 5, n_decoded=2)], "/metrics": exposition(12, 20, 1, 1)},
            OwnTraffic(),
            Traffic(
                in_flight_at_start=3,
                concurrent_foreign_requests=3,
                foreign_tokens=3 + 20 - 9 + 2 - 4,
                requests=tuple(ForeignRequest(id=f"task {task}", model="m", queued=False) for task in (3, 5)),
            ),
            id="queued",
        ),
    ],
)
def test_as_much_as_a_server_tells(
    before: Mapping[str, Any], after: Mapping[str, Any], own: OwnTraffic, expected: Traffic
) -> None:
    async def work(clients: Clients, said: dict[str, Any]) -> None:
        watcher = SlotsWatcher(clients, "m", look_every_s=60)
        await watcher.begin(marks(1, 2))
        said |= after
        assert await watcher.end(own) == expected

    on_script(dict(before), work)


@pytest.mark.parametrize(
    ("said", "known", "in_flight"),
    [
        ({"/slots": [slot(0, 1), slot(1, 2, busy=False)]}, True, ("m (running)",)),
        ({"/slots": OFF, "/metrics": exposition(0, 0, 1, 1)}, True, ("m (running)", "m (queued)")),
        ({"/slots": OFF, "/metrics": OFF}, False, ()),
        ({"/slots": LOADING}, True, ()),
        ({"/props": "not JSON"}, False, ()),
        ({"/props": {"is_sleeping": True}}, True, ()),
    ],
    ids=["slots", "gauges", "neither", "loading", "no-props", "asleep"],
)
def test_a_look_at_what_a_server_tells(said: dict[str, Any], known: bool, in_flight: tuple[str, ...]) -> None:
    async def work(clients: Clients, said: dict[str, Any]) -> None:
        sighting = await SlotsWatcher(clients, "m").look()
        assert (sighting.known, tuple(map(str, sighting.in_flight))) == (known, in_flight)

    server = on_script(said, work)
    assert "/slots" not in [seen.target for seen in server.seen] or said.get("/props") is None


def test_what_ended_is_told_for_a_minute() -> None:
    ended = RecentlyEnded()
    ended.see_tasks("m", {1}, 0.0)
    ended.see_tasks("m", {1}, 1.0)
    assert ended.tell(1.0) == ()
    ended.see_tasks("m", {3}, 2.0)
    ended.see_tasks("m", {2, 3}, 60.0)
    assert ended.tell(61.0) == ("m, task 2 (ended 00:01:00 UTC)", "m, task 3 (ended 00:00:02 UTC)")
    assert ended.tell(63.0) == ("m, task 2 (ended 00:01:00 UTC)",)


def test_what_ended_by_a_counter() -> None:
    ended = RecentlyEnded()
    for total, now_s in ((5, 0.0), (5, 1.0), (6, 2.0), (9, 3.0)):
        ended.see_total("m", total, "token", now_s)
    assert ended.tell(4.0) == ("m, 3 tokens (ended 00:00:03 UTC)", "m, 1 token (ended 00:00:02 UTC)")
    ended.forget()
    ended.see_total("m", 50, "token", 5.0)
    assert len(ended.tell(5.0)) == 2, "what ran while we measured is not told"


def test_slots_of_older_builds() -> None:
    idle = {"id": 0, "id_task": -1, "is_processing": False, "params": {}, "next_token": {"n_decoded": 0}}
    busy = {"id": 1, "id_task": 4, "is_processing": True, "params": {"seed": 3}, "next_token": {"n_decoded": 7}}
    assert read_slots([idle, busy, {"id": 2, "is_processing": False}]) == (
        Slot(bare=True),
        Slot(task=4, processing=True, seed=3, decoded_tokens=7),
        Slot(fresh=True, bare=True),
    )


@pytest.mark.parametrize("name", ["task_id", "id_task"])
def test_slots_before_b4027(name: str) -> None:
    busy = {"id": 0, "n_ctx": 4096, "state": 1, name: 7, "seed": 3, "prompt": "x", "next_token": {"n_decoded": 2}}
    idle = {"id": 1, "n_ctx": 4096, "state": 0, name: 6, "seed": NO_SEED, "prompt": "x"}
    assert read_slots([busy, idle, {"id": 2, "state": 0}]) == (
        Slot(task=7, processing=True, seed=3, decoded_tokens=2),
        Slot(task=6, seed=NO_SEED, bare=True),
        Slot(fresh=True, bare=True),
    )


def test_slots_that_do_not_say_whether_they_work() -> None:
    with pytest.raises(Fault, match=r"^has a slot without is_processing and state$"):
        read_slots([{"id": 0, "id_task": 4}])


def test_requests_without_a_seed_are_told_from_ours_by_their_number() -> None:
    """As before b4027, where slots say little."""
    account = LlamaAccount(LlamaCounters(slots=(Slot(), Slot(), Slot())), OwnRequests.by([1, 2]), "m")
    account.see([Slot(task=number, processing=True) for number in (4, 5, 6)])
    traffic = account.close(LlamaCounters(slots=(Slot(task=4), Slot(task=5), Slot(task=6))), OwnTraffic(requests=2))
    assert traffic.concurrent_foreign_requests == 1
    assert traffic.notes == ("these slots show no seeds, so foreign requests are found only by their number",)


def test_what_never_settles_has_no_exact_tokens() -> None:
    counters = Counters(prompt_tokens=0, predicted_tokens=0)
    opening = LlamaCounters(slots=(), counters=counters, settled=False)
    traffic = LlamaAccount(opening, OwnRequests(), "m").close(LlamaCounters(slots=(), counters=counters), OwnTraffic())
    assert traffic.foreign_tokens is None
    assert traffic.notes == ("requests came and went too fast for an exact count of foreign tokens",)


def test_a_stock_waits_only_so_long() -> None:
    async def work(clients: Clients, said: dict[str, Any]) -> None:
        stock = await LlamaProcess(clients).read_settled({7}, patience_s=0.05)
        assert not stock.settled
        assert [slot.task for slot in stock.working] == [1]

    on_script({"/slots": [slot(0, 1, seed=7)], "/metrics": exposition()}, work)


# A router


def model_entry(name: str, state: str = "loaded", **more: Any) -> dict[str, Any]:
    return {"id": name, "status": {"value": state}, **more}


def router(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"/props": {"role": "router"}, "/models": {"data": list(entries)}}


def tells(model: str, slots: list[dict[str, Any]], *counts: int) -> dict[str, Any]:
    return {f"/slots?{model}": slots, f"/metrics?{model}": exposition(*counts)}


def test_behind_a_router_all_loaded_models_are_watched_and_none_is_loaded() -> None:
    async def work(clients: Clients, said: dict[str, Any]) -> None:
        watcher = SlotsWatcher(clients, "mine", look_every_s=60)
        sighting = await watcher.look()
        assert [str(request) for request in sighting.in_flight] == ["b (running)"]
        await watcher.begin(marks(1, 2))
        said |= router(model_entry("a", aliases=["mine"]), model_entry("b"), model_entry("c"))
        said |= tells("a", [slot(0, 1, seed=1, busy=False)], 5, 5) | tells("b", [slot(0, 9, busy=False)], 1, 9)
        said |= tells("c", [slot(0, 1, busy=False)], 3, 4)
        traffic = await watcher.end(OwnTraffic(requests=1, prompt_tokens=5, output_tokens=5))
        assert traffic == Traffic(
            in_flight_at_start=1,
            concurrent_foreign_requests=2,
            foreign_tokens=(9 - 6) + (3 + 4),
            requests=(
                ForeignRequest(id="task 9", model="b", queued=False),
                ForeignRequest(id="task 1", model="c", queued=False),
            ),
            notes=("c: was loaded meanwhile",),
        )

    said = router(model_entry("a", aliases=["mine"]), model_entry("b"), model_entry("c", "sleeping"), {"id": 3})
    said |= tells("a", [slot(0)]) | tells("b", [slot(0, 9, n_decoded=6)], 1)
    server = on_script(said, work)
    targets = [seen.target for seen in server.seen if "model" in seen.target and "models" not in seen.target]
    assert all(target.endswith("&autoload=false") for target in targets)


def test_a_model_that_leaves_the_state_loaded_was_swapped() -> None:
    async def work(clients: Clients, said: dict[str, Any]) -> None:
        watcher = SlotsWatcher(clients, "mine", look_every_s=0.01)
        await watcher.begin(marks(1, 2))
        said |= router(model_entry("mine", "unloaded"))
        await asyncio.sleep(0.1)
        traffic = await watcher.end(OwnTraffic())
        assert (traffic.model_swaps, traffic.server_restarts, traffic.foreign_tokens) == (1, 0, None)
        assert traffic.notes == ("mine: was unloaded, so its count of tokens is lost",)

    on_script(router(model_entry("mine")) | tells("mine", [slot(0)]), work)


def test_a_model_that_was_loaded_again_between_two_looks_was_swapped() -> None:
    async def work(clients: Clients, said: dict[str, Any]) -> None:
        watcher = SlotsWatcher(clients, "mine", look_every_s=60)
        await watcher.begin(marks(1, 2))
        said |= tells("mine", [slot(0, 1, seed=1, busy=False)], 2, 2) | tells("other", [slot(0)], 0, 0)
        traffic = await watcher.end(OwnTraffic())
        assert (traffic.model_swaps, traffic.server_restarts) == (1, 0)
        assert traffic.notes == tuple(
            f"{name}: the server restarted, so its count of tokens is lost" for name in ("mine", "other")
        )

    said = router(model_entry("mine"), model_entry("other"))
    on_script(said | tells("mine", [slot(0, 7, busy=False)], 9, 9) | tells("other", [slot(0)], 9, 9), work)


def test_a_router_that_tells_no_list_and_a_host_found_late() -> None:
    async def work(clients: Clients, said: dict[str, Any]) -> None:
        assert (await SlotsWatcher(clients, "mine").look()).in_flight == ()
        watcher = SlotsWatcher(clients, "mine", look_every_s=60)
        said["/props"] = "not JSON"
        await watcher.begin(marks(1, 2))
        said |= router(model_entry("mine")) | tells("mine", [slot(0, 1)], 500, 500)
        traffic = await watcher.end(OwnTraffic())
        assert traffic == Traffic(
            concurrent_foreign_requests=1,
            requests=(ForeignRequest(id="task 1", model="mine", queued=False),),
            notes=("/props: the answer is not JSON: not JSON",),
        )

    on_script({"/props": {"role": "router"}, "/models": {"data": "none"}}, work)


# vLLM and the others

VLLM = Reading(running=0, waiting=0, ended=10, prompt_tokens=1000, generated_tokens=500, process=1.5)
VLLM_TEXT = """
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 1.0
vllm:num_requests_running{engine="1",model_name="m"} 1.0
vllm:num_requests_waiting{engine="0",model_name="m"} 1.0
vllm:request_success_total{engine="0",finished_reason="stop",model_name="m"} 4.0
vllm:request_success_total{engine="0",finished_reason="abort",model_name="m"} 1.0
vllm:prompt_tokens_total{engine="0",model_name="m"} 1.5e+03
vllm:generation_tokens_total{engine="0",model_name="m"} 200.0
process_start_time_seconds 1.5
"""


@pytest.mark.parametrize(
    ("closing", "own", "expected"),
    [
        ({}, OwnTraffic(), (0, 0, 0, 0)),
        (
            {"ended": 12, "prompt_tokens": 1100, "generated_tokens": 540},
            OwnTraffic(requests=2, prompt_tokens=60, cached_tokens=40, output_tokens=40),
            (0, 0, 0, 0),
        ),
        (
            {"ended": 13, "prompt_tokens": 1150, "generated_tokens": 570, "running": 2, "waiting": 1},
            OwnTraffic(requests=2, prompt_tokens=100, output_tokens=40),
            (0, 4, 80, 0),
        ),
        ({"process": 2.5, "running": 1}, OwnTraffic(), (0, 1, None, 1)),
        ({"prompt_tokens": 3}, OwnTraffic(), (0, 0, None, 1)),
        ({"ended": 11, "waiting": 1}, OwnTraffic(exact=False), (0, 1, None, 0)),
        ({}, OwnTraffic(requests=1), (0, 0, None, 0)),
    ],
    ids=["quiet", "ours", "foreign", "restart", "fell", "broke-off", "too-few"],
)
def test_what_vllm_counted(closing: dict[str, Any], own: OwnTraffic, expected: tuple[int | None, ...]) -> None:
    traffic = compare(VLLM, replace(VLLM, **closing), own)
    assert expected == (
        traffic.in_flight_at_start,
        traffic.concurrent_foreign_requests,
        traffic.foreign_tokens,
        traffic.server_restarts,
    )


@pytest.mark.parametrize(
    ("watcher_of", "before", "after", "line"),
    [
        (SlotsWatcher, {"/slots": [slot(0, 1, busy=False)]}, {"/slots": [slot(0, 2, busy=False)]}, "m, task 2"),
        (SlotsWatcher, {"/slots": OFF, "/metrics": exposition(5, 5)}, {"/metrics": exposition(7, 6)}, "m, 3 tokens"),
        (VllmWatcher, {"/metrics": VLLM_TEXT}, {"/metrics": VLLM_TEXT.replace("} 4.0", "} 5.0")}, "m, 1 request"),
    ],
    ids=["slots", "counters", "vllm"],
)
def test_what_comes_and_goes_between_two_looks_is_told(
    watcher_of: Callable[[Clients, str], Watcher], before: dict[str, Any], after: dict[str, Any], line: str
) -> None:
    async def work(clients: Clients, said: dict[str, Any]) -> None:
        watcher = watcher_of(clients, "m")
        assert (await watcher.look()).recent == ()
        said |= after
        for _ in range(2):
            [told] = (await watcher.look()).recent
            assert re.fullmatch(rf"{line} \(ended \d\d:\d\d:\d\d UTC\)", told)
        await watcher.close()

    on_script(before, work)


def test_vllm_is_watched_by_its_metrics() -> None:
    async def work(clients: Clients, said: dict[str, Any]) -> None:
        watcher = VllmWatcher(clients, "m")
        sighting = await watcher.look()
        assert [str(request) for request in sighting.in_flight] == ["m (running)", "m (running)", "m (queued)"]
        await watcher.begin(marks(1, 2))
        said["/metrics"] = VLLM_TEXT.replace("200.0", "260.0").replace('="stop",model_name="m"} 4.0', '="stop"} 6.0')
        assert await watcher.end(OwnTraffic(requests=1, output_tokens=50)) == Traffic(
            in_flight_at_start=3, concurrent_foreign_requests=4, foreign_tokens=10
        )
        said["/metrics"] = OFF
        assert not (await watcher.look()).known
        said["/metrics"] = "process_start_time_seconds 1.5"
        await watcher.begin(marks(1, 2))
        assert (await watcher.end(OwnTraffic())).notes == (
            "/metrics: no answer with vllm's counters, so foreign traffic is not known",
        )
        await watcher.close()

    on_script({"/metrics": VLLM_TEXT}, work)


def test_vllm_is_read_until_nothing_ends_any_more() -> None:
    ended = itertools.count(1)

    class Growing(Scripted):
        async def __call__(self, peer: Peer) -> None:
            self.said["/metrics"] = VLLM_TEXT.replace('"stop",model_name="m"} 4.0', f'"stop"}} {next(ended)}')
            await super().__call__(peer)

    async def work(clients: Clients) -> None:
        watcher = VllmWatcher(clients, "m", patience_s=0.2)
        await watcher.begin(marks(1, 2))
        assert next(ended) > 3
        await watcher.end(OwnTraffic())

    with FaultServer({"metrics": Growing()}) as server:
        on_host(server.url, work)

    async def look_in_vain(clients: Clients) -> None:
        assert not (await VllmWatcher(clients, "m").look()).known

    on_host(server.url, look_in_vain)


@pytest.mark.parametrize(
    ("text", "sums"),
    [
        ("", {}),
        ("# HELP a b\n# TYPE a counter\na 1\n", {"a": 1.0}),
        ('a{x="1"} 1\na{x="2"} 2.5 1795500000\n', {"a": 3.5}),
        ('a{x="} 5 {",y="b c"} 3\n', {"a": 3.0}),
        ('a{x="1"} NaN\nb +Inf\nc nonsense\nd\n{} 1\n', {}),
        ("a 1e3\n  b  2 \n", {"a": 1000.0, "b": 2.0}),
        ("a -1\nb 1e999\nc 1e308\nc 1e308\n", {"a": -1.0}),
        ('a 1\nb{x="1" 2\nc{x="1"}\nd{\n}\n{, =é\0:\n# TYPE\na 2', {"a": 3.0}),
        ("a{" + ",".join(f'x{number}="1"' for number in range(50_000)) + "} 1\n", {"a": 1.0}),
        ('a{x="' + '\\"' * 500_000 + '"} 1\n', {"a": 1.0}),
    ],
    ids=str.split("nothing comment labels braces no-number blanks overflow garbage many-labels many-escapes"),
)
def test_metrics_are_summed_over_their_labels(text: str, sums: dict[str, float]) -> None:
    assert sum_metrics(text) == sums


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["llamacpp:a_total", "vllm:b", "c"]),
            st.dictionaries(st.sampled_from(["model", "le", "x_1"]), st.text(max_size=8), max_size=3),
            st.integers(-(10**12), 10**12) | st.sampled_from([0.5, math.inf, -math.inf, math.nan]),
        ),
        max_size=6,
    )
)
def test_metrics_are_what_prometheus_own_parser_reads(samples: list[tuple[str, dict[str, str], float]]) -> None:
    escapes = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

    def write(labels: dict[str, str]) -> str:
        return ",".join(f'{key}="{label.translate(escapes)}"' for key, label in labels.items())

    text = "".join(f"{name}{{{write(labels)}}} {value}\n" for name, labels, value in samples)
    sums: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            sums[sample.name] += sample.value if math.isfinite(sample.value) else 0
    assert {name: value for name, value in sum_metrics(text).items() if value} == {n: v for n, v in sums.items() if v}


def test_each_kind_of_server_has_its_watcher() -> None:
    async def work(clients: Clients) -> None:
        chosen = {kind: type(choose(server("h", NOWHERE, clients), "m")) for kind, server in KINDS.items()}
        assert chosen["embedded"] is chosen["llama-server"] is SlotsWatcher
        assert chosen["openai"] is Watcher

    on_host(NOWHERE, work)
    assert {"embedded", "llama-server", "llama-router", "llama-swap", "vllm"} == WATCHERS.keys()


def test_some_servers_cannot_tell() -> None:
    async def run() -> None:
        watcher = Watcher("m")
        assert not (await watcher.look()).known
        await watcher.begin(marks(1, 2))
        assert await watcher.end(OwnTraffic()) == Traffic(notes=("this kind of server does not show foreign requests",))
        await watcher.close()

    asyncio.run(run())
