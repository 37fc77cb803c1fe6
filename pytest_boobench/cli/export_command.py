"""Door 2: ``boobench export``: what the store has, for other programs."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal

import click

from pytest_boobench.aggregate import Aggregate
from pytest_boobench.cli import export_rows
from pytest_boobench.cli.output import show_examples, to_json
from pytest_boobench.cli.parameters import selection_options
from pytest_boobench.cli.project import find_project, open_store, store_option
from pytest_boobench.errors import explain_os_error
from pytest_boobench.record import Measurement
from pytest_boobench.reports.text import without_nan
from pytest_boobench.store import Selection, Store
from pytest_boobench.units import count


def write_jsonl(rows: Iterable[Mapping[str, Any]], file: IO[str]) -> int:
    """An object a line, its fields in the rows' order; gives back how many. What is not finite is null."""
    count = 0
    for count, row in enumerate(rows, 1):  # noqa: B007  # wanted after the loop
        file.write(to_json(row, indent=None) + "\n")
    return count


def write_csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], file: IO[str]) -> int:
    """A head and a line for each row, as RFC 4180 but for the line ends; gives back how many. Blanks are empty."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    count = 0
    for count, row in enumerate(rows, 1):  # noqa: B007
        writer.writerow([without_nan(row[name]) for name in columns])
    return count


_NO_NAME = re.compile(r"[^\w.-]+")


def write_normalized(measurements: Iterable[Measurement], folder: Path) -> tuple[int, int]:
    """Write them below a folder; gives back how many, and how many were left out: not measured, or spoiled."""
    written = left_out = 0
    for measurement in measurements:
        if measurement.error is not None or measurement.spoiled is not None:
            left_out += 1
            continue
        path = folder / name_file(measurement)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(to_json(normalize(measurement)) + "\n", encoding="utf-8")
        written += 1
    return written, left_out


def name_file(measurement: Measurement) -> Path:
    """``suite-host-model-pp512-tg32-c4-0a1b2c3d/20261124T101112-17.normalized.json``."""
    words = f"{measurement.run.suite}-{'-'.join(measurement.node_id.split('::')[-2:])}"
    at = datetime.fromtimestamp(measurement.started_at, UTC)
    cell = f"{_NO_NAME.sub('-', words).strip('-.')}-{measurement.cell_key[:8]}"
    return Path(cell, f"{at:%Y%m%dT%H%M%S}-{measurement.id}.normalized.json")


def normalize(measurement: Measurement) -> dict[str, Any]:
    """The document. Where it has a word for GPUs only, the host stands; the engine's build stands as vLLM's version."""
    identity = measurement.identity
    requests_s = _requests_per_second(measurement)
    embeds = identity["kind"] == "embedding"
    decode = measurement.aggregates.get("decode_tok_s")
    return {
        "schema_version": "1",
        "environment": {
            "gpu": measurement.run.host,
            "vllm_version": measurement.engine_build,
            "model": identity["model"],
            "image": None,
        },
        "benchmark_parameters": {
            "tool": "pytest-boobench",
            **{name: value for name, value in identity.items() if name not in ("host", "model")},
        },
        "metrics": {
            "ttft_ms": _latency(measurement.aggregates.get("ttft_ms")),
            # one over the other turns a median into a median, and a mean into no mean
            "tpot_ms": {"median": 1000 / decode.median} if decode and decode.median > 0 else {},
            "itl_ms": _latency(measurement.aggregates.get("itl_ms")),
            "e2el_ms": _latency(measurement.aggregates.get("e2e_ms")),
            "output_token_throughput": None if embeds else measurement.total_tok_s,
            "request_throughput": requests_s,
            "texts_per_second": requests_s if embeds else None,
            "total_token_throughput": _total_tokens_per_second(identity, requests_s),
            "requests": {"successful": measurement.samples - measurement.failed, "failed": measurement.failed},
        },
    }


def _latency(aggregate: Aggregate | None) -> dict[str, float]:
    if aggregate is None:
        return {}
    return {name: getattr(aggregate, name) for name in ("mean", "median", "p95", "p99")}


def _requests_per_second(measurement: Measurement) -> float | None:
    """All lanes together: every request has the same tokens, so tokens per second tell requests per second."""
    identity = measurement.identity
    tokens = identity["prompt_tokens"] if identity["kind"] == "embedding" else identity["output_tokens"]
    return measurement.total_tok_s / tokens if measurement.total_tok_s and tokens else None


def _total_tokens_per_second(identity: Mapping[str, Any], requests_s: float | None) -> float | None:
    if requests_s is None:
        return None
    return float(requests_s * (identity["prompt_tokens"] + (identity["output_tokens"] or 0)))


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
    and their order. Times are UTC; units are in the names (boobench manual what-is-measured).
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
            return write_csv(export_rows.list_samples(store, selection), export_rows.SAMPLE_COLUMNS, file)
        return write_csv(export_rows.list_numbers(store, selection), export_rows.NUMBER_COLUMNS, file)
    listed = export_rows.list_samples if samples else export_rows.list_measurements
    return write_jsonl(listed(store, selection), file)


def _export_normalized(store: Store, selection: Selection, folder: Path) -> int:
    written, left_out = write_normalized(store.measurements(selection), folder)
    others = f"; {count(left_out, 'measurement')} left out: not measured, or spoiled" if left_out else ""
    click.echo(f"wrote {count(written, 'file')} below {folder}{others}", err=True)
    return 0
