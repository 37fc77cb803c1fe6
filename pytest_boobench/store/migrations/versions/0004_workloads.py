"""Room 5: depth, turns, rates, own prompts, speculation, hardware, probabilities, references, metrics of blocks, votes,
and why a baseline was cleared."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_CELLS: tuple[sa.Column[Any], ...] = (
    sa.Column("depth_tokens", sa.BigInteger()),
    sa.Column("turns", sa.BigInteger()),
    sa.Column("rate", sa.Double()),
    sa.Column("turn_tokens", sa.BigInteger()),
    sa.Column("think_time_s", sa.Double()),
    sa.Column("arrival", sa.Text()),
    sa.Column("slo", sa.JSON()),
    sa.Column("prompts", sa.Text()),
    sa.Column("hardware", sa.JSON()),
    sa.Column("logprobs", sa.JSON()),
    sa.Column("reference_rates", sa.JSON()),
    sa.Column("depth_ms", sa.Double()),
    sa.Column("of_blocks", sa.JSON()),
    sa.Column("cache_break", sa.Text()),
)
_SAMPLES: tuple[sa.Column[Any], ...] = (
    sa.Column("turn", sa.BigInteger()),
    sa.Column("send_lag_ms", sa.Double()),
    sa.Column("accepted_len", sa.Double()),
    sa.Column("draft_accept_share", sa.Double()),
    sa.Column("prompt_line", sa.BigInteger()),
)
_VERDICTS: tuple[sa.Column[Any], ...] = (sa.Column("cause", sa.Text()),)


def upgrade() -> None:
    """The new columns are NULL for older measurements."""
    for table, columns in (("bench_cells", _CELLS), ("bench_samples", _SAMPLES), ("bench_verdicts", _VERDICTS)):
        for column in columns:
            op.add_column(table, column)
    op.add_column("bench_baselines", sa.Column("cleared_reason", sa.Text()))
    op.create_table(
        "bench_votes",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        sa.Column("voted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("prompt_sha256", sa.Text(), nullable=False),
        sa.Column("sides", sa.JSON(), nullable=False),
        sa.Column("vote", sa.Text(), nullable=False),
        sa.Column("seed", sa.BigInteger()),
        sa.Column("blind", sa.Boolean(), nullable=False),
        sa.CheckConstraint("vote IN ('a', 'b', 'c', 'd', 'tie', 'both bad')", name="vote"),
    )
