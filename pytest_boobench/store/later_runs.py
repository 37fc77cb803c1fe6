"""Room 5: good measurements after a baseline. They show how much runs differ."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Text, and_, cast, exists, func, or_, select

from pytest_boobench.facts import ModelFacts
from pytest_boobench.record import APART_S
from pytest_boobench.store.reads import execute_for, read_model
from pytest_boobench.store.tables import cells, verdicts

MOST = 10
"""Measurements per cell."""
_LOOKED_AT = 30
"""Newest measurements per cell and engine build to examine: the cost must not grow with the number of runs."""

_before = cells.alias("before")
_after = cells.alias("after")


def find_later(connection: Connection, newest: Sequence[Any]) -> dict[str, list[int]]:
    """Return cell key -> ids of at most ten later measurements that were clean and passed, oldest first.

    They are at least half an hour apart. ``newest`` has each baseline's newest measurement: id, cell key and
    model facts. A later one has the same engine build, which both must know, and no other model file, command
    line or driver.
    """
    model_of = {row.cell_key: read_model(row.model_facts) for row in newest}
    taken: dict[str, list[Any]] = defaultdict(list)
    for row in execute_for(connection, _select_candidates(), _before.c.id, [row.id for row in newest]):
        of_cell = taken[row.cell_key]
        near = of_cell and (of_cell[-1].started_at - row.started_at).total_seconds() < APART_S
        if len(of_cell) < MOST and not near and not _is_another(_read_text(row.model_text), model_of[row.cell_key]):
            of_cell.append(row)
    return {key: [row.id for row in reversed(several)] for key, several in taken.items()}


def _is_another(model: ModelFacts | None, before: ModelFacts | None) -> bool:
    return model is not None and before is not None and bool(model.differences(before))


@lru_cache(maxsize=256)
def _read_text(stored: str | None) -> ModelFacts | None:
    """Cached: there are many measurements, but few models."""
    return None if stored is None else read_model(json.loads(stored))


def _select_candidates() -> Select[Any]:
    """The later measurements, newest first; the caller limits them to some baselines."""
    return (
        select(
            _after.c.id, _after.c.cell_key, _after.c.started_at, cast(_after.c.model_facts, Text).label("model_text")
        )
        .join_from(
            _before,
            _after,
            and_(
                _after.c.cell_key == _before.c.cell_key,
                _after.c.engine_build == _before.c.engine_build,
                *(_is_no_other(_after.c[name], _before.c[name]) for name in ("command", "driver")),
                _after.c.started_at >= func.coalesce(_find_oldest_looked_at(), _before.c.started_at),
            ),
        )
        .where(_after.c.started_at > _before.c.started_at, _after.c.spoiled.is_(None), *_passed())
        .order_by(_after.c.started_at.desc(), _after.c.id.desc())
    )


def _is_no_other(now: ColumnElement[Any], was: ColumnElement[Any]) -> ColumnElement[bool]:
    return or_(now.is_(None), was.is_(None), now == was)


def _find_oldest_looked_at() -> Any:
    """The start of the oldest one to examine; NULL if there are fewer. One step in the index (cell, build, time)."""
    each = cells.alias()
    return (
        select(each.c.started_at)
        .where(
            each.c.cell_key == _before.c.cell_key,
            each.c.engine_build == _before.c.engine_build,
            each.c.started_at > _before.c.started_at,
        )
        .order_by(each.c.started_at.desc())
        .offset(_LOOKED_AT - 1)
        .limit(1)
        .correlate(_before)
        .scalar_subquery()
    )


def _passed() -> tuple[Any, ...]:
    """The conditions: there are verdicts, and all are good."""
    on_it = select(verdicts.c.id).where(verdicts.c.cell_id == _after.c.id)
    return exists(on_it), ~exists(on_it.where(verdicts.c.outcome.not_in(("pass", "improvement"))))
