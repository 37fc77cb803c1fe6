"""Room 5: the schema. Names carry units; times are UTC; NULL means that a fact is not known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    MetaData,
    Table,
    UniqueConstraint,
    text,
)

from pytest_boobench.aggregate import Aggregate
from pytest_boobench.facts import Traffic
from pytest_boobench.metrics import Phase, Sample
from pytest_boobench.plain import Fact, list_facts
from pytest_boobench.record import (
    CellRecord,
    CondensedFacts,
    JobType,
    Outcome,
    RunFacts,
    RunStatus,
    Verdict,
    VoteWord,
)
from pytest_boobench.store.column_types import Count, Id, Moment, Number, PlainJson, PlainText
from pytest_boobench.suite.cell import AXES, Cell

VERSION_TABLE = "bench_schema"
"""Alembic's table for the schema version. Our own name: a team's database may hold other tables too."""

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)


def _one_of(column: str, values: Iterable[str]) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


_TYPES: Mapping[Any, Any] = {str: PlainText, Literal: PlainText, int: Count, float: Number, bool: Boolean}
"""A fact's type -> its column's type. A time in seconds (``_at``) is a `Moment`; any other type is JSON."""


def _type_of(fact: Fact) -> Any:
    return Moment if fact.name.endswith("_at") else _TYPES.get(get_origin(fact.type) or fact.type, PlainJson)


def _columns(facts: Iterable[Fact]) -> Iterator[Column[Any]]:
    """A column for each fact, under its name. NULL: not known, or stored before the fact existed."""
    return (Column(fact.name, _type_of(fact), nullable=fact.optional or fact.since > "0001") for fact in facts)


AXIS_NAMES = tuple(axis.name for axis in AXES if axis.name not in ("suite", "host"))
"""The axes with a column of their own; suites and hosts are tables."""
_TRAFFIC_NAMES = {"requests": "foreign_requests", "notes": "traffic_notes"}
TRAFFIC_COLUMNS = {_TRAFFIC_NAMES.get(name, name): fact for name, fact in list_facts(Traffic).items()}
_NOT_A_COLUMN = {"identity", "aggregates", "model", "canary", "traffic"}
CELL_FACTS = {
    **{name: fact for name, fact in list_facts(CondensedFacts).items() if name not in _NOT_A_COLUMN},
    **{name: list_facts(CellRecord)[name] for name in ("canaries", "worker")},
}
"""The facts of a measurement that have one column each."""


hosts = Table(
    "bench_hosts",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", PlainText, nullable=False, unique=True),
    Column("first_seen_at", Moment, nullable=False),
)

suites = Table(
    "bench_suites",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", PlainText, nullable=False, unique=True),
    Column("first_seen_at", Moment, nullable=False),
)

runs = Table(
    "bench_runs",
    metadata,
    Column("id", Id, primary_key=True),
    Column("uid", PlainText, nullable=False, unique=True),
    Column("host_id", Id, ForeignKey(hosts.c.id, ondelete="RESTRICT"), nullable=False),
    Column("suite_id", Id, ForeignKey(suites.c.id, ondelete="RESTRICT"), nullable=False),
    Column("finished_at", Moment),
    *_columns(fact for name, fact in list_facts(RunFacts).items() if name not in ("uid", "suite", "host")),
    Column("engine_build", PlainText),
    Column("server_facts", PlainJson),
    Column("model_facts", PlainJson, nullable=False),
    Column("in_flight_at_start", Count),
    Column("concurrent_foreign_requests", Count),
    Column("takeover", Boolean, nullable=False),
    Column("status", PlainText, nullable=False),
    _one_of("job_type", get_args(JobType)),
    _one_of("status", get_args(RunStatus)),
)

cells = Table(
    "bench_cells",
    metadata,
    Column("id", Id, primary_key=True),
    Column("run_id", Id, ForeignKey(runs.c.id, ondelete="CASCADE"), nullable=False),
    *_columns(list_facts(Cell)[axis.name] for axis in AXES if axis.name in AXIS_NAMES),
    *_columns(CELL_FACTS.values()),
    *(Column(name, _type_of(fact)) for name, fact in TRAFFIC_COLUMNS.items()),
    Column("model_facts", PlainJson),
    Column("reference_facts", PlainJson),
    # numbers of measured and of failed samples: still known after the samples are pruned
    Column("samples", Count, nullable=False),
    Column("failed", Count, nullable=False),
    Index(None, "run_id"),
    Index(None, "cell_key", "started_at"),
    Index(None, "cell_key", "engine_build", "started_at"),
)

samples = Table(
    "bench_samples",
    metadata,
    Column("id", Id, primary_key=True),
    Column("cell_id", Id, ForeignKey(cells.c.id, ondelete="CASCADE"), nullable=False),
    *_columns(list_facts(Sample).values()),
    Column("queue_ms", Number),
    Column("stalls", Count, nullable=False),
    _one_of("phase", get_args(Phase)),
    Index(None, "cell_id"),
)

aggregates = Table(
    "bench_aggregates",
    metadata,
    Column("id", Id, primary_key=True),
    Column("cell_id", Id, ForeignKey(cells.c.id, ondelete="CASCADE"), nullable=False),
    Column("metric", PlainText, nullable=False),
    *_columns(list_facts(Aggregate).values()),
    UniqueConstraint("cell_id", "metric"),
)

baselines = Table(
    "bench_baselines",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", PlainText, nullable=False),
    Column("cell_key", PlainText, nullable=False),
    # a measurement in use as a baseline cannot be deleted
    Column("cell_id", Id, ForeignKey(cells.c.id, ondelete="RESTRICT"), nullable=False),
    Column("saved_at", Moment, nullable=False),
    Column("reason", PlainText, nullable=False),
    Column("replaced_at", Moment),
    # of the user who took it out of force; NULL where another save replaced it
    Column("cleared_reason", PlainText),
    Index(None, "cell_id"),
)

_in_force = text("replaced_at IS NULL")
# only what is in force: neither the number of runs nor of replaced baselines slows the look-up down
in_force_index = Index(
    "uq_bench_baselines_in_force",
    baselines.c.name,
    baselines.c.cell_key,
    baselines.c.cell_id,
    unique=True,
    sqlite_where=_in_force,
)


def prepare_for_postgresql() -> None:
    """Add the option of the index that only PostgreSQL knows: SQLAlchemy loads a dialect when it is named."""
    in_force_index.dialect_kwargs["postgresql_where"] = _in_force


verdicts = Table(
    "bench_verdicts",
    metadata,
    Column("id", Id, primary_key=True),
    Column("cell_id", Id, ForeignKey(cells.c.id, ondelete="CASCADE"), nullable=False),
    *_columns(list_facts(Verdict).values()),
    Column("judged_at", Moment, nullable=False),
    _one_of("outcome", get_args(Outcome)),
    Index(None, "cell_id"),
)

votes = Table(
    "bench_votes",
    metadata,
    Column("id", Id, primary_key=True),
    Column("voted_at", Moment, nullable=False),
    # SHA-256 of the conversation: its text is not kept
    Column("prompt_sha256", PlainText, nullable=False),
    # host and model of each side, in the order that was shown
    Column("sides", PlainJson, nullable=False),
    Column("vote", PlainText, nullable=False),
    Column("seed", Count),
    Column("blind", Boolean, nullable=False),
    _one_of("vote", get_args(VoteWord)),
)

leases = Table(
    "bench_leases",
    metadata,
    Column("address", PlainText, primary_key=True),
    Column("owner", PlainText, nullable=False),
    Column("session", PlainText, nullable=False),
    Column("taken_at", Moment, nullable=False),
    Column("heartbeat_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
)
