"""Room 5: of two sessions that share a store, one has a host at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import create_engine, update

from pytest_boobench.environment import Environment
from pytest_boobench.errors import HostError, StoreError
from pytest_boobench.hosts.embedded import EmbeddedSettings
from pytest_boobench.hosts.inventory import Host, Inventory
from pytest_boobench.plugin import workers
from pytest_boobench.store import Store, tables
from pytest_boobench.store.column_types import moment

RACK = "10.0.0.5"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(str(tmp_path / "team.db")) as store:
        yield store


def test_one_session_at_a_time(store: Store) -> None:
    assert store.take_lease(RACK, "ann@ci-1", "a") is None
    assert store.take_lease(RACK, "ann@ci-1", "a") is None, "the owner renews"
    held = store.take_lease(RACK, "bob@ci-2", "b")
    assert held is not None
    assert (held.owner, held.session, held.address) == ("ann@ci-1", "a", RACK)
    assert held.taken_at <= held.heartbeat_at
    assert store.take_lease("10.0.0.6", "bob@ci-2", "b") is None
    store.give_leases_back("a")
    assert store.take_lease(RACK, "bob@ci-2", "b") is None


def test_a_lease_whose_owner_died_expires(store: Store, tmp_path: Path) -> None:
    store.take_lease(RACK, "ann@ci-1", "a")
    engine = create_engine(f"sqlite:///{tmp_path / 'team.db'}")
    with engine.begin() as connection:
        connection.execute(update(tables.leases).values(expires_at=moment(0.0)))
    engine.dispose()
    assert store.take_lease(RACK, "bob@ci-2", "b") is None
    held = store.take_lease(RACK, "ann@ci-1", "a")
    assert held is not None
    assert held.owner == "bob@ci-2"


def test_of_many_at_once_one_has_it(store: Store) -> None:
    refused: list[str] = []

    def take(session: str) -> None:
        if store.take_lease(RACK, session, session) is not None:
            refused.append(session)

    threads = [threading.Thread(target=take, args=(f"s{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 7


def inventory() -> Inventory:
    hosts = {
        "rack-1": Host(name="rack-1", base_url=f"http://{RACK}:8080"),
        "alias": Host(name="alias", base_url=f"http://{RACK}:9292"),
        "embedded": Host(name="embedded", embedded=EmbeddedSettings()),
    }
    return Inventory(hosts, None)


def test_heartbeats_keep_a_lease_and_the_end_gives_it_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_HEARTBEAT_S", 0.02)
    around = Environment(user="ann", machine="desk", ci={"job": "nightly"})
    recorder = SimpleNamespace(open_store=lambda: store, session_uid="a", environment=around)
    held = workers.Leases(recorder, inventory(), wait_s=0.0)  # type: ignore[arg-type]
    held.take("embedded")
    held.take("rack-1")
    held.take("alias")
    seen = {lease.heartbeat_at for _ in range(200) if (lease := store.take_lease(RACK, "bob", "b")) is not None}
    while len(seen) < 3:
        lease = store.take_lease(RACK, "bob", "b")
        assert lease is not None
        assert lease.owner == "ann on desk, job nightly"
        seen.add(lease.heartbeat_at)
    held.pytest_sessionfinish()
    assert store.take_lease(RACK, "bob", "b") is None


def test_a_leased_host_is_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other session ends when we have asked twice."""
    asked: list[float] = []

    def wait(seconds: float) -> None:
        asked.append(seconds)
        if len(asked) == 2:
            store.give_leases_back("b")

    monkeypatch.setattr("pytest_boobench.plugin.workers.time.sleep", wait)
    store.take_lease(RACK, "bob on ci-2", "b")
    recorder = SimpleNamespace(open_store=lambda: store, session_uid="a", environment=Environment())
    held = workers.Leases(recorder, inventory(), wait_s=60.0)  # type: ignore[arg-type]
    held.pytest_boobench_acquire_host_access("rack-1")
    held.pytest_sessionfinish()
    assert len(asked) == 2


def test_a_store_that_fails_grants_nothing(store: Store) -> None:
    def fail() -> Store:
        raise StoreError("team.db: is locked")

    recorder = SimpleNamespace(open_store=fail, session_uid="a", environment=Environment())
    with pytest.raises(HostError, match=rf"^{RACK}: no lease to be had: team.db: is locked$"):
        workers.Leases(recorder, inventory(), wait_s=0.0).take("rack-1")  # type: ignore[arg-type]
