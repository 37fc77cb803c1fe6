"""Room 3: one block of a cell on one host: requests, warm-up and samples, while a watcher observes the host."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from pytest_boobench import measure
from pytest_boobench.aggregate import (
    describe_failures,
    find_blanks,
    find_trend,
    is_settled,
    summarize,
    total_tok_s,
)
from pytest_boobench.documents.yaml_tree import suggest
from pytest_boobench.environment import read_driver
from pytest_boobench.errors import HostError
from pytest_boobench.facts import ClientFacts, OwnTraffic
from pytest_boobench.hosts.access import Grant
from pytest_boobench.hosts.canary import listen
from pytest_boobench.hosts.watcher import OwnMarks
from pytest_boobench.measure.beside_samples import summarize_blocks, summarize_start
from pytest_boobench.measure.depth import FilledDepth, fill_depth, require_cache
from pytest_boobench.measure.digest import digest_text
from pytest_boobench.measure.energy import ENERGY, MachineWindow, list_machine_facts, watch_machine
from pytest_boobench.measure.goodput import explain_goodput, find_goodput
from pytest_boobench.measure.open_loop import OpenLoop
from pytest_boobench.measure.own_prompts import make_own_requests
from pytest_boobench.measure.quality import read_quality
from pytest_boobench.measure.sending import Batch, Request, find_seeds, make_requests, read_answers, run_requests
from pytest_boobench.measure.talks import require_context
from pytest_boobench.metrics import FailureKind, Sample, find_metric
from pytest_boobench.record import CellRecord
from pytest_boobench.servers.clients import Server
from pytest_boobench.servers.speculation import add_drafts_of_window
from pytest_boobench.suite.cell import Cell
from pytest_boobench.suite.thresholds import keep_relative

ATTEMPTS = 2
"""A block that others disturbed, or that was still warming up, is measured again."""
CANARY_S = (0.02, 0.5)
"""Duration of the canary before a first block, and before a later one that settles a doubt."""
BUSY_SHARE = 0.05
"""Where other programs seem to use more of the processors, the canary runs again, for the longer time: a short one
cannot tell a burst from a steady load, and the system counts in hundredths of a second."""
_NOT_WHAT_WAS_ASKED: frozenset[FailureKind] = frozenset({"prompt-length", "cached"})
"""Failures that make the whole cell an error: something else was measured. ``max_failed`` cannot allow them."""


class EndedEarly(Exception):  # noqa: N818  # no error: the user wants no more
    """Ctrl-C during a duet, which comes to a verdict with what it has."""

    def __init__(self, record: CellRecord) -> None:
        super().__init__("interrupted")
        self.record = record


def own_traffic(samples: Sequence[Sample]) -> OwnTraffic:
    """The part of the host's traffic that these samples caused, by the server's own counts."""
    cached = sum(sample.cached_tokens or 0 for sample in samples)
    return OwnTraffic(
        requests=len(samples),
        prompt_tokens=sum(sample.prompt_tokens or 0 for sample in samples) - cached,
        cached_tokens=cached,
        output_tokens=sum(sample.output_tokens or 0 for sample in samples),
        events=sum(max(len(sample.chunk_ms) - 1, 0) for sample in samples),
        exact=all(sample.ok for sample in samples),
    )


def require_good(samples: Sequence[Sample], result: measure.PhaseResult, cell: Cell) -> None:
    """HostError where the cell cannot be judged: a dead host, another prompt, or no good request at all."""
    failed = [sample for sample in samples if not sample.ok]
    if result.gone:
        raise HostError(
            f"{cell.host}: the host died in the middle of the cell, after {len(samples) - len(failed)} good requests; "
            f"last: {failed[-1].failure_text if failed else 'nothing'}"
        )
    for sample in failed:
        if sample.failure in _NOT_WHAT_WAS_ASKED:
            raise HostError(f"{cell.host}: {sample.failure}: {sample.failure_text}")
    if failed and len(failed) == len(samples):
        raise HostError(f"{cell.host}: every request failed: {describe_failures(failed)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurer:
    """Who measures, and who receives the progress."""

    run_uid: str
    worker: str = "main"
    client: ClientFacts = field(default_factory=ClientFacts)
    observe: measure.Observe = measure.ignore_progress
    observe_samples: Callable[[Sequence[Sample]], None] = lambda _: None
    """Receives the samples of each phase that is over, while no request is in flight."""


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a cell, before it is measured."""

    cell: Cell
    session: Measurer
    number: int
    requests_of: str = ""
    """Key of the cell whose requests are sent, as both sides of a duet get the same; blank: its own."""

    def series(self, name: str) -> str:
        """A text that makes the requests of a series different from all others."""
        block = "" if self.number == 1 else f"{self.number}/"
        return f"{self.session.run_uid}/{self.requests_of or self.cell.key}/{block}{name}"

    async def make_requests(self, server: Server, name: str, count: int, first: int = 0) -> list[Request]:
        """``count`` requests of the series of that name; of own prompts those from number ``first`` on."""
        if self.cell.own is not None:
            return await make_own_requests(
                server, self.cell, self.cell.own, self.series(name), range(first, first + count)
            )
        return await make_requests(server, self.cell, self.series(name), count, self.requests_of)

    async def make_batch(self, server: Server, name: str, count: int, first: int = 0) -> Batch:
        """The same as a batch; of a cell with turns whole conversations of so many requests in all."""
        cell = self.cell
        if cell.turns > 1:
            return await Batch.converse(server, cell, self.series(name), count // cell.turns)
        return Batch(server, cell, await self.make_requests(server, name, count, first))

    async def make_warm_up(self, server: Server, name: str, rounds: int) -> list[Request]:
        """A request per lane and round. With own prompts each lane repeats one, the last ones of the file: so that
        rounds can be compared, and the first ones stay unseen."""
        lanes = self.cell.concurrency
        if self.cell.own is None:
            return await self.make_requests(server, name, rounds * lanes)
        numbers = [-1 - lane for _ in range(rounds) for lane in range(lanes)]
        return await make_own_requests(server, self.cell, self.cell.own, self.series(name), numbers)


@dataclass(slots=True)
class Found:
    """The results of a cell so far; they are kept when the next step fails."""

    record: CellRecord
    observe_samples: Callable[[Sequence[Sample]], None] = lambda _: None
    no_energy: str = ""
    """Why the last block has no energy of a token; empty where it has."""
    filled: FilledDepth | None = None
    """The context before the prompts, in this block."""

    def note(self, **facts: object) -> None:
        """Set facts of the record."""
        self.record = replace(self.record, **facts)  # type: ignore[arg-type]

    def note_of_block(self, metric: str, value: float) -> None:
        """Append the value of a metric of blocks."""
        of_blocks = self.record.of_blocks
        self.note(of_blocks={**of_blocks, metric: (*of_blocks.get(metric, ()), value)})

    def note_machine(self, window: MachineWindow, samples: Sequence[Sample], cell: Cell) -> None:
        """Add what was seen of the host's machine during the block's last attempt."""
        facts, self.no_energy = list_machine_facts(self.record, window, samples, cell.kind)
        self.note(**facts)

    def add(self, samples: Sequence[Sample]) -> None:
        """Append samples of a phase that is over."""
        self.observe_samples(samples)
        self.note(samples=(*self.record.samples, *samples))

    def condense(self, cell: Cell) -> CellRecord:
        """The record with its aggregates, or the reasons why one is blank."""
        samples, record = self.record.samples, self.record
        whole = record.blocks == 1 and record.reference_host is None and not cell.planned
        wall = total_tok_s(samples, cell.kind) if whole else None
        kept = {key: why for key, why in record.blanks.items() if find_metric(key).of_baseline}
        blanks = kept | find_blanks(samples, cell.kind, keep_relative(cell.plan.gate or {}))
        blanks |= explain_goodput(cell, samples)
        summary = summarize(samples, cell.kind)
        found = {key: value for key, value in summary.items() if find_metric(key).base not in blanks}
        found |= summarize_start(record) | summarize_blocks(record, blanks)
        if self.no_energy and ENERGY in (cell.plan.gate or {}) and ENERGY not in found:
            blanks[ENERGY] = self.no_energy
        return replace(record, aggregates=found, blanks=blanks, total_tok_s=wall or record.total_tok_s)


async def warm_up(block: Block, server: Server, found: Found, *, reference: bool = False) -> frozenset[int]:
    """Warm up until it no longer helps, or as long as the suite says; returns the seeds of the requests."""
    cell, plan, lanes = block.cell, block.cell.plan, block.cell.concurrency
    seeds: frozenset[int] = frozenset()
    if cell.depth_tokens:
        filled = found.filled = await fill_depth(server, cell, block.series("depth"), block.session.observe)
        seeds |= filled.seeds
        if not reference:
            found.note(depth_ms=(found.record.depth_ms or 0.0) + filled.took_ms)
    end = time.monotonic() + (plan.warmup_s or 0.0)
    rounds: list[Sequence[Sample]] = []
    per_lane = plan.warmup
    while True:
        requests = await block.make_warm_up(server, f"warmup{len(rounds) or ''}", per_lane)
        seeds |= find_seeds(requests)
        warmed = await run_requests(server, cell, requests, "warmup", block.session.observe)
        samples = read_answers(server, cell, requests, warmed, block=block.number, reference=reference)
        found.add([replace(sample, index=sample.index + len(rounds) * lanes) for sample in samples])
        require_good(samples, warmed, cell)
        require_cache(found.filled, samples, cell)
        rounds.extend(samples[at : at + lanes] for at in range(0, len(samples), lanes))
        if plan.warmup_s is None:
            enough = len(rounds) >= plan.warmup_max or is_settled(rounds)
        else:
            enough = time.monotonic() >= end
        if enough:
            return seeds
        per_lane = 1


def name_as_listed(cell: Cell, grant: Grant) -> Cell:
    """The cell with the name that the server itself gives to the model; its record keeps the suite's."""
    return cell if grant.listed_as is None else replace(cell, model=grant.listed_as)


async def add_block(block: Block, grant: Grant, record: CellRecord) -> CellRecord:
    """The record with another block, or with the part of it that was measured before an error."""
    found = Found(record, observe_samples=block.session.observe_samples)
    try:
        await prepare(block, grant, found)
        hear_canary(block, grant, found)
        await take_block(block, grant, found)
    except HostError as trouble:
        found.note(error=str(trouble))
    note_memory(grant, found)
    return found.condense(block.cell)


def note_memory(grant: Grant, found: Found) -> None:
    """Record the memory of a server that we started, the most of all blocks; that of others is seen by sensors."""
    if grant.started is None:
        return
    rss_mb, vram_mb = grant.started.measure_memory()
    for name, size_mb in (("rss_peak_mb", rss_mb), ("vram_peak_mb", vram_mb)):
        if size_mb is not None:
            found.note(**{name: max(size_mb, getattr(found.record, name) or 0.0)})


async def prepare(block: Block, grant: Grant, found: Found) -> None:
    """Have the host load the model, and record the facts of both."""
    cell, server = block.cell, grant.server
    listed = await server.models()
    if listed and cell.model not in listed:
        raise HostError(f"{cell.host}: no model {cell.model!r} there; {suggest(cell.model, listed)}")
    load_ms = await server.load(cell.model)
    if block.number > 1:
        return
    started = grant.started
    found.note(
        load_ms=started.start_ms if load_ms is None and started is not None else load_ms,
        server=await server.facts(),
        model=await server.model_facts(cell.model),
        command=await server.command(cell.model),
        driver=read_driver() if grant.local else None,
        server_log=str(started.log) if started is not None else None,
    )
    if cell.plan.output_canary:
        found.note(text_digest=await digest_text(server, cell))
    if found.record.reference_host is None:
        found.note(**await read_quality(server, cell))


def hear_canary(block: Block, grant: Grant, found: Found) -> None:
    """Record the state of this machine right before a block, where the host runs on it."""
    if not grant.local:
        return
    short_s, long_s = CANARY_S
    canary = listen(takes_s=short_s if block.number == 1 else long_s)
    if block.number == 1 and (canary.busy_share or 0.0) > BUSY_SHARE:
        canary = listen(takes_s=long_s)
    found.note(canaries=(*found.record.canaries, canary))


async def take_block(block: Block, grant: Grant, found: Found) -> None:
    """Warm up and take samples; again where others disturbed them or the host was still warming up."""
    cell, server, session = block.cell, grant.server, block.session
    if cell.turns > 1 and server.can.exact_tokens:
        require_context(cell, found.record.model)
    seeds = await warm_up(block, server, found)
    warmed = [sample for sample in found.record.samples if sample.block == block.number]
    loop = OpenLoop.after_warm_up(cell, warmed) if cell.planned else None
    watcher = grant.watcher(cell.model)
    for attempt in range(1, ATTEMPTS + 1):
        count = loop.total if loop else cell.plan.samples
        batch = await block.make_batch(server, str(attempt), count, -loop.aside if loop else 0)
        await watcher.begin(OwnMarks(session.run_uid, seeds | batch.seeds))
        with watch_machine(grant) as machine:
            taken = await batch.run(session.observe, loop)
        samples = read_answers(server, cell, batch.requests, taken, block=block.number, attempt=attempt)
        samples = loop.mark(samples) if loop else samples
        found.add(samples)
        traffic = await watcher.end(own_traffic(samples))
        drafted = add_drafts_of_window(found.record.samples, len(samples), watcher.drafts)
        found.note(traffic=traffic, samples=drafted)
        require_good(samples, taken, cell)
        require_cache(found.filled, samples, cell)
        if not (traffic.disturbed or find_trend(samples)) or attempt == ATTEMPTS:
            machine.add_report(watcher.hardware)
            found.note_machine(machine, samples, cell)
            break
    for key, value in find_goodput(cell, samples).items():
        found.note_of_block(key, value)
