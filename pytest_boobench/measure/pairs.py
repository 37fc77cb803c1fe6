"""Room 3: one block on two hosts in turns, so that what slows both hosts is in both halves of every pair."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pytest_boobench.aggregate import find_trend_of_pairs
from pytest_boobench.errors import HostError
from pytest_boobench.facts import Traffic
from pytest_boobench.hosts.watcher import OwnMarks, Watcher
from pytest_boobench.measure.block import (
    ATTEMPTS,
    EndedEarly,
    Found,
    hear_canary,
    note_memory,
    own_traffic,
    require_good,
    warm_up,
)
from pytest_boobench.measure.sending import Batch, read_answers
from pytest_boobench.measure.sides import Duet, DuetSide
from pytest_boobench.metrics import Sample
from pytest_boobench.record import CellRecord


async def add_pairs(duet: Duet, record: CellRecord, number: int, pairs: int) -> CellRecord:
    """The record with another block of so many pairs, or with those that were measured before an error."""
    found = Found(record)
    try:
        for side in reversed(duet.sides):
            await duet.prepare(side, side.grant, number, found)
        hear_canary(duet.block(duet.ours, number), duet.ours.grant, found)
        await take_pairs(duet, number, pairs, found)
    except HostError as trouble:
        found.note(error=str(trouble))
    except asyncio.CancelledError:
        raise EndedEarly(found.condense(duet.ours.cell)) from None
    note_memory(duet.ours.grant, found)
    return found.condense(duet.ours.cell)


async def take_pairs(duet: Duet, number: int, pairs: int, found: Found) -> None:
    """Warm both sides up and take pairs; again where others disturbed them or one was still warming up."""
    warmed = [
        await warm_up(duet.block(side, number), side.grant.server, found, reference=side.reference)
        for side in duet.sides
    ]
    for attempt in range(1, ATTEMPTS + 1):
        halves = []
        for side in duet.sides:
            count = pairs * side.cell.concurrency * side.cell.turns
            batch = await duet.block(side, number).make_batch(side.grant.server, f"duet{attempt}", count)
            halves.append(_Half(side, batch))
        windows = _open_windows(duet, halves)
        for window in windows:
            await window.begin(duet.session.run_uid, frozenset().union(*warmed))
        await _take_in_turns(duet, number, attempt, halves, found, pairs)
        traffic = [await window.end() for window in windows]
        worst = next((seen for seen in traffic if seen.disturbed), traffic[0])
        found.note(traffic=worst)
        samples = [sample for half in halves for sample in half.samples]
        if not worst.disturbed and not find_trend_of_pairs(samples):
            return


async def _take_in_turns(
    duet: Duet, number: int, attempt: int, halves: Sequence[_Half], found: Found, pairs: int
) -> None:
    """Send one request or conversation down each lane of one side, then of the other; the order alternates."""
    for pair in range(pairs):
        for which in (0, 1) if pair % 2 == 0 else (1, 0):
            half, side = halves[which], halves[which].side
            server, cell, batch = side.grant.server, side.cell, half.batch.take_round(pair)
            taken = await batch.run()
            read = read_answers(
                server, cell, batch.requests, taken, block=number, attempt=attempt, reference=side.reference
            )
            first = pair * cell.concurrency * cell.turns
            numbered = [replace(sample, index=sample.index + first) for sample in read]
            half.samples.extend(numbered)
            found.add(numbered)
            require_good(numbered, taken, cell)
        duet.session.observe("measure", pair + 1, pairs)


@dataclass(frozen=True, slots=True)
class _Half:
    """The requests of one side in an attempt, and their samples."""

    side: DuetSide
    batch: Batch
    samples: list[Sample] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Window:
    """What a host is watched for: the requests of one half, or of both where one server has both models."""

    watcher: Watcher
    halves: Sequence[_Half]

    async def begin(self, run_uid: str, warmed: frozenset[int]) -> None:
        """Open it."""
        await self.watcher.begin(OwnMarks(run_uid, warmed.union(*(half.batch.seeds for half in self.halves))))

    async def end(self) -> Traffic:
        """Close it."""
        return await self.watcher.end(own_traffic([sample for half in self.halves for sample in half.samples]))


def _open_windows(duet: Duet, halves: Sequence[_Half]) -> list[_Window]:
    together = [halves] if duet.shared else [[half] for half in halves]
    return [_Window(first.side.grant.watcher(first.side.cell.model), [first, *more]) for first, *more in together]
