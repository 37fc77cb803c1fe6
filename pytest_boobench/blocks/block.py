"""Room 3: one block of samples on one host, while somebody watches it."""

from __future__ import annotations

from pytest_boobench import measure
from pytest_boobench.aggregate import find_trend
from pytest_boobench.blocks.requests import (
    digest_text,
    find_seeds,
    make_calls,
    make_load,
    own_traffic,
    read_answers,
    require_model,
    require_sense,
)
from pytest_boobench.blocks.warm import Block, Found, warm_up
from pytest_boobench.errors import HostError
from pytest_boobench.facts import Canary
from pytest_boobench.hosts.access import Grant
from pytest_boobench.hosts.canary import listen
from pytest_boobench.hosts.watching.interface import OwnMarks
from pytest_boobench.record import CellRecord

ATTEMPTS = 2
"""A block that others disturbed, or that was still warming up, is measured once more."""
CANARY_S = (0.02, 0.5)
"""How long to listen to the canary before a first block, and before one that is to settle a doubt."""
BUSY_SHARE = 0.05
"""Where others seem to take more of the processors, the canary is listened to once more, for long: in a short time a
burst looks like a habit, and what is counted in hundredths of a second is rough."""


async def add_block(block: Block, grant: Grant, record: CellRecord) -> CellRecord:
    """The record with another block, or with as much of it as there was before something went wrong."""
    found = Found(record)
    try:
        await look(block, grant, found)
        hear_canary(block, grant, found)
        await take_block(block, grant, found)
    except HostError as trouble:
        found.note(error=str(trouble))
    return found.condense(block.cell)


async def look(block: Block, grant: Grant, found: Found) -> None:
    """See to it that the host has the model ready, and note what both are."""
    cell, server = block.cell, grant.server
    await require_model(server, cell)
    load_ms = await server.load(cell.model)
    if block.number == 1:
        found.note(load_ms=load_ms, server=await server.facts(), model=await server.model_facts(cell.model))
    if block.number == 1 and cell.plan.output_canary:
        found.note(text_digest=await digest_text(server, cell))


def hear_canary(block: Block, grant: Grant, found: Found) -> None:
    """Note what this machine is like right before a block, where the host runs on it."""
    if grant.local:
        found.note(canaries=(*found.record.canaries, _listen_as_long_as_needed(block)))


def _listen_as_long_as_needed(block: Block) -> Canary:
    short_s, long_s = CANARY_S
    if block.number > 1:
        return listen(takes_s=long_s)
    canary = listen(takes_s=short_s)
    return listen(takes_s=long_s) if (canary.busy_share or 0.0) > BUSY_SHARE else canary


async def take_block(block: Block, grant: Grant, found: Found) -> None:
    cell, server, session = block.cell, grant.server, block.session
    seeds = await warm_up(block, server, found)
    watcher = grant.watcher(cell.model)
    for attempt in range(1, ATTEMPTS + 1):
        calls = await make_calls(server, cell, block.series(str(attempt)), cell.plan.samples)
        await watcher.begin(OwnMarks(session.run_uid, seeds | find_seeds(calls)))
        taken = await measure.take_samples(
            make_load(server, cell, calls), lanes=cell.concurrency, count=cell.plan.samples, observe=session.observe
        )
        samples = read_answers(server, cell, taken, block=block.number, attempt=attempt)
        found.add(samples)
        traffic = await watcher.end(own_traffic(samples))
        found.note(traffic=traffic)
        require_sense(samples, taken, cell)
        if not traffic.disturbed and not find_trend(samples):
            return
