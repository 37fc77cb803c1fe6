"""Room 2: leave to use a host: one at a time, over processes and names; what is started ends, also after trouble."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from pytest_boobench.errors import HostError
from pytest_boobench.facts import Sighting
from pytest_boobench.hosts import access
from pytest_boobench.hosts.access import Hosts
from pytest_boobench.hosts.embedded import EmbeddedServer, EmbeddedSettings
from pytest_boobench.hosts.embedded import start as embedded_start
from pytest_boobench.hosts.inventory import Host, Inventory, load
from pytest_boobench.hosts.quiet import Look, Manners, require_quiet
from pytest_boobench.servers.clients import Clients, Patience, Waiting
from tests.fault_server import closed_port
from tests.stand_in import openai_server


@pytest.fixture(autouse=True)
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of this test's locks."""
    monkeypatch.setattr(access, "_find_folder", lambda: tmp_path)
    return tmp_path


@pytest.fixture
def inventory(llama: EmbeddedServer) -> Inventory:
    """Two names of one server, and the built-in host."""
    port = llama.url.rpartition(":")[2]
    names = {
        "rack": Host(name="rack", base_url=llama.url),
        "alias": Host(name="alias", base_url=f"http://localhost:{port}"),
        "dead": Host(name="dead", server="llama-server", base_url=f"http://127.0.0.1:{closed_port()}"),
    }
    return Inventory({**names, **load(None, env={}).hosts}, None)


def at_once() -> Manners:
    return Manners(quiet_s=0.0)


def test_a_grant_is_given_back_once(inventory: Inventory, locks: Path) -> None:
    lock = FileLock(locks / inventory.get("rack").lock_name)

    async def use() -> None:
        async with Hosts(inventory, "run-1", at_once()) as hosts:
            first = await hosts.grant("rack", "bench")
            assert (first.host, first.purpose, first.takeover, first.local) == ("rack", "bench", False, True)
            second = await hosts.grant("alias", "bench")
            for _ in range(2):
                first.release()
            with pytest.raises(TimeoutError):
                lock.acquire(timeout=0)
            second.release()
            lock.acquire(timeout=0)

    asyncio.run(use())


def test_another_process_is_waited_for_whatever_it_calls_the_host(inventory: Inventory, locks: Path) -> None:
    """The kernel gives the lock back when that process is killed."""
    path = locks / inventory.get("rack").lock_name
    code = (
        f"import filelock, time\nlock = filelock.FileLock({str(path)!r})\n"
        "lock.acquire()\nprint(flush=True)\ntime.sleep(600)"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert other.stdout is not None
    other.stdout.readline()

    async def wait() -> None:
        async with Hosts(inventory, "run-1", at_once()) as hosts:
            waiting = asyncio.create_task(hosts.grant("alias", "bench"))
            await asyncio.sleep(0.3)
            assert not waiting.done()
            other.kill()
            (await waiting).release()

    asyncio.run(wait())
    other.communicate()


def test_two_duets_with_crossed_hosts_take_turns(llama: EmbeddedServer) -> None:
    """Each asks for its host first and for its reference then."""

    async def use(host: str, reference: str) -> None:
        async with Hosts(pairs, f"run-{host}", at_once(), reference=reference) as hosts:
            for _ in range(5):
                one = await hosts.grant(host, "bench")
                await asyncio.sleep(0)
                other = await hosts.grant(reference, "bench")
                other.release()
                one.release()
                await asyncio.sleep(0.06)  # longer than the other waits between two tries

    async def both() -> None:
        async with asyncio.timeout(60.0):
            await asyncio.gather(use("a", "b"), use("b", "a"))

    with openai_server() as other:
        one = Host(name="a", server="llama-server", base_url=llama.url, shared=False)
        pairs = Inventory({"a": one, "b": Host(name="b", server="openai", base_url=other.url, shared=False)}, None)
        asyncio.run(both())


def test_a_dead_host_is_refused_and_others_may_try(inventory: Inventory, locks: Path) -> None:
    async def use() -> None:
        async with Hosts(inventory, "run-1") as hosts:
            for _ in range(2):
                with pytest.raises(HostError, match=r"^dead: no answer from http://.*; is the server running\?$"):
                    await hosts.grant("dead", "bench")
        FileLock(locks / inventory.get("dead").lock_name).acquire(timeout=0)

    asyncio.run(use())


def test_a_dead_host_is_waited_for_once(inventory: Inventory) -> None:
    told: list[Waiting] = []

    async def use() -> None:
        patience = Patience(refused_s=0.1, tell=told.append)
        async with Hosts(inventory, "run-1", patience=patience) as hosts:
            for _ in range(3):
                with pytest.raises(HostError, match=r"^dead: "):
                    await hosts.grant("dead", "bench")
                told.append(Waiting("dead", "refused", -1.0))

    asyncio.run(use())
    *first, _, _ = told
    assert [waiting.waited_s < 0 for waiting in first] == [False] * (len(first) - 1) + [True]
    assert len(first) > 1


def test_an_embedded_server_that_died_is_started_anew(inventory: Inventory) -> None:
    async def use() -> None:
        async with Hosts(inventory, "run-1") as hosts:
            urls = []
            for _ in range(2):
                grant = await hosts.grant("embedded", "bench")
                urls.append(grant.server.url)
                kill(hosts)
                grant.release()
            assert urls[0] != urls[1]

    asyncio.run(use())


def kill(hosts: Hosts) -> None:
    process = hosts._connections["embedded"].process
    assert process is not None
    process.stop()


def test_what_was_started_ends_where_connecting_fails(inventory: Inventory, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[EmbeddedServer] = []

    def remember(settings: EmbeddedSettings) -> EmbeddedServer:
        started.append(embedded_start(settings))
        return started[-1]

    def refuse(host: Host, clients: Clients) -> None:
        raise HostError(f"{host.name}: not today")

    monkeypatch.setattr("pytest_boobench.hosts.embedded.start", remember)

    async def use() -> None:
        async with Hosts(inventory, "run-1", make=refuse) as hosts:
            for name in ("embedded", "rack"):
                with pytest.raises(HostError, match="not today"):
                    await hosts.grant(name, "bench")

    asyncio.run(use())
    assert [server.alive() for server in started] == [False]


def test_a_host_must_be_quiet_before_the_first_cell_that_is_let_in(
    inventory: Inventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal does not count as one. Later on, requests of ours that broke off may take a moment to end."""
    asked: list[tuple[float, float]] = []

    async def remember(host: str, look: Look, manners: Manners, *, quiet_s: float, grace_s: float) -> Sighting:
        asked.append((quiet_s, grace_s))
        if len(asked) == 1:
            raise HostError(f"{host}: busy")
        return await require_quiet(host, look, manners, quiet_s=quiet_s, grace_s=grace_s)

    monkeypatch.setattr(access, "require_quiet", remember)

    async def use() -> None:
        async with Hosts(inventory, "run-1", Manners(quiet_s=0.3)) as hosts:
            with pytest.raises(HostError, match="rack: busy"):
                await hosts.grant("rack", "bench")
            for _ in range(2):
                (await hosts.grant("rack", "bench")).release()

    asyncio.run(use())
    assert asked == [(0.3, 0.0), (0.3, 0.0), (0.0, 2.0)]


@pytest.mark.parametrize(
    ("number", "what"), [(errno.ENOLCK, "its file system has no locks"), (errno.EIO, "cannot be used")]
)
def test_a_folder_without_locks_is_said_at_once(
    inventory: Inventory, locks: Path, monkeypatch: pytest.MonkeyPatch, number: int, what: str
) -> None:
    """As some network file systems under a home folder. Nothing was asked of the host."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)

    async def use() -> None:
        async with Hosts(inventory, "run-1", at_once()) as hosts:
            await hosts.grant("dead", "bench")

    with pytest.raises(HostError) as caught:
        asyncio.run(use())
    assert str(caught.value) == (
        f"{locks}: {what} ({os.strerror(number).lower()}), and without a lock two sessions could measure at once; "
        "let XDG_CACHE_HOME name a folder on a local disk that this user may write to"
    )
    assert not access.is_locked(inventory.get("dead"))
