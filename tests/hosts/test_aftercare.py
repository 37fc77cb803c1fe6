"""Room 2: what a llama-swap had ready before us comes back, whoever of us leaves last and however the others ended."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from filelock import FileLock

from pytest_boobench.hosts import restore
from pytest_boobench.hosts.access import Hosts
from pytest_boobench.hosts.embedded import EmbeddedServer
from pytest_boobench.hosts.inventory import Host, Inventory
from pytest_boobench.hosts.restore import Restore
from pytest_boobench.servers.clients import open_clients
from pytest_boobench.servers.llama_swap import LlamaSwap
from tests.conftest import BenchFolder
from tests.llama_swap_stand_in import LlamaSwapStandIn

CHAT, CODE, EMBED = "chat", "code", "embed"


@pytest.fixture
def swap(llama: EmbeddedServer) -> Iterator[LlamaSwapStandIn]:
    """A llama-swap with ``chat`` ready: what somebody was using before we came."""
    with LlamaSwapStandIn(dict.fromkeys((CHAT, CODE, EMBED), llama.url), aliases={"talk": CHAT}) as server:
        server.set_state(CHAT, "ready")
        yield server


class Session:
    """One session's side, as a process of its own would have it."""

    def __init__(self, server: LlamaSwap, folder: Path) -> None:
        self.server = server
        self.lock = FileLock(folder / "host.lock")
        self.aftercare = Restore(server, self.lock)

    async def use(self, *models: str) -> None:
        with self.lock:
            await self.aftercare.arrive()
            for model in models:
                await self.server.load(model)

    async def leave(self) -> None:
        await self.aftercare.leave()

    def die(self) -> None:
        """As by kill -9: the kernel frees its locks, and nothing else is done."""
        self.aftercare._life.release()


@asynccontextmanager
async def sessions(swap: LlamaSwapStandIn, folder: Path, count: int = 1) -> AsyncIterator[list[Session]]:
    async with AsyncExitStack() as stack:
        several = []
        for _ in range(count):
            clients = open_clients(swap.url, {})
            stack.push_async_callback(clients.close)
            several.append(Session(LlamaSwap("rack-1", swap.url, clients), folder))
        yield several


def note_in(folder: Path) -> Path:
    [note] = folder.glob("*.json")
    return note


def ready(swap: LlamaSwapStandIn) -> list[str]:
    return [model for model, state in swap.states.items() if state == "ready"]


def test_one_session_brings_back_what_was_ready(swap: LlamaSwapStandIn, tmp_path: Path) -> None:
    async def bench() -> None:
        async with sessions(swap, tmp_path) as [only]:
            await only.use(CODE)
            note = json.loads(note_in(tmp_path).read_text())
            assert (note["host"], note["before"], note["loaded"]) == (swap.url, [CHAT], [CODE])
            await only.leave()

    asyncio.run(bench())
    assert ready(swap) == [CHAT]
    assert [path.name for path in tmp_path.iterdir()] == ["host.lock"]


def test_a_session_that_loads_nothing_touches_nothing(swap: LlamaSwapStandIn, tmp_path: Path) -> None:
    async def bench() -> None:
        async with sessions(swap, tmp_path) as [only]:
            await only.use(CHAT, "talk")
            swap.set_state(CHAT, "stopped")
            await only.leave()

    asyncio.run(bench())
    assert (swap.loads, swap.unloads) == ([], [])


@pytest.mark.parametrize("first_to_leave", [0, 1])
def test_of_sessions_that_take_turns_the_last_brings_it_back(
    swap: LlamaSwapStandIn, tmp_path: Path, first_to_leave: int
) -> None:
    async def bench() -> None:
        async with sessions(swap, tmp_path, 2) as several:
            await several[0].use(CODE)
            await several[1].use(EMBED)
            await several.pop(first_to_leave).leave()
            assert ready(swap) == [EMBED], "the other one may be measuring"
            await several.pop().leave()

    asyncio.run(bench())
    assert ready(swap) == [CHAT]


def test_who_leaves_while_another_measures_leaves_it_to_that_one(swap: LlamaSwapStandIn, tmp_path: Path) -> None:
    async def bench() -> None:
        async with sessions(swap, tmp_path, 2) as [one, other]:
            await one.use(CODE)
            await other.use(EMBED)
            with other.lock:
                await one.leave()
            assert ready(swap) == [EMBED]
            await other.leave()

    asyncio.run(bench())
    assert ready(swap) == [CHAT]


def test_who_leaves_while_another_server_of_the_machine_is_measured_waits(
    swap: LlamaSwapStandIn, tmp_path: Path
) -> None:
    """Loading a model would be felt there."""

    async def bench() -> None:
        async with sessions(swap, tmp_path) as [only]:
            await only.use(CODE)
            with FileLock(tmp_path / "host.lock"):
                leaving = asyncio.create_task(only.leave())
                await asyncio.sleep(0.2)
                assert (leaving.done(), ready(swap)) == (False, [CODE])
            await leaving

    asyncio.run(bench())
    assert ready(swap) == [CHAT]


def test_who_waits_too_long_leaves_it_to_the_next_session(
    swap: LlamaSwapStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restore, "_PATIENCE_S", 0.0)

    async def bench() -> None:
        async with sessions(swap, tmp_path, 2) as [one, next_one]:
            await one.use(CODE)
            with FileLock(tmp_path / "host.lock"):
                await one.leave()
            assert ready(swap) == [CODE]
            await next_one.use(CODE)
            await next_one.leave()

    asyncio.run(bench())
    assert ready(swap) == [CHAT]


def test_the_next_session_does_it_for_one_that_was_killed(swap: LlamaSwapStandIn, tmp_path: Path) -> None:
    async def bench() -> None:
        async with sessions(swap, tmp_path, 2) as [killed, next_one]:
            await killed.use(CODE)
            killed.die()
            await next_one.use(CODE)
            await next_one.leave()

    asyncio.run(bench())
    assert ready(swap) == [CHAT]
    assert [path.name for path in tmp_path.iterdir()] == ["host.lock"]


def test_a_session_that_is_killed_while_another_goes_on(swap: LlamaSwapStandIn, tmp_path: Path) -> None:
    async def bench() -> None:
        async with sessions(swap, tmp_path, 3) as [killed, one, other]:
            await killed.use(CODE)
            await one.use(EMBED)
            killed.die()
            await other.use()
            await one.leave()
            await other.leave()

    asyncio.run(bench())
    assert ready(swap) == [CHAT]


@pytest.mark.parametrize("what", ["another model is there", "nothing is there", "long ago", "no note", "half a note"])
def test_a_note_that_may_be_wrong_is_not_believed(swap: LlamaSwapStandIn, tmp_path: Path, what: str) -> None:
    """The next session then brings back what it found itself."""

    async def bench() -> list[str]:
        async with sessions(swap, tmp_path, 2) as [killed, next_one]:
            await killed.use(CODE)
            killed.die()
            note = note_in(tmp_path)
            if what == "another model is there":
                swap.set_state(EMBED, "ready")
            elif what == "nothing is there":
                swap.set_state(CODE, "stopped")
            elif what == "long ago":
                os.utime(note, (0, 0))
            elif what == "no note":
                note.unlink()
            else:
                note.write_text('{"before": ["chat"]}')
            before = ready(swap)
            await next_one.use(CHAT)
            await next_one.leave()
            return before

    before = asyncio.run(bench())
    assert ready(swap) == ([] if "nothing" in what else before[-1:]), "one model at a time"


def test_a_note_that_is_gone_when_we_load_or_leave(swap: LlamaSwapStandIn, tmp_path: Path) -> None:
    async def bench() -> None:
        async with sessions(swap, tmp_path) as [only]:
            await only.use()
            note_in(tmp_path).unlink()
            await only.server.load(CODE)
            await only.leave()

    asyncio.run(bench())
    assert ready(swap) == [CODE]


def test_two_names_of_a_server_in_one_session(swap: LlamaSwapStandIn, cache: Path) -> None:
    names = {name: Host(name=name, base_url=swap.url, shared=False) for name in ("rack", "alias")}

    async def bench() -> None:
        async with Hosts(Inventory(names, None), "run-1") as hosts:
            for name, model in (("rack", CODE), ("alias", EMBED), ("rack", CODE)):
                grant = await hosts.grant(name, "bench")
                await grant.server.load(model)
                grant.release()

    asyncio.run(bench())
    assert ready(swap) == [CHAT]
    assert [path.suffix for path in (cache / "locks").iterdir()] == [".lock"]


@pytest.mark.parametrize(("restore", "after"), [(True, CHAT), (False, CODE)])
def test_a_host_may_not_want_it(swap: LlamaSwapStandIn, cache: Path, restore: bool, after: str) -> None:
    host = Host(name="rack", base_url=swap.url, shared=False, restore=restore)

    async def bench() -> None:
        async with Hosts(Inventory({"rack": host}, None), "run-1") as hosts:
            grant = await hosts.grant("rack", "bench")
            await grant.server.load(CODE)
            grant.release()

    asyncio.run(bench())
    assert ready(swap) == [after]


def test_a_host_that_is_gone_at_the_end_is_no_trouble(llama: EmbeddedServer, cache: Path) -> None:
    async def bench() -> None:
        with LlamaSwapStandIn({CODE: llama.url}) as swap:
            inventory = Inventory({"rack": Host(name="rack", base_url=swap.url, shared=False)}, None)
            hosts = Hosts(inventory, "run-1")
            grant = await hosts.grant("rack", "bench")
            await grant.server.load(CODE)
            grant.release()
        await hosts.close()

    asyncio.run(bench())
    assert list((cache / "locks").glob("*.json")), "the next session may find it back again"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder, for this test."""
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path)
    return tmp_path


KILLER = """
    import os, signal
    import pytest

    @pytest.fixture(autouse=True)
    def _die(boobench_host_access, boobench_record):
        if not os.path.exists("killed"):
            open("killed", "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("args", [(), ("-n", "1")], ids=["alone", "worker"])
def test_after_kill_9_of_a_whole_session(bench: BenchFolder, swap: LlamaSwapStandIn, args: tuple[str, ...]) -> None:
    """Of a worker the replacement takes over what it left; of the only process the next session does."""
    bench.write_hosts(rack={"url": swap.url, "shared": False})
    bench.write_suite(hosts=["rack"], models=[CODE])
    bench.pytester.makeconftest(KILLER)
    killed = bench.run_apart(*args)
    if not args:
        assert killed.ret == -signal.SIGKILL
        assert ready(swap) == [CODE]
        bench.run_apart().assert_outcomes(passed=2)
    assert ready(swap) == [CHAT]
    assert swap.loads == [CODE, CHAT]
