"""Room 5: what each number rests on: tokens in each event, contradictions, why a metric is missing, the length."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_CELLS: tuple[sa.Column[Any], ...] = (
    sa.Column("length", sa.Text()),
    sa.Column("blanks", sa.JSON()),
    sa.Column("rates", sa.Text()),
    sa.Column("contradiction", sa.Text()),
)
_SAMPLES: tuple[sa.Column[Any], ...] = (
    sa.Column("chunk_tokens", sa.JSON()),
    sa.Column("hidden_tokens", sa.BigInteger()),
    sa.Column("lanes_tok_s", sa.Double()),
    sa.Column("contradiction", sa.Text()),
    sa.Column("blanks", sa.JSON()),
    sa.Column("first_late_ms", sa.Double()),
    sa.Column("last_late_ms", sa.Double()),
)


def upgrade() -> None:
    """The new columns are NULL for older measurements."""
    for table, columns in (("bench_cells", _CELLS), ("bench_samples", _SAMPLES)):
        for column in columns:
            op.add_column(table, column)
