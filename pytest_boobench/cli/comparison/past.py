"""Door 2: a stored measurement as the gate takes it: as a cell that was just measured, or as part of a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_boobench.facts import Canary, ServerFacts
from pytest_boobench.metrics import ClockKind
from pytest_boobench.record import Baseline, BaselineRun, CellRecord, Measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class PastRecord(CellRecord):
    """A record whose samples are left in the store: what follows from them was stored beside them."""

    measurement: Measurement

    @property
    def blocks(self) -> int:
        """As it was stored."""
        return self.measurement.blocks

    @property
    def clock(self) -> ClockKind | None:
        """As it was stored."""
        return self.measurement.clock

    @property
    def still_warming(self) -> str | None:
        """Whatever spoiled the samples, others on the host left out: the store keeps one text for all."""
        return None if self.measurement.spoiled == self.disturbed else self.measurement.spoiled

    @property
    def rates(self) -> str | None:
        """As it was stored."""
        return self.measurement.rates

    @property
    def contradiction(self) -> str | None:
        """As it was stored."""
        return self.measurement.contradiction


def recall(measurement: Measurement, canaries: Sequence[Canary]) -> PastRecord:
    """The measurement as a cell that is to be judged; ``canaries`` as in a record."""
    build = measurement.engine_build
    return PastRecord(
        measurement=measurement,
        node_id=measurement.node_id,
        cell_key=measurement.cell_key,
        suite=measurement.run.suite,
        host=measurement.run.host,
        identity=measurement.identity,
        started_at=measurement.started_at,
        aggregates=measurement.aggregates,
        server=ServerFacts(kind="", url="", engine_build=build) if build else None,
        model=measurement.model,
        traffic=measurement.traffic,
        client=measurement.run.client,
        canaries=tuple(canaries),
        text_digest=measurement.text_digest,
        blanks=measurement.blanks,
    )


def make_baseline(name: str, cell_key: str, measurements: Sequence[Measurement]) -> Baseline:
    """Measurements of one cell, oldest first, as the baseline that a later one is held against."""
    runs = tuple(
        BaselineRun(
            run_uid=measurement.run.uid,
            session=measurement.run.session,
            measured_at=measurement.started_at,
            saved_at=measurement.started_at,
            aggregates=measurement.aggregates,
            model=measurement.model,
            engine_build=measurement.engine_build,
            git_commit=measurement.run.git_commit,
            client=measurement.run.client,
            clock=measurement.clock,
            canary=measurement.canary,
            text_digest=measurement.text_digest,
        )
        for measurement in measurements
    )
    return Baseline(name=name, cell_key=cell_key, suite=measurements[0].run.suite, runs=runs)
