"""Door 2: ``boobench record``: how a llama-swap is used, as numbers to replay."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import click

from pytest_boobench.cli import show_examples
from pytest_boobench.cli.parameters import echo, hosts_option, read_duration
from pytest_boobench.cli.project import find_project, read_inventory, show_path
from pytest_boobench.cli.recorded_suite import check_suite_path, write_suite
from pytest_boobench.cli.recording_file import SUFFIX, Origin, RecordingFile
from pytest_boobench.errors import HostError
from pytest_boobench.hosts.inventory import Host
from pytest_boobench.hosts.open_host import open_host
from pytest_boobench.hosts.swap_recorder import SwapRecorder
from pytest_boobench.recording import Spoken
from pytest_boobench.servers.connect import connect
from pytest_boobench.servers.control import show_names
from pytest_boobench.servers.llama_swap import LlamaSwap
from pytest_boobench.units import count
from pytest_boobench.untrusted import clean

_NOT_IN_A_NAME = re.compile(r"[^\w.-]+")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(slots=True)
class _Files:
    """The files of a recording, one for each model."""

    host: str
    output: Path
    model: str | None
    """The only one, whose file has the name as it was typed; None: each file's name has its model."""
    opened: dict[str, RecordingFile] = field(default_factory=dict)

    def find(self, model: str) -> RecordingFile:
        """The file of a model. A usage error if the one that was named is another recording."""
        if model not in self.opened:
            self.opened[model] = self._open(Origin(self.host, model))
        return self.opened[model]

    def _open(self, origin: Origin) -> RecordingFile:
        if self.model is not None:
            return RecordingFile(self.output, origin)
        stem = f"{self.output.stem}-{_NOT_IN_A_NAME.sub('-', origin.model)}"
        try:
            return RecordingFile(self.output.with_name(f"{stem}{SUFFIX}"), origin)
        except click.UsageError:  # it is there, of another model with nearly the same name, or of another host
            digits = hashlib.sha256(f"{origin.host} {origin.model}".encode()).hexdigest()[:6]
            return RecordingFile(self.output.with_name(f"{stem}-{digits}{SUFFIX}"), origin)


@click.command(
    epilog=show_examples(
        ("boobench record rack-1 --model qwen3-8b --output day.jsonl", "for a day, or until Ctrl-C"),
        ("boobench record rack-1 --model qwen3-8b --suite day.boobench.yaml", "with the suite that replays it"),
        ("boobench record rack-1 --past --for 1s", "only what llama-swap's log holds now"),
    )
)
@click.argument("host")
@click.option("--model", metavar="NAME", help="Only this model (default: a file for each).")
@click.option(
    "--for", "for_s", default="24h", show_default=True, metavar="TIME", callback=read_duration, help="How long."
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.jsonl",
    help="Where to write (default: HOST.jsonl); a recording that is there goes on.",
)
@click.option(
    "--suite",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.boobench.yaml",
    help="Write the suite that replays it, too (with --model); a file that is there stays.",
)
@click.option("--past", is_flag=True, help="Also what llama-swap's log holds already.")
@hosts_option
def command(  # noqa: PLR0913  # an argument for each option
    *,
    host: str,
    model: str | None,
    for_s: float,
    output: Path | None,
    suite: Path | None,
    past: bool,
    hosts_file: Path | None,
) -> int:
    """Record how a llama-swap is used, without any text.

    HOST is a host of the hosts file. Each finished request becomes a line of JSON: tokens of prompt and answer, when it
    began, and which conversation it continues. A suite replays such a file: --suite writes it.

    Exit code 0 if requests were recorded, 1 if there were none, 2 for what cannot be recorded.
    """
    output = output or Path(f"{_NOT_IN_A_NAME.sub('-', host)}{SUFFIX}")
    if output.suffix != SUFFIX:
        raise click.UsageError(f"--output: expected a name that ends with {SUFFIX}, got {clean(output.name)!r}")
    if not output.absolute().parent.is_dir():
        raise click.UsageError(f"--output: no folder {show_path(output.parent)}; make it, or name another one")
    project = find_project(Path.cwd())
    if suite is not None:
        if model is None:
            raise click.UsageError("--suite: a suite replays the recording of one model; say which with --model")
        check_suite_path(suite, project.patterns)
    inventory = read_inventory(project, hosts_file)
    try:
        chosen = inventory.get(host)
    except HostError as error:
        raise click.UsageError(str(error)) from error
    left_out, files = asyncio.run(_record(chosen, _Files(host, output, model), past=past, for_s=for_s))
    echo(_summarize(files, left_out))
    if suite is not None and model is not None and output.exists():
        write_suite(suite, output, Origin(host, model))
        click.echo(f"{show_path(suite)}: replays it, by pytest --boobench {show_path(suite)}")
    return 0 if any(file.requests for file in files.opened.values()) else 1


async def _record(host: Host, files: _Files, *, past: bool, for_s: float) -> tuple[Mapping[str, int], _Files]:
    """Write what finishes until the time is over, or a signal comes."""
    if host.ours:
        raise HostError(f"{host.name}: boobench starts it, so nobody else uses it; {_expect()}")
    clients = open_host(host, host.base_url)
    recorder = None
    try:
        server = await connect(host.name, host.base_url, clients, host.server)
        if not isinstance(server, LlamaSwap):
            raise HostError(f"{host.name}: it is a {server.kind}, whose requests nobody can look up; {_expect()}")
        files.model = await _find_model(server, files.model)
        recorder = SwapRecorder(clients.control, files.model, lambda text: _say(host.name, text))
        if files.model is not None:
            files.find(files.model)  # whose mistakes are told before a day is over
        with _end_by_signals(for_s, recorder.stop):
            for model, request in await _start(recorder, host.name, past=past):
                files.find(model).write_past(request)
            async for model, request in recorder.follow():
                files.find(model).write(request)
    finally:
        if recorder is not None:
            await recorder.close()
        await clients.close()
        for file in files.opened.values():
            file.finish()
    return recorder.left_out, files


async def _start(recorder: SwapRecorder, host: str, *, past: bool) -> list[tuple[str, Spoken]]:
    found = await recorder.start(past=past)
    if found is None:
        raise HostError(f"{host}: its log of finished requests cannot be read; expected a llama-swap of v140 or later")
    _say(host, "recording; Ctrl-C ends it")
    if past or not recorder.knows_callers:
        which = "of the past" if recorder.knows_callers else "(v240 and later tell who sends them)"
        _say(host, f"requests {which} are recorded whoever sent them, those of boobench too")
    return found


async def _find_model(server: LlamaSwap, typed: str | None) -> str | None:
    """The model's name in the log. Raises HostError for one that the host does not list."""
    if typed is None:
        return None
    listed = await server.models()
    if typed not in listed:
        raise HostError(f"{server.name}: --model: it has no {clean(typed)!r}; it lists {show_names(listed)}")
    return await server.find_logged_name(typed)


@contextlib.contextmanager
def _end_by_signals(for_s: float, stop: Callable[[], None]) -> Iterator[None]:
    """Stop when the time is over, or by Ctrl-C or SIGTERM."""
    loop = asyncio.get_running_loop()
    timer = loop.call_later(for_s, stop)
    for number in _SIGNALS:
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
            loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        timer.cancel()
        for number in _SIGNALS:
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.remove_signal_handler(number)


def _expect() -> str:
    return "expected a host whose server is llama-swap, for its log of finished requests"


def _say(host: str, text: str) -> None:
    click.echo(f"{host}: {text}", err=True)


def _summarize(files: _Files, left_out: Mapping[str, int]) -> Iterator[str]:
    if not files.opened:
        yield "no request finished; nothing was written"
    for file in files.opened.values():
        yield f"{show_path(file.path)}: {count(file.requests, 'new request')}"
    for reason, number in sorted(left_out.items()):
        yield f"left out: {count(number, 'request')} {reason}"
