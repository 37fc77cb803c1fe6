"""Door 3: ``boobench page``: the local page to launch, watch, look back, try and compare."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from pytest_boobench.cli import is_page_installed, show_examples
from pytest_boobench.cli.parameters import hosts_option
from pytest_boobench.cli.project import find_project
from pytest_boobench.environment import FOLDER, make_folder
from pytest_boobench.errors import MissingExtra, explain_os_error
from pytest_boobench.untrusted import learn_url

if TYPE_CHECKING:
    from pytest_boobench.page.desk import Desk

PORT = 8117
"""Where the page listens if nobody says otherwise and it is free: settings in a browser belong to an address."""
_OPENER = "open.html"


def _read_address(_context: click.Context, _option: click.Parameter, typed: str) -> str:
    try:
        return str(ipaddress.ip_address("127.0.0.1" if typed == "localhost" else typed.strip("[]")))
    except ValueError:
        raise click.BadParameter(f"expected an IP address of this machine, got {typed!r}") from None


@click.command(
    epilog=show_examples(
        ("boobench page", "suites below here, and the embedded host, ready to chat"),
        ("boobench page suites/nightly.boobench.yaml", "one suite"),
        ("boobench page --port 8000 --no-open", "prints the address only"),
        ("boobench page --listen 10.0.0.7", "for other machines too: whoever has the address may measure"),
    )
)
@click.argument("places", metavar="PATHS", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--port", type=click.IntRange(0, 65_535), help=f"0: any free one (default: {PORT}, or a free one).")
@click.option(
    "--listen", default="127.0.0.1", show_default=True, metavar="ADDR", callback=_read_address,
    help="Listen on this address of the machine.",
)  # fmt: skip
@click.option("--no-open", is_flag=True, help="Do not open a browser.")
@hosts_option
@click.option(
    "--store", "typed_store", envvar="BOOBENCH_STORE", metavar="URL",
    help="The store: an SQLAlchemy URL or a file (default: what pytest --boobench uses here).",
)  # fmt: skip
def command(  # an argument for each option
    *,
    places: Sequence[Path],
    port: int | None,
    listen: str,
    no_open: bool,
    hosts_file: Path | None,
    typed_store: str | None,
) -> int:
    """Open a local page: launch, watch, look back, try, compare.

    It prints an address with a token that works once. Ctrl-C ends the page, and interrupts the runs that it started.
    """
    if not is_page_installed():
        raise MissingExtra("the page", "page")
    desk = _make_desk(places, hosts_file, typed_store)
    with open_listener(listen, port) as listener:
        return _serve(desk, listener, listen, opens=not no_open and sys.stdout.isatty())


def _make_desk(places: Sequence[Path], hosts_file: Path | None, typed_store: str | None) -> Desk:
    """The project here; its root becomes the current folder, as it is the children's."""
    from pytest_boobench.page.desk import Desk  # noqa: PLC0415  # SQLAlchemy

    project = find_project(Path.cwd())
    environ, named = dict(os.environ), []
    for name, given in (("BOOBENCH_HOSTS", hosts_file), ("BOOBENCH_STORE", typed_store)):
        if given is not None:
            text = str(given)
            environ[name] = text if "://" in text else str(Path(text).absolute())
            named.append(name)
    learn_url(typed_store or "")
    shared = bool(typed_store or project.ini.get("boobench_store"))
    desk = Desk(
        project=project,
        places=tuple(place.absolute() for place in places) or (project.root,),
        hosts_file=hosts_file.absolute() if hosts_file is not None else project.hosts_file,
        store_url=environ["BOOBENCH_STORE"] if typed_store else project.store_url,
        shared_store=shared,
        environ=environ,
        named=tuple(named),
    )
    os.chdir(project.root)
    return desk


def open_listener(address: str, port: int | None) -> socket.socket:
    """A socket that waits for browsers: at ``port``, 0 for any free one, None for the usual one or any free one.

    What is written is sent at once: a head and a body are two writes, and the second one would wait up to 40 ms for an
    acknowledgement of the first. asyncio sees to it only for sockets that name their protocol.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for wanted in (PORT, 0) if port is None else (port,):
        try:
            listener = socket.create_server((address, wanted), family=family)
        except OSError as error:
            trouble = error
        else:
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return listener
    raise click.UsageError(
        f"--listen, --port: {address}: {explain_os_error(trouble)}; expected a free port of this machine"
    )


def _serve(desk: Desk, listener: socket.socket, address: str, *, opens: bool) -> int:
    """Until Ctrl-C, or until the terminal is closed."""
    import uvicorn  # noqa: PLC0415  # an extra

    from pytest_boobench.page.app import make_app  # noqa: PLC0415
    from pytest_boobench.page.guard import Doorkeeper, find_names  # noqa: PLC0415

    port: int = listener.getsockname()[1]
    shown = "127.0.0.1" if ipaddress.ip_address(address).is_unspecified else address
    place = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/"
    doorkeeper = Doorkeeper(
        port, find_names(address, port), lambda token: click.echo(f"for another browser: {place}#token={token}")
    )
    app, page = make_app(desk, doorkeeper)
    link = f"{place}#token={doorkeeper.issue()}"
    click.echo(f"boobench page of {desk.root}; Ctrl-C ends it\n{link}")
    if not ipaddress.ip_address(address).is_loopback:
        click.echo(f"it listens on {address}, without encryption: whoever reads along can use it", err=True)
    config = uvicorn.Config(
        app, http="h11", ws="none", lifespan="on", log_level="warning", access_log=False, server_header=False,
        timeout_graceful_shutdown=2,
    )  # fmt: skip
    server = uvicorn.Server(config)

    usual = server.handle_exit

    def end(number: int, frame: FrameType | None) -> None:
        page.end()
        usual(number, frame)

    server.handle_exit = end  # type: ignore[assignment, method-assign]
    signal.signal(signal.SIGHUP, end)
    if opens:
        _open(desk.root, link)
    try:
        server.run([listener])
    except KeyboardInterrupt:  # uvicorn raises it again once all is closed
        click.echo("")
    return 0


def _open(root: Path, link: str) -> None:
    """Open a browser by a file that only this user can read: command lines are there for everybody to see."""
    path = make_folder(root / FOLDER / "page") / _OPENER
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0;url={link}">')
    webbrowser.open(path.as_uri())
