"""Door 2: ``boobench doctor``: what is installed, reachable, writable, and by which clock it would be measured."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path

import click
from click.core import ParameterSource

from pytest_boobench.cli.diagnosis.finding import Finding
from pytest_boobench.cli.diagnosis.installed import look_at_installed
from pytest_boobench.cli.diagnosis.machine import look_at_machine
from pytest_boobench.cli.diagnosis.places import look_at_cache, look_at_inventory, look_at_spool, look_at_store
from pytest_boobench.cli.diagnosis.reach import look_at_hosts
from pytest_boobench.cli.examples import show_examples
from pytest_boobench.cli.plain import to_json
from pytest_boobench.cli.project import Project, find_project, hosts_option, load_timeout_option, read_inventory
from pytest_boobench.cli.stored import store_option
from pytest_boobench.cli.waiting import make_patience
from pytest_boobench.errors import DocumentError, HostError
from pytest_boobench.hosts.inventory import Host
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
) -> tuple[list[Host], list[Finding]]:
    """The hosts to contact, and what is to be said of the file that names them."""
    try:
        inventory = read_inventory(project, hosts_file)
    except DocumentError as error:
        wrong = count(len(error.problems), "problem")
        return [], [Finding("fail", error.problems[0].file, wrong, "boobench check tells them")]
    try:
        hosts = [inventory.get(name) for name in names or (inventory.names if everybody else ())]
    except HostError as error:
        raise click.UsageError(str(error)) from error
    return hosts, list(look_at_inventory(inventory))
