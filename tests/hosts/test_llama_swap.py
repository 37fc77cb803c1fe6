"""llama-swap: who else is there, by each version's events and log; loading, swapping, waiting at its door."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from pytest_boobench.errors import HostError
from pytest_boobench.facts import ForeignRequest, OwnTraffic, Traffic
from pytest_boobench.hosts import access
from pytest_boobench.hosts.access import Hosts
from pytest_boobench.hosts.embedded import EmbeddedServer
from pytest_boobench.hosts.inventory import Host, Inventory
from pytest_boobench.hosts.quiet import Manners
from pytest_boobench.hosts.swap_events import HostState, InFlight
from pytest_boobench.hosts.swap_log import Evidence, LoggedRequest, fetch_rows, weigh
from pytest_boobench.hosts.swap_watcher import SwapWatcher
from pytest_boobench.hosts.watcher import OwnMarks
from pytest_boobench.servers import witness
from pytest_boobench.servers.clients import Clients, ServerAnswer, open_clients, read_retry_after
from pytest_boobench.servers.connect import connect
from pytest_boobench.servers.llama_swap import LlamaSwap
from pytest_boobench.servers.llama_swap_upstream import Door, Upstream
from pytest_boobench.suite.cell import Plan, Timeouts
from tests.conftest import BenchFolder
from tests.fault_server import FaultServer, Peer, closed_port
from tests.llama_swap_stand_in import HARDWARE, KEY, LlamaSwapStandIn
from tests.making import make_cell, make_sample
from tests.plugin.test_session import query
from tests.stand_in import openai_server

RUN = "run-7"
MARKS = OwnMarks(RUN)
NONE_OF_OURS = OwnTraffic()


@pytest.fixture(autouse=True)
def _no_long_wait_for_an_event_that_old_versions_never_send(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_boobench.hosts.swap_events._PRIMED_S", 0.5)


@pytest.fixture(autouse=True)
def _no_wait_for_other_tests_that_have_the_machines_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "_find_folder", lambda: tmp_path)


@pytest.fixture
def swap(llama: EmbeddedServer) -> Iterator[LlamaSwapStandIn]:
    """A llama-swap of today with two models, both on the tests' real server."""
    with stand_in(llama) as server:
        yield server


def stand_in(llama: EmbeddedServer, **settings: object) -> LlamaSwapStandIn:
    return LlamaSwapStandIn({"tiny-chat": llama.url, "org/other:Q4": llama.url}, **settings)  # type: ignore[arg-type]


@asynccontextmanager
async def clients_of(url: str, *, key: str | None = None, run: str | None = RUN) -> AsyncIterator[Clients]:
    headers = {"Authorization": key and f"Bearer {key}", "X-Boobench-Run": run}
    clients = open_clients(url, {name: value for name, value in headers.items() if value})
    try:
        yield clients
    finally:
        await clients.close()


@asynccontextmanager
async def watching(swap: LlamaSwapStandIn) -> AsyncIterator[tuple[SwapWatcher, Clients]]:
    async with clients_of(swap.url) as clients:
        watcher = SwapWatcher(clients, "tiny-chat")
        try:
            yield watcher, clients
        finally:
            await watcher.close()


async def send(clients: Clients, count: int = 1, tokens: int = 4) -> OwnTraffic:
    """Requests, one after the other, and what they came to by the server's own counts."""
    own = OwnTraffic()
    for number in range(count):
        body = {"model": "tiny-chat", "prompt": f"{number} abc", "max_tokens": tokens, "cache_prompt": False}
        timings = (await clients.control.post("/v1/completions", json=body)).json()["timings"]
        own = replace(
            own,
            requests=own.requests + 1,
            prompt_tokens=own.prompt_tokens + timings["prompt_n"],
            output_tokens=own.output_tokens + timings["predicted_n"],
        )
    return own


NO_CALLERS = "this llama-swap does not show who sent a request (v240 and later do): the number of ours is subtracted"
NO_FLIGHTS = "this llama-swap does not show requests in flight (v192 and later do): only finished requests are counted"


class TestEachVersion:
    @pytest.mark.parametrize(
        ("version", "at_start", "foreign", "notes"),
        [
            (180, None, 2, (NO_FLIGHTS,)),
            (192, 1, 3, (NO_CALLERS,)),
            (234, 1, 3, (NO_CALLERS,)),
            (235, 1, 3, (NO_CALLERS,)),
            (239, 1, 3, (NO_CALLERS,)),
            (240, 1, 3, ()),
            (250, 1, 3, ()),
        ],
    )
    def test_foreign_requests_are_counted_exactly(
        self, llama: EmbeddedServer, version: int, at_start: int | None, foreign: int, notes: tuple[str, ...]
    ) -> None:
        """One is there when the window opens, one comes and goes, one stays on after it closed; five are ours."""

        async def watch() -> Traffic:
            async with watching(swap) as (watcher, clients):
                await send(clients)
                with swap.foreign():
                    await watcher.begin(MARKS)
                    own = await send(clients, 2)
                with swap.foreign():
                    more = await send(clients, 3)
                with swap.foreign():
                    return await watcher.end(_add(own, more))

        with stand_in(llama, version=version) as swap:
            traffic = asyncio.run(watch())
        assert (traffic.in_flight_at_start, traffic.concurrent_foreign_requests) == (at_start, foreign)
        assert traffic.foreign_tokens == 20, "of the two that ended"
        assert traffic.notes == notes
        assert (traffic.model_swaps, traffic.server_restarts, traffic.disturbed) == (0, 0, True)

    def test_windows_with_any_number_of_foreign_requests_are_exact(self, swap: LlamaSwapStandIn) -> None:
        """Three lanes of ours and none to three other clients, all at once and on a real server."""

        async def repeat() -> None:
            async with watching(swap) as (watcher, clients), clients_of(swap.url, run=None) as others:
                for foreign in (0, 1, 2, 3):
                    await watcher.begin(MARKS)
                    lanes = [send(clients, 2) for _ in range(3)]
                    theirs = [send(others, tokens=number) for number in range(2, 2 + foreign)]
                    each = await asyncio.gather(*lanes, *theirs)
                    traffic = await watcher.end(_add(*each[:3]))
                    charged = _add(*each[3:])
                    assert traffic.concurrent_foreign_requests == foreign
                    assert traffic.foreign_tokens == charged.prompt_tokens + charged.output_tokens

        asyncio.run(repeat())

    @pytest.mark.parametrize("version", [180, 192, 235, 240, 250])
    def test_ours_are_never_foreign(self, llama: EmbeddedServer, version: int) -> None:
        async def watch() -> Traffic:
            async with watching(swap) as (watcher, clients):
                await watcher.begin(MARKS)
                several = await asyncio.gather(*(send(clients, 3) for _ in range(4)))
                return await watcher.end(_add(*several))

        with stand_in(llama, version=version) as swap:
            traffic = asyncio.run(watch())
        assert (traffic.concurrent_foreign_requests, traffic.foreign_tokens, traffic.disturbed) == (0, 0, False)
        assert traffic.requests == ()

    @pytest.mark.parametrize(
        ("version", "seen"),
        [
            (180, None),
            (192, "a request (in flight)"),
            (235, "tiny-chat, /v1/chat/completions (in flight)"),
            (250, "tiny-chat, /v1/chat/completions, curl/8.5, from 127.0.0.1 (queued for 0 s)"),
        ],
    )
    def test_a_look_says_who_is_there_as_far_as_it_is_told(
        self, llama: EmbeddedServer, version: int, seen: str | None
    ) -> None:
        async def look() -> None:
            async with watching(swap) as (watcher, _):
                quiet = await watcher.look()
                assert (quiet.known, quiet.in_flight) == (seen is not None, ())
                with swap.foreign():
                    busy = await watcher.look()
                assert [str(request) for request in busy.in_flight] == ([] if seen is None else [seen])
                assert (await watcher.look()).in_flight == ()

        with stand_in(llama, version=version) as swap:
            asyncio.run(look())
        assert swap.loads == []


def _add(*several: OwnTraffic) -> OwnTraffic:
    return OwnTraffic(
        requests=sum(own.requests for own in several),
        prompt_tokens=sum(own.prompt_tokens for own in several),
        output_tokens=sum(own.output_tokens for own in several),
    )


class TestWatching:
    def test_a_look_names_another_run_of_boobench_and_what_ended_just_now(self, swap: LlamaSwapStandIn) -> None:
        async def look() -> tuple[Sequence[str], tuple[str, ...]]:
            async with watching(swap) as (watcher, _):
                with swap.foreign():
                    pass
                with swap.foreign(**{"X-BOOBENCH-RUN": "run-8"}):
                    sighting = await watcher.look()
                return [str(request) for request in sighting.in_flight], sighting.recent

        seen, recent = asyncio.run(look())
        assert seen == ["tiny-chat, /v1/chat/completions, another boobench run, from 127.0.0.1 (queued for 0 s)"]
        (line,) = recent
        assert line.startswith("tiny-chat, /v1/chat/completions, 200, 12 ms (ended ")

    @pytest.mark.parametrize("ahead_s", [0.0, 7200.0, -7200.0])
    def test_what_ended_just_now_is_told_by_the_hosts_own_clock(self, llama: EmbeddedServer, ahead_s: float) -> None:
        async def look() -> tuple[str, ...]:
            async with watching(swap) as (watcher, _):
                with swap.foreign():
                    pass
                return (await watcher.look()).recent

        with stand_in(llama, ahead_s=ahead_s) as swap:
            swap.rows.append(_raw_row(1))
            assert len(asyncio.run(look())) == 1, "what ended long ago is not told"

    def test_a_request_that_comes_and_goes_in_the_quiet_period_refuses(
        self, swap: LlamaSwapStandIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pytest_boobench.hosts.quiet._LOOK_EVERY_S", 0.1)

        async def come_and_go() -> None:
            while swap.seen.count("GET /api/metrics/activity?limit=20") < 2:
                await asyncio.sleep(0.01)
            with swap.foreign():
                pass

        async def ask() -> None:
            host = Host(name="rack", base_url=swap.url)
            async with Hosts(Inventory({"rack": host}, None), RUN, Manners(quiet_s=30)) as hosts:
                other = asyncio.create_task(come_and_go())
                with pytest.raises(HostError) as caught:
                    await hosts.grant("rack", "bench")
                await other
                assert str(caught.value).startswith(
                    "rack: not quiet: a request came and went while we looked: tiny-chat, "
                )

        asyncio.run(ask())

    def test_one_stream_watches_all_models(self, swap: LlamaSwapStandIn) -> None:
        async def bench() -> None:
            host = Host(name="rack", base_url=swap.url)
            async with Hosts(Inventory({"rack": host}, None), RUN, Manners(quiet_s=0)) as hosts:
                for model, tokens in (("tiny-chat", 20), ("org/other:Q4", 10), ("tiny-chat", 20)):
                    grant = await hosts.grant("rack", "bench")
                    await grant.server.load(model)
                    watcher = grant.watcher(model)
                    await watcher.begin(MARKS)
                    own = await send(grant.server.clients, tokens=tokens)
                    await grant.server.load("tiny-chat")
                    traffic = await watcher.end(own)
                    assert (traffic.concurrent_foreign_requests, traffic.foreign_tokens) == (0, 0)
                    assert traffic.model_swaps == (model == "org/other:Q4")
                    grant.release()

        asyncio.run(bench())
        assert swap.seen.count("GET /api/events") == 1

    def test_what_is_ours_is_not_in_a_look(self, swap: LlamaSwapStandIn) -> None:
        async def look() -> None:
            async with watching(swap) as (watcher, _):
                with swap.foreign(**{"x-boobench-run": RUN}):
                    assert (await watcher.look()).in_flight == ()

        asyncio.run(look())

    def test_a_request_that_no_event_told_of_is_found_in_the_log(self, swap: LlamaSwapStandIn) -> None:
        async def watch() -> Traffic:
            async with watching(swap) as (watcher, clients):
                await watcher.begin(MARKS)
                swap.drops_events = True
                own = await send(clients, 2)
                with swap.foreign():
                    pass
                return await watcher.end(own)

        traffic = asyncio.run(watch())
        assert (traffic.concurrent_foreign_requests, traffic.foreign_tokens) == (1, 10)
        assert traffic.notes == ("its log has 1 foreign request more than were seen in flight",)

    def test_a_reload_is_a_restart_and_the_next_window_is_clean(self, swap: LlamaSwapStandIn) -> None:
        async def watch() -> tuple[Traffic, Traffic]:
            async with watching(swap) as (watcher, clients):
                await send(clients)
                await watcher.begin(MARKS)
                swap.reload()
                with swap.foreign():
                    reloaded = await watcher.end(await send(clients))
                await watcher.begin(MARKS)
                return reloaded, await watcher.end(await send(clients))

        reloaded, clean = asyncio.run(watch())
        assert (reloaded.server_restarts, reloaded.concurrent_foreign_requests) == (1, 1)
        assert reloaded.notes == ("its event stream ended: llama-swap reloaded its configuration or was restarted",)
        assert clean == Traffic(in_flight_at_start=0, concurrent_foreign_requests=0, foreign_tokens=0)

    @pytest.mark.parametrize(("killed", "restarts"), [(True, 1), (False, 0)])
    def test_a_stream_that_breaks_off_is_a_restart_where_the_model_is_gone(
        self, swap: LlamaSwapStandIn, killed: bool, restarts: int
    ) -> None:
        async def watch() -> Traffic:
            async with watching(swap) as (watcher, clients):
                await send(clients)
                await watcher.begin(MARKS)
                if killed:
                    swap.reload(in_order=False)
                else:
                    swap.break_streams()
                await asyncio.sleep(0.3)
                return await watcher.end(NONE_OF_OURS)

        traffic = asyncio.run(watch())
        assert (traffic.server_restarts, traffic.disturbed) == (restarts, killed)
        assert traffic.notes == ("its event stream broke off and was opened again: requests in between may be missing",)

    def test_a_model_that_leaves_ready_is_a_swap(self, swap: LlamaSwapStandIn) -> None:
        async def watch() -> tuple[int, int]:
            async with watching(swap) as (watcher, clients):
                await send(clients)
                await watcher.begin(MARKS)
                await clients.control.get("/upstream/org/other:Q4/health")
                await clients.control.get("/upstream/tiny-chat/health")
                swapped = await watcher.end(NONE_OF_OURS)
                await watcher.begin(MARKS)
                swap.set_state("org/other:Q4", "starting")
                return swapped.model_swaps, (await watcher.end(NONE_OF_OURS)).model_swaps

        assert asyncio.run(watch()) == (1, 0)

    def test_the_stream_stays_open_over_all_windows(self, swap: LlamaSwapStandIn) -> None:
        async def watch() -> None:
            async with watching(swap) as (watcher, _):
                for _ in range(3):
                    await watcher.look()
                    await watcher.begin(MARKS)
                    await watcher.end(NONE_OF_OURS)
                assert swap.listeners == 1

        asyncio.run(watch())
        assert swap.seen.count("GET /api/events") == 1

    @pytest.mark.parametrize(
        ("answers", "trouble"),
        [
            (True, "GET /api/events: 401"),
            (False, "connection refused; is the server running, and at this port?"),
        ],
    )
    def test_without_events_and_log_nothing_is_known(self, llama: EmbeddedServer, answers: bool, trouble: str) -> None:
        async def watch(url: str) -> Traffic:
            async with clients_of(url) as clients:
                watcher = SwapWatcher(clients, "tiny-chat")
                assert not (await watcher.look()).known
                await watcher.begin(MARKS)
                traffic = await watcher.end(NONE_OF_OURS)
                await watcher.close()
                return traffic

        with stand_in(llama, key=KEY) as swap:
            url = swap.url if answers else f"http://127.0.0.1:{closed_port()}"
            traffic = asyncio.run(watch(url))
        assert traffic == Traffic(
            notes=(
                f"no event stream: {trouble}",
                "no log of finished requests: only what was seen in flight is counted",
            )
        )

    def test_rows_that_are_written_late_are_waited_for(self, llama: EmbeddedServer) -> None:
        async def watch() -> Traffic:
            async with watching(swap) as (watcher, clients):
                await watcher.begin(MARKS)
                with swap.foreign():
                    pass
                return await watcher.end(await send(clients, 2))

        with stand_in(llama, log_lag_s=0.2) as swap:
            traffic = asyncio.run(watch())
        assert (traffic.concurrent_foreign_requests, traffic.foreign_tokens) == (1, 10)

    def test_rows_that_never_come_are_not_waited_for_long(
        self, swap: LlamaSwapStandIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pytest_boobench.hosts.swap_watcher._LOG_WAIT_S", 0.0)

        async def watch() -> Traffic:
            async with watching(swap) as (watcher, _):
                await watcher.begin(MARKS)
                return await watcher.end(OwnTraffic(requests=1, exact=False))

        assert not asyncio.run(watch()).disturbed

    def test_a_stream_that_is_never_silent_does_not_hold_a_look_up(self, swap: LlamaSwapStandIn) -> None:
        async def chatter() -> None:
            while True:
                swap.set_state("org/other:Q4", "stopped")
                await asyncio.sleep(0.01)

        async def look() -> bool:
            async with watching(swap) as (watcher, _):
                talker = asyncio.create_task(chatter())
                sighting = await watcher.look()
                talker.cancel()
                return sighting.known

        assert asyncio.run(look())

    def test_closing_what_was_never_opened(self, swap: LlamaSwapStandIn) -> None:
        async def watch() -> None:
            async with watching(swap):
                pass

        asyncio.run(watch())
        assert swap.seen == []


class TestTheLog:
    def test_it_is_read_page_by_page(self, swap: LlamaSwapStandIn) -> None:
        swap.rows = [_raw_row(number) for number in range(1, 2101)]

        async def fetch() -> list[LoggedRequest] | None:
            async with clients_of(swap.url) as clients:
                return await fetch_rows(clients.control, 50)

        rows = asyncio.run(fetch())
        assert rows is not None
        assert [row.id for row in rows] == list(range(51, 2101))
        assert len(swap.seen) == 3

    @pytest.mark.parametrize("body", ["[]", '{"no": "data"}', '{"data": [{"no": "id"}]}', "<html>"])
    def test_what_is_no_log(self, body: str) -> None:
        async def page(peer: Peer) -> None:
            await peer.head("200 OK", "text/html", f"Content-Length: {len(body)}")
            await peer.send(body.encode())

        async def fetch(url: str) -> list[LoggedRequest] | None:
            async with clients_of(url) as clients:
                return await fetch_rows(clients.control, 0)

        with FaultServer({"activity": page}) as server:
            assert asyncio.run(fetch(server.url)) == ([] if body == "[]" else None)


def _raw_row(number: int) -> dict[str, object]:
    tokens = {"input_tokens": 1, "output_tokens": 1}
    return {"id": number, "timestamp": "2020-01-01T06:04:52Z", "model": "m", "tokens": tokens, "resp_status_code": 200}


def _row(**changed: object) -> LoggedRequest:
    now = datetime.now(UTC)
    fields: dict[str, object] = {"id": 1, "model": "m", "path": None, "ended_at": now, "read_at": now}
    fields |= {"duration_ms": 1.0, "status": 200, "input_tokens": 3, "output_tokens": 7}
    return LoggedRequest(**{**fields, **changed})  # type: ignore[arg-type]


def _weigh(own: OwnTraffic, **changed: object) -> tuple[int | None, int | None]:
    fields: dict[str, object] = {"detail": "callers", "run_uid": RUN, "total_at_start": 0, "rows": ()}
    traffic = weigh(Evidence(**{**fields, **changed}), own)  # type: ignore[arg-type]
    return traffic.concurrent_foreign_requests, traffic.foreign_tokens


THEIRS = InFlight(ForeignRequest(id="1"), method="POST")
OURS = InFlight(ForeignRequest(id="2"), method="POST", run_uid=RUN)


@pytest.mark.parametrize(
    ("own", "evidence", "expected"),
    [
        pytest.param(OwnTraffic(), {"seen": (THEIRS,)}, (1, 0), id="seen, not yet in the log"),
        pytest.param(OwnTraffic(), {"rows": (_row(),)}, (1, 10), id="in the log, never seen"),
        pytest.param(OwnTraffic(), {"seen": (THEIRS,), "rows": None}, (1, None), id="no log"),
        pytest.param(OwnTraffic(), {"rows": None}, (0, 0), id="nothing seen, no log"),
        pytest.param(OwnTraffic(), {"rows": None, "detail": "totals"}, (None, None), id="neither"),
        pytest.param(OwnTraffic(), {"rows": (_row(status=429),)}, (0, 0), id="turned away, so it never ran"),
        pytest.param(OwnTraffic(), {"seen": (OURS,), "rows": (_row(),)}, (0, 0), id="ours, not counted by us"),
        pytest.param(
            OwnTraffic(requests=1, exact=False), {"rows": (_row(), _row())}, (1, None), id="ours broke off: no tokens"
        ),
        pytest.param(OwnTraffic(), {"rows": (_row(output_tokens=None),)}, (1, None), id="tokens that are not told"),
        pytest.param(
            OwnTraffic(requests=1),
            {"detail": "requests", "seen": (THEIRS, THEIRS), "rows": (_row(status=429), _row())},
            (0, 0),
            id="without callers: one of ours was turned away and came again",
        ),
        pytest.param(
            OwnTraffic(requests=1),
            {"detail": "requests", "seen": (THEIRS, InFlight(ForeignRequest(id="3"), method="GET")), "rows": None},
            (0, 0),
            id="without callers: looks are no requests",
        ),
        pytest.param(
            OwnTraffic(requests=1),
            {"detail": "totals", "rows": (_row(status=None, input_tokens=0, output_tokens=0), _row(status=None))},
            (0, 0),
            id="without status: what has no tokens never ran",
        ),
    ],
)
def test_evidence_is_weighed(own: OwnTraffic, evidence: dict[str, object], expected: tuple[int | None, ...]) -> None:
    assert _weigh(own, **evidence) == expected


@pytest.mark.parametrize(
    "message",
    [
        "no json",
        "[]",
        '{"type": "inflight"}',
        '{"type": "inflight", "data": "{"}',
        json.dumps({"type": "inflight", "data": json.dumps({"operation": "upsert"})}),
        json.dumps({"type": "inflight", "data": "[]"}),
        json.dumps({"type": "modelStatus", "data": "[3]"}),
    ],
)
def test_an_event_that_is_none_is_passed_over(message: str) -> None:
    state = HostState()
    assert state.take(message) is None
    assert state == HostState()


class TestServer:
    def test_it_is_recognised_and_described_without_loading_anything(self, llama: EmbeddedServer) -> None:
        async def look() -> None:
            async with clients_of(swap.url) as clients:
                server = await connect("rack-1", swap.url, clients, None)
                assert server.kind == "llama-swap"
                assert await server.alive()
                assert await server.models() == ["tiny-chat", "char", "org/other:Q4", "peer/big"]
                assert await server.ready_models() == []
                facts = await server.facts()
                assert facts.engine_build == "llama-swap 250 0bdb3720"
                assert facts.extra["hardware"] == HARDWARE
                assert facts.extra["performance"] == {
                    "system": {"load_avg_1": 2.0},
                    "gpus": [{"id": 0, "power_draw_w": 95.0}],
                }
                assert (await server.model_facts("tiny-chat")).n_params is None

        with stand_in(llama, aliases={"char": "tiny-chat"}, peers={"peer/big": llama.url}) as swap:
            asyncio.run(look())
        assert swap.loads == []

    def test_one_too_old_to_say_its_version(self, llama: EmbeddedServer) -> None:
        async def look() -> None:
            async with clients_of(swap.url) as clients:
                server = await connect("rack-1", swap.url, clients, None)
                facts = await server.facts()
                assert (facts.kind, facts.engine_build, facts.extra) == ("llama-swap", "llama-swap", {})

        with stand_in(llama, version=160) as swap:
            asyncio.run(look())
        assert swap.loads == []

    def test_loading_swaps_and_restoring_swaps_back(self, swap: LlamaSwapStandIn) -> None:
        async def bench() -> None:
            async with serving(swap) as server:
                await server.load("tiny-chat")
                before = await server.ready_models()
                swap.loads.clear()
                assert await server.load("tiny-chat") is None
                load_ms = await server.load("org/other:Q4")
                assert load_ms is not None
                assert load_ms > 0
                assert await server.ready_models() == ["org/other:Q4"]
                facts = await server.model_facts("org/other:Q4")
                assert (facts.name, facts.slots, facts.n_params is not None) == ("org/other:Q4", 4, True)
                assert (await server.facts()).extra["engine_builds"] == {"org/other:Q4": "b0-unknown"}
                await server.restore(before or [])
                assert await server.ready_models() == ["tiny-chat"]

        asyncio.run(bench())
        assert swap.loads == ["org/other:Q4", "tiny-chat"]

    def test_restoring_unloads_what_only_we_needed(self, swap: LlamaSwapStandIn) -> None:
        async def bench() -> None:
            async with serving(swap) as server:
                await server.load("tiny-chat")
                await server.restore([])
                assert await server.ready_models() == []

        asyncio.run(bench())
        assert swap.unloads == ["tiny-chat"]

    def test_restoring_leaves_a_busy_model_alone(self, swap: LlamaSwapStandIn) -> None:
        async def bench() -> None:
            async with serving(swap) as server, clients_of(swap.url) as others:
                await server.load("tiny-chat")
                theirs = asyncio.create_task(send(others, tokens=3000))
                while not swap.in_flight:
                    await asyncio.sleep(0.01)
                await server.restore([])
                assert not theirs.done()
                await theirs

        asyncio.run(bench())
        assert swap.unloads == []

    def test_restoring_leaves_the_host_to_others_who_came_since(self, swap: LlamaSwapStandIn) -> None:
        async def bench() -> None:
            async with serving(swap) as server, clients_of(swap.url) as others:
                await server.load("tiny-chat")
                await others.control.get("/upstream/org/other:Q4/health")
                await server.restore(["tiny-chat"])
                assert await server.ready_models() == ["org/other:Q4"]

        asyncio.run(bench())

    def test_an_alias_is_its_model_and_a_peer_is_nobodys(self, llama: EmbeddedServer) -> None:
        async def bench() -> None:
            async with serving(swap) as server:
                assert await server.load("char") is not None
                assert await server.load("char") is None
                assert await server.ready_models() == ["tiny-chat", "char"]
                assert await server.load("peer/big") is None
                assert (await server.model_facts("char")).name == "char"
                assert (await server.model_facts("peer/big")).slots is None

        with stand_in(llama, aliases={"char": "tiny-chat"}, peers={"peer/big": llama.url}) as swap:
            asyncio.run(bench())
        assert swap.loads == ["tiny-chat"]

    @pytest.mark.parametrize("version", [250, 251])
    def test_a_model_that_does_not_start_is_said_in_its_words(self, llama: EmbeddedServer, version: int) -> None:
        async def bench() -> None:
            async with serving(swap) as server:
                await server.load("tiny-chat")

        with stand_in(llama, version=version, broken=("tiny-chat",)) as swap, pytest.raises(HostError) as caught:
            asyncio.run(bench())
        assert str(caught.value) == (
            "rack-1: tiny-chat does not load: 500: unspecific error: upstream command exited prematurely; "
            "see llama-swap's log"
        )

    def test_a_model_that_llama_swap_does_not_know(self, swap: LlamaSwapStandIn) -> None:
        async def bench() -> None:
            async with serving(swap) as server:
                await server.load("nowhere")

        with pytest.raises(HostError) as caught:
            asyncio.run(bench())
        assert str(caught.value) == "rack-1: nowhere does not load: 404: model not found; see llama-swap's log"

    def test_a_server_that_is_still_loading_is_asked_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pytest_boobench.servers.control._FIRST_STEP_S", 0.01)
        answers = iter(["503 Service Unavailable", "503 Service Unavailable", "200 OK"])

        async def health(peer: Peer) -> None:
            await peer.answer(next(answers), {"status": "…"})

        async def bench(url: str) -> int:
            async with clients_of(url) as clients:
                return (await Upstream("rack-1", url, clients, "x").wait_until_ready()).status_code

        with FaultServer({"health": health}) as server:
            assert asyncio.run(bench(server.url)) == 200

    def test_a_model_that_is_never_ready_is_given_up(
        self, llama: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pytest_boobench.servers.clients.LOAD_TIMEOUT_S", 0.1)

        async def bench() -> None:
            async with serving(swap) as server:
                await server.load("tiny-chat")

        with stand_in(llama, load_s=30) as swap, pytest.raises(HostError) as caught:
            asyncio.run(bench())
        assert str(caught.value) == (
            "rack-1: tiny-chat is not ready after 0.1 s; "
            "give it more time with --boobench-load-timeout, or see llama-swap's log"
        )

    def test_unloading_what_is_not_there(self) -> None:
        async def refuse(peer: Peer) -> None:
            await peer.answer("404 Not Found", {"src": "llama-swap", "error": "model not found"})

        async def bench(url: str) -> None:
            async with clients_of(url) as clients:
                await LlamaSwap("rack-1", url, clients).unload("x")

        with FaultServer({"x": refuse}) as server, pytest.raises(HostError) as caught:
            asyncio.run(bench(server.url))
        assert str(caught.value) == "rack-1: POST /api/models/unload/x: 404: model not found"

    @pytest.mark.parametrize("version", [250, 251])
    def test_a_wrong_key_is_said_and_not_shown(self, llama: EmbeddedServer, version: int) -> None:
        async def bench() -> None:
            async with serving(swap, "sk-wrong") as server:
                assert await server.alive()
                await server.models()

        with stand_in(llama, version=version, key=KEY) as swap, pytest.raises(HostError) as caught:
            asyncio.run(bench())
        assert str(caught.value) == (
            "rack-1: GET /v1/models: 401: the host wants another key; see api_key in the hosts file"
        )


@asynccontextmanager
async def serving(swap: LlamaSwapStandIn, key: str | None = None) -> AsyncIterator[LlamaSwap]:
    async with clients_of(swap.url, key=key) as clients:
        yield LlamaSwap("rack-1", swap.url, clients)


class TestTheDoor:
    CELL = make_cell(model="tiny-chat", concurrency=2)

    def test_a_request_that_is_turned_away_comes_again_when_told(self) -> None:
        answers = [ServerAnswer(sent_at=0, sent_ns=0, status=429, retry_after_s=0.0)] * 2
        answers.append(ServerAnswer(sent_at=0, sent_ns=0, status=200))
        left = iter(answers)

        async def attempt() -> ServerAnswer:
            return next(left)

        answer = asyncio.run(Door().send(attempt, self.CELL))
        assert (answer.status, answer.turned_away) == (200, 2)

    def test_it_gives_up_when_the_requests_time_is_up(self) -> None:
        async def attempt() -> ServerAnswer:
            return ServerAnswer(sent_at=0, sent_ns=0, status=429)

        cell = replace(self.CELL, plan=Plan(timeouts=Timeouts(request_s=0.5)))
        answer = asyncio.run(Door().send(attempt, cell))
        assert (answer.status, answer.turned_away) == (429, 0)
        assert Door().check(make_sample(failure="status"), answer, cell) == make_sample(failure="status")

    @pytest.mark.parametrize(
        ("header", "wait_s"),
        [("3", 3.0), ("", None), ("soon", None), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0)],
    )
    def test_retry_after(self, header: str, wait_s: float | None) -> None:
        assert read_retry_after(httpx.Headers({"Retry-After": header})) == wait_s

    def test_a_control_request_waits_too(self, llama: EmbeddedServer) -> None:
        async def bench() -> None:
            async with serving(swap) as server:
                await server.load("tiny-chat")
                with swap.foreign():
                    prompts = asyncio.create_task(server.make_prompts(replace(self.CELL, kind="completion"), ["a"]))
                    while not swap.refused:
                        await asyncio.sleep(0.01)
                assert await prompts

        with stand_in(llama, limit=1) as swap:
            asyncio.run(bench())
        assert swap.refused > 0


GRID = {"prompt_tokens": [16], "output_tokens": [4]}


class TestSession:
    @pytest.fixture
    def key(self, monkeypatch: pytest.MonkeyPatch) -> str:
        monkeypatch.setenv("SWAP_KEY", KEY)
        return KEY

    def test_cells_run_through_it(
        self, bench: BenchFolder, llama: EmbeddedServer, key: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(witness, "APART_MS", float("inf"))  # however late a busy machine makes the client's clock
        with stand_in(llama, key=key, load_s=0.2, says_loading=True) as swap:
            bench.write_hosts(rack={"url": swap.url, "api_key": "${SWAP_KEY}", "shared": False})
            models = ["tiny-chat", "org/other:Q4"]
            bench.write_suite(hosts=["rack"], models=models, grid={**GRID, "concurrency": [1, 2]})
            result = bench.run()
        result.assert_outcomes(passed=4)
        assert key not in result.stdout.str()
        assert swap.loads == models, "each is loaded once, and nothing else ever is"
        rows = query(bench, "select distinct rate_source, prompt_tokens, cached_tokens, failure from bench_samples")
        assert rows == [("server", 16, 0, None)]
        result.stdout.fnmatch_lines(["rack  (llama-swap b0-unknown + llama-swap 250 0bdb3720 http://127.0.0.1:*)"])

    def test_a_loaded_model_comes_first_by_its_alias_too_and_is_brought_back(
        self, bench: BenchFolder, llama: EmbeddedServer
    ) -> None:
        with stand_in(llama, aliases={"char": "tiny-chat"}) as swap:
            swap.set_state("tiny-chat", "ready")
            bench.write_hosts(rack={"url": swap.url, "shared": False})
            bench.write_suite(hosts=["rack"], models=["org/other:Q4", "char"], grid=GRID)
            result = bench.run("-v")
        result.assert_outcomes(passed=2)
        ran = [line.partition("::rack::")[2].partition("[")[0] for line in result.outlines if " PASSED" in line]
        assert ran == ["char", "org/other:Q4"]
        assert swap.loads == ["org/other:Q4", "tiny-chat"], "the second one is what was there before"

    @pytest.mark.parametrize("kind", ["completion", "embedding"])
    def test_the_other_kinds(self, bench: BenchFolder, swap: LlamaSwapStandIn, kind: str) -> None:
        bench.write_hosts(rack={"server": "llama-swap", "url": swap.url, "shared": False})
        grid = GRID if kind == "completion" else {"prompt_tokens": [16]}
        bench.write_suite(hosts=["rack"], kind=kind, grid=grid)
        bench.run().assert_outcomes(passed=1)

    def test_a_model_of_another_engine_is_fitted_and_gets_no_fields_it_may_not_know(
        self, bench: BenchFolder, llama: EmbeddedServer
    ) -> None:
        with openai_server() as other, stand_in(llama, peers={"peer/good": other.url}) as swap:
            bench.write_hosts(rack={"server": "llama-swap", "url": swap.url, "shared": False})
            bench.write_suite(hosts=["rack"], models=["peer/good"], grid={"prompt_tokens": [40], "output_tokens": [4]})
            bench.run().assert_outcomes(passed=1)
        sent = [seen.fields for seen in other.seen if seen.fields.get("stream")]
        assert len(sent) == 3
        assert not {"cache_prompt", "ignore_eos"} & {name for fields in sent for name in fields}
        assert swap.loads == []

    def test_a_cell_that_sends_more_at_once_than_is_let_in_says_so(
        self, bench: BenchFolder, llama: EmbeddedServer
    ) -> None:
        with stand_in(llama, limit=2) as swap:
            bench.write_hosts(rack={"server": "llama-swap", "url": swap.url, "shared": False})
            grid = {"prompt_tokens": [16], "output_tokens": [200], "concurrency": [3]}
            bench.write_suite(hosts=["rack"], grid=grid, samples=3)
            result = bench.run()
        assert result.ret == 1
        result.stdout.fnmatch_lines(
            [
                "*429: the host lets 2 requests for tiny-chat in at once, the cell sends 3; raise its concurrencyLimit "
                "(10 where its configuration does not say), or lower grid.concurrency*"
            ]
        )

    def test_a_busy_host_is_not_measured(self, bench: BenchFolder, swap: LlamaSwapStandIn) -> None:
        bench.write_hosts(rack={"server": "llama-swap", "url": swap.url})
        bench.write_suite(hosts=["rack"], grid=GRID)
        with swap.foreign():
            result = bench.run()
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(
            [
                "*rack: busy: 1 foreign request in flight: tiny-chat, /v1/chat/completions, curl/8.5, "
                "from 127.0.0.1 (queued for * s)"
            ]
        )
        assert swap.loads == []
