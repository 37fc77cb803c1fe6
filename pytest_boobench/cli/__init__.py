"""Door 2: the command ``boobench``, one verb per file. A verb returns its exit code.

Exit codes: 0 fine; 1 the answer is bad news (a host out of reach, a suite that is wrong); 2 wrong use; 3 our bug;
130 interrupted.
"""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Sequence

import click

from pytest_boobench.errors import BoobenchError

VERBS = ("check", "hosts", "schema")
WRONG_USE, OUR_BUG, INTERRUPTED = 2, 3, 130


class _Verbs(click.Group):
    """A verb's file is imported when it is typed: the others may need what takes long to import."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"pytest_boobench.cli.{cmd_name}").command
        return command


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pytest-boobench", message="%(version)s")
def boobench() -> None:
    """LLM throughput as pytest tests: what goes with `pytest --boobench`."""


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; ``args`` are those of the process by default."""
    try:
        code = boobench.main(args=args, prog_name="boobench", standalone_mode=False)
    except click.Abort:
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return WRONG_USE
    except BoobenchError as error:
        click.echo(str(error), err=True)
        return WRONG_USE
    except Exception:  # noqa: BLE001  # whatever it is, it is ours to mend
        click.echo(f"{traceback.format_exc()}boobench: this is a bug of pytest-boobench; please report it", err=True)
        return OUR_BUG
    return code if isinstance(code, int) else 0
