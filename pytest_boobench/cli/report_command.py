"""Door 2: ``boobench report``: the HTML page of what the store has."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import click

from pytest_boobench.cli.output import show_examples
from pytest_boobench.cli.parameters import measurement_options
from pytest_boobench.cli.project import find_project, open_store, store_option
from pytest_boobench.errors import explain_os_error
from pytest_boobench.record import Measurement
from pytest_boobench.reports import html
from pytest_boobench.store import Selection, Store


@click.command(
    epilog=show_examples(
        ("boobench report", "all cells of the store, as boobench-report.html"),
        ("boobench report --suite nightly --last 200 -o nightly.html", "one suite, its last 200 measurements"),
        ("pytest --boobench suites/ --boobench-report now.html", "the cells of one session, at its end"),
    )
)
@measurement_options
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("boobench-report.html"),
    show_default=True,
    help="Where to.",
)
@store_option
def command(selection: Selection, output: Path, store_url: str | None) -> int:
    """Write one HTML page with each cell's verdict and course. It opens offline and loads nothing.

    Of each cell the newest 50 measurements are shown, or as many as --last says.
    """
    html.require_template_engine()
    with open_store(find_project(Path.cwd()), store_url) as store:
        history = _gather(store, selection)
    if not history.measurements and selection != Selection():
        raise click.UsageError(f"nothing of that was measured; expected what {history.store} has, see boobench history")
    page = html.render(history, made_at=time.time())
    try:
        output.write_text(page, encoding="utf-8", newline="\n")
    except OSError as error:
        reason = explain_os_error(error)
        raise click.UsageError(f"--output: cannot write {output}: {reason}") from error
    click.echo(f"wrote {output}")
    return 0


def _gather(store: Store, wanted: Selection) -> html.History:
    cells = Selection(suites=wanted.suites, hosts=wanted.hosts, models=wanted.models, containing=wanted.containing)

    def ask(*, last: int | None = None, baselines: Collection[str] = ()) -> Sequence[Measurement]:
        # A baseline may be from another session, and from before.
        return store.measurements(replace(cells, baselines=baselines) if baselines else replace(wanted, last=last))

    return html.gather(ask, store.samples, last=wanted.last or html.RUNS, store=store.address)
