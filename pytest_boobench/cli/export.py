"""Door 2: ``boobench export``: what the store has, for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Literal

import click

from pytest_boobench.cli.examples import show_examples
from pytest_boobench.cli.exports import rows
from pytest_boobench.cli.exports.normalized import write_normalized
from pytest_boobench.cli.exports.write import write_csv, write_jsonl
from pytest_boobench.cli.project import find_project
from pytest_boobench.cli.selecting import selection_options
from pytest_boobench.cli.stored import open_store, store_option
from pytest_boobench.errors import explain_os_error
from pytest_boobench.store import Selection, Store
from pytest_boobench.units import count

Format = Literal["jsonl", "csv", "normalized"]


@click.command(
    epilog=show_examples(
        ("boobench export > boobench.jsonl", "every measurement, an object a line"),
        ("boobench export --format csv --suite chat --since 30d -o chat.csv", "a line for each metric of each"),
        ("boobench export --samples --session 0a1b2c3d", "every request of a session"),
        ("boobench export --format normalized --commit 0a1b2c3d -o before/", "for inference-doctor compare-runs"),
    )
)
@selection_options
@click.option(
    "--format", "form", type=click.Choice(("jsonl", "csv", "normalized")), default="jsonl", show_default=True,
    help="JSON lines, CSV, or inference-doctor's files.",
)  # fmt: skip
@click.option("--samples", is_flag=True, help="Every request instead of the cells' medians and percentiles.")
@click.option(
    "-o", "--output", default="-", metavar="FILE", help="Where to (default: standard output); a folder for normalized."
)
@store_option
def command(selection: Selection, form: Format, samples: bool, output: str, store_url: str | None) -> int:
    """Write what the store has, for other programs.

    Measurements with their statistics and verdicts, or, with --samples, every single request. Fields keep their names
    and their order. Times are UTC; units are in the names, and in the README.
    """
    if form == "normalized" and (samples or output == "-"):
        raise click.UsageError(
            "--format normalized: writes a file for each measurement; expected --output FOLDER, no --samples"
        )
    with open_store(find_project(Path.cwd()), store_url) as store:
        try:
            if form == "normalized":
                return _export_normalized(store, selection, Path(output))
            with click.open_file(output, "w", encoding="utf-8", atomic=output != "-") as file:
                written = _export(store, selection, form, samples=samples, file=file)
        except BrokenPipeError:
            raise  # whoever read it has enough
        except OSError as error:
            reason = explain_os_error(error)
            raise click.UsageError(f"--output: cannot write {output}: {reason}") from error
    if output != "-":
        click.echo(f"wrote {output}: {count(written, 'row')}", err=True)
    return 0


def _export(store: Store, selection: Selection, form: Format, *, samples: bool, file: IO[str]) -> int:
    """How many rows there were."""
    if form == "csv":
        if samples:
            return write_csv(rows.list_samples(store, selection), rows.SAMPLE_COLUMNS, file)
        return write_csv(rows.list_numbers(store, selection), rows.NUMBER_COLUMNS, file)
    listed = rows.list_samples if samples else rows.list_measurements
    return write_jsonl(listed(store, selection), file)


def _export_normalized(store: Store, selection: Selection, folder: Path) -> int:
    written, left_out = write_normalized(store.measurements(selection), folder)
    others = f"; {count(left_out, 'measurement')} left out: not measured, or spoiled" if left_out else ""
    click.echo(f"wrote {count(written, 'file')} below {folder}{others}", err=True)
    return 0
