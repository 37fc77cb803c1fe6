"""Door 2: ``boobench baseline``: which baselines there are, what they rest on, and how they come and go.

- ``listing``      list: their names
- ``showing``      show: what one rests on, cell by cell
- ``foundation``   that, found and in words
- ``setting``      set, clear: what is in force, by hand
- ``carrying``     export, import: a file for git
"""

from __future__ import annotations

import click

from pytest_boobench.cli.baseline.carrying import export, import_
from pytest_boobench.cli.baseline.listing import list_
from pytest_boobench.cli.baseline.setting import clear, set_
from pytest_boobench.cli.baseline.showing import show


@click.group()
def command() -> None:
    """Look at baselines, set and clear them, carry them in git."""


for verb in (list_, show, set_, clear, export, import_):
    command.add_command(verb)
