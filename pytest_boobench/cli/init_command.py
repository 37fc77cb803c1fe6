"""Door 2: ``boobench init``: a first suite and hosts file for a server."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import click

from pytest_boobench import HOSTS_FILE
from pytest_boobench.aggregate import median_of, summarize
from pytest_boobench.cli import is_page_installed, show_examples
from pytest_boobench.cli.hosts_command import look_at_traffic
from pytest_boobench.cli.init_discovery import Chosen, Discovery, discover
from pytest_boobench.cli.init_texts import PYTEST_INI, name_blindness, write_hosts, write_suite
from pytest_boobench.cli.parameters import load_timeout_option
from pytest_boobench.cli.project import Project, find_project, show_path
from pytest_boobench.errors import DocumentError, HostError
from pytest_boobench.hosts import inventory
from pytest_boobench.hosts.addresses import is_loopback
from pytest_boobench.hosts.host_fields import EMBEDDED
from pytest_boobench.hosts.inventory import Host
from pytest_boobench.hosts.open_host import open_host
from pytest_boobench.measure.block import require_good
from pytest_boobench.measure.sending import make_requests, read_answers, run_requests
from pytest_boobench.servers.clients import Patience, Server
from pytest_boobench.servers.connect import connect
from pytest_boobench.servers.refusals import ANOTHER_KEY, NO_KEY
from pytest_boobench.suite.cell import Cell, Plan
from pytest_boobench.units import count
from pytest_boobench.untrusted import clean, hide_secrets

_KEY_HINTS = {
    NO_KEY: "; boobench init --api-key-env NAME does so",
    ANOTHER_KEY: "; --api-key-env names the variable that holds it",
}
_REQUESTS, _PROMPT_TOKENS, _OUTPUT_TOKENS = 4, 256, 32
"""What a model is sent to find its speed."""


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
    "--measure", "speed", is_flag=True, help="Send a few requests to models that are loaded, to choose sizes by speed."
)
@load_timeout_option
@click.option("--force", is_flag=True, help="Overwrite files that exist already.")
@click.option("--dry-run", is_flag=True, help="Print the files instead.")
def command(  # noqa: PLR0913  # an argument for each option
    *,
    url: str,
    name: str | None,
    variable: str | None,
    speed: bool,
    patience: Patience,
    force: bool,
    dry_run: bool,
) -> int:
    """Write a first suite and hosts file for the server at URL.

    It is asked what it is and has; nothing is loaded by asking. There is a suite for an embedding model, where it has
    one, and one for a chat model. Exit code 1 where the server is out of reach or has no model for a suite.
    """
    project = find_project(Path.cwd())
    host = _make_host(name or name_host(url), url, variable)
    try:
        found = asyncio.run(_ask_server(host, patience, speed=speed))
    except HostError as error:
        hint = next((hint for words, hint in _KEY_HINTS.items() if words in str(error)), "")
        click.echo(f"{error}{hint}", err=True)
        return 1
    files = dict(_list_files(project, found, variable))
    words = (found.kind, found.version, "at", found.host.base_url)
    click.echo(f"{found.host.name}: {' '.join(word for word in words if word)}, {count(len(found.models), 'model')}")
    for model in found.unusable:
        click.echo(f"  left out: {clean(model)!r}, which neither chats nor embeds, or cannot be in a test's name")
    for note in found.notes:
        click.echo(f"  {note}")
    if dry_run:
        for path, text in files.items():
            click.echo(f"\n--- {show_path(path)}\n{text}", nl=False)
        return 0
    _write(files, force=force)
    say_what_next(found)
    return 0


def _make_host(name: str, url: str, variable: str | None) -> Host:
    """The host as the reader of hosts files makes it, so that wrong values are refused in the same words."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, HOSTS_FILE)
        path.write_text(write_hosts(name, url, variable), encoding="utf-8")
        try:
            return inventory.load(path, env=os.environ).get(name)
        except DocumentError as error:
            problem = error.problems[0]
            raise click.UsageError(f"{problem.field.removeprefix('hosts.')}: {problem.text}") from error


def name_host(url: str) -> str:
    """A name for the host at a URL: ``local``, its address, or the first part of its name."""
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


async def _ask_server(host: Host, patience: Patience, *, speed: bool) -> Discovery:
    clients = open_host(host, host.base_url, patience=patience)
    try:
        server = await connect(host.name, host.base_url, clients, host.server)
        found = await discover(host, server)
        return await _measure_loaded(found, server) if speed else found
    finally:
        await clients.close()


async def _measure_loaded(found: Discovery, server: Server) -> Discovery:
    chosen, notes = [], [*found.notes]
    for model in found.chosen:
        measured = model
        if model.ready:
            try:
                measured = await _measure_speed(server, found.host.name, model)
            except HostError as error:
                notes.append(str(error))
        else:
            why = "is not loaded" if model.ready is False else "may not be loaded, which the server does not tell"
            notes.append(f"{found.host.name}: not measured: {model.name} {why}")
        chosen.append(measured)
    return replace(found, chosen=tuple(chosen), notes=tuple(notes))


async def _measure_speed(server: Server, host: str, model: Chosen) -> Chosen:
    """Send the model a few requests, one after the other. HostError where one fails, or others use the host."""
    sighting = await look_at_traffic(server, model.name)
    if sighting.in_flight:
        raise HostError(f"{host}: not measured: others use it now: {', '.join(map(str, sighting.in_flight))}")
    embeds = model.kind == "embedding"
    room = model.facts.n_ctx or _PROMPT_TOKENS + _OUTPUT_TOKENS
    prompt_tokens = min(_PROMPT_TOKENS, room * 3 // 4)
    cell = Cell(
        suite="boobench-init",
        host=host,
        model=model.name,
        kind=model.kind,
        prompt_tokens=prompt_tokens,
        output_tokens=None if embeds else min(_OUTPUT_TOKENS, room - prompt_tokens),
        concurrency=1,
        sampling={} if embeds else {"temperature": 0.0},
        cache="cold",
        plan=Plan(samples=_REQUESTS),
        id="probe",
        line=1,
    )
    requests = await make_requests(server, cell, uuid.uuid4().hex, _REQUESTS)
    taken = await run_requests(server, cell, requests, "measure")
    samples = read_answers(server, cell, requests, taken)
    require_good(samples, taken, cell)
    found = summarize(samples, model.kind)
    prompt_tok_s = median_of(found, "embed_tok_s" if embeds else "prefill_tok_s")
    return replace(model, prompt_tok_s=prompt_tok_s, decode_tok_s=median_of(found, "decode_tok_s"))


def _list_files(project: Project, found: Discovery, variable: str | None) -> Iterator[tuple[Path, str]]:
    """Paths and texts; the embedding model's suite first."""
    if not project.configured:
        yield project.root / "pytest.ini", PYTEST_INI
    hosts_file = project.hosts_file or project.root / HOSTS_FILE
    yield hosts_file, write_hosts(found.host.name, found.host.base_url, variable, found)
    for model in found.chosen:
        yield project.root / "suites" / f"{model.kind}.boobench.yaml", write_suite(found, model)


def _write(files: Mapping[Path, str], *, force: bool) -> None:
    """Write all of them or none; a usage error where one exists already."""
    there = [show_path(path) for path in files if path.exists()]
    if there and not force:
        are = "is there already" if len(there) == 1 else "are there already"
        raise click.UsageError(f"{', '.join(there)} {are}; --force overwrites, --dry-run shows what to add by hand")
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(hide_secrets(text), encoding="utf-8")
        click.echo(f"wrote {show_path(path)}")


def say_what_next(found: Discovery) -> None:
    """Print the next commands, and what to add to the hosts file where the server cannot tell of other users."""
    steps = show_examples(
        ("boobench check", "what the suites come to"),
        ("pytest --boobench suites/ --boobench-save-baseline", "measure, and keep the speed as the baseline"),
        ("pytest --boobench suites/", "after a change: red where it became slower"),
        *([("boobench page", "the same in a browser, and a chat")] if is_page_installed() else []),
    )
    click.echo("\n".join(("next:", *steps.splitlines()[2:])))
    if not is_page_installed():
        click.echo("the same in a browser, and a chat: pip install 'pytest-boobench[page]', then boobench page")
    if not found.sees_others and not found.host.local:
        click.echo(
            f"{found.kind} cannot tell whether others use it{name_blindness(found)}: "
            "say shared: false in the hosts file if nobody does"
        )
