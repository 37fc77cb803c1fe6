"""Door 2: ``boobench init``: a first suite and hosts file for a server that is there."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import click

from pytest_boobench import HOSTS_FILE
from pytest_boobench.cli.init_discovery import Discovery, discover
from pytest_boobench.cli.init_texts import PYTEST_INI, name_blindness, write_hosts, write_suite
from pytest_boobench.cli.output import make_patience, show_examples
from pytest_boobench.cli.project import Project, find_project, load_timeout_option, show_path
from pytest_boobench.errors import DocumentError, HostError
from pytest_boobench.hosts import inventory
from pytest_boobench.hosts.addresses import is_loopback
from pytest_boobench.hosts.inventory import EMBEDDED, Host
from pytest_boobench.servers.clients import Patience
from pytest_boobench.servers.refusals import ANOTHER_KEY, NO_KEY
from pytest_boobench.units import count
from pytest_boobench.untrusted import clean, hide_secrets

SUITES = "suites"
"""The folder that suites go into."""
_KEY_HINTS = (
    (NO_KEY, "; boobench init --api-key-env NAME does so"),
    (ANOTHER_KEY, "; --api-key-env names the variable that holds it"),
)


@click.command(
    epilog=show_examples(
        ("boobench init http://localhost:8080", "a server on this machine"),
        ("boobench init http://10.0.0.5:9292 --name rack-1", "one elsewhere, called rack-1"),
        ("boobench init https://llm.lan --api-key-env LLM_KEY", "one that wants a key"),
        ("boobench init http://localhost:8080 --measure", "outputs as long as its speed asks for"),
        ("boobench init http://localhost:8080 --dry-run", "show the files, write none"),
    )
)
@click.argument("url")
@click.option("--name", help="What suites call the host (default: taken from the URL).")
@click.option("--api-key-env", "variable", metavar="NAME", help="The environment variable that holds the server's key.")
@click.option(
    "--measure", is_flag=True, help="Send a few requests to models that are loaded, to choose sizes by speed."
)
@load_timeout_option
@click.option("--force", is_flag=True, help="Overwrite files that are there.")
@click.option("--dry-run", is_flag=True, help="Print the files instead.")
def command(  # noqa: PLR0913  # one for each that can be typed
    *,
    url: str,
    name: str | None,
    variable: str | None,
    measure: bool,
    load_timeout_s: float,
    force: bool,
    dry_run: bool,
) -> int:
    """Write a first suite and hosts file for the server at URL.

    It is asked what it is and has; nothing is loaded by asking. There is a suite for an embedding model, where it has
    one, and one for a chat model. Exit code 1 where the server is out of reach or has no model for a suite.
    """
    project = find_project(Path.cwd())
    host = _make_host(name or name_host(url), url, variable)
    found = _discover(host, measure=measure, patience=make_patience(load_timeout_s))
    if found is None:
        return 1
    files = dict(_list_files(project, found, variable))
    _report(found)
    if dry_run:
        for path, text in files.items():
            click.echo(f"\n--- {show_path(path)}\n{text}", nl=False)
        return 0
    _write(files, force=force)
    say_what_next(found)
    return 0


def _discover(host: Host, *, measure: bool, patience: Patience) -> Discovery | None:
    """None where that fails, and why is told."""
    try:
        return asyncio.run(discover(host, measure=measure, patience=patience))
    except HostError as error:
        hint = next((hint for words, hint in _KEY_HINTS if words in str(error)), "")
        click.echo(f"{error}{hint}", err=True)
        return None


def _make_host(name: str, url: str, variable: str | None) -> Host:
    """Through the reader of hosts files, so that what is refused there is refused here, in the same words."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, HOSTS_FILE)
        path.write_text(write_hosts(name, url, variable), encoding="utf-8")
        try:
            return inventory.load(path, env=os.environ).get(name)
        except DocumentError as error:
            problem = error.problems[0]
            raise click.UsageError(f"{problem.field.removeprefix('hosts.')}: {problem.text}") from error


def name_host(url: str) -> str:
    """By the URL: ``local``, an address, or the first part of a name."""
    try:
        hostname = urlsplit(url).hostname or ""
    except ValueError:
        hostname = ""
    if not hostname or is_loopback(url):
        return "local"
    try:
        return str(ipaddress.ip_address(hostname)).replace(":", "-")
    except ValueError:
        first = hostname.partition(".")[0]
        return f"{first}-host" if first == EMBEDDED else first


def _list_files(project: Project, found: Discovery, variable: str | None) -> Iterator[tuple[Path, str]]:
    """Paths and texts; the embedding model's suite first."""
    if not project.configured:
        yield project.root / "pytest.ini", PYTEST_INI
    hosts_file = project.hosts_file or project.root / HOSTS_FILE
    yield hosts_file, write_hosts(found.host.name, found.host.base_url, variable, found)
    for model in found.chosen:
        yield project.root / SUITES / f"{model.kind}.boobench.yaml", write_suite(found, model)


def _report(found: Discovery) -> None:
    words = (found.kind, found.version, "at", found.host.base_url)
    click.echo(f"{found.host.name}: {' '.join(word for word in words if word)}, {count(len(found.models), 'model')}")
    for name in found.unusable:
        click.echo(f"  left out: {clean(name)!r}, which neither chats nor embeds, or cannot be in a test's name")
    for note in found.notes:
        click.echo(f"  {note}")


def _write(files: Mapping[Path, str], *, force: bool) -> None:
    """All of them or none; a usage error where one is there already."""
    there = [show_path(path) for path in files if path.exists()]
    if there and not force:
        are = "is there already" if len(there) == 1 else "are there already"
        raise click.UsageError(f"{', '.join(there)} {are}; --force overwrites, --dry-run shows what to add by hand")
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(hide_secrets(text), encoding="utf-8")
        click.echo(f"wrote {show_path(path)}")


def say_what_next(found: Discovery) -> None:
    steps = show_examples(
        ("boobench check", "what the suites come to"),
        (f"pytest --boobench {SUITES}/ --boobench-save-baseline", "measure, and keep the speed as the baseline"),
        (f"pytest --boobench {SUITES}/", "after a change: red where it became slower"),
    )
    click.echo("\n".join(("next:", *steps.splitlines()[2:])))
    say_what_is_not_seen(found)


def say_what_is_not_seen(found: Discovery) -> None:
    """Others on the host, where it cannot tell of them and the hosts file leaves the question open."""
    if found.sees_others or found.host.local:
        return
    click.echo(
        f"{found.kind} cannot tell whether others use it{name_blindness(found)}: "
        "say shared: false in the hosts file if nobody does"
    )
