"""Room 5: votes on answers: insert one, read all."""

from __future__ import annotations

from dataclasses import asdict

from sqlalchemy import Connection, insert, select

from pytest_boobench.record import Vote
from pytest_boobench.store.column_types import moment
from pytest_boobench.store.tables import votes


def insert_vote(connection: Connection, vote: Vote) -> None:
    """Keep a vote."""
    connection.execute(insert(votes).values({**asdict(vote), "voted_at": moment(vote.voted_at)}))


def load_votes(connection: Connection) -> list[Vote]:
    """Return all votes, oldest first."""
    return [
        Vote(
            voted_at=row.voted_at.timestamp(),
            prompt_sha256=row.prompt_sha256,
            sides=tuple(row.sides),
            vote=row.vote,
            seed=row.seed,
            blind=row.blind,
        )
        for row in connection.execute(select(votes).order_by(votes.c.id))
    ]
