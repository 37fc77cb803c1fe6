"""The corridor: one cell through the rooms. Read this first.

cell + grant -> look at the host -> make exact prompts -> warm up -> take samples -> condense -> CellRecord
CellRecord + baseline -> Verdicts
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pytest_boobench import measure
from pytest_boobench.aggregate import describe_failures, summarize, total_tok_s
from pytest_boobench.documents.problems import suggest
from pytest_boobench.errors import HostError
from pytest_boobench.facts import ModelFacts, OwnTraffic, ServerFacts, Traffic
from pytest_boobench.gate import Rules, judge, limits
from pytest_boobench.hosts.access import Grant
from pytest_boobench.hosts.watching.interface import OwnMarks
from pytest_boobench.metrics import FailureKind, Sample
from pytest_boobench.record import Baseline, CellRecord, Verdict, identify
from pytest_boobench.servers.clients import Answer
from pytest_boobench.servers.interface import Call, Server
from pytest_boobench.servers.prompts import make_nonce, make_seed
from pytest_boobench.suite.cell import Cell

ATTEMPTS = 2
"""A cell that others disturbed is measured once more."""
_NOT_WHAT_WAS_ASKED: frozenset[FailureKind] = frozenset({"prompt-length", "cached"})
"""Failures that say of the whole cell that something else than it was measured; ``max_failed`` can't allow them."""


async def run_cell(
    cell: Cell,
    grant: Grant,
    *,
    node_id: str,
    run_uid: str,
    worker: str = "main",
    observe: measure.Observe = measure.look_away,
) -> CellRecord:
    """Measure one cell. What went wrong stands in the record's ``error``, beside all samples taken until then."""
    found = _Found(time.time())
    try:
        await _measure(cell, grant, run_uid, found, observe)
    except HostError as trouble:
        found.error = str(trouble)
    return identify(
        cell,
        node_id,
        started_at=found.started_at,
        samples=tuple(found.samples),
        aggregates=summarize(found.samples, cell.kind),
        total_tok_s=total_tok_s(found.samples, cell.kind),
        server=found.server,
        model=found.model,
        load_ms=found.load_ms,
        traffic=found.traffic,
        takeover=grant.takeover,
        worker=worker,
        error=found.error,
    )


@dataclass(slots=True)
class _Found:
    """What is known of a cell so far: kept when the next step fails."""

    started_at: float
    samples: list[Sample] = field(default_factory=list)
    server: ServerFacts | None = None
    model: ModelFacts | None = None
    load_ms: float | None = None
    traffic: Traffic | None = None
    error: str | None = None


async def _measure(cell: Cell, grant: Grant, run_uid: str, found: _Found, observe: measure.Observe) -> None:
    server, plan, lanes = grant.server, cell.plan, cell.concurrency
    await require_model(server, cell)
    found.load_ms = await server.load(cell.model)
    found.server, found.model = await server.facts(), await server.model_facts(cell.model)

    first = await make_calls(server, cell, f"{run_uid}/{cell.key}/warmup", plan.warmup * lanes)
    warm = await measure.warm_up(make_load(server, cell, first), lanes=lanes, per_lane=plan.warmup, observe=observe)
    found.samples += read_answers(server, cell, warm)
    require_sense(found.samples, warm, cell)

    watcher = grant.watcher(cell.model)
    for attempt in range(1, ATTEMPTS + 1):
        calls = await make_calls(server, cell, f"{run_uid}/{cell.key}/{attempt}", plan.samples)
        await watcher.begin(OwnMarks(run_uid, find_seeds([*first, *calls])))
        taken = await measure.take_samples(
            make_load(server, cell, calls), lanes=lanes, count=plan.samples, observe=observe
        )
        samples = read_answers(server, cell, taken, attempt)
        found.samples += samples
        found.traffic = await watcher.end(own_traffic(samples))
        require_sense(samples, taken, cell)
        if not found.traffic.disturbed:
            return


def judge_cell(cell: Cell, record: CellRecord, baseline: Baseline | None, rules: Rules) -> tuple[Verdict, ...]:
    """The record's verdicts by the cell's own gate, and by the session's rules where the suite says nothing."""
    return judge(record, baseline, limits(cell.kind, cell.plan.gate, rules), cell.plan.disturbed or rules.disturbed)


async def require_model(server: Server, cell: Cell) -> None:
    """HostError where the host has no such model."""
    listed = await server.models()
    if listed and cell.model not in listed:
        raise HostError(f"{cell.host}: no model {cell.model!r} there; {suggest(cell.model, listed)}")


async def make_calls(server: Server, cell: Cell, seed: str, count: int) -> list[Call]:
    """``count`` requests for a cell. Cold: no two prompts start alike, in this or any other run. Warm: all are equal.

    ``seed`` is a text that no other series of requests has.
    """
    if not count:
        return []
    cold = cell.cache == "cold"
    nonces = [make_nonce(seed, number) if cold else make_nonce(cell.key, 0) for number in range(count)]
    prompts = await server.make_prompts(cell, nonces)
    return [server.call(cell, replace(prompt, seed=make_seed(seed, number))) for number, prompt in enumerate(prompts)]


def make_load(server: Server, cell: Cell, calls: Sequence[Call]) -> measure.Load[Answer]:
    """The load of a phase: request number n is the n-th call."""

    async def send(ticket: measure.Ticket) -> Answer:
        return await server.send(calls[ticket.index], cell)

    return measure.Load(send, server.alive)


def find_seeds(calls: Sequence[Call]) -> frozenset[int]:
    """The sampling seeds that these requests carry: by them a watcher knows them as ours."""
    return frozenset(seed for call in calls if isinstance(seed := call.body.get("seed"), int))


def read_answers(server: Server, cell: Cell, result: measure.PhaseResult[Answer], attempt: int = 1) -> list[Sample]:
    """The samples of a phase, read only now that it is over."""
    return [
        server.read(
            Sample(
                phase=ticket.phase,
                lane=ticket.lane,
                index=ticket.index,
                attempt=attempt,
                started_at=answer.sent_at,
                offset_ms=(answer.sent_ns - ticket.phase_began_ns) / 1e6,
            ),
            answer,
            cell,
        )
        for ticket, answer in result.answers
    ]


def own_traffic(samples: Sequence[Sample]) -> OwnTraffic:
    """What of the host's traffic these samples were, by the server's own counts."""
    cached = sum(sample.cached_tokens or 0 for sample in samples)
    return OwnTraffic(
        requests=len(samples),
        prompt_tokens=sum(sample.prompt_tokens or 0 for sample in samples) - cached,
        cached_tokens=cached,
        output_tokens=sum(sample.output_tokens or 0 for sample in samples),
        exact=all(sample.ok for sample in samples),
    )


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
