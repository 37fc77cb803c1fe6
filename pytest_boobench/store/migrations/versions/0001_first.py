"""Room 5: the first schema. A released revision never changes, and imports nothing of this package."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    _create_hosts()
    _create_suites()
    _create_runs()
    _create_cells()
    _create_samples()
    _create_aggregates()
    _create_baselines()
    _create_verdicts()
    _create_leases()


def _create_hosts() -> None:
    op.create_table(
        "bench_hosts",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("first_seen_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bench_hosts")),
        sa.UniqueConstraint("name", name=op.f("uq_bench_hosts_name")),
    )


def _create_suites() -> None:
    op.create_table(
        "bench_suites",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("first_seen_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bench_suites")),
        sa.UniqueConstraint("name", name=op.f("uq_bench_suites_name")),
    )


def _create_runs() -> None:
    op.create_table(
        "bench_runs",
        sa.Column("id", ID, nullable=False),
        sa.Column("uid", sa.Text(), nullable=False),
        sa.Column("session", sa.Text(), nullable=False),
        sa.Column("job_type", sa.Text(), nullable=False),
        sa.Column("host_id", ID, nullable=False),
        sa.Column("suite_id", ID, nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("finished_at", TIME),
        sa.Column("user", sa.Text()),
        sa.Column("machine", sa.Text()),
        sa.Column("cpu", sa.Text()),
        sa.Column("git_commit", sa.Text()),
        sa.Column("git_dirty", sa.Boolean()),
        sa.Column("ci", sa.JSON(), nullable=False),
        sa.Column("engine_build", sa.Text()),
        sa.Column("server_facts", sa.JSON()),
        sa.Column("model_facts", sa.JSON(), nullable=False),
        sa.Column("in_flight_at_start", sa.BigInteger()),
        sa.Column("concurrent_foreign_requests", sa.BigInteger()),
        sa.Column("takeover", sa.Boolean(), nullable=False),
        sa.Column("workers", sa.BigInteger(), nullable=False),
        sa.Column("plugin_version", sa.Text()),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.CheckConstraint("job_type IN ('bench', 'eval')", name=op.f("ck_bench_runs_job_type")),
        sa.CheckConstraint("status IN ('running', 'finished', 'interrupted')", name=op.f("ck_bench_runs_status")),
        sa.ForeignKeyConstraint(
            ["host_id"], ["bench_hosts.id"], name=op.f("fk_bench_runs_host_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["suite_id"], ["bench_suites.id"], name=op.f("fk_bench_runs_suite_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bench_runs")),
        sa.UniqueConstraint("uid", name=op.f("uq_bench_runs_uid")),
    )


def _create_cells() -> None:
    op.create_table(
        "bench_cells",
        sa.Column("id", ID, nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.Column("node_id", sa.Text(), nullable=False),
        sa.Column("cell_key", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger()),
        sa.Column("concurrency", sa.BigInteger(), nullable=False),
        sa.Column("sampling", sa.JSON(), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("cache", sa.Text(), nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("total_tok_s", sa.Double()),
        sa.Column("samples", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("stalls", sa.BigInteger(), nullable=False),
        sa.Column("client_limit", sa.Text()),
        sa.Column("load_ms", sa.Double()),
        sa.Column("in_flight_at_start", sa.BigInteger()),
        sa.Column("concurrent_foreign_requests", sa.BigInteger()),
        sa.Column("foreign_tokens", sa.BigInteger()),
        sa.Column("model_swaps", sa.BigInteger()),
        sa.Column("server_restarts", sa.BigInteger()),
        sa.Column("foreign_requests", sa.JSON()),
        sa.Column("traffic_notes", sa.JSON()),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("blocks", sa.BigInteger(), nullable=False),
        sa.Column("extended", sa.Text(), nullable=False),
        sa.Column("canaries", sa.JSON(), nullable=False),
        sa.Column("text_digest", sa.Text()),
        sa.Column("clock", sa.Text()),
        sa.Column("reference_host", sa.Text()),
        sa.Column("reference_facts", sa.JSON()),
        sa.Column("spoiled", sa.Text()),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("engine_build", sa.Text()),
        sa.Column("model_facts", sa.JSON()),
        sa.Column("error", sa.Text()),
        sa.ForeignKeyConstraint(["run_id"], ["bench_runs.id"], name=op.f("fk_bench_cells_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bench_cells")),
    )
    op.create_index(op.f("ix_bench_cells_cell_key_started_at"), "bench_cells", ["cell_key", "started_at"])
    op.create_index(
        op.f("ix_bench_cells_cell_key_engine_build_started_at"),
        "bench_cells",
        ["cell_key", "engine_build", "started_at"],
    )
    op.create_index(op.f("ix_bench_cells_run_id"), "bench_cells", ["run_id"])


def _create_samples() -> None:
    op.create_table(
        "bench_samples",
        sa.Column("id", ID, nullable=False),
        sa.Column("cell_id", ID, nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("lane", sa.BigInteger(), nullable=False),
        sa.Column("index", sa.BigInteger(), nullable=False),
        sa.Column("block", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("reference", sa.Boolean(), nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("offset_ms", sa.Double(), nullable=False),
        sa.Column("connect_ms", sa.Double()),
        sa.Column("headers_ms", sa.Double()),
        sa.Column("ttft_ms", sa.Double()),
        sa.Column("ttfo_ms", sa.Double()),
        sa.Column("queue_ms", sa.Double()),
        sa.Column("e2e_ms", sa.Double()),
        sa.Column("chunk_ms", sa.JSON(), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger()),
        sa.Column("cached_tokens", sa.BigInteger()),
        sa.Column("output_tokens", sa.BigInteger()),
        sa.Column("prompt_ms", sa.Double()),
        sa.Column("predicted_ms", sa.Double()),
        sa.Column("timings", sa.JSON(), nullable=False),
        sa.Column("decode_tok_s", sa.Double()),
        sa.Column("prefill_tok_s", sa.Double()),
        sa.Column("embed_tok_s", sa.Double()),
        sa.Column("rate_source", sa.Text()),
        sa.Column("finish_reason", sa.Text()),
        sa.Column("status", sa.BigInteger()),
        sa.Column("clock", sa.Text()),
        sa.Column("client_lag_ms", sa.Double()),
        sa.Column("blurred_chunks", sa.BigInteger(), nullable=False),
        sa.Column("stalls", sa.BigInteger(), nullable=False),
        sa.Column("clock_step", sa.Boolean(), nullable=False),
        sa.Column("failure", sa.Text()),
        sa.Column("failure_text", sa.Text()),
        sa.CheckConstraint("phase IN ('warmup', 'measure')", name=op.f("ck_bench_samples_phase")),
        sa.ForeignKeyConstraint(
            ["cell_id"], ["bench_cells.id"], name=op.f("fk_bench_samples_cell_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bench_samples")),
    )
    op.create_index(op.f("ix_bench_samples_cell_id"), "bench_samples", ["cell_id"])


def _create_aggregates() -> None:
    op.create_table(
        "bench_aggregates",
        sa.Column("id", ID, nullable=False),
        sa.Column("cell_id", ID, nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("mean", sa.Double(), nullable=False),
        sa.Column("median", sa.Double(), nullable=False),
        sa.Column("stdev", sa.Double()),
        sa.Column("min", sa.Double(), nullable=False),
        sa.Column("max", sa.Double(), nullable=False),
        sa.Column("p10", sa.Double(), nullable=False),
        sa.Column("p25", sa.Double(), nullable=False),
        sa.Column("p50", sa.Double(), nullable=False),
        sa.Column("p75", sa.Double(), nullable=False),
        sa.Column("p90", sa.Double(), nullable=False),
        sa.Column("p95", sa.Double(), nullable=False),
        sa.Column("p99", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["cell_id"], ["bench_cells.id"], name=op.f("fk_bench_aggregates_cell_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bench_aggregates")),
        sa.UniqueConstraint("cell_id", "metric", name=op.f("uq_bench_aggregates_cell_id_metric")),
    )


def _create_baselines() -> None:
    op.create_table(
        "bench_baselines",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("cell_key", sa.Text(), nullable=False),
        sa.Column("cell_id", ID, nullable=False),
        sa.Column("saved_at", TIME, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("replaced_at", TIME),
        sa.ForeignKeyConstraint(
            ["cell_id"], ["bench_cells.id"], name=op.f("fk_bench_baselines_cell_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bench_baselines")),
    )
    op.create_index(op.f("ix_bench_baselines_cell_id"), "bench_baselines", ["cell_id"])
    op.create_index(
        "uq_bench_baselines_in_force",
        "bench_baselines",
        ["name", "cell_key", "cell_id"],
        unique=True,
        sqlite_where=sa.text("replaced_at IS NULL"),
        postgresql_where=sa.text("replaced_at IS NULL"),
    )


def _create_verdicts() -> None:
    op.create_table(
        "bench_verdicts",
        sa.Column("id", ID, nullable=False),
        sa.Column("cell_id", ID, nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("now", sa.Double()),
        sa.Column("baseline", sa.Double()),
        sa.Column("change", sa.Double()),
        sa.Column("allowed", sa.Double()),
        sa.Column("baseline_name", sa.Text()),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("fast_change", sa.Double()),
        sa.Column("noise", sa.Double()),
        sa.Column("run_noise", sa.Double()),
        sa.Column("sessions", sa.BigInteger()),
        sa.Column("samples", sa.BigInteger()),
        sa.Column("blocks", sa.BigInteger()),
        sa.Column("proven", sa.Boolean(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("judged_at", TIME, nullable=False),
        sa.CheckConstraint(
            "outcome IN ('pass', 'regression', 'improvement', 'inconclusive', 'no baseline', 'not comparable')",
            name=op.f("ck_bench_verdicts_outcome"),
        ),
        sa.ForeignKeyConstraint(
            ["cell_id"], ["bench_cells.id"], name=op.f("fk_bench_verdicts_cell_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bench_verdicts")),
    )
    op.create_index(op.f("ix_bench_verdicts_cell_id"), "bench_verdicts", ["cell_id"])


def _create_leases() -> None:
    op.create_table(
        "bench_leases",
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("session", sa.Text(), nullable=False),
        sa.Column("taken_at", TIME, nullable=False),
        sa.Column("heartbeat_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("address", name=op.f("pk_bench_leases")),
    )
