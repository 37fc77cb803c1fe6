"""Room 1: checks across the fields of a suite, and against the hosts file."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from pytest_boobench.documents.yaml_tree import Problems, suggest
from pytest_boobench.metrics import METRICS, metrics_of
from pytest_boobench.suite.conversing import check_turns
from pytest_boobench.suite.launching import StartNeeds, check_launch
from pytest_boobench.suite.objectives import list_objectives
from pytest_boobench.suite.prompt_file import PromptFile
from pytest_boobench.suite.prompting import RECORDED, check_prompts
from pytest_boobench.suite.spec import AXES_OF_CELLS, BESIDE_GRID, GRID, MarkedPlan, OverrideFields, SuiteFields

_SHOWN_VALUES = 8
_NOT_AT_RATE = {
    "concurrency": "rate decides how many are in flight; leave concurrency out",
}
"""Axis -> why it cannot be beside a rate."""


def check(  # noqa: PLR0913  # all that a suite is checked against
    written: SuiteFields,
    problems: Problems,
    *,
    known_hosts: Collection[str] | None,
    hosts_file: str | None,
    starts: Mapping[str, StartNeeds],
    max_cells: int,
    own: PromptFile | None,
) -> None:
    """Note all that is wrong across fields. ``known_hosts`` None: hosts are not checked."""
    if known_hosts is not None:
        _check_hosts(written, known_hosts, hosts_file, problems)
        needs = {host: starts.get(host) for host in written.hosts if host in known_hosts}
        check_launch(written.launch, written.node.child("launch"), written.node.child("models"), needs, problems)
    _check_names_of_axes(written, problems)
    _check_axes_beside_grid(written, problems)
    _check_kind(written, problems)
    check_prompts(written, own, problems)
    check_turns(written, problems)
    _check_depth(written, problems)
    cells, sum_text = count_cells(written)
    if cells > max_cells:
        limit = f"the limit is {max_cells:,} (ini boobench_max_cells)"
        problems.add(written.node.child("grid"), f"{sum_text}, {limit}")
    _check_rate(written, problems)
    _check_overrides(written, problems)
    _check_plans(written, problems)


def count_cells(written: SuiteFields) -> tuple[int, str]:
    """Return the number of cells, and its product as in ``12 x 10 x 200 x 1 host x 1 model = 24,000 cells``."""
    lengths = [len(values) for values in written.list_axes().values()]
    hosts, models = len(written.hosts), len(written.models)
    cells = math.prod(lengths) * hosts * models
    factors = [*map(str, lengths), _plural(hosts, "host"), _plural(models, "model")]
    return cells, f"{' x '.join(factors)} = {_plural(cells, 'cell')}"


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _check_hosts(
    written: SuiteFields, known_hosts: Collection[str], hosts_file: str | None, problems: Problems
) -> None:
    """Note hosts that are not in the hosts file."""
    where = f"in {hosts_file}" if hosts_file else "without a hosts file"
    for node in written.node.child("hosts").listed:
        if node.value in written.hosts and node.value not in known_hosts:
            problems.add(node, f"no host {node.describe()} {where}; {suggest(node.text, known_hosts)}")


def _check_names_of_axes(written: SuiteFields, problems: Problems) -> None:
    """Note names in ``launch`` that are also an axis: overrides could not tell them apart."""
    for name in written.launch:
        if name in AXES_OF_CELLS:
            problems.add(
                written.node.child("launch").child(name), "is the name of another axis; rename the placeholder"
            )


def _check_axes_beside_grid(written: SuiteFields, problems: Problems) -> None:
    """Note axes that stand in the grid and beside it."""
    for one in BESIDE_GRID:
        node = written.node.child(one.name)
        if not node.missing and not written.node.child("grid").child(one.name).missing:
            problems.add(node, "stands under grid too; write it once")


def _check_kind(written: SuiteFields, problems: Problems) -> None:
    """Note fields that the suite's kind of request does not have, and missing ones that it needs."""
    grid = written.node.child("grid")
    output = grid.child("output_tokens")
    if written.kind == "embedding":
        if not output.missing:
            problems.add(output, "an embedding generates no tokens; leave it out")
        if written.sampling:
            problems.add(written.node.child("sampling"), "an embedding samples no tokens; leave it out")
        if written.length == "natural":
            problems.add(written.node.child("length"), "an embedding generates no tokens; leave it out")
        for fields in (written, *written.overrides):
            if fields.quality:
                problems.add(fields.node.child("quality"), "an embedding predicts no tokens; leave it out")
    elif isinstance(grid.value, Mapping) and output.missing and not written.prompts:
        problems.add(output, f"is missing; kind {written.kind} needs a whole number from 1, or a list of such")
    for fields in (written, *written.overrides):
        _check_gate(fields, written, problems)
    limited = list_objectives(written.kind)
    for key in written.slo:
        if key not in limited:
            text = f"kind {written.kind} has no {METRICS[key].title}; known are {', '.join(limited)}"
            problems.add(written.node.child("slo").child(key), text)


def _check_rate(written: SuiteFields, problems: Problems) -> None:
    """Note what does not go with requests at planned times, and what needs them."""
    axes = written.list_axes()
    at_rate = [rate for rate in axes.get("rate", ()) if rate]
    if not at_rate and written.arrival != RECORDED:
        for name, fields in (("arrival", written), *(("duration", each) for each in (written, *written.overrides))):
            if not (node := fields.node.child(name)).missing:
                problems.add(node, "needs a rate: requests per second, as in rate: [1, 2]")
        return
    for name, remedy in _NOT_AT_RATE.items():
        absent = next(one.axis.default or one.axis.absent for one in GRID if one.name == name)
        if any(value != absent for value in axes.get(name, ())):
            beside = written.node.child(name)
            problems.add(written.node.child("grid").child(name) if beside.missing else beside, remedy)
    for fields in (written, *written.overrides):
        if written.arrival == RECORDED:
            if fields.duration_s is not None:
                text = "a replay is as long as its prompts; leave it out, or write samples for the first of them"
                problems.add(fields.node.child("duration"), text)
            continue
        if fields.given.get("warmup") == 0:
            text = "expected at least 1 at a rate: how long the last of them took decides how long the lead-in is"
            problems.add(fields.node.child("warmup"), text)
        if fields.duration_s is not None and "samples" in fields.given:
            problems.add(fields.node.child("duration"), "stands beside samples: either one decides how many; write one")


def _check_depth(written: SuiteFields, problems: Problems) -> None:
    """Note a depth where no lane's cache can keep a context before a made-up prompt."""
    axes = written.list_axes()
    if not any(axes.get("depth_tokens", ())):
        return
    node = written.node.child("grid").child("depth_tokens")
    if written.kind == "embedding":
        problems.add(node, "an embedding takes nothing from a cache; leave it out")
    if any(axes.get("rate", ())):
        problems.add(node, "cannot be combined with rate; measure them in two suites")
    if not written.node.child("prompts").missing:
        problems.add(node, "cannot be combined with prompts; measure them in two suites")


def _check_gate(fields: MarkedPlan, written: SuiteFields, problems: Problems) -> None:
    known = [metric.key for metric in metrics_of(written.kind)]
    for key in fields.gate or ():
        base = key.partition(".")[0]
        if base not in known:
            text = f"kind {written.kind} has no {METRICS[base].title}; known are {', '.join(known)}"
            problems.add(fields.node.child("gate").child(key), text)
        elif METRICS[base].binomial and not written.slo:
            problems.add(fields.node.child("gate").child(key), "needs an slo, as in slo: {ttft_ms: 500}")
        elif METRICS[base].of_baseline and not (fields.quality or written.quality):
            problems.add(fields.node.child("gate").child(key), f"nothing measures it; write quality: {key} too")


def _check_overrides(written: SuiteFields, problems: Problems) -> None:
    """Note overrides that match no cell, or that change nothing."""
    axes: dict[str, tuple[Any, ...]] = {"host": written.hosts, "model": written.models}
    axes |= {
        name: value if isinstance(value, tuple) else (value,)
        for name, value in {**written.sampling, **written.launch}.items()
    }
    axes |= written.list_axes()
    for override in written.overrides:
        _check_where(override, written, axes, problems)
        if not override.model_fields_set - {"where"}:
            problems.add(override.node, "changes nothing; add samples, warmup, max_failed, gate, timeouts or marks")


def _check_where(
    override: OverrideFields, written: SuiteFields, axes: Mapping[str, tuple[Any, ...]], problems: Problems
) -> None:
    where = override.node.child("where")
    for name, wanted in override.where.items():
        if any(problems.has(written.node.child(part).child(name)) for part in ("grid", "sampling", "launch")):
            continue  # nobody knows its right values
        if name not in axes:
            problems.add(where.child(name), f"the suite does not set {name}; {suggest(name, axes)}")
            continue
        for node in where.child(name).listed:
            value = node.text if name in written.launch else node.value
            if value in wanted and value not in axes[name]:
                values = [str(value) for value in axes[name][:_SHOWN_VALUES]]
                more = ", …" if len(axes[name]) > _SHOWN_VALUES else ""
                problems.add(node, f"picks no cell; the cells have {', '.join(values)}{more}")


def _check_plans(written: SuiteFields, problems: Problems) -> None:
    """Note plans in which every sample may fail, or that are too small for one block: nothing could be judged."""
    for fields in (written, *written.overrides):
        samples = fields.samples if "samples" in fields.given else written.samples
        if "max_failed" in fields.given and fields.max_failed >= samples:
            text = f"expected a whole number below samples, {samples}, got {fields.max_failed}"
            problems.add(fields.node.child("max_failed"), text)
        if fields.max_samples is not None and fields.max_samples < samples:
            text = f"expected at least one block, {samples} samples, got {fields.max_samples}"
            problems.add(fields.node.child("max_samples"), text)
