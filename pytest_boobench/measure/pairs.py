"""Room 3: one block on two hosts in turns, so that what slows both hosts is in both halves of every pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pytest_boobench.aggregate import find_trend_of_pairs
from pytest_boobench.errors import HostError
from pytest_boobench.hosts.access import Grant
from pytest_boobench.hosts.watcher import OwnMarks, Watcher
from pytest_boobench.measure.block import (
    ATTEMPTS,
    Block,
    Found,
    find_seeds,
    hear_canary,
    make_calls,
    own_traffic,
    prepare,
    read_answers,
    require_good,
    run_calls,
    warm_up,
)
from pytest_boobench.metrics import Sample
from pytest_boobench.record import CellRecord
from pytest_boobench.servers.clients import Call

DUET_PAIRS = 20
"""Pairs in a block of a duet."""


async def add_pairs(block: Block, grant: Grant, reference: Grant, record: CellRecord) -> CellRecord:
    """The record with another block of pairs, or with those that were measured before an error."""
    found = Found(record)
    try:
        if block.number == 1:
            other = Found(record)
            await prepare(block, reference, other)
            found.note(reference=other.record.server)
        await prepare(block, grant, found)
        hear_canary(block, grant, found)
        await take_pairs(block, (grant, reference), found)
    except HostError as trouble:
        found.note(error=str(trouble))
    return found.condense(block.cell)


async def take_pairs(block: Block, grants: tuple[Grant, Grant], found: Found) -> None:
    """Warm both hosts up and take pairs; again where others disturbed them or one was still warming up."""
    warmed = [await warm_up(block, grant.server, found, reference=bool(which)) for which, grant in enumerate(grants)]
    for attempt in range(1, ATTEMPTS + 1):
        sides = []
        for grant in grants:
            series, count = block.series(f"duet{attempt}"), DUET_PAIRS * block.cell.concurrency
            calls = await make_calls(grant.server, block.cell, series, count)
            sides.append(_Side(grant, calls, grant.watcher(block.cell.model)))
        for side, seeds in zip(sides, warmed, strict=True):
            await side.watcher.begin(OwnMarks(block.session.run_uid, seeds | find_seeds(side.calls)))
        await _take_in_turns(block, attempt, sides, found)
        traffic = [await side.watcher.end(own_traffic(side.samples)) for side in sides]
        worst = next((seen for seen in traffic if seen.disturbed), traffic[0])
        found.note(traffic=worst)
        samples = [sample for side in sides for sample in side.samples]
        if not worst.disturbed and not find_trend_of_pairs(samples):
            return


async def _take_in_turns(block: Block, attempt: int, sides: Sequence[_Side], found: Found) -> None:
    """Send one request down each lane of one host, then of the other; the order alternates from pair to pair."""
    cell, lanes = block.cell, block.cell.concurrency
    for pair in range(DUET_PAIRS):
        for which in (0, 1) if pair % 2 == 0 else (1, 0):
            side = sides[which]
            server, calls = side.grant.server, side.calls[pair * lanes : (pair + 1) * lanes]
            taken = await run_calls(server, cell, calls, "measure")
            read = read_answers(server, cell, taken, block=block.number, attempt=attempt, reference=bool(which))
            numbered = [replace(sample, index=sample.index + pair * lanes) for sample in read]
            side.samples.extend(numbered)
            found.add(numbered)
            require_good(numbered, taken, cell)
        block.session.observe("measure", pair + 1, DUET_PAIRS)


@dataclass(frozen=True, slots=True)
class _Side:
    """One host of a duet, with the requests of an attempt and their samples."""

    grant: Grant
    calls: Sequence[Call]
    """The same for both hosts."""
    watcher: Watcher
    samples: list[Sample] = field(default_factory=list)
