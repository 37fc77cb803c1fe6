"""Room 5: the schema. Names carry units; times are UTC; a blank (NULL) is a fact that is not known."""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

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

from pytest_boobench.metrics import Phase
from pytest_boobench.record import JobType, Outcome, RunStatus
from pytest_boobench.store.column_types import Count, Id, Moment, Number, PlainJson, PlainText

VERSION_TABLE = "bench_schema"
"""Where Alembic keeps the schema's revision; a name of our own, for a team's database may hold other tables too."""

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
    Column("session", PlainText, nullable=False),
    Column("job_type", PlainText, nullable=False),
    Column("host_id", Id, ForeignKey(hosts.c.id, ondelete="RESTRICT"), nullable=False),
    Column("suite_id", Id, ForeignKey(suites.c.id, ondelete="RESTRICT"), nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("finished_at", Moment),
    Column("user", PlainText),
    Column("machine", PlainText),
    Column("cpu", PlainText),
    Column("git_commit", PlainText),
    Column("git_dirty", Boolean),
    Column("ci", PlainJson, nullable=False),
    Column("engine_build", PlainText),
    Column("server_facts", PlainJson),
    Column("model_facts", PlainJson, nullable=False),
    Column("in_flight_at_start", Count),
    Column("concurrent_foreign_requests", Count),
    Column("takeover", Boolean, nullable=False),
    Column("workers", Count, nullable=False),
    Column("plugin_version", PlainText),
    Column("metadata", PlainJson, nullable=False),
    Column("status", PlainText, nullable=False),
    _one_of("job_type", get_args(JobType)),
    _one_of("status", get_args(RunStatus)),
)

cells = Table(
    "bench_cells",
    metadata,
    Column("id", Id, primary_key=True),
    Column("run_id", Id, ForeignKey(runs.c.id, ondelete="CASCADE"), nullable=False),
    Column("node_id", PlainText, nullable=False),
    Column("cell_key", PlainText, nullable=False),
    Column("model", PlainText, nullable=False),
    Column("kind", PlainText, nullable=False),
    Column("prompt_tokens", Count, nullable=False),
    Column("output_tokens", Count),
    Column("concurrency", Count, nullable=False),
    Column("sampling", PlainJson, nullable=False),
    Column("request", PlainJson, nullable=False),
    Column("cache", PlainText, nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("total_tok_s", Number),
    # how many count, and of those that failed: still known when the samples themselves are pruned
    Column("samples", Count, nullable=False),
    Column("failed", Count, nullable=False),
    Column("stalls", Count, nullable=False),
    Column("client_limit", PlainText),
    Column("load_ms", Number),
    Column("in_flight_at_start", Count),
    Column("concurrent_foreign_requests", Count),
    Column("foreign_tokens", Count),
    Column("model_swaps", Count),
    Column("server_restarts", Count),
    Column("foreign_requests", PlainJson),
    Column("traffic_notes", PlainJson),
    Column("attempts", Count, nullable=False),
    Column("blocks", Count, nullable=False),
    Column("extended", PlainText, nullable=False),
    Column("canaries", PlainJson, nullable=False),
    Column("text_digest", PlainText),
    Column("clock", PlainText),
    Column("reference_host", PlainText),
    Column("reference_facts", PlainJson),
    # why the samples don't speak of the host alone: such a measurement teaches nothing
    Column("spoiled", PlainText),
    Column("worker", PlainText, nullable=False),
    Column("engine_build", PlainText),
    Column("model_facts", PlainJson),
    Column("error", PlainText),
    # natural, or blank: as many tokens as were asked for
    Column("length", PlainText),
    Column("blanks", PlainJson),
    Column("rates", PlainText),
    Column("contradiction", PlainText),
    Index(None, "run_id"),
    Index(None, "cell_key", "started_at"),
    Index(None, "cell_key", "engine_build", "started_at"),
)

samples = Table(
    "bench_samples",
    metadata,
    Column("id", Id, primary_key=True),
    Column("cell_id", Id, ForeignKey(cells.c.id, ondelete="CASCADE"), nullable=False),
    Column("phase", PlainText, nullable=False),
    Column("lane", Count, nullable=False),
    Column("index", Count, nullable=False),
    Column("block", Count, nullable=False),
    Column("attempt", Count, nullable=False),
    Column("reference", Boolean, nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("offset_ms", Number, nullable=False),
    Column("connect_ms", Number),
    Column("headers_ms", Number),
    Column("ttft_ms", Number),
    Column("ttfo_ms", Number),
    Column("queue_ms", Number),
    Column("e2e_ms", Number),
    Column("chunk_ms", PlainJson, nullable=False),
    Column("prompt_tokens", Count),
    Column("cached_tokens", Count),
    Column("output_tokens", Count),
    Column("prompt_ms", Number),
    Column("predicted_ms", Number),
    Column("timings", PlainJson, nullable=False),
    Column("decode_tok_s", Number),
    Column("prefill_tok_s", Number),
    Column("embed_tok_s", Number),
    Column("rate_source", PlainText),
    Column("finish_reason", PlainText),
    Column("status", Count),
    Column("clock", PlainText),
    Column("client_lag_ms", Number),
    Column("blurred_chunks", Count, nullable=False),
    Column("stalls", Count, nullable=False),
    Column("clock_step", Boolean, nullable=False),
    Column("failure", PlainText),
    Column("failure_text", PlainText),
    Column("chunk_tokens", PlainJson),
    Column("hidden_tokens", Count),
    Column("lanes_tok_s", Number),
    Column("contradiction", PlainText),
    Column("blanks", PlainJson),
    Column("first_late_ms", Number),
    Column("last_late_ms", Number),
    _one_of("phase", get_args(Phase)),
    Index(None, "cell_id"),
)

aggregates = Table(
    "bench_aggregates",
    metadata,
    Column("id", Id, primary_key=True),
    Column("cell_id", Id, ForeignKey(cells.c.id, ondelete="CASCADE"), nullable=False),
    Column("metric", PlainText, nullable=False),
    Column("n", Count, nullable=False),
    Column("mean", Number, nullable=False),
    Column("median", Number, nullable=False),
    Column("stdev", Number),
    Column("min", Number, nullable=False),
    Column("max", Number, nullable=False),
    Column("p10", Number, nullable=False),
    Column("p25", Number, nullable=False),
    Column("p50", Number, nullable=False),
    Column("p75", Number, nullable=False),
    Column("p90", Number, nullable=False),
    Column("p95", Number, nullable=False),
    Column("p99", Number, nullable=False),
    UniqueConstraint("cell_id", "metric"),
)

baselines = Table(
    "bench_baselines",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", PlainText, nullable=False),
    Column("cell_key", PlainText, nullable=False),
    # a measurement that a baseline rests on cannot be deleted under it
    Column("cell_id", Id, ForeignKey(cells.c.id, ondelete="RESTRICT"), nullable=False),
    Column("saved_at", Moment, nullable=False),
    Column("reason", PlainText, nullable=False),
    Column("replaced_at", Moment),
    Index(None, "cell_id"),
)

_in_force = text("replaced_at IS NULL")
# of what is in force only: neither the number of runs nor of replaced baselines slows the look-up down
in_force_index = Index(
    "uq_bench_baselines_in_force",
    baselines.c.name,
    baselines.c.cell_key,
    baselines.c.cell_id,
    unique=True,
    sqlite_where=_in_force,
)


def prepare_for_postgresql() -> None:
    """Say of the index what only PostgreSQL needs to hear: SQLAlchemy loads a database's dialect when it is named."""
    in_force_index.dialect_kwargs["postgresql_where"] = _in_force


verdicts = Table(
    "bench_verdicts",
    metadata,
    Column("id", Id, primary_key=True),
    Column("cell_id", Id, ForeignKey(cells.c.id, ondelete="CASCADE"), nullable=False),
    Column("metric", PlainText, nullable=False),
    Column("outcome", PlainText, nullable=False),
    Column("now", Number),
    Column("baseline", Number),
    Column("change", Number),
    Column("allowed", Number),
    Column("baseline_name", PlainText),
    Column("reason", PlainText, nullable=False),
    Column("fast_change", Number),
    Column("noise", Number),
    Column("run_noise", Number),
    Column("sessions", Count),
    Column("samples", Count),
    Column("blocks", Count),
    Column("proven", Boolean, nullable=False),
    Column("note", PlainText, nullable=False),
    Column("judged_at", Moment, nullable=False),
    _one_of("outcome", get_args(Outcome)),
    Index(None, "cell_id"),
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
