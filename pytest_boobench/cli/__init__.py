"""Door 2: the command ``boobench``, one file per verb. A verb returns its exit code.

Exit codes: 0 fine; 1 bad news (a regression, a host out of reach, a suite with mistakes); 2 wrong use; 3 our bug; 130
interrupted; 141 nobody reads the output any more.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from importlib.metadata import metadata
from typing import Any

import click

from pytest_boobench.errors import BoobenchError
from pytest_boobench.untrusted import hide_secrets, learn_likely_keys

VERBS = (
    *"init check schema hosts doctor page ab bisect capacity soak record history compare power notify".split(),
    *"baseline report export import store manual".split(),
)
_ELSEWHERE = {
    "schema": ("pytest_boobench.cli.check_command", "schema_command"),
    "report": ("pytest_boobench.cli.history_command", "report_command"),
    "page": ("pytest_boobench.page.command", "command"),
}
"""Verb -> its module and name there, where that is not ``VERB_command.command`` in this room."""
WRONG_USE, OUR_BUG, INTERRUPTED, UNREAD = 2, 3, 130, 141
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
"""All control characters but tabs and line ends."""


class _Guarded:
    """A stream that writes no secret and no control character.

    It expects whole texts: a secret that is split over two of them would be written.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    @property
    def buffer(self) -> _Guarded:
        """The stream for bytes, which click writes."""
        return _Guarded(self._stream.buffer)

    def write(self, written: str | bytes) -> int:
        """Write a text, or bytes in UTF-8; gives back what the stream does."""
        text = written if isinstance(written, str) else written.decode("utf-8", "surrogateescape")
        text = hide_secrets(_CONTROLS.sub(" ", text))
        count: int = self._stream.write(text if isinstance(written, str) else text.encode("utf-8", "surrogateescape"))
        return count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def show_examples(*examples: tuple[str, str]) -> str:
    """An epilog for click from pairs of a command and its purpose; ``\\b`` makes click keep the lines."""
    width = max(len(command) for command, _ in examples)
    lines = (f"  {command:<{width}}  {purpose}".rstrip() for command, purpose in examples)
    return "\n".join(("\b", "Examples:", *lines))


def is_page_installed() -> bool:
    """Whether all is there that the extra ``page`` brings."""
    return all(importlib.util.find_spec(name) is not None for name in ("starlette", "uvicorn", "jinja2"))


class _Unread(Exception):  # noqa: N818  # an end, and no error
    """Nobody reads the output any more."""


class _Verbs(click.Group):
    """Imports a verb's module when the verb is typed, since some modules take long to import."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in VERBS:
            return None
        module, name = _ELSEWHERE.get(cmd_name, (f"pytest_boobench.cli.{cmd_name}_command", "command"))
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the verb; for a broken pipe click itself would exit with code 1, which means bad news here."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise _Unread from error


@click.group(
    cls=_Verbs,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=show_examples(
        ("boobench init http://localhost:8080", "a first suite and hosts file for your server"),
        ("boobench check", "what is wrong with them"),
        ("boobench doctor", "what is wrong with this machine"),
        ("pytest --boobench suites/", "measure and judge"),
        ("boobench manual", "all about it, a page a topic"),
        ('eval "$(_BOOBENCH_COMPLETE=bash_source boobench)"', "completion; also zsh_source, fish_source"),
    ),
)
@click.version_option(package_name="pytest-boobench", message="%(version)s")
@click.option("--debug", is_flag=True, envvar="BOOBENCH_DEBUG", help="Where boobench itself fails, show the traceback.")
@click.pass_context
def boobench(context: click.Context, debug: bool) -> None:
    """LLM throughput as pytest tests: what goes with `pytest --boobench`."""
    context.ensure_object(dict)["debug"] = debug


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; ``args`` are those of the process by default."""
    output: Any = _Guarded(sys.stdout)
    errors: Any = _Guarded(sys.stderr)
    with redirect_stdout(output), redirect_stderr(errors):
        return _run(args)


def _run(args: Sequence[str] | None) -> int:
    options: dict[str, Any] = {}
    try:
        code = boobench.main(args=args, prog_name="boobench", standalone_mode=False, obj=options)
        sys.stdout.flush()
    except click.Abort:
        return INTERRUPTED
    except click.ClickException as error:
        learn_likely_keys(error.format_message())
        error.show()
        return int(options.get("trouble", WRONG_USE))
    except BoobenchError as error:
        click.echo(str(error), err=True)
        return int(options.get("trouble", WRONG_USE))
    except (BrokenPipeError, _Unread):
        # Python flushes once more when it ends, and would print an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD
    except Exception as error:  # noqa: BLE001  # any other exception is our bug
        _report_bug(error, debug=options.get("debug", False))
        return int(options.get("trouble", OUR_BUG))
    return code if isinstance(code, int) else 0


def _report_bug(error: Exception, *, debug: bool) -> None:
    """In one sentence; the error's own text may hold private data, so only ``--debug`` shows it."""
    if debug:
        click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    pages = dict(page.split(", ", 1) for page in metadata("pytest-boobench").get_all("Project-URL") or ())
    where = f" at {pages['Issues']}" if "Issues" in pages else ""
    click.echo(
        f"boobench: {type(error).__name__}: this is a bug of pytest-boobench; please report it{where}, "
        "with what boobench --debug shows",
        err=True,
    )
