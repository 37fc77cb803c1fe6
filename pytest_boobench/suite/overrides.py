"""Room 1: which cells an override picks, and what it makes of their plan and marks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_boobench.metrics import Kind
from pytest_boobench.suite.cell import Mark, Plan, Timeouts
from pytest_boobench.suite.spec import OverrideFields, PlanFields, SuiteFields, TimeoutFields
from pytest_boobench.suite.thresholds import Thresholds, default_thresholds


@dataclass(frozen=True, slots=True)
class Treatment:
    """How a cell is measured and marked; shared by all cells that the same overrides pick."""

    plan: Plan
    marks: tuple[Mark, ...]


class Treatments:
    """The treatments of one suite's cells, each made once."""

    def __init__(self, written: SuiteFields) -> None:
        self._written = written
        self._made: dict[tuple[int, ...], Treatment] = {}
        """By the lanes and the overrides."""

    def choose(self, at: Mapping[str, Any]) -> Treatment:
        """The treatment of the cell at these values of the axes, ``host`` and ``model`` among them."""
        picked = tuple(i for i, override in enumerate(self._written.overrides) if _picks(override, at))
        lanes: int = at["concurrency"]
        key = (lanes, *picked)
        if key not in self._made:
            written = self._written
            steps = (written, *(written.overrides[i] for i in picked))
            marks = tuple(mark for step in steps for mark in step.marks)
            self._made[key] = Treatment(_make_plan(steps, written.kind, lanes), marks)
        return self._made[key]


def _picks(override: OverrideFields, at: Mapping[str, Any]) -> bool:
    return all(at[axis] in values for axis, values in override.where.items())


def _make_plan(steps: Sequence[PlanFields], kind: Kind, lanes: int) -> Plan:
    """The defaults, changed by each step; a gate is changed metric by metric, timeouts one by one.

    As many samples as make each lane send as many: else the last ones would run beside fewer others.
    """
    plan = Plan(samples=lanes * math.ceil(Plan().samples / lanes))
    for fields in steps:
        plan = Plan(
            warmup=plan.warmup if fields.warmup is None else fields.warmup,
            warmup_max=plan.warmup_max if fields.warmup_max is None else fields.warmup_max,
            warmup_s=fields.warmup_time or plan.warmup_s,
            samples=fields.samples or plan.samples,
            max_samples=fields.max_samples or plan.max_samples,
            max_failed=plan.max_failed if fields.max_failed is None else fields.max_failed,
            gate=_make_gate(plan.gate, fields, default_thresholds(kind, lanes)),
            disturbed=fields.disturbed or plan.disturbed,
            policy=fields.policy or plan.policy,
            output_canary=plan.output_canary if fields.output_canary is None else fields.output_canary,
            timeouts=_make_timeouts(plan.timeouts, fields.timeouts),
        )
    return plan


def _make_gate(
    before: Mapping[str, float | None] | None, fields: PlanFields, usual: Thresholds
) -> Mapping[str, float | None] | None:
    if fields.gate is None or not isinstance(fields, OverrideFields):
        return before if fields.gate is None else fields.gate
    return {**(usual if before is None else before), **fields.gate}


def _make_timeouts(before: Timeouts, fields: TimeoutFields | None) -> Timeouts:
    if fields is None:
        return before
    return Timeouts(
        connect_s=fields.connect or before.connect_s,
        first_byte_s=fields.first_byte or before.first_byte_s,
        stall_s=fields.stall or before.stall_s,
        request_s=fields.request or before.request_s,
    )
