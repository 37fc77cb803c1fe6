"""Door 2: stored measurements and samples as rows. Fields keep their order and their names; new ones come last."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import Any, get_origin

from pytest_boobench.aggregate import Aggregate
from pytest_boobench.metrics import METRICS, Sample
from pytest_boobench.plain import list_facts
from pytest_boobench.record import Measurement, RunFacts, Verdict
from pytest_boobench.store import Selection, Store
from pytest_boobench.suite.cell import AXES, Cell

Row = dict[str, Any]

_AXES = tuple(axis.name for axis in AXES if axis.name not in ("suite", "host"))
_FLAT_AXES = tuple(name for name in _AXES if get_origin(list_facts(Cell)[name].type) is not Mapping)
_LATER_AXES = tuple(name for name, fact in list_facts(Cell).items() if name in _FLAT_AXES and fact.since > "0001")
_RUN = tuple(
    field.name for field in fields(RunFacts) if field.name not in ("uid", "session", "suite", "host", "started_at")
)
_NOT_FLAT = ("id", "run", "node_id", "cell_key", "identity", "started_at", "aggregates", "verdicts", "model")
_FACTS = tuple(field.name for field in fields(Measurement) if field.name not in _NOT_FLAT)
_AGGREGATE = tuple(field.name for field in fields(Aggregate))
_VERDICT = tuple(field.name for field in fields(Verdict) if field.name not in ("metric", "now", "samples", "blocks"))
_SAMPLE = tuple(field.name for field in fields(Sample) if field.name != "started_at")
_LISTS = ("chunk_ms", "timings")
"""Facts of a sample that are no single value: CSV has no room for them."""
_SAMPLES_AT_ONCE = 100
"""Measurements whose samples are in memory at the same time."""


def list_measurements(store: Store, selection: Selection) -> Iterator[Row]:
    """A nested row for each measurement, oldest first."""
    for measurement in store.measurements(selection):
        run = asdict(measurement.run)
        plain = asdict(measurement)
        yield {
            **_name(measurement),
            **{name: measurement.identity.get(name) for name in _AXES},
            **{name: run[name] for name in _RUN},
            "model_facts": plain["model"],
            **{name: plain[name] for name in _FACTS},
            "aggregates": plain["aggregates"],
            "verdicts": plain["verdicts"],
        }


NUMBER_COLUMNS = (
    "measurement", "started_at", "suite", "host", "node_id", "cell_key", "run", "session",
    *(name for name in _FLAT_AXES if name not in _LATER_AXES),
    "git_commit", "engine_build", "samples", "failed", "blocks", "spoiled", "error",
    "metric", "unit", *_AGGREGATE, *_VERDICT, *_LATER_AXES,
)  # fmt: skip
"""Columns of `list_numbers`."""


def list_numbers(store: Store, selection: Selection) -> Iterator[Row]:
    """A flat row for each metric of each measurement; one without a metric where nothing could be measured."""
    for measurement in store.measurements(selection):
        judged = {verdict.metric: _choose(asdict(verdict), _VERDICT) for verdict in measurement.verdicts}
        about = {
            **_name(measurement),
            **{name: measurement.identity.get(name) for name in _AXES},
            "git_commit": measurement.run.git_commit,
            **{name: getattr(measurement, name) for name in _FACTS},
        }
        found = [key for key in METRICS if key in measurement.aggregates]
        for key in found:
            numbers = {**judged.get(key, {}), **asdict(measurement.aggregates[key])}
            yield _choose({**about, **numbers, "metric": key, "unit": METRICS[key].unit}, NUMBER_COLUMNS)
        if not found:
            yield _choose(about, NUMBER_COLUMNS)


SAMPLE_COLUMNS = (
    "measurement", "started_at", "suite", "host", "node_id", "cell_key", "run", "session",
    *(name for name in _SAMPLE if name not in _LISTS),
)  # fmt: skip
"""Columns of a sample where there is room for single values only."""


def list_samples(store: Store, selection: Selection) -> Iterator[Row]:
    """A row for each sample, warm-up and failed ones too; those that were pruned are missing."""
    measurements = store.measurements(selection, metrics=("e2e_ms",))
    for start in range(0, len(measurements), _SAMPLES_AT_ONCE):
        some = measurements[start : start + _SAMPLES_AT_ONCE]
        of_measurement = store.samples([measurement.id for measurement in some])
        for measurement in some:
            for sample in of_measurement.get(measurement.id, ()):
                plain = asdict(sample)
                yield {
                    **_name(measurement),
                    "started_at": write_moment(sample.started_at),
                    **{name: plain[name] for name in _SAMPLE},
                }


def _name(measurement: Measurement) -> Row:
    """What every row begins with."""
    return {
        "measurement": measurement.id,
        "started_at": write_moment(measurement.started_at),
        "suite": measurement.run.suite,
        "host": measurement.run.host,
        "node_id": measurement.node_id,
        "cell_key": measurement.cell_key,
        "run": measurement.run.uid,
        "session": measurement.run.session,
    }


def write_moment(at: float) -> str:
    """ISO 8601 in UTC, to the microsecond."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _choose(row: Mapping[str, Any], names: Collection[str]) -> Row:
    return {name: row.get(name) for name in names}
