"""Door 2: ``boobench import``: results of other tools into the store, so that the other verbs work on them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from pytest_boobench.cli import show_examples
from pytest_boobench.cli.parameters import name_cell, store_option
from pytest_boobench.cli.project import show_path
from pytest_boobench.errors import BoobenchError
from pytest_boobench.metrics import METRICS
from pytest_boobench.other_tools import (
    HOST,
    TOOLS,
    Findings,
    ImportedRun,
    Naming,
    add_companion,
    find_tool,
    make_run,
    raise_empty,
    read,
    read_file,
)
from pytest_boobench.record import CellRecord
from pytest_boobench.store import Saved, Selection, Store
from pytest_boobench.store.replay import SpooledCell
from pytest_boobench.units import count, quantity


@dataclass(frozen=True, slots=True)
class ImportedFile:
    """A file that could be read."""

    path: Path
    run: ImportedRun
    findings: Findings


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wishes:
    """What the user says of all files."""

    tool: str | None
    suite: str | None
    host: str
    told: Mapping[str, Any]
    """Field of a `Naming` -> what the user says."""


@click.command(
    epilog=show_examples(
        ("boobench import llama-bench.json", "a file of any of the tools; its content says whose it is"),
        ("boobench import --baseline main before.json", "what later ones are compared with"),
        ("boobench import after.json && boobench compare main --fail", "exit code 1 where it became slower"),
        ("boobench import --dry-run benchmarks.json", "what would come in, and what would not"),
    )
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--format", "tool", type=click.Choice(tuple(TOOLS)), metavar="TOOL",
    help=f"Whose files these are: {', '.join(TOOLS)} (default: as their content says).",
)  # fmt: skip
@click.option("--suite", metavar="NAME", help="The suite they go into (default: the tool's name).")
@click.option("--host", default=HOST, show_default=True, metavar="NAME", help="The host that was measured.")
@click.option("--model", metavar="NAME", help="The model's name (default: as a file says).")
@click.option("--baseline", metavar="NAME", help="Make them the baseline of their cells, under this name.")
@click.option("--add", is_flag=True, help="With --baseline: keep what is in force, and add to it.")
@click.option(
    "--prompt-tokens", type=click.IntRange(min=1), metavar="N", help="What was asked for, if no file says it."
)
@click.option("--output-tokens", type=click.IntRange(min=1), metavar="N", help="The same of the answers.")
@click.option("--dry-run", is_flag=True, help="Only show what would come in.")
@store_option
def command(  # noqa: PLR0913  # an argument for each option
    files: Sequence[Path],
    *,
    tool: str | None,
    suite: str | None,
    host: str,
    model: str | None,
    baseline: str | None,
    add: bool,
    prompt_tokens: int | None,
    output_tokens: int | None,
    dry_run: bool,
    store_url: str,
) -> int:
    """Take results of other tools into the store.

    FILE is what llama-bench, llama-benchy, guidellm, aiperf or vllm bench serve wrote as JSON. Each becomes a run that
    is marked as imported, in a suite with the tool's name. A second import of the same file adds nothing. Where one of
    several files cannot be read, none is stored. Exit code 1 where a number was left out since it is missing or
    impossible, and where something cannot become a baseline.
    """
    if add and not baseline:
        raise click.UsageError("--add goes with --baseline")
    told = {"model": model, "prompt_tokens": prompt_tokens, "output_tokens": output_tokens}
    imported = _read_all(files, _Wishes(tool=tool, suite=suite, host=host, told=told))
    unset = False
    if dry_run:
        for each in imported:
            click.echo("\n".join(_describe(each)))
    else:
        with Store.open(store_url, create=True) as store:
            for each in imported:
                click.echo(_store(store, each))
                unset |= baseline is not None and _save(store, each.run, baseline, add=add)
                click.echo("".join(f"{line}\n" for line in each.findings.render()), nl=False)
    return 1 if unset or any(each.findings.left_out for each in imported) else 0


def _read_all(files: Sequence[Path], wishes: _Wishes) -> list[ImportedFile]:
    """All files; BoobenchError with the problems of each that cannot be read."""
    found, problems = [], []
    for path in files:
        try:
            found.append(_read_one(path, wishes))
        except BoobenchError as error:
            problems.append(str(error))
    if problems:
        raise BoobenchError("\n".join(problems))
    return found


def _read_one(path: Path, wishes: _Wishes) -> ImportedFile:
    display = show_path(path)
    findings, file = Findings(display), read_file(path, display)
    tool = find_tool(file, wishes.tool)
    companion = TOOLS[tool].find_companion(path.name)
    if companion and path.with_name(companion).is_file():
        beside = path.with_name(companion)
        file = add_companion(file, beside, show_path(beside))
    results = read(file, findings, tool)
    naming = Naming(suite=wishes.suite or tool, host=wishes.host, **wishes.told)
    run = make_run(tool, results, naming, content=file.content, written_at=path.stat().st_mtime, findings=findings)
    if not run.records:
        raise_empty(display, findings)
    return ImportedFile(path, run, findings)


def _store(store: Store, imported: ImportedFile) -> str:
    """Enter a file's run where the store does not have it; gives back what to say."""
    run, display = imported.run, show_path(imported.path)
    if store.runs(Selection(runs=(run.facts.uid,))):
        return f"{display}: nothing new: {store.address} has it as run {run.facts.uid[:8]}"
    now = time.time()
    entries = [SpooledCell(store=store.address, run=run.facts, at=now, record=record) for record in run.records]
    store.take_in([*entries, SpooledCell(store=store.address, run=run.facts, at=now, status="finished")])
    cells = count(len(run.records), "measurement")
    return f"{display}: {cells} of {run.facts.imported_from} in {store.address}, run {run.facts.uid[:8]}"


def _save(store: Store, run: ImportedRun, baseline: str, *, add: bool) -> bool:
    """Make a run the baseline of its cells, and say so; whether some of it cannot be."""
    measurements = store.measurements(Selection(runs=(run.facts.uid,)))
    reason = f"imported as {run.facts.uid[:8]}"
    saves = [
        Saved(measurement_id=one.id, cell_key=one.cell_key, saved_at=time.time(), reason=reason)
        for one in measurements
        if not one.spoiled
    ]
    change = store.put_in_force(baseline, saves, add=add)
    click.echo(f"{count(change.came, 'measurement')} set as baseline {baseline}, {change.went} replaced")
    for one in measurements:
        if one.spoiled:
            click.echo(f"not set: {name_cell(one)}: {one.spoiled}")
    return len(saves) < len(measurements)


def _describe(imported: ImportedFile) -> Iterator[str]:
    run = imported.run
    yield f"{show_path(imported.path)}: {count(len(run.records), 'measurement')} of {run.facts.imported_from}"
    yield from (f"  {'  '.join(_describe_record(record))}" for record in run.records)
    yield from imported.findings.render()


def _describe_record(record: CellRecord) -> Iterator[str]:
    """Its cell and the median of each metric."""
    yield "::".join(record.node_id.split("::")[-2:])
    for key, metric in METRICS.items():
        if key in record.aggregates:
            found = record.aggregates[key]
            yield f"{metric.title} {quantity(found.median, metric.unit)} (n {found.n})"
