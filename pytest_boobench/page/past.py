"""Door 3: what the store knows: courses of cells, sessions, two of them compared, baselines set and cleared."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pytest_boobench import gate
from pytest_boobench.cli.baseline_flaws import find_flaw
from pytest_boobench.cli.compare_command import compare
from pytest_boobench.cli.compared_sides import find_side
from pytest_boobench.cli.history_command import CellHistory, Median, describe_change, follow, gather_history
from pytest_boobench.cli.parameters import find_allowed
from pytest_boobench.metrics import METRICS, Metric, find_metric, metrics_of
from pytest_boobench.page.bodies import BaselineBody, ClearBody
from pytest_boobench.page.desk import Desk
from pytest_boobench.page.guard import ApiRefusal
from pytest_boobench.page.past_types import (
    BaselineAnswer,
    ComparedFact,
    ComparedRow,
    ComparisonAnswer,
    CourseAnswer,
    CourseBaseline,
    CourseChange,
    CoursePoint,
    FilterAnswer,
    HistoryAnswer,
    MetricAnswer,
    PointSave,
    SessionAnswer,
    SessionsAnswer,
)
from pytest_boobench.page.suite_tree import find_outcome
from pytest_boobench.record import Baseline, Measurement, Verdict
from pytest_boobench.reports import html
from pytest_boobench.reports.sentences import sentence
from pytest_boobench.store import PastSave, Saved, Selection


def _find_limit(metric: Metric, level: float | None, allowed: float | None) -> float | None:
    """The value at which the gate fails; None where nothing is compared."""
    if level is None or allowed is None:
        return None
    return level * (1 - allowed) if metric.better == "higher" else level * (1 + allowed)


def read_history(desk: Desk, selection: Selection, metric: str) -> HistoryAnswer:
    """The courses of the selected cells, one metric each: the named one where the cells have it."""
    if metric and metric not in METRICS:
        raise ApiRefusal(422, f"metric: no metric {metric!r}", "metric")
    with desk.open_store() as store:
        if store is None:
            return HistoryAnswer(filters=_list_filters([]), courses=())
        known = store.measurements(Selection(last=1), metrics=("decode_tok_s",))
        found = store.measurements(selection)
        baselines = store.baselines(desk.project.baseline) if found else {}
        saves = defaultdict(list)
        for save in store.past_saves([one.id for one in found]):
            saves[save.measurement_id].append(save)
    of_cell: dict[str, list[Measurement]] = defaultdict(list)
    for measurement in found:
        of_cell[measurement.cell_key].append(measurement)
    courses = []
    for key, measurements in of_cell.items():
        has_it = not metric or metric in {one.key for one in metrics_of(measurements[0].identity["kind"])}
        if has_it:
            courses.append(_make_course(follow(measurements, metric or None), baselines.get(key), saves))
    return HistoryAnswer(filters=_list_filters(known), courses=tuple(courses))


def _list_filters(known: Sequence[Measurement]) -> FilterAnswer:
    kinds = {one.identity["kind"] for one in known}
    metrics = dict.fromkeys(metric for kind in sorted(kinds) for metric in metrics_of(kind))
    return FilterAnswer(
        suites=tuple(sorted({one.run.suite for one in known})),
        hosts=tuple(sorted({one.run.host for one in known})),
        models=tuple(sorted({one.identity["model"] for one in known})),
        metrics=tuple(
            MetricAnswer(key=metric.key, title=metric.title, unit=metric.unit, better=metric.better)
            for metric in metrics
        ),
    )


def _make_course(
    history: CellHistory, baseline: Baseline | None, saves: Mapping[int, Sequence[PastSave]]
) -> CourseAnswer:
    newest, metric = history.newest, history.metric
    level = gate.level(metric.key, baseline) if baseline is not None else None
    in_force = None
    if baseline is not None and level is not None:
        limit = _find_limit(metric, level, find_allowed(newest, None).get(metric.key))
        in_force = CourseBaseline(name=baseline.name, level=level, limit=limit)
    return CourseAnswer(
        key=newest.cell_key,
        node_id=newest.node_id,
        suite=newest.run.suite,
        host=newest.run.host,
        model=newest.identity["model"],
        cell=newest.node_id.rpartition("[")[2].removesuffix("]"),
        metric=metric.key,
        unit=metric.unit,
        better=metric.better,
        points=tuple(_make_point(point, metric, saves.get(point.measurement.id, ())) for point in history.points),
        baseline=in_force,
        changes=tuple(
            CourseChange(
                first=found.index,
                last=found.last,
                before=found.before,
                after=found.after,
                at=history.points[found.index].measurement.started_at,
                ratio=found.ratio,
                sentence=describe_change(history, found),
            )
            for found in history.changes
        ),
    )


def _make_point(point: Median, metric: Metric, saves: Sequence[PastSave]) -> CoursePoint:
    one = point.measurement
    aggregate = one.aggregates.get(metric.key)
    verdict: Verdict | None = next((each for each in one.verdicts if each.metric == metric.key), None)
    outcome = "error" if one.error is not None else verdict.outcome if verdict is not None else None
    return CoursePoint(
        measurement=one.id,
        at=one.started_at,
        session=one.run.session,
        run=one.run.uid,
        value=point.median,
        low=aggregate.p10 if aggregate is not None else None,
        high=aggregate.p90 if aggregate is not None else None,
        outcome=outcome,
        flag=outcome if outcome in ("regression", "improvement") else None,
        reason=one.error or (verdict.reason if verdict is not None else "") or one.spoiled or None,
        level=verdict.baseline if verdict is not None else None,
        limit=_find_limit(metric, verdict.baseline, verdict.allowed) if verdict is not None else None,
        engine_build=one.engine_build,
        git_commit=one.run.git_commit,
        machine=one.run.machine,
        baselines=one.baselines,
        saves=tuple(
            PointSave(
                name=save.name,
                saved_at=save.saved_at,
                reason=save.reason,
                ended_at=save.replaced_at,
                ended_reason=save.cleared_reason,
            )
            for save in saves
        ),
        command=one.command,
    )


def read_sessions(desk: Desk, last: int) -> SessionsAnswer:
    """The newest sessions, with what became of their cells."""
    with desk.open_store() as store:
        runs = store.runs(Selection()) if store is not None else []
        began: dict[str, float] = {}
        for run in runs:
            session = run.facts.session
            began[session] = min(run.facts.started_at, began.get(session, run.facts.started_at))
        newest = sorted(began, key=lambda session: began[session], reverse=True)[:last]
        measured = store.measurements(Selection(sessions=newest), metrics=("decode_tok_s",)) if newest and store else []
    outcomes: dict[str, list[str | None]] = defaultdict(list)
    for one in measured:
        outcomes[one.run.session].append(find_outcome(one))
    return SessionsAnswer(
        sessions=tuple(
            SessionAnswer(
                session=session,
                started_at=began[session],
                runs=tuple(run.facts.uid for run in runs if run.facts.session == session),
                cells=len(outcomes[session]),
                regressions=outcomes[session].count("regression"),
                improvements=outcomes[session].count("improvement"),
                errors=outcomes[session].count("error"),
            )
            for session in newest
        )
    )


def compare_sessions(desk: Desk, first: str, second: str) -> ComparisonAnswer:
    """What ``boobench compare`` says of two sessions. ApiRefusal for one that the store does not have."""
    with desk.open_store() as store:
        for name, session in (("a", first), ("b", second)):
            if store is None or not session or not store.runs(Selection(sessions=(session,), last=1)):
                raise ApiRefusal(404, f"{name}: nothing is stored of session {session!r}", name)
        assert store is not None  # noqa: S101  # else it was refused
        a, b = (find_side(store, f"session:{session}", desk.root) for session in (first, second))
    found = compare(a, b, max_drop=None, policy="default")
    return ComparisonAnswer(
        a=first,
        b=second,
        rows=tuple(
            ComparedRow(
                node_id=pair.measurement.node_id,
                metric=pair.verdict.metric,
                title=find_metric(pair.verdict.metric).title,
                unit=find_metric(pair.verdict.metric).unit,
                was=pair.was,
                now=pair.verdict.now,
                change=pair.change,
                low=pair.verdict.change_low,
                high=pair.verdict.change_high,
                outcome=pair.verdict.outcome,
                sentence=sentence(pair.verdict),
            )
            for pair in found.pairs
        ),
        changes=tuple(
            ComparedFact(what=f"{group.host} {group.model}: {fact.what}", was=fact.before, now=fact.after)
            for group in found.groups
            for fact in group.changed
        ),
    )


def set_baseline(desk: Desk, body: BaselineBody) -> BaselineAnswer:
    """Put a measurement in force for its cell, as ``boobench baseline set`` does."""
    with desk.open_store() as store:
        found = store.measurements(Selection(ids=(body.measurement,))) if store is not None else []
        if store is None or not found:
            raise ApiRefusal(404, f"measurement: none has the number {body.measurement}", "measurement")
        if flaw := find_flaw(found[0], spoiled=False):
            raise ApiRefusal(422, f"measurement: cannot be a baseline: {flaw}", "measurement")
        saved = Saved(
            measurement_id=body.measurement, cell_key=found[0].cell_key, saved_at=time.time(), reason=body.reason
        )
        change = store.put_in_force(body.name, [saved])
    return BaselineAnswer(came=change.came, went=change.went)


def clear_baseline(desk: Desk, body: ClearBody) -> BaselineAnswer:
    """Take a cell's baseline out of force; nothing is deleted."""
    with desk.open_store() as store:
        gone = store.clear_baseline(body.name, [body.key], body.reason) if store is not None else 0
    if not gone:
        raise ApiRefusal(404, f"key: nothing of that is in force as baseline {body.name}", "key")
    return BaselineAnswer(came=0, went=gone)


def render_report(desk: Desk, selection: Selection, made_at: float) -> str:
    """The HTML report of a selection."""
    with desk.open_store() as store:
        history = gather_history(store, selection) if store is not None else html.History(measurements=())
    return html.render(history, made_at)


def read_selection(query: Mapping[str, str], *, last: int) -> Selection:
    """The selection of a query: names, and numbers in bounds; ApiRefusal for others."""
    try:
        since = float(query["since"]) if query.get("since") else None
        wanted = int(query["last"]) if query.get("last") else last
    except ValueError:
        raise ApiRefusal(422, "since, last: expected numbers", "since") from None
    if since is not None and not 0 <= since < 2**40:
        raise ApiRefusal(422, "since: expected seconds since 1970", "since")
    if not 1 <= wanted <= 10_000:
        raise ApiRefusal(422, "last: expected a number from 1 to 10000", "last")
    chosen = {f"{name}s": (value,) for name in ("suite", "host", "model") if (value := query.get(name))}
    return replace(Selection(**chosen), containing=query.get("cell", ""), since=since, last=wanted)  # type: ignore[arg-type]
