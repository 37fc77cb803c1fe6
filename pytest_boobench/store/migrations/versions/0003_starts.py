"""Room 5: servers that we start (placeholders, command, memory, log), intervals of duets, imported runs."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_CELLS: tuple[sa.Column[Any], ...] = (
    sa.Column("launch", sa.JSON()),
    sa.Column("command", sa.Text()),
    sa.Column("driver", sa.Text()),
    sa.Column("rss_peak_mb", sa.Double()),
    sa.Column("vram_peak_mb", sa.Double()),
    sa.Column("server_log", sa.Text()),
    sa.Column("pairing", sa.Text()),
)
_VERDICTS: tuple[sa.Column[Any], ...] = (sa.Column("change_low", sa.Double()), sa.Column("change_high", sa.Double()))
_RUNS: tuple[sa.Column[Any], ...] = (sa.Column("imported_from", sa.Text()),)


def upgrade() -> None:
    """The new columns are NULL for older measurements."""
    for table, columns in (("bench_cells", _CELLS), ("bench_verdicts", _VERDICTS), ("bench_runs", _RUNS)):
        for column in columns:
            op.add_column(table, column)
