"""Room 5: leases. In a store that several machines share, a host is leased by one session at a time.

A lease is kept alive by its owner's heartbeat; one whose owner died expires, and the next session takes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, delete, select, update

from pytest_boobench.store import tables
from pytest_boobench.store.rows import insert_new

LEASE_S = 90.0
"""How long a lease holds after its last heartbeat: several of those, and the clocks of two machines may differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Who has a host."""

    address: str
    owner: str
    session: str
    taken_at: datetime
    heartbeat_at: datetime


def take_lease(connection: Connection, address: str, owner: str, session: str) -> Lease | None:
    """Take or renew the lease of an address for a session; None where that worked, else whose it is.

    In a transaction that writes: of two at once, one waits for the other.
    """
    now = datetime.now(UTC)
    table = tables.leases
    wanted = {"owner": owner, "session": session, "heartbeat_at": now, "expires_at": now + timedelta(seconds=LEASE_S)}
    insert_new(connection, table, {"address": address, "taken_at": now, **wanted}, unique=table.c.address)
    row = connection.execute(select(table).where(table.c.address == address).with_for_update()).one()
    if row.session != session and row.expires_at > now:
        return Lease(
            address=address, owner=row.owner, session=row.session, taken_at=row.taken_at, heartbeat_at=row.heartbeat_at
        )
    taken_at = row.taken_at if row.session == session else now
    connection.execute(update(table).where(table.c.address == address).values(taken_at=taken_at, **wanted))
    return None


def give_back(connection: Connection, session: str) -> None:
    """Give back every lease of a session."""
    connection.execute(delete(tables.leases).where(tables.leases.c.session == session))
