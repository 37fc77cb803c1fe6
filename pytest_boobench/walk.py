"""One cell through all rooms. Read this first.

cell + grant -> look at the host -> warm up -> take a block of samples -> condense -> CellRecord
cell + two sides -> pairs of samples or of turns, one side against the other -> CellRecord
CellRecord + baseline -> Verdicts, or doubt and then another block: `gate.judge_cell`, `gate.find_cell_doubts`
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

from pytest_boobench import gate
from pytest_boobench.errors import HostError
from pytest_boobench.hosts.access import Grant
from pytest_boobench.measure.block import Block, Measurer, add_block, name_as_listed
from pytest_boobench.measure.pairs import add_pairs
from pytest_boobench.measure.sides import Duet, find_pairing
from pytest_boobench.measure.turns import add_turns
from pytest_boobench.record import CellRecord, Pairing, identify
from pytest_boobench.suite.cell import Cell

DUET_BLOCKS = 2
"""The most blocks of pairs if no width is requested."""


async def run_cell(cell: Cell, grant: Grant, session: Measurer, *, node_id: str) -> CellRecord:
    """Measure the first block of a cell. On a problem, the record has an ``error`` and the samples so far."""
    record = identify(
        cell, node_id, started_at=time.time(), takeover=grant.takeover, client=session.client, worker=session.worker
    )
    return await add_block(Block(name_as_listed(cell, grant), session, 1), grant, record)


async def extend_cell(cell: Cell, grant: Grant, session: Measurer, record: CellRecord, why: str) -> CellRecord:
    """Measure one more block of a cell whose earlier blocks left a doubt; ``why`` names the doubt."""
    extended = "; ".join(filter(None, (record.extended, f"block {record.blocks + 1}: {why}")))
    return await add_block(
        Block(name_as_listed(cell, grant), session, record.blocks + 1), grant, replace(record, extended=extended)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How long a duet goes on, and what its pairs are."""

    pairing: Pairing = "requests"
    until: float | None = None
    """Requested width of each gated metric's interval, plus and minus, as a ratio; None: until the verdict is clear."""
    end_s: float = math.inf
    """A duet with a requested width adds nothing to its first block after this time of the monotonic clock."""


_USUAL = Course()


async def run_duet(duet: Duet, *, node_id: str, rules: gate.Rules, course: Course = _USUAL) -> CellRecord:
    """Measure a cell on both sides in turns, A B B A, until the pairs leave no doubt or there are two blocks of them.

    With a requested width, measure until the intervals are that narrow. The next block follows at once, so that both
    halves of a pair see the same changes from minute to minute.
    """
    cell, reference = duet.ours.cell, duet.other
    allowed = gate.limits(
        cell.kind,
        cell.plan.gate,
        rules,
        lanes=cell.concurrency,
        length=cell.length,
        turns=cell.turns,
        load=cell.load,
    )
    record = identify(
        cell,
        node_id,
        started_at=time.time(),
        takeover=any(side.grant.takeover for side in duet.sides),
        client=duet.session.client,
        worker=duet.session.worker,
        reference_host=f"{reference.cell.host}{f'::{reference.cell.model}' if duet.names_model else ''}",
        pairing=course.pairing,
    )
    if cell.arrival == "recorded":
        text = "a replay is one window, and an interval needs ten pairs of different ones"
        return replace(
            record, error=f"{cell.host}: {text}; write rate instead of arrival: recorded, or leave the duet out"
        )
    if duet.shared:
        try:
            record = replace(record, pairing=await find_pairing(duet))
        except HostError as trouble:
            return replace(record, error=str(trouble))
    if record.pairing != "starts":
        record = replace(record, pairing=_name_pairs(cell))
    duet = duet.as_listed()
    looks = gate.LOOKS[:DUET_BLOCKS] if course.until is None else gate.LOOKS
    blocks = 0
    for look in looks:
        while blocks < look:
            if blocks and course.until is not None and time.monotonic() >= course.end_s:
                return record
            record = await _add_block_of_pairs(duet, record, blocks, course)
            blocks += 1
            if record.error or record.spoiled:
                return record
        if course.until is None:
            enough = not gate.find_duet_doubts(record, allowed)
        else:
            enough = not gate.is_wider(record, allowed, course.until)
        if enough:
            break
    return record


def _name_pairs(cell: Cell) -> Pairing:
    """What the pairs of running servers are."""
    return "windows" if cell.planned else "conversations" if cell.turns > 1 else "requests"


async def _add_block_of_pairs(duet: Duet, record: CellRecord, blocks: int, course: Course) -> CellRecord:
    """Return the record with one more block of pairs than ``blocks``."""
    pairs = gate.FEWEST[record.pairing or "requests"]
    if record.pairing not in ("starts", "windows"):
        return await add_pairs(duet, record, blocks + 1, pairs)
    first = blocks * pairs + 1

    def goes_on() -> bool:
        return blocks == 0 or course.until is None or time.monotonic() < course.end_s

    return await add_turns(duet, record, range(first, first + pairs), goes_on)
