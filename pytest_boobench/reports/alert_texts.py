"""Room 7: an alert as text: Markdown for an issue, JSON for a webhook, a message for Slack.

The first line says what changed, where, and by how much.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pytest_boobench.gate.alerts import PASSES, Alert, AlertCell
from pytest_boobench.metrics import find_metric
from pytest_boobench.record import Measurement
from pytest_boobench.reports.alert_steps import Told
from pytest_boobench.reports.sentences import list_versions, sentence
from pytest_boobench.reports.text import cut_right, escape, flatten, show_time, without_nan
from pytest_boobench.units import BLANK, change, count, number

ALERT_SCHEMA = 1
"""Of the JSON; goes up when a field changes or goes away."""
MOST_CELLS = 50
"""In a text; GitHub takes 65,536 characters. The JSON has all."""
_IN_MESSAGE = 5
"""Cells in a chat message."""
_TITLE_REASON = 160
"""Columns of a reason in a title; GitHub takes 256 characters."""


def mark_alert(alert: Alert) -> str:
    """The line that names the alert in its issue: programs find the issue by it."""
    return f"<!-- boobench-alert {alert.uid} -->"


def mark_step(told: Told) -> str:
    """The line that names the step in its comment: an alert takes each step once, so a comment with it is not
    repeated."""
    return f"<!-- boobench-step {told.alert.uid} {told.step} -->"


def write_title(alert: Alert) -> str:
    """``rack-1 is slower: decode −12.3 to −17.9 %, prefill −11.0 %, 3 of 12 cells``, or with the first reason
    ``rack-1 cannot be measured: …``."""
    if alert.direction == "unmeasured":
        return f"{flatten(alert.host)} cannot be measured: {cut_right(_list_reasons(alert)[0][0], _TITLE_REASON)}"
    cells = len({cell.measurement.cell_key for cell in alert.cells})
    parts = [_describe_metric(key, alert.cells) for key in dict.fromkeys(cell.verdict.metric for cell in alert.cells)]
    of = count(max(alert.measured, cells), "cell")
    return f"{flatten(alert.host)} is {alert.direction}: {', '.join(parts)}, {cells} of {of}"


def _list_reasons(alert: Alert) -> list[tuple[str, int]]:
    """Why a host cannot be measured, without its name, and of how many cells; the first reason comes first."""
    return [(flatten(why.removeprefix(f"{alert.host}: ")), cells) for why, cells in alert.troubles.items()]


def _describe_metric(key: str, cells: Sequence[AlertCell]) -> str:
    found = [cell.verdict.change for cell in cells if cell.verdict.metric == key and cell.still]
    known = sorted(ratio for ratio in found if ratio is not None and math.isfinite(ratio))
    if not known:
        return find_metric(key).title
    least, most = sorted((known[0], known[-1]), key=abs)
    same = change(least) == change(most)
    shown = change(most) if same else f"{change(least).removesuffix(' %')} to {change(most)}"
    return f"{find_metric(key).title} {shown}"


def write_headline(told: Told) -> str:
    """The title with what the session did to the alert."""
    alert = told.alert
    if told.step == "closed":
        was = "could not be measured" if alert.direction == "unmeasured" else f"was {alert.direction}"
        return f"closed: {flatten(alert.host)} {was}: {_explain_end(alert)}"
    return f"{told.step}: {write_title(alert)}"


def _explain_end(alert: Alert) -> str:
    if alert.ending == "fine again":
        return "all its cells are as the baseline again"
    if alert.ending == "not confirmed":
        return "not confirmed: no second session found a cell changed"
    if alert.ending == "measured again":
        return "it is measured again"
    if alert.direction == "unmeasured":
        return "the suites that failed are no longer run on it"
    return "the cells that changed are no longer measured against this baseline"


def name_cause(alert: Alert) -> str:
    """What its cells have in common, else what else changed; empty where neither is known."""
    return _find_cause(alert) or _find_note(alert)


def _find_cause(alert: Alert) -> str:
    """The cause that the cell measured last names: the more cells were judged before it, the more it knows."""
    changed = [cell for cell in alert.cells if cell.still]
    if not changed:
        return ""
    last = max(cell.measurement.started_at for cell in changed)
    found = {cell.verdict.cause for cell in changed if cell.measurement.started_at == last} - {""}
    return found.pop() if len(found) == 1 else ""


def _find_note(alert: Alert) -> str:
    """What else changed, where all its cells say the same."""
    notes = {cell.verdict.note for cell in alert.cells}
    return notes.pop() if len(notes) == 1 else ""


def write_body(told: Told) -> str:
    """The text of an issue, in Markdown."""
    alert = told.alert
    lines = [f"**{escape(write_headline(told))}**", ""]
    if cause := _find_cause(alert):
        lines += [f"Cause: {escape(cause)}.", ""]
    elif note := _find_note(alert):
        lines += [f"Beside the speed: {escape(note)}.", ""]
    lines += [f"- {escape(line)}" for line in _tell_course(told)]
    lines += ["", *(_render_reasons(alert) if alert.direction == "unmeasured" else _render_verdicts(alert))]
    lines += ["", mark_alert(alert), mark_step(told), ""]
    return "\n".join(lines)


def _tell_course(told: Told) -> Iterator[str]:
    alert = told.alert
    yield f"opened by session {alert.opened_in[:8]}, {show_time(alert.opened_at)}"
    newest = max((cell.measurement for cell in alert.cells), key=lambda one: one.started_at, default=None)
    if newest is not None and (versions := list_versions(newest.run.git_commit, newest.engine_build)):
        yield f"newest: {', '.join(versions)}"
    if told.step == "opened":
        of = "of its suites" if alert.direction == "unmeasured" else "of these cells"
        yield f"the next session {of} confirms it or closes it"
    elif told.step == "confirmed" and alert.direction == "unmeasured":
        yield f"confirmed by session {told.session[:8]}; the first measured cell of its suites closes it"
    elif told.step == "confirmed":
        yield f"confirmed by session {told.session[:8]}; a pass that rules the change out closes it, or {PASSES} passes"
    else:
        yield f"closed by session {told.session[:8]}: {_explain_end(alert)}"


def _render_reasons(alert: Alert) -> Iterator[str]:
    yield "| why | cells |"
    yield "| --- | ---: |"
    reasons = _list_reasons(alert)
    yield from (f"| {escape(why)} | {cells} |" for why, cells in reasons[:MOST_CELLS])
    if len(reasons) > MOST_CELLS:
        yield ""
        yield f"{count(len(reasons) - MOST_CELLS, 'more reason')} left out."


def _render_verdicts(alert: Alert) -> Iterator[str]:
    yield from _render_cells(alert)
    yield from ("", "<details>", "<summary>The verdicts in words</summary>", "")
    yield from (f"- {_name(cell)}: {escape(sentence(cell.verdict))}" for cell in alert.cells[:MOST_CELLS])
    yield from ("", "</details>")


def _render_cells(alert: Alert) -> Iterator[str]:
    yield "| suite | cell | metric | now | baseline | change | |"
    yield "| --- | --- | --- | ---: | ---: | ---: | --- |"
    for cell in alert.cells[:MOST_CELLS]:
        verdict, metric = cell.verdict, find_metric(cell.verdict.metric)
        fields = (
            escape(cell.measurement.run.suite),
            _name(cell),
            f"{metric.title} {metric.unit}".rstrip(),
            number(verdict.now),
            number(verdict.baseline),
            change(verdict.change, verdict.change_low, verdict.change_high),
            f"**{alert.direction}**" if cell.still else "fine",
        )
        yield f"| {' | '.join(fields)} |"
    if len(alert.cells) > MOST_CELLS:
        yield ""
        yield f"{len(alert.cells) - MOST_CELLS} more are left out."


def _name(cell: AlertCell) -> str:
    return f"<code>{escape(_short(cell.measurement))}</code>"


def _short(measurement: Measurement) -> str:
    return measurement.node_id.rpartition("::")[2]


def to_webhook(told: Sequence[Told], session: str) -> dict[str, Any]:
    """All that a session did to alerts, as plain data; times in seconds since 1970 UTC, changes are ratios."""
    plain: dict[str, Any] = without_nan(
        {"schema": ALERT_SCHEMA, "session": session, "alerts": [describe_alert(one) for one in told]}
    )
    return plain


def describe_alert(told: Told) -> dict[str, Any]:
    """One alert as plain data."""
    alert = told.alert
    return {
        "id": alert.uid,
        "step": told.step,
        "title": write_headline(told),
        "cause": name_cause(alert),
        "host": alert.host,
        "direction": alert.direction,
        "opened_in": alert.opened_in,
        "opened_at": alert.opened_at,
        "ending": alert.ending,
        "measured": alert.measured,
        "troubles": [{"reason": why, "cells": cells} for why, cells in alert.troubles.items()],
        "cells": [
            {
                "suite": cell.measurement.run.suite,
                "cell": _short(cell.measurement),
                "cell_key": cell.measurement.cell_key,
                "metric": cell.verdict.metric,
                "unit": find_metric(cell.verdict.metric).unit,
                "now": cell.verdict.now,
                "baseline": cell.verdict.baseline,
                "change": cell.verdict.change,
                "still": cell.still,
                "since": cell.since,
                "sentence": sentence(cell.verdict),
            }
            for cell in alert.cells
        ],
    }


def to_slack(told: Sequence[Told], session: str) -> dict[str, str]:
    """One message for all of it, as Slack, Mattermost and Rocket.Chat take it from a webhook."""
    paragraphs = [_write_paragraph(one) for one in told]
    return {"text": "\n\n".join([*paragraphs, f"session {session[:8]}"])}


def _write_paragraph(told: Told) -> str:
    lines = [f"*{_escape_slack(write_headline(told))}*"]
    if cause := name_cause(told.alert):
        lines.append(_escape_slack(cause))
    if told.step != "closed":
        changed, reasons = [cell for cell in told.alert.cells if cell.still], _list_reasons(told.alert)
        lines += [f"• {_describe_in_line(cell)}" for cell in changed[:_IN_MESSAGE]]
        lines += [f"• {_escape_slack(why)}: {count(cells, 'cell')}" for why, cells in reasons[:_IN_MESSAGE]]
        if (more := max(len(changed), len(reasons)) - _IN_MESSAGE) > 0:
            lines.append(f"• and {more} more")
    return "\n".join(lines)


def _describe_in_line(cell: AlertCell) -> str:
    metric = find_metric(cell.verdict.metric)
    changed = change(cell.verdict.change)
    ratio = "" if changed == BLANK else f" ({changed})"
    levels = f"{number(cell.verdict.baseline)} → {number(cell.verdict.now)} {metric.unit}".rstrip()
    return _escape_slack(f"{_short(cell.measurement)} {metric.title} {levels}{ratio}")


def _escape_slack(text: str) -> str:
    """As Slack wants it: these three, and nothing else, are special."""
    flat = flatten(text)
    return flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _write_issue(told: Told) -> str:
    return f"# {escape(write_headline(told))}\n\n{write_body(told)}"


def _write_issues(told: Sequence[Told], _session: str) -> str:
    return "\n".join(_write_issue(one) for one in told)


def _dump(plain: Mapping[str, Any]) -> str:
    return json.dumps(without_nan(plain), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


SHAPES: Mapping[str, Callable[[Sequence[Told], str], str]] = {
    "github": _write_issues,
    "gitlab": _write_issues,
    "webhook": lambda told, session: _dump(to_webhook(told, session)),
    "slack": lambda told, session: _dump(to_slack(told, session)),
}
"""What `boobench notify` prints in each shape."""
