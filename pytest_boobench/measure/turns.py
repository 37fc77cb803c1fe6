"""Room 3: pairs of turns: each side is started anew for its turn, so that what differs from start to start is seen.

The order is B A A B, B the other side: its server was started last, and has served nothing yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pytest_boobench.aggregate import find_trend_of_pairs
from pytest_boobench.errors import HostError
from pytest_boobench.facts import Traffic
from pytest_boobench.hosts.access import Grant
from pytest_boobench.hosts.watcher import OwnMarks
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
from pytest_boobench.measure.sending import find_seeds, read_answers, run_requests
from pytest_boobench.measure.sides import Duet, DuetSide
from pytest_boobench.metrics import Sample
from pytest_boobench.record import CellRecord
from pytest_boobench.suite.cell import Cell


async def add_turns(duet: Duet, record: CellRecord, pairs: range, goes_on: Callable[[], bool]) -> CellRecord:
    """The record with these pairs of turns, or with those before an error, a disturbance, or the end of the time."""
    found = Found(record)
    try:
        for pair in pairs:
            if not goes_on():
                break
            await _take_pair(duet, pair, found)
            duet.session.observe("measure", pair - pairs.start + 1, len(pairs))
            if found.record.spoiled:
                break
    except HostError as trouble:
        found.note(error=str(trouble))
    except asyncio.CancelledError:
        raise EndedEarly(found.condense(duet.ours.cell)) from None
    return found.condense(duet.ours.cell)


def count_requests(cell: Cell) -> int:
    """How many requests a turn has: the suite's samples, as whole rounds of the lanes."""
    return max(1, round(cell.plan.samples / cell.concurrency)) * cell.concurrency


async def _take_pair(duet: Duet, pair: int, found: Found) -> None:
    """One turn of each side; again where others disturbed one, or one was still warming up."""
    for attempt in range(1, ATTEMPTS + 1):
        taken: list[Sample] = []
        traffic: list[Traffic] = []
        for side in reversed(duet.sides) if pair % 2 else duet.sides:
            samples, seen = await _take_turn(duet, side, pair, attempt, found)
            taken.extend(samples)
            traffic.append(seen)
        worst = next((seen for seen in traffic if seen.disturbed), traffic[0])
        found.note(traffic=worst)
        if not worst.disturbed and not find_trend_of_pairs(taken):
            return


async def _take_turn(duet: Duet, side: DuetSide, pair: int, attempt: int, found: Found) -> tuple[list[Sample], Traffic]:
    """Start a side anew, warm it up, take its requests, and end it."""
    grant = await _start(duet, side)
    try:
        await duet.prepare(side, grant, pair, found)
        if pair == 1 and not side.reference:
            hear_canary(duet.block(side, pair), grant, found)
        return await _measure(duet, side, grant, pair, attempt, found)
    finally:
        if not side.reference:
            note_memory(grant, found)
        if side.grant.end is not None:
            await side.grant.end()


async def _start(duet: Duet, side: DuetSide) -> Grant:
    """A server that has served nothing, or one that is about to load the side's model."""
    if not duet.shared:
        other = duet.ours if side.reference else duet.other
        if other.grant.end is not None:
            await other.grant.end()
        return await side.grant.fresh() if side.grant.fresh is not None else side.grant
    server = side.grant.server
    if side.cell.model in (await server.ready_models() or ()):
        await server.load((duet.ours if side.reference else duet.other).cell.model)
    return side.grant


async def _measure(
    duet: Duet, side: DuetSide, grant: Grant, pair: int, attempt: int, found: Found
) -> tuple[list[Sample], Traffic]:
    cell, server, block = side.cell, grant.server, duet.block(side, pair)
    warmed = await warm_up(block, server, found, reference=side.reference)
    requests = await block.make_requests(server, f"turn{attempt}", count_requests(cell))
    watcher = grant.watcher(cell.model)
    await watcher.begin(OwnMarks(duet.session.run_uid, warmed | find_seeds(requests)))
    taken = await run_requests(server, cell, requests, "measure")
    samples = read_answers(server, cell, requests, taken, block=pair, attempt=attempt, reference=side.reference)
    found.add(samples)
    traffic = await watcher.end(own_traffic(samples))
    require_good(samples, taken, cell)
    return samples, traffic
