"""Door 2: ``boobench compare``: two runs, sessions, baselines, commits or hosts, cell by cell."""

from __future__ import annotations

from pathlib import Path

import click

from pytest_boobench.cli.comparison.pairs import compare
from pytest_boobench.cli.comparison.render import render_text, to_plain
from pytest_boobench.cli.comparison.sides import NEWEST, find_side
from pytest_boobench.cli.examples import show_examples
from pytest_boobench.cli.plain import to_json
from pytest_boobench.cli.project import find_project
from pytest_boobench.cli.stored import open_store, store_option
from pytest_boobench.cli.values import read_percent


@click.command(
    epilog=show_examples(
        ("boobench compare main", "the newest session with the baseline main"),
        ("boobench compare HEAD~1 HEAD", "two commits of this repository"),
        ("boobench compare rack-1 rack-2", "two hosts, by the newest of each cell"),
        ("boobench compare baseline:main commit:0a1b2c3d", "where a word could be two things"),
        ("boobench compare main --fail", "exit code 1 where something regressed: a gate without measuring"),
    )
)
@click.argument("first", metavar="A")
@click.argument("second", metavar="[B]", default=NEWEST)
@click.option(
    "--max-drop", callback=read_percent, metavar="PCT", help="What is allowed, as in 10% (default: as when measured)."
)
@click.option("--literal", is_flag=True, help="Where there is doubt, the median alone decides.")
@click.option("-v", "--verbose", is_flag=True, help="Each verdict's sentence too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--fail", is_flag=True, help="Exit code 1 where something regressed.")
@store_option
def command(  # noqa: PLR0913  # an argument for each option
    first: str,
    second: str,
    *,
    max_drop: float | None,
    literal: bool,
    verbose: bool,
    as_json: bool,
    fail: bool,
    store_url: str | None,
) -> int:
    """Hold B against A, regressions first. B is the newest session where it is left out.

    A and B are baselines, hosts, git commits, pytest sessions or runs, told apart by what the store has of that name;
    kind:name says it outright. Of B the newest measurement of each cell is judged, against all clean ones of A, by the
    same gate as in pytest.
    """
    project = find_project(Path.cwd())
    with open_store(project, store_url) as store:
        a, b = find_side(store, first, project.root), find_side(store, second, project.root)
    found = compare(a, b, max_drop=max_drop, policy="literal" if literal else "default")
    if as_json:
        click.echo(to_json(to_plain(a, b, found)))
    else:
        click.echo("\n".join(render_text(a, b, found, explain=verbose)))
    regressed = any(pair.verdict.outcome == "regression" for pair in found.pairs)
    return 1 if fail and regressed else 0
