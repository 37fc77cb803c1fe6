"""Door 2: ``boobench export``: stored measurements and samples as JSON lines, CSV, or files for other programs.

Rows keep the names and the order of their fields; new fields come last.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal, get_origin

import click

from pytest_boobench.aggregate import Aggregate
from pytest_boobench.cli import show_examples
from pytest_boobench.cli.parameters import selection_options, store_option, to_json
from pytest_boobench.errors import explain_os_error
from pytest_boobench.metrics import Sample, find_metric, sort_metrics
from pytest_boobench.plain import list_facts
from pytest_boobench.record import Measurement, RunFacts, Verdict
from pytest_boobench.reports.text import without_nan
from pytest_boobench.store import Selection, Store
from pytest_boobench.suite.cell import AXES, Cell
from pytest_boobench.units import count

Row = dict[str, Any]


def _list_fields(kind: type, *but: str) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind) if field.name not in but)


_AXES = tuple(axis.name for axis in AXES if axis.name not in ("suite", "host"))
_FLAT_AXES = tuple(name for name in _AXES if get_origin(list_facts(Cell)[name].type) is not Mapping)
_LATER_AXES = tuple(name for name, fact in list_facts(Cell).items() if name in _FLAT_AXES and fact.since > "0001")
_RUN = _list_fields(RunFacts, "uid", "session", "suite", "host", "started_at")
_FACTS = _list_fields(
    Measurement,
    *("id", "run", "node_id", "cell_key", "identity", "started_at", "aggregates", "verdicts", "model"),
)
_SAMPLE = _list_fields(Sample, "started_at")
_NAME: Mapping[str, Callable[[Measurement], Any]] = {
    "measurement": lambda measurement: measurement.id,
    "started_at": lambda measurement: _write_moment(measurement.started_at),
    "suite": lambda measurement: measurement.run.suite,
    "host": lambda measurement: measurement.run.host,
    "node_id": lambda measurement: measurement.node_id,
    "cell_key": lambda measurement: measurement.cell_key,
    "run": lambda measurement: measurement.run.uid,
    "session": lambda measurement: measurement.run.session,
}
"""The fields that every row begins with."""
NUMBER_COLUMNS = (
    *_NAME,
    *(name for name in _FLAT_AXES if name not in _LATER_AXES),
    "git_commit", "engine_build", "samples", "failed", "blocks", "spoiled", "error",
    "metric", "unit", *_list_fields(Aggregate), *_list_fields(Verdict, "metric", "now", "samples", "blocks"),
    *_LATER_AXES,
)  # fmt: skip
"""CSV columns of `list_numbers`."""
SAMPLE_COLUMNS = (*_NAME, *(name for name in _SAMPLE if name not in ("chunk_ms", "timings")))
"""CSV columns of `list_samples`: without its lists."""
_SAMPLES_AT_ONCE = 100
"""Measurements whose samples are in memory at the same time."""


def list_measurements(store: Store, selection: Selection) -> Iterator[Row]:
    """A nested row for each measurement, oldest first."""
    for measurement in store.measurements(selection):
        plain = asdict(measurement)
        yield {
            **_name(measurement),
            **{name: measurement.identity.get(name) for name in _AXES},
            **{name: plain["run"][name] for name in _RUN},
            "model_facts": plain["model"],
            **{name: plain[name] for name in (*_FACTS, "aggregates", "verdicts")},
        }


def list_numbers(store: Store, selection: Selection) -> Iterator[Row]:
    """A flat row for each metric of each measurement; one without a metric where nothing could be measured."""
    for measurement in store.measurements(selection):
        judged = {verdict.metric: asdict(verdict) for verdict in measurement.verdicts}
        about = {
            **_name(measurement),
            **{name: measurement.identity.get(name) for name in _AXES},
            "git_commit": measurement.run.git_commit,
            **{name: getattr(measurement, name) for name in _FACTS},
        }
        found = sort_metrics(measurement.aggregates)
        for key in found:
            # The counts of samples and blocks are those of the measurement, not those of the verdict.
            aggregate = asdict(measurement.aggregates[key])
            yield {**judged.get(key, {}), **about, **aggregate, "metric": key, "unit": find_metric(key).unit}
        if not found:
            yield about


def list_samples(store: Store, selection: Selection) -> Iterator[Row]:
    """A row for each sample, warm-up and failed ones too; those that were pruned are missing."""
    measurements = store.measurements(selection, metrics=("e2e_ms",))
    for start in range(0, len(measurements), _SAMPLES_AT_ONCE):
        some = measurements[start : start + _SAMPLES_AT_ONCE]
        of_measurement = store.samples([measurement.id for measurement in some])
        for measurement in some:
            for sample in of_measurement.get(measurement.id, ()):
                plain = asdict(sample)
                row = {**_name(measurement), **{name: plain[name] for name in _SAMPLE}}
                yield {**row, "started_at": _write_moment(sample.started_at)}


def _name(measurement: Measurement) -> Row:
    return {name: read(measurement) for name, read in _NAME.items()}


def _write_moment(at: float) -> str:
    """ISO 8601 in UTC, to the microsecond."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def normalize(measurement: Measurement) -> Row:
    """inference-doctor's document. It has fields for GPU and vLLM version only: they hold host and engine build."""
    identity, aggregates = measurement.identity, measurement.aggregates
    embeds = identity["kind"] == "embedding"
    decode = aggregates.get("decode_tok_s")
    # Every request has the same number of tokens, but not if the prompts are the suite's own.
    prompt_tokens = identity.get("prompt_tokens", 0)
    tokens = (prompt_tokens if embeds else identity["output_tokens"]) if prompt_tokens else None
    requests_s = measurement.total_tok_s / tokens if measurement.total_tok_s and tokens else None
    all_tokens = prompt_tokens + (identity["output_tokens"] or 0)
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
            "ttft_ms": _describe_latency(aggregates.get("ttft_ms")),
            # 1000 / x turns a median into a median, but not a mean into a mean
            "tpot_ms": {"median": 1000 / decode.median} if decode and decode.median > 0 else {},
            "itl_ms": _describe_latency(aggregates.get("itl_ms")),
            "e2el_ms": _describe_latency(aggregates.get("e2e_ms")),
            "output_token_throughput": None if embeds else measurement.total_tok_s,
            "request_throughput": requests_s,
            "texts_per_second": requests_s if embeds else None,
            "total_token_throughput": None if requests_s is None else float(requests_s * all_tokens),
            "requests": {"successful": measurement.samples - measurement.failed, "failed": measurement.failed},
        },
    }


def _describe_latency(aggregate: Aggregate | None) -> dict[str, float]:
    if aggregate is None:
        return {}
    return {name: getattr(aggregate, name) for name in ("mean", "median", "p95", "p99")}


def name_file(measurement: Measurement) -> Path:
    """``suite-host-model-pp512-tg32-c4-0a1b2c3d/20261124T101112-17.normalized.json``."""
    words = f"{measurement.run.suite}-{'-'.join(measurement.node_id.split('::')[-2:])}"
    cell = re.sub(r"[^\w.-]+", "-", words).strip("-.")
    at = datetime.fromtimestamp(measurement.started_at, UTC)
    return Path(f"{cell}-{measurement.cell_key[:8]}", f"{at:%Y%m%dT%H%M%S}-{measurement.id}.normalized.json")


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
def command(
    selection: Selection, form: Literal["jsonl", "csv", "normalized"], samples: bool, output: str, store_url: str
) -> int:
    """Write what the store has, for other programs.

    Measurements with their statistics and verdicts, or, with --samples, every single request. Fields keep their names
    and their order. Times are UTC; units are in the names (boobench manual what-is-measured).
    """
    if form == "normalized" and (samples or output == "-"):
        raise click.UsageError(
            "--format normalized: writes a file for each measurement; expected --output FOLDER, no --samples"
        )
    with Store.open(store_url, create=False) as store:
        try:
            if form == "normalized":
                _write_normalized(store, selection, Path(output))
                return 0
            with click.open_file(output, "w", encoding="utf-8", atomic=output != "-") as file:
                write = _write_csv if form == "csv" else _write_jsonl
                written = write(store, selection, file, samples=samples)
        except BrokenPipeError:
            raise  # the reader of the pipe has ended
        except OSError as error:
            raise click.UsageError(f"--output: cannot write {output}: {explain_os_error(error)}") from error
    if output != "-":
        click.echo(f"wrote {output}: {count(written, 'row')}", err=True)
    return 0


def _write_jsonl(store: Store, selection: Selection, file: IO[str], *, samples: bool) -> int:
    """An object a line; gives back how many."""
    written = 0
    for row in (list_samples if samples else list_measurements)(store, selection):
        file.write(to_json(row, indent=None) + "\n")
        written += 1
    return written


def _write_csv(store: Store, selection: Selection, file: IO[str], *, samples: bool) -> int:
    """RFC 4180 but for the line ends; gives back how many rows. What a row does not have is empty."""
    columns = SAMPLE_COLUMNS if samples else NUMBER_COLUMNS
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    written = 0
    for row in (list_samples if samples else list_numbers)(store, selection):
        writer.writerow([without_nan(row.get(name)) for name in columns])
        written += 1
    return written


def _write_normalized(store: Store, selection: Selection, folder: Path) -> None:
    """A file for each clean measurement."""
    measurements = store.measurements(selection)
    clean = [one for one in measurements if one.error is None and one.spoiled is None]
    for measurement in clean:
        path = folder / name_file(measurement)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(to_json(normalize(measurement)) + "\n", encoding="utf-8")
    left_out = len(measurements) - len(clean)
    others = f"; {count(left_out, 'measurement')} left out: not measured, or spoiled" if left_out else ""
    click.echo(f"wrote {count(len(clean), 'file')} below {folder}{others}", err=True)
