"""Room 3: what a block is made of, and its warm-up: as long as it pays."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pytest_boobench import measure
from pytest_boobench.aggregate import find_blanks, is_settled, summarize, total_tok_s
from pytest_boobench.blocks.requests import find_seeds, make_calls, make_load, read_answers, require_sense
from pytest_boobench.facts import ClientFacts
from pytest_boobench.metrics import Sample
from pytest_boobench.record import CellRecord
from pytest_boobench.servers.interface import Server
from pytest_boobench.suite.cell import Cell


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Who measures, and who is told how it comes along."""

    run_uid: str
    worker: str = "main"
    client: ClientFacts = field(default_factory=ClientFacts)
    observe: measure.Observe = measure.look_away


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a cell that is to be measured."""

    cell: Cell
    session: Session
    number: int

    def series(self, name: str) -> str:
        """The text that makes the requests of a series unlike those of any other."""
        block = "" if self.number == 1 else f"{self.number}/"
        return f"{self.session.run_uid}/{self.cell.key}/{block}{name}"


@dataclass(slots=True)
class Found:
    """What is known of a cell so far: kept when the next step fails."""

    record: CellRecord

    def note(self, **facts: object) -> None:
        """Enter facts of the record."""
        self.record = replace(self.record, **facts)  # type: ignore[arg-type]

    def add(self, samples: Sequence[Sample]) -> None:
        """Enter samples."""
        self.note(samples=(*self.record.samples, *samples))

    def condense(self, cell: Cell) -> CellRecord:
        """The record with its aggregates, and with reasons in the place of those that the samples cannot carry."""
        samples, record = self.record.samples, self.record
        wall = total_tok_s(samples, cell.kind) if record.blocks == 1 and record.reference_host is None else None
        blanks = find_blanks(samples, cell.kind, cell.plan.gate or {})
        found = {key: value for key, value in summarize(samples, cell.kind).items() if key not in blanks}
        return replace(record, aggregates=found, blanks=blanks, total_tok_s=wall or record.total_tok_s)


async def warm_up(block: Block, server: Server, found: Found, *, reference: bool = False) -> frozenset[int]:
    """Warm up as long as it pays; gives back the seeds that the requests carried."""
    cell, plan = block.cell, block.cell.plan
    end = time.monotonic() + (plan.warmup_s or 0.0)
    seeds: frozenset[int] = frozenset()
    rounds: list[Sequence[Sample]] = []

    async def warm(per_lane: int) -> None:
        nonlocal seeds
        calls = await make_calls(server, cell, block.series(f"warmup{len(rounds) or ''}"), per_lane * cell.concurrency)
        seeds |= find_seeds(calls)
        warmed = await measure.warm_up(
            make_load(server, cell, calls), lanes=cell.concurrency, per_lane=per_lane, observe=block.session.observe
        )
        samples = read_answers(server, cell, warmed, block=block.number, reference=reference)
        found.add([replace(sample, index=sample.index + len(rounds) * cell.concurrency) for sample in samples])
        require_sense(samples, warmed, cell)
        rounds.extend(samples[at : at + cell.concurrency] for at in range(0, len(samples), cell.concurrency))

    await warm(plan.warmup)
    while (plan.warmup_s is not None and time.monotonic() < end) or (
        plan.warmup_s is None and len(rounds) < plan.warmup_max and not is_settled(rounds)
    ):
        await warm(1)
    return seeds
