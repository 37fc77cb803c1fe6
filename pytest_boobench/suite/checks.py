"""Room 1: what no single field can know: checks across the fields of a suite, and against the hosts file."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pytest_boobench.documents.problems import Problems, suggest
from pytest_boobench.metrics import METRICS, metrics_of
from pytest_boobench.suite.cell import Plan
from pytest_boobench.suite.grid import count_cells, list_axes
from pytest_boobench.suite.spec import OverrideFields, PlanFields, SuiteFields

_SHOWN_VALUES = 8


def check_hosts(written: SuiteFields, known_hosts: Collection[str], hosts_file: str | None, problems: Problems) -> None:
    """Note the hosts that the hosts file does not name."""
    where = f"in {hosts_file}" if hosts_file else "without a hosts file"
    for node in written.node.child("hosts").listed:
        if node.value in written.hosts and node.value not in known_hosts:
            problems.add(node, f"no host {node.describe()} {where}; {suggest(node.text, known_hosts)}")


def check_kind(written: SuiteFields, problems: Problems) -> None:
    """Note what the suite's kind of request does not have, or lacks."""
    output = written.grid.node.child("output_tokens")
    if written.kind == "embedding":
        if output.text or output.value is not None:
            problems.add(output, "an embedding generates no tokens; leave it out")
        if written.sampling:
            problems.add(written.node.child("sampling"), "an embedding samples no tokens; leave it out")
        if written.length == "natural":
            problems.add(written.node.child("length"), "an embedding generates no tokens; leave it out")
    elif written.grid.node.value is not None and not written.grid.output_tokens:
        problems.add(output, f"is missing; kind {written.kind} needs a whole number from 1, or a list of such")
    for fields in (written, *written.overrides):
        _check_gate(fields, written, problems)


def _check_gate(fields: PlanFields, written: SuiteFields, problems: Problems) -> None:
    known = [metric.key for metric in metrics_of(written.kind)]
    for key in fields.gate or ():
        if key not in known:
            text = f"kind {written.kind} has no {METRICS[key].title}; known are {', '.join(known)}"
            problems.add(fields.node.child("gate").child(key), text)


def check_size(written: SuiteFields, max_cells: int, problems: Problems) -> None:
    """Note a grid with more cells than allowed, without making them."""
    cells, sum_text = count_cells(written)
    if cells > max_cells:
        limit = f"the limit is {max_cells:,} (ini boobench_max_cells)"
        problems.add(written.node.child("grid"), f"{sum_text}, {limit}")


def check_overrides(written: SuiteFields, problems: Problems) -> None:
    """Note overrides that no cell can meet, or that change nothing."""
    axes: dict[str, tuple[Any, ...]] = {"host": written.hosts, "model": written.models}
    axes |= {name: value if isinstance(value, tuple) else (value,) for name, value in written.sampling.items()}
    axes |= {axis.name: axis.values for axis in list_axes(written)}
    for override in written.overrides:
        _check_where(override, axes, problems)
        changes = override.node.value.keys() - {"where"} if isinstance(override.node.value, Mapping) else ()
        if not changes:
            problems.add(override.node, "changes nothing; add samples, warmup, max_failed, gate, timeouts or marks")


def _check_where(override: OverrideFields, axes: Mapping[str, tuple[Any, ...]], problems: Problems) -> None:
    where = override.node.child("where")
    for name, wanted in override.where.items():
        if name not in axes:
            problems.add(where.child(name), f"the suite does not set {name}; {suggest(name, axes)}")
            continue
        for node in where.child(name).listed:
            if node.value in wanted and node.value not in axes[name]:
                values = [str(value) for value in axes[name][:_SHOWN_VALUES]]
                more = ", …" if len(axes[name]) > _SHOWN_VALUES else ""
                problems.add(node, f"picks no cell; the cells have {', '.join(values)}{more}")


def check_plans(written: SuiteFields, problems: Problems) -> None:
    """Note plans in which every sample may fail, or that have no room for a block: nothing could be judged."""
    for fields in (written, *written.overrides):
        samples = fields.samples or written.samples or Plan().samples
        if fields.max_failed is not None and fields.max_failed >= samples:
            text = f"expected a whole number below samples, {samples}, got {fields.max_failed}"
            problems.add(fields.node.child("max_failed"), text)
        if fields.max_samples is not None and fields.max_samples < samples:
            text = f"expected at least one block, {samples} samples, got {fields.max_samples}"
            problems.add(fields.node.child("max_samples"), text)
