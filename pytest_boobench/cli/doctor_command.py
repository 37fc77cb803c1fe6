"""Door 2: ``boobench doctor``: whether this machine and project are ready for a bench."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path

import click
from click.core import ParameterSource

from pytest_boobench.cli import show_examples
from pytest_boobench.cli.diagnosis import Diagnosis, look_around, look_at_inventory
from pytest_boobench.cli.hosts_command import HostReport, ask_hosts_now, choose_hosts
from pytest_boobench.cli.parameters import echo, hosts_option, json_option, load_timeout_option, store_option
from pytest_boobench.cli.project import Project, find_project, read_inventory
from pytest_boobench.errors import DocumentError
from pytest_boobench.hosts.inventory import Host
from pytest_boobench.servers.clients import Patience
from pytest_boobench.units import count


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
@json_option
@click.pass_context
def command(
    context: click.Context,
    names: Sequence[str],
    hosts_file: Path | None,
    store_url: str,
    patience: Patience,
    as_json: bool,
) -> int:
    """Check whether this machine and project are ready for a bench.

    Each finding has a line: ok, warn or fail, and what would help. Hosts are contacted only if they are named, or all
    of them with --hosts. Exit code 1 where something fails.
    """
    project = find_project(Path.cwd())
    all_hosts = context.get_parameter_source("hosts_file") is ParameterSource.COMMANDLINE
    hosts, of_hosts_file = _choose_hosts(project, hosts_file, names, all_hosts=all_hosts)
    findings = []
    for finding in chain(look_around(project, store_url), of_hosts_file, _look_at_hosts(hosts, patience)):
        findings.append(finding)
        if not as_json:
            click.echo(str(finding))
    if as_json:
        echo({"findings": [asdict(finding) for finding in findings]})
    return 1 if any(finding.state == "fail" for finding in findings) else 0


def _choose_hosts(
    project: Project, hosts_file: Path | None, names: Sequence[str], *, all_hosts: bool
) -> tuple[list[Host], list[Diagnosis]]:
    """The hosts to contact, and the findings on the file that names them."""
    try:
        inventory = read_inventory(project, hosts_file)
    except DocumentError as error:
        wrong = count(len(error.problems), "problem")
        return [], [Diagnosis("fail", error.problems[0].file, wrong, "boobench check tells them")]
    return choose_hosts(inventory, names or (inventory.names if all_hosts else ())), list(look_at_inventory(inventory))


def _look_at_hosts(hosts: Sequence[Host], patience: Patience) -> Iterator[Diagnosis]:
    """A finding for each host; they are asked at the same time, and load nothing for it."""
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
