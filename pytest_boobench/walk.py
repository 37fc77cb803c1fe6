"""The corridor: one cell through the rooms. Read this first.

cell + grant -> look at the host -> make exact prompts -> warm up -> take samples -> condense -> CellRecord
CellRecord + baseline -> Verdicts
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Sequence

from pytest_boobench import measure
from pytest_boobench.aggregate import describe_failures, summarize, total_tok_s
from pytest_boobench.errors import HostError
from pytest_boobench.facts import ModelFacts, ServerFacts
from pytest_boobench.gate import judge, limits
from pytest_boobench.hosts.access import Grant
from pytest_boobench.metrics import FailureKind, Sample
from pytest_boobench.record import Baseline, CellRecord, Verdict, identify
from pytest_boobench.servers.clients import Answer
from pytest_boobench.servers.interface import Prompt, Server
from pytest_boobench.servers.prompts import make_nonce
from pytest_boobench.suite.cell import Cell

_NOT_WHAT_WAS_ASKED: frozenset[FailureKind] = frozenset({"prompt-length", "cached"})
"""Failures that say of the whole cell that something else than it was measured; ``max_failed`` can't allow them."""


async def run_cell(cell: Cell, grant: Grant, *, node_id: str, run_uid: str, worker: str = "main") -> CellRecord:
    """Measure one cell. What went wrong stands in the record's ``error``, beside all samples taken until then."""
    started_at = time.time()
    samples: list[Sample] = []
    server: ServerFacts | None = None
    model: ModelFacts | None = None
    error: str | None = None
    try:
        server, model = await look_at(grant.server, cell)
        load = make_load(grant.server, cell, await make_prompts(grant.server, cell, run_uid))
        warm = await measure.warm_up(load, lanes=cell.concurrency, per_lane=cell.plan.warmup)
        samples += read_answers(grant.server, cell, warm)
        require_sense(samples, warm, cell)
        taken = await measure.take_samples(load, lanes=cell.concurrency, count=cell.plan.samples)
        samples += read_answers(grant.server, cell, taken)
        require_sense(samples, taken, cell)
    except HostError as trouble:
        error = str(trouble)
    return identify(
        cell,
        node_id,
        started_at=started_at,
        samples=tuple(samples),
        aggregates=summarize(samples, cell.kind),
        total_tok_s=total_tok_s(samples, cell.kind),
        server=server,
        model=model,
        worker=worker,
        error=error,
    )


def judge_cell(
    cell: Cell, record: CellRecord, baseline: Baseline | None, *, default: float, override: float | None
) -> tuple[Verdict, ...]:
    """The record's verdicts by the cell's own gate.

    ``default`` is the allowed worsening where the suite names none, ``override`` holds whatever the suite says.
    """
    return judge(record, baseline, limits(cell.kind, cell.plan.gate, default, override))


async def look_at(server: Server, cell: Cell) -> tuple[ServerFacts, ModelFacts]:
    """The facts of server and model. HostError where the host has no such model."""
    listed = await server.models()
    if listed and cell.model not in listed:
        near = difflib.get_close_matches(cell.model, listed, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it lists {', '.join(listed)}"
        raise HostError(f"{cell.host}: no model {cell.model!r} there; {hint}")
    return await server.facts(), await server.model_facts(cell.model)


async def make_prompts(server: Server, cell: Cell, run_uid: str) -> Sequence[Prompt]:
    """One prompt for each request of the cell. Cold: no two start alike, in this or any other run. Warm: all equal."""
    count = cell.plan.warmup * cell.concurrency + cell.plan.samples
    seed = f"{run_uid}/{cell.key}"
    nonces = [make_nonce(seed, number if cell.cache == "cold" else 0) for number in range(count)]
    return await server.make_prompts(cell, nonces)


def make_load(server: Server, cell: Cell, prompts: Sequence[Prompt]) -> measure.Load[Answer]:
    """The cell's load: the first prompts are for the warm-up, the others for the samples."""
    calls = [server.call(cell, prompt) for prompt in prompts]
    warm = len(calls) - cell.plan.samples

    async def send(ticket: measure.Ticket) -> Answer:
        return await server.send(calls[ticket.index + (0 if ticket.phase == "warmup" else warm)], cell)

    return measure.Load(send, server.alive)


def read_answers(server: Server, cell: Cell, result: measure.PhaseResult[Answer]) -> list[Sample]:
    """The samples of a phase, read only now that it is over."""
    return [
        server.read(
            Sample(
                phase=ticket.phase,
                lane=ticket.lane,
                index=ticket.index,
                started_at=answer.sent_at,
                offset_ms=(answer.sent_ns - ticket.phase_began_ns) / 1e6,
            ),
            answer,
            cell,
        )
        for ticket, answer in result.answers
    ]


def require_sense(samples: Sequence[Sample], result: measure.PhaseResult[Answer], cell: Cell) -> None:
    """HostError where going on, or judging, would be senseless: a dead host, another prompt, no good request at all."""
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
