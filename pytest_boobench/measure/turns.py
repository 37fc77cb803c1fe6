"""Room 3: pairs of turns: each side is started anew for its turn, so that what differs from start to start is seen.

The order is B A A B, B the other side: its server was started last, and has served nothing yet.

At a rate a turn is one window of planned requests. Both halves of a pair have the same arrivals, and each pair has
others: so the interval is over windows. Servers that keep running are not started anew for a window.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

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
from pytest_boobench.measure.goodput import find_goodput
from pytest_boobench.measure.open_loop import OpenLoop
from pytest_boobench.measure.sending import read_answers
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
    """How many requests a turn has: the suite's samples, as whole rounds of the lanes, or of their conversations."""
    round_of_all = cell.concurrency * cell.turns
    return max(1, round(cell.plan.samples / round_of_all)) * round_of_all


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
        if attempt == ATTEMPTS or not (worst.disturbed or find_trend_of_pairs(taken)):
            own = [sample for sample in taken if not sample.reference]
            for key, value in find_goodput(duet.ours.cell, own).items() if duet.ours.cell.planned else ():
                found.note_of_block(key, value)
            return


async def _take_turn(duet: Duet, side: DuetSide, pair: int, attempt: int, found: Found) -> tuple[list[Sample], Traffic]:
    """Start a side anew, warm it up, take its requests, and end it; servers that keep running are only warmed up."""
    anew = found.record.pairing == "starts"
    grant = await _start(duet, side) if anew else side.grant
    try:
        await duet.prepare(side, grant, pair, found)
        if pair == 1 and not side.reference:
            hear_canary(duet.block(side, pair), grant, found)
        return await _measure(duet, side, grant, pair, attempt, found)
    finally:
        if not side.reference:
            note_memory(grant, found)
        if anew and side.grant.end is not None:
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
    before = len(found.record.samples)
    seeds = await warm_up(block, server, found, reference=side.reference)
    loop = _plan_window(cell, pair, attempt, found.record.samples[before:]) if cell.planned else None
    count, first = (loop.total, -loop.aside) if loop else (count_requests(cell), 0)
    batch = await block.make_batch(server, f"turn{attempt}", count, first)
    watcher = grant.watcher(cell.model)
    await watcher.begin(OwnMarks(duet.session.run_uid, seeds | batch.seeds))
    taken = await batch.run(loop=loop)
    samples = read_answers(server, cell, batch.requests, taken, block=pair, attempt=attempt, reference=side.reference)
    samples = loop.mark(samples) if loop else samples
    found.add(samples)
    traffic = await watcher.end(own_traffic(samples))
    require_good(samples, taken, cell)
    return samples, traffic


def _plan_window(cell: Cell, pair: int, attempt: int, warmed: Sequence[Sample]) -> OpenLoop:
    """The same arrivals for both sides; the lead-in is as long as the side needs."""
    return replace(OpenLoop.after_warm_up(cell, warmed), plan=f"/{pair}/{attempt}")
