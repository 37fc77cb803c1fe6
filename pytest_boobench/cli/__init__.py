"""Door 2: the command ``boobench``, one file per verb. A verb returns its exit code.

Exit codes: 0 fine; 1 the answer is bad news (regressed, a host out of reach, a suite that is wrong); 2 wrong use; 3 our
bug; 130 interrupted; 141 nobody reads the output any more.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import metadata

import click

from pytest_boobench.cli.output import guarded, show_examples
from pytest_boobench.errors import BoobenchError

VERBS = tuple("init check schema hosts doctor history compare power baseline report export store manual".split())
_ELSEWHERE = {"schema": ("check_command", "schema_command")}
"""Verb -> its module and name there, where that is not ``VERB_command.command``."""
WRONG_USE, OUR_BUG, INTERRUPTED, UNREAD = 2, 3, 130, 141
_TRACKER = "Issues"
"""The project's page for reports, as its metadata calls it."""


class _Unread(Exception):  # noqa: N818  # an end, and no error
    """Nobody reads the output any more."""


class _Verbs(click.Group):
    """A verb's file is imported when it is typed: the others may need what takes long to import."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in VERBS:
            return None
        module, name = _ELSEWHERE.get(cmd_name, (f"{cmd_name}_command", "command"))
        command: click.Command = getattr(importlib.import_module(f"pytest_boobench.cli.{module}"), name)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """click itself would end the process with code 1, which is bad news here."""
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
    with guarded():
        return _run(args)


def _run(args: Sequence[str] | None) -> int:
    said: dict[str, bool] = {}
    try:
        code = boobench.main(args=args, prog_name="boobench", standalone_mode=False, obj=said)
        sys.stdout.flush()
    except click.Abort:
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return WRONG_USE
    except BoobenchError as error:
        click.echo(str(error), err=True)
        return WRONG_USE
    except (BrokenPipeError, _Unread):
        # Python flushes once more when it ends, and would complain that it can't.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD
    except Exception as error:  # noqa: BLE001  # whatever it is, it is ours to mend
        _confess(error, debug=said.get("debug", False))
        return OUR_BUG
    return code if isinstance(code, int) else 0


def _confess(error: Exception, *, debug: bool) -> None:
    """One sentence; an error's own words may hold what is nobody's business, so they are shown on demand only."""
    if debug:
        click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    pages = dict(page.split(", ", 1) for page in metadata("pytest-boobench").get_all("Project-URL") or ())
    click.echo(
        f"boobench: {type(error).__name__}: this is a bug of pytest-boobench; please report it"
        f"{f' at {pages[_TRACKER]}' if _TRACKER in pages else ''}, with what boobench --debug shows",
        err=True,
    )
