"""Room 3: the reference of a host's machine: one small cell of fixed shape, on a model that never changes."""

from __future__ import annotations

import math
import time
import uuid
from dataclasses import replace

from pytest_boobench.aggregate import Aggregate
from pytest_boobench.errors import HostError
from pytest_boobench.facts import DECISIVE, REFERENCE_SUITE, ModelFacts, ReferenceRates
from pytest_boobench.hosts.access import Grant
from pytest_boobench.hosts.inventory import Host
from pytest_boobench.measure.block import Block, Measurer, add_block, name_as_listed
from pytest_boobench.record import CellRecord, identify
from pytest_boobench.suite.cell import Cell, Plan
from pytest_boobench.units import count

PROMPT_TOKENS, OUTPUT_TOKENS = 128, 64
SAMPLES = 8
"""Its shape never changes, or all drifts would be wrong: one lane, greedy, no cached token."""
LEAST_ERROR = 0.005
"""Least standard error of a look: the reference's own speed is not the same each time."""


async def measure_reference(host: Host, grant: Grant, session: Measurer) -> CellRecord:
    """Measure the reference once. On a problem, the record has an ``error``."""
    cell = make_reference_cell(host.name, host.reference or await _find_only_model(host, grant))
    node_id = f"{REFERENCE_SUITE}::{cell.host}::{cell.model}[{cell.id}]"
    record = identify(
        cell, node_id, started_at=time.time(), takeover=grant.takeover, client=session.client, worker=session.worker
    )
    # Each look has prompts of its own: those of the look before may still be in the server's cache.
    return await add_block(Block(name_as_listed(cell, grant), session, 1, uuid.uuid4().hex), grant, record)


def make_reference_cell(host: str, model: str) -> Cell:
    """Make the cell that is measured on each reference."""
    return Cell(
        suite=REFERENCE_SUITE,
        host=host,
        model=model,
        kind="chat",
        prompt_tokens=PROMPT_TOKENS,
        output_tokens=OUTPUT_TOKENS,
        concurrency=1,
        sampling={"temperature": 0.0},
        cache="cold",
        plan=Plan(samples=SAMPLES),
        id=f"pp{PROMPT_TOKENS}-tg{OUTPUT_TOKENS}-c1",
        line=1,
    )


async def _find_only_model(host: Host, grant: Grant) -> str:
    listed = await grant.server.models()
    if len(listed) != 1:
        raise HostError(
            f"{host.name}: reference: it lists {count(len(listed), 'model')}; write which one is the reference: "
            "models: {NAME: {reference: true}}"
        )
    return listed[0]


def read_rates(record: CellRecord) -> ReferenceRates:
    """Return what a measurement of the reference says; with the trouble if it says nothing."""
    named = ReferenceRates(
        name=f"{record.host}::{record.identity['model']}",
        build=record.engine_build,
        file=_describe(record.model),
        measured_at=time.time(),
    )
    if trouble := record.error or record.spoiled:
        return replace(named, trouble=trouble)
    decode, prefill = (record.aggregates.get(key) for key in ("decode_tok_s", "prefill_tok_s"))
    if decode is None and prefill is None:
        return replace(named, trouble="; ".join(record.blanks.values()) or "no sample gives a rate")
    return replace(
        named,
        decode_tok_s=decode.median if decode is not None else None,
        decode_error=_find_error(decode),
        prefill_tok_s=prefill.median if prefill is not None else None,
        prefill_error=_find_error(prefill),
    )


def _describe(model: ModelFacts | None) -> str | None:
    """The decisive facts of the model, in words."""
    known = [(title, getattr(model, key, None)) for key, title in DECISIVE]
    return ", ".join(f"{title} {value}" for title, value in known if value is not None) or None


def _find_error(aggregate: Aggregate | None) -> float:
    """Standard error of a median, of the logarithm (1.25 IQR / 1.35 sqrt(n), McGill, Tukey and Larsen 1978)."""
    if aggregate is None or aggregate.median <= 0:
        return 0.0
    return max(LEAST_ERROR, 0.929 * (aggregate.p75 - aggregate.p25) / aggregate.median / math.sqrt(aggregate.n))
