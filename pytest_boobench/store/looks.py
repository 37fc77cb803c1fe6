"""Room 5: all that a host has measured, as far as it shows how much the host's sessions differ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import Any

from sqlalchemy import Connection, Select, Text, and_, cast, func, select

from pytest_boobench.record import HostLook
from pytest_boobench.store.reads import execute_for
from pytest_boobench.store.tables import aggregates, cells, hosts, runs, verdicts

MOST_LOOKS = 1000
"""The newest measurements of each host: the cost must not grow with its history."""
_GOOD = ("pass", "improvement")
_UNJUDGED = ("no baseline", "not comparable")


def load_looks(
    connection: Connection, hosts_wanted: Collection[str] | None, *, but_session: str = ""
) -> list[HostLook]:
    """Return the newest undisturbed measurements of each host, newest first, with the medians of judged metrics.

    ``hosts_wanted`` None: of all hosts. ``but_session`` is left out: what is judged must not teach its own noise.
    """
    rows = connection.execute(_select_newest(hosts_wanted, but_session)).all()
    judged = select(aggregates.c.cell_id, aggregates.c.metric, aggregates.c.median, verdicts.c.outcome).join(
        verdicts, and_(verdicts.c.cell_id == aggregates.c.cell_id, verdicts.c.metric == aggregates.c.metric)
    )
    medians: dict[int, dict[str, float]] = defaultdict(dict)
    worse: set[int] = set()
    for cell_id, metric, median, outcome in execute_for(
        connection, judged, aggregates.c.cell_id, [row.id for row in rows]
    ):
        if median is not None:
            medians[cell_id][metric] = median
        if outcome not in (*_GOOD, *_UNJUDGED):
            worse.add(cell_id)
    return list(_make_looks(rows, medians, worse))


def _make_looks(rows: Collection[Any], medians: dict[int, dict[str, float]], worse: set[int]) -> Iterator[HostLook]:
    for row in rows:
        if row.id in medians:
            yield HostLook(
                host=row.host,
                series=repr((row.cell_key, row.engine_build, row.command, row.driver, row.model_text)),
                session=row.session,
                measured_at=row.started_at.timestamp(),
                medians=medians[row.id],
                settled=row.id not in worse,
            )


def _select_newest(hosts_wanted: Collection[str] | None, but_session: str) -> Select[Any]:
    """Of each host the newest measurements that were whole and undisturbed, and not made by another tool."""
    age = func.row_number().over(partition_by=runs.c.host_id, order_by=cells.c.started_at.desc()).label("age")
    model_text = cast(cells.c.model_facts, Text).label("model_text")
    known = (cells.c.id, cells.c.cell_key, cells.c.started_at, cells.c.engine_build, cells.c.command, cells.c.driver)
    query = (
        select(*known, model_text, hosts.c.name.label("host"), runs.c.session, age)
        .join(runs, runs.c.id == cells.c.run_id)
        .join(hosts, hosts.c.id == runs.c.host_id)
        .where(
            cells.c.spoiled.is_(None),
            cells.c.error.is_(None),
            cells.c.reference_host.is_(None),
            runs.c.imported_from.is_(None),
            runs.c.session != but_session,
        )
    )
    if hosts_wanted is not None:
        query = query.where(hosts.c.name.in_(hosts_wanted))
    newest = query.subquery()
    return select(newest).where(newest.c.age <= MOST_LOOKS).order_by(newest.c.started_at.desc())
