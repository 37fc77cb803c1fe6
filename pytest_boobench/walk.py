"""One cell through all rooms. Read this first.

cell + grant -> look at the host -> warm up -> take a block of samples -> condense -> CellRecord
cell + two grants -> pairs of samples, one host against the other -> CellRecord
CellRecord + baseline -> Verdicts, or doubt and then another block: `gate.judge_cell`, `gate.find_cell_doubts`
"""

from __future__ import annotations

import time
from dataclasses import replace

from pytest_boobench import gate
from pytest_boobench.hosts.access import Grant
from pytest_boobench.measure.block import Block, Measurer, add_block
from pytest_boobench.measure.pairs import add_pairs
from pytest_boobench.record import CellRecord, identify
from pytest_boobench.suite.cell import Cell

DUET_BLOCKS = 2
"""The most blocks of pairs."""


async def run_cell(cell: Cell, grant: Grant, session: Measurer, *, node_id: str) -> CellRecord:
    """Measure the first block of a cell. The record's ``error`` says what went wrong, beside the samples until then."""
    record = identify(
        cell, node_id, started_at=time.time(), takeover=grant.takeover, client=session.client, worker=session.worker
    )
    return await add_block(Block(_name_as_listed(cell, grant), session, 1), grant, record)


async def extend_cell(cell: Cell, grant: Grant, session: Measurer, record: CellRecord, why: str) -> CellRecord:
    """Measure one more block of a cell whose earlier blocks left a doubt; ``why`` names it."""
    extended = "; ".join(filter(None, (record.extended, f"block {record.blocks + 1}: {why}")))
    return await add_block(
        Block(_name_as_listed(cell, grant), session, record.blocks + 1), grant, replace(record, extended=extended)
    )


async def run_duet(
    cell: Cell, grant: Grant, reference: Grant, session: Measurer, *, node_id: str, rules: gate.Rules
) -> CellRecord:
    """Measure a cell on two hosts in turns, A B B A, until the pairs leave no doubt or there are two blocks of them.

    The second block follows at once: what changes from minute to minute is in both halves of a pair.
    """
    allowed = gate.limits(cell.kind, cell.plan.gate, rules, lanes=cell.concurrency, length=cell.length)
    record = identify(
        cell,
        node_id,
        started_at=time.time(),
        takeover=grant.takeover or reference.takeover,
        client=session.client,
        worker=session.worker,
        reference_host=reference.host,
    )
    for number in range(1, DUET_BLOCKS + 1):
        record = await add_pairs(Block(cell, session, number), grant, reference, record)
        if record.error or record.spoiled or not gate.find_duet_doubts(record, allowed):
            break
    return record


def _name_as_listed(cell: Cell, grant: Grant) -> Cell:
    """The cell with the name that the server itself gives to the model; its record keeps the suite's."""
    return cell if grant.listed_as is None else replace(cell, model=grant.listed_as)
