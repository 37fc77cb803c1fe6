"""Door 2: ``boobench bisect``: which commit, build or version made it slow; for ``git bisect run``, and alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pytest_boobench.cli import show_examples
from pytest_boobench.cli.ab_command import ab_options, describe, max_time_option, render
from pytest_boobench.cli.ab_session import AbSettings
from pytest_boobench.cli.ab_sides import Sides, read_words
from pytest_boobench.cli.bisect_builds import is_bisecting, read_builds
from pytest_boobench.cli.bisect_candidates import CandidateRow, hash_prompts, read_candidates
from pytest_boobench.cli.bisect_checkout import Checkout
from pytest_boobench.cli.parameters import echo, json_option, read_percent
from pytest_boobench.cli.project import find_project
from pytest_boobench.metrics import metrics_of

ABORT = 128
"""Stops ``git bisect run``, which takes any code from 1 to 127 but 125 for a bad commit."""


class _StopsGit(click.Command):
    """Where it is used wrongly, or fails itself, during a ``git bisect``, git must not take its exit code for an
    answer."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """As click's, after a look at git."""
        parent = kwargs.get("parent")
        if parent is not None and isinstance(parent.obj, dict) and is_bisecting(Path.cwd()):
            parent.obj["trouble"] = ABORT
        return super().make_context(*args, **kwargs)


@click.command(
    cls=_StopsGit,
    epilog=show_examples(
        (
            "git bisect run boobench bisect --good v1 --build 'make -C x' -- x/llama-server --port {port}",
            "",
        ),
        ("boobench bisect --candidates b1,b2,b3,b4 -- {candidate}/llama-server -m x.gguf --port {port}", "folders"),
        ("boobench bisect --candidates 'a==1,a==2,a==3' -- {python} serve.py --port {port}", "packages of pip"),
        ("boobench bisect --candidates @builds.txt -- {candidate} -m x.gguf --port {port}", "a line for each"),
    ),
)
@click.option("--good", metavar="REF", help="A git ref, command line with {port}, URL or host that is fast enough.")
@click.option("--build", "builds", multiple=True, metavar="CMD", help="Builds the checkout (may be given again).")
@click.option("--allow-dirty", is_flag=True, help="Measure a checkout whose files are not as committed.")
@click.option("--candidates", metavar="A,B,…", help="What to walk over, the oldest first; @FILE has a line for each.")
@click.option(
    "--metric",
    type=click.Choice([metric.key for metric in metrics_of("chat")]),
    metavar="KEY",
    help="The metric to go by (default: rates, and of these the one that lost most).",
)
@click.option("--fresh", is_flag=True, help="Forget what an earlier walk over the same candidates has measured.")
@click.option(
    "--until",
    callback=read_percent,
    metavar="PCT",
    help="Measure until each interval is at most this wide to each side.",
)
@max_time_option("20m")
@ab_options
@json_option
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="-- COMMAND")
def command(  # noqa: PLR0913  # an argument for each option
    *,
    words: tuple[str, ...],
    good: str | None,
    builds: tuple[str, ...],
    allow_dirty: bool,
    candidates: str | None,
    fresh: bool,
    settings: AbSettings,
    hosts_file: Path | None,
    as_json: bool,
) -> int:
    """Find out what made a server slow. COMMAND starts one and has {port}.

    With --good it builds and measures the checkout that is there, for `git bisect run`: exit code 0 good, 1 bad, 125
    not to tell. With --candidates it walks over them by itself: exit code 1 where the first slow one is found, 0 where
    there is no loss, 3 where neither can be told. Interrupted, it goes on where it was.
    """
    if (good is None) == (candidates is None):
        raise click.UsageError("expected one of --good REF, for git bisect run, and --candidates A,B,…")
    if not words:
        raise click.UsageError("expected the server's command line after --, with {port} where its port goes")
    hash_prompts(settings.prompts)  # which says what is wrong of them before anything is built
    project = find_project(Path.cwd())
    sides = Sides(project, hosts_file, Path.cwd())
    line = read_words(words[0], "COMMAND") if len(words) == 1 else list(words)
    if good is not None:
        checkout = Checkout(line, read_builds(builds), sides, settings, project)
        answer = checkout.compare(good, allow_dirty=allow_dirty)
        if answer.found is not None:
            echo(describe(answer.found) if as_json else render(answer.found))
        if answer.why:
            click.echo(answer.why, err=True)
        return answer.exit_code
    if builds or allow_dirty:
        raise click.UsageError(f"{'--build' if builds else '--allow-dirty'}: it is for the checkout of --good")
    row = CandidateRow(read_candidates(str(candidates)), line, sides, settings, project)
    walk = row.make_walk(fresh=fresh)
    walk.go_on()
    echo(walk.describe() if as_json else walk.render())
    if walk.trouble:
        click.echo(walk.trouble, err=True)
    return walk.exit_code
