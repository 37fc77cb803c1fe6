"""Door 2: ``boobench doctor``: what is installed, reachable, writable, and by which clock it would be measured."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path

import click
from click.core import ParameterSource

from pytest_boobench.cli.diagnosis import (
    Diagnosis,
    look_at_cache,
    look_at_installed,
    look_at_inventory,
    look_at_machine,
    look_at_spool,
    look_at_store,
)
from pytest_boobench.cli.hosts_command import HostReport, ask_hosts_now
from pytest_boobench.cli.output import make_patience, show_examples, to_json
from pytest_boobench.cli.project import (
    Project,
    find_project,
    hosts_option,
    load_timeout_option,
    read_inventory,
    store_option,
)
from pytest_boobench.errors import DocumentError, HostError
from pytest_boobench.hosts.inventory import Host
from pytest_boobench.servers.clients import NONE, Patience
from pytest_boobench.units import count


def look_at_hosts(hosts: Sequence[Host], patience: Patience = NONE) -> Iterator[Diagnosis]:
    """A finding for each host; they are asked at the same time, and nothing is loaded by it."""
    for report in asyncio.run(ask_hosts_now(hosts, patience)):
        yield _judge(report)


def _judge(report: HostReport) -> Diagnosis:
    topic = f"host {report.name}"
    if not report.reachable:
        text = (report.error or "").removeprefix(f"{report.name}: ")
        return Diagnosis("fail", topic, text, "is it running, and is its url right?")
    text = ", ".join(part for part in (report.kind, report.version, count(len(report.models), "model")) if part)
    if report.use == "busy":
        return Diagnosis("warn", topic, f"{text}, busy", "wait for it with --boobench-wait 10m")
    if report.use == "unknown":
        remedy = "say shared: false in the hosts file if it is yours alone"
        return Diagnosis("warn", topic, f"{text}, cannot tell whether others use it", remedy)
    return Diagnosis("ok", topic, f"{text}, quiet")


@click.command(
    epilog=show_examples(
        ("boobench doctor", "this machine and this project; no host is contacted"),
        ("boobench doctor rack-1", "and whether rack-1 answers"),
        ("boobench doctor --hosts boobench.hosts.yaml", "and all hosts of that file"),
        ("boobench doctor --json | jq '.findings[] | select(.state != \"ok\")'", "what is wrong"),
    )
)
@click.argument("names", nargs=-1, metavar="[HOST]...")
@hosts_option
@store_option
@load_timeout_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(  # one for each that can be typed
    context: click.Context,
    names: Sequence[str],
    hosts_file: Path | None,
    store_url: str | None,
    load_timeout_s: float,
    as_json: bool,
) -> int:
    """Look at this machine and project as a bench would find them.

    A line each: ok, warn, fail, and what would help. A host is contacted where it is named, and all of them where
    --hosts is typed. Exit code 1 where something fails.
    """
    project = find_project(Path.cwd())
    everybody = context.get_parameter_source("hosts_file") is ParameterSource.COMMANDLINE
    hosts, of_hosts_file = _choose_hosts(project, hosts_file, names, everybody=everybody)
    findings = []
    for finding in chain(
        look_at_installed(),
        look_at_machine(os.environ),
        look_at_store(project, store_url),
        look_at_cache(),
        look_at_spool(project),
        of_hosts_file,
        look_at_hosts(hosts, make_patience(load_timeout_s)),
    ):
        findings.append(finding)
        if not as_json:
            click.echo(str(finding))
    if as_json:
        click.echo(to_json({"findings": [asdict(finding) for finding in findings]}))
    return 1 if any(finding.state == "fail" for finding in findings) else 0


def _choose_hosts(
    project: Project, hosts_file: Path | None, names: Sequence[str], *, everybody: bool
) -> tuple[list[Host], list[Diagnosis]]:
    """The hosts to contact, and what is to be said of the file that names them."""
    try:
        inventory = read_inventory(project, hosts_file)
    except DocumentError as error:
        wrong = count(len(error.problems), "problem")
        return [], [Diagnosis("fail", error.problems[0].file, wrong, "boobench check tells them")]
    try:
        hosts = [inventory.get(name) for name in names or (inventory.names if everybody else ())]
    except HostError as error:
        raise click.UsageError(str(error)) from error
    return hosts, list(look_at_inventory(inventory))
