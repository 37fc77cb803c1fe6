"""Room 5: what a baseline file holds: a name, and the measurements that are in force under it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from pytest_boobench.metrics import Sample
from pytest_boobench.plain import list_facts, take
from pytest_boobench.record import Baseline, CellRecord, Circumstances, Measurement, RunFacts, make_baseline_run


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedRun:
    """One measurement that is in force for its cell."""

    run: RunFacts
    record: CellRecord
    saved_at: float
    """Seconds since 1970 UTC."""
    reason: str = ""
    """Why, in the words of who saved it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineFile:
    """All of one baseline."""

    name: str
    runs: tuple[SavedRun, ...] = ()

    def with_runs(self, saved: Iterable[SavedRun], *, add: bool) -> BaselineFile:
        """The same with these measurements: in the place of those of their cells, or beside them (``add``)."""
        new = tuple(saved)
        keys, measurements = {one.record.cell_key for one in new}, set(map(_identify, new))
        kept = (
            one for one in self.runs if _identify(one) not in measurements and (add or one.record.cell_key not in keys)
        )
        return replace(self, runs=(*kept, *new))

    def baselines(self) -> dict[str, Baseline]:
        """Cell key -> Baseline, its runs oldest first."""
        of_key: dict[str, list[SavedRun]] = defaultdict(list)
        for one in sorted(self.runs, key=lambda one: one.record.started_at):
            of_key[one.record.cell_key].append(one)
        return {
            key: Baseline(
                name=self.name,
                cell_key=key,
                suite=several[-1].record.suite,
                runs=tuple(make_baseline_run(one.run, one.record, one.saved_at) for one in several),
            )
            for key, several in of_key.items()
        }


def save_measurement(measurement: Measurement, samples: Sequence[Sample], *, saved_at: float, reason: str) -> SavedRun:
    """A stored measurement with its samples, as a file may hold it."""
    record = CellRecord(
        node_id=measurement.node_id,
        cell_key=measurement.cell_key,
        suite=measurement.run.suite,
        host=measurement.run.host,
        identity=measurement.identity,
        started_at=measurement.started_at,
        samples=tuple(samples),
        aggregates=measurement.aggregates,
        total_tok_s=measurement.total_tok_s,
        canaries=(measurement.canary,) if measurement.canary else (),
        **take(list_facts(Circumstances), measurement),
    )
    return SavedRun(run=measurement.run, record=record, saved_at=saved_at, reason=reason)


def _identify(saved: SavedRun) -> tuple[str, str, float]:
    return saved.run.uid, saved.record.node_id, saved.record.started_at
