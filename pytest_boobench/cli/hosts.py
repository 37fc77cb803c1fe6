"""Door 2: ``boobench hosts``: which hosts there are, what they run, whether they are free."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import click

from pytest_boobench.cli.examples import show_examples
from pytest_boobench.cli.plain import to_json
from pytest_boobench.cli.project import find_project, hosts_option, load_timeout_option, read_inventory
from pytest_boobench.cli.survey import HostReport, survey
from pytest_boobench.cli.waiting import make_patience
from pytest_boobench.errors import HostError
from pytest_boobench.hosts.inventory import EMBEDDED, Host, Inventory
from pytest_boobench.units import count


@click.command(
    epilog=show_examples(
        ("boobench hosts", "all of them"),
        ("boobench hosts rack-1", "one; exit code 1 where it is out of reach"),
        ("boobench hosts --json | jq '.hosts[] | select(.use == \"quiet\") | .name'", ""),
    )
)
@click.argument("names", nargs=-1, metavar="[HOST]...")
@hosts_option
@load_timeout_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(names: Sequence[str], hosts_file: Path | None, load_timeout_s: float, as_json: bool) -> int:
    """Ask the hosts for their kind, version, models and other users. Nothing is loaded by it; a model that is being
    loaded already is waited for.

    All hosts of the hosts file, or those named. Exit code 1 where one is out of reach.
    """
    hosts = _choose(read_inventory(find_project(Path.cwd()), hosts_file), names)
    reports = asyncio.run(survey(hosts, make_patience(load_timeout_s)))
    click.echo(_render_json(reports) if as_json else "\n".join(_render(reports)))
    # The embedded host is always listed, also for those who never installed it.
    missed = [report for report in reports if not report.reachable and (names or report.kind != EMBEDDED)]
    return 1 if missed else 0


def _choose(inventory: Inventory, names: Sequence[str]) -> list[Host]:
    try:
        return [inventory.get(name) for name in names or inventory.names]
    except HostError as error:
        raise click.UsageError(str(error)) from error


def _render_json(reports: Sequence[HostReport]) -> str:
    plain = [{**asdict(report), "models": dict(report.models)} for report in reports]
    return to_json({"hosts": plain})


def _render(reports: Sequence[HostReport]) -> Iterator[str]:
    for report in reports:
        yield "  ".join(part for part in (report.name, report.kind, report.version, report.url) if part)
        yield from (f"  {line}" for line in _describe(report))


def _describe(report: HostReport) -> Iterator[str]:
    if not report.reachable:
        yield from (report.error or "").removeprefix(f"{report.name}: ").splitlines()
        if report.kind == EMBEDDED:
            yield "it is there to try things without a server; other hosts do not need it"
        return
    width = max((len(name) for name, _ in report.models), default=0)
    yield from (f"{name:<{width}}  {state}" for name, state in report.models)
    if report.left_out:
        yield f"left out: {count(report.left_out, 'model')} whose name holds a control character"
    yield f"can: {', '.join(name.replace('_', ' ') for name in report.capabilities) or 'the common core'}"
    if report.use == "unknown":
        yield "cannot tell whether others use it"
    elif report.use == "quiet":
        yield "quiet"
    else:
        yield f"busy: {count(len(report.requests), 'request')} in flight"
        yield from (f"  {request}" for request in report.requests)
