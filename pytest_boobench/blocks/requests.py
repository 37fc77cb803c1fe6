"""Room 3: the requests of a series, and their answers as samples."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pytest_boobench import measure
from pytest_boobench.aggregate import add_totals, describe_failures
from pytest_boobench.documents.problems import suggest
from pytest_boobench.errors import HostError
from pytest_boobench.facts import OwnTraffic
from pytest_boobench.metrics import FailureKind, Sample
from pytest_boobench.servers.clients import Answer
from pytest_boobench.servers.interface import Call, Server
from pytest_boobench.servers.prompts import make_nonce, make_seed
from pytest_boobench.suite.cell import Cell

_GREEDY: Mapping[str, Any] = {"temperature": 0.0, "seed": 42}
_NOT_WHAT_WAS_ASKED: frozenset[FailureKind] = frozenset({"prompt-length", "cached"})
"""Failures that say of the whole cell that something else than it was measured; ``max_failed`` can't allow them."""


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


def read_answers(
    server: Server,
    cell: Cell,
    result: measure.PhaseResult[Answer],
    *,
    block: int = 1,
    attempt: int = 1,
    reference: bool = False,
) -> list[Sample]:
    """The samples of a phase, read only now that it is over."""
    samples = [
        server.read(
            Sample(
                phase=ticket.phase,
                lane=ticket.lane,
                index=ticket.index,
                block=block,
                attempt=attempt,
                reference=reference,
                started_at=answer.sent_at,
                offset_ms=(answer.sent_ns - ticket.phase_began_ns) / 1e6,
            ),
            answer,
            cell,
        )
        for ticket, answer in result.answers
    ]
    return add_totals(samples, cell.kind) if cell.concurrency > 1 else samples


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


async def digest_text(server: Server, cell: Cell) -> str | None:
    """Fingerprint of what the model says to a prompt that is always the same, at temperature 0 and with a fixed seed:
    16 hex digits of SHA-256. None where it said nothing, as in an embedding."""
    greedy = replace(cell, sampling={**cell.sampling, **_GREEDY}) if cell.kind != "embedding" else None
    if greedy is None:
        return None
    (prompt,) = await server.make_prompts(greedy, [make_nonce(cell.key, 0)])
    answer = await server.send(server.call(greedy, prompt), greedy)
    text = server.read_text(answer)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16] if text else None
