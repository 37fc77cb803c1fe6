"""Room 5: of two sessions that share a store, one has a host at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, update

from pytest_boobench.store import Store, tables
from pytest_boobench.store.columns import moment

RACK = "http://10.0.0.5:8080"


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
    assert store.take_lease("http://10.0.0.6:8080", "bob@ci-2", "b") is None
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
