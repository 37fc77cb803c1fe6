"""Room 7: the summary in Markdown: for GitHub's step summary and for comments on merge requests."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate

from pytest_boobench.metrics import find_metric
from pytest_boobench.reports.sentences import advise_cache, advise_reruns, advise_slots, sentence
from pytest_boobench.reports.session import (
    ALL_LANES,
    SHOWN,
    STANDINGS,
    FinishedCell,
    SessionReport,
    Standing,
    count_standings,
    find_value,
    find_worst,
    name_cell,
    stand,
)
from pytest_boobench.reports.text import escape, flatten
from pytest_boobench.units import BLANK, change, count, number

COMMENT_BYTES = 65_536
"""Most characters of a comment on GitHub; as many bytes always fit."""
STEP_SUMMARY_BYTES = 1_048_576
"""Most of a step summary on GitHub, which shows nothing of a longer one."""
LEAST_BYTES = 4_096
"""Least room for verdict line, head and foot."""
LONG = 10
"""A table of more cells is folded."""

_WORDS: dict[Standing, str] = {
    "regression": "regressed",
    "failed": "failed",
    "error": "could not be measured",
    "in doubt": "left in doubt",
    "not comparable": "not comparable",
    "inconclusive": "inconclusive",
    "no baseline": "without a baseline",
    "xfailed": "expected to fail",
    "improvement": "improved",
    "pass": "passed",
}
_RED: tuple[Standing, ...] = ("regression", "failed", "error", "in doubt")
_NAMED: tuple[Standing, ...] = (*_RED, "not comparable", "inconclusive", "improvement")
"""Cells that are named above the table, with their sentences."""
_COLUMNS = ("ttft_ms", "prefill_tok_s", "decode_tok_s", "embed_tok_s", ALL_LANES)
"""Shown where any cell has a number."""


def render(session: SessionReport, *, max_bytes: int = COMMENT_BYTES) -> str:
    """Verdict line, the urgent cells with their sentences, and all cells in a table.

    Never longer than ``max_bytes`` of UTF-8, at least `LEAST_BYTES`: the least urgent is left out, and counted.
    """
    rows = sorted(session.rows, key=lambda row: STANDINGS.index(stand(row)))
    head = [f"## boobench: {describe(session)}", ""]
    foot = ["", _describe_setting(session)]
    room = max_bytes - _size([*head, *foot])
    findings = _fit(list(_render_findings(session, rows)), room // 2, "- … and {} more lines\n")
    sections = _fit(list(_render_sections(session)), room // 4, "… and {} more lines")
    table = _render_table(rows, room - _size([*findings, *sections])) if rows else []
    return "\n".join([*head, *findings, *table, *sections, *foot]) + "\n"


def describe(session: SessionReport) -> str:
    """The verdict line, as in ``2 of 12 cells regressed, 1 could not be measured``."""
    standings = count_standings(session.rows)
    lost = sum(cell.outcome == "failed" for cell in session.unmeasured)
    red = {_WORDS[standing]: standings[standing] for standing in _RED} | {"lost": lost}
    others = {_WORDS[standing]: standings[standing] for standing in STANDINGS if standing not in _RED}
    counts = red | others | {"skipped": len(session.unmeasured) - lost}
    total = count(sum(counts.values()), "cell")
    parts = [f"{number} {word}" for word, number in counts.items() if number]
    if any(red.values()):
        number, _, word = parts[0].partition(" ")
        return ", ".join([f"{number} of {total} {word}", *parts[1:]])
    if len(parts) <= 1:
        return f"{total} {parts[0].partition(' ')[2]}" if parts else "no cell ran"
    none = ", none regressed" if standings["pass"] or standings["improvement"] else ""
    return f"{total}{none}: {', '.join(parts)}"


def _render_findings(session: SessionReport, rows: Sequence[FinishedCell]) -> Iterator[str]:
    for standing in _NAMED:
        if of_standing := [row for row in rows if stand(row) == standing]:
            yield from (f"**{_WORDS[standing].capitalize()}**", "")
            for row in of_standing:
                yield f"- <code>{escape(row.record.host)} {escape(name_cell(row))}</code> ({escape(row.record.suite)})"
                yield from (f"  - {escape(reason)}" for reason in _explain(row, session))
            yield ""
    if notes := [*advise_reruns(rows), *advise_slots(rows), *advise_cache(rows)]:
        yield from ("**To be known**", "", *(f"- {escape(note)}" for note in notes), "")
    if lost := [cell for cell in session.unmeasured if cell.outcome == "failed"]:
        yield from ("**Lost**", "")
        yield from (f"- <code>{escape(cell.node_id)}</code>: {escape(cell.reason)}" for cell in lost)
        yield ""


def _explain(row: FinishedCell, session: SessionReport) -> list[str]:
    """At most eight lines of the item's failure, else the sentences that its standing rests on."""
    if text := session.failures.get(row.record.node_id, row.record.error):
        return [line for line in map(_tidy, text.splitlines()) if line][:8]
    standing, judged = stand(row), sorted(row.verdicts, key=lambda verdict: STANDINGS.index(verdict.outcome))
    return [sentence(verdict) for verdict in judged if standing in ("regression", verdict.outcome)]


def _render_table(rows: Sequence[FinishedCell], room: int) -> list[str]:
    columns = [SHOWN[key] for key in _COLUMNS if any(find_value(row.record, key) is not None for row in rows)]
    titles = ["host", "suite", "cell", *(f"{column.title} {column.unit}" for column in columns), "change", "verdict"]
    rulers = ["---", "---", "---", *("---:" for _ in columns), "---:", "---"]
    top, bottom = [_join(titles), _join(rulers)], []
    if len(rows) > LONG:
        top = ["<details>", f"<summary>All {count(len(rows), 'cell')}</summary>", "", *top]
        bottom = ["", "</details>"]
    lines = [_join(_render_row(row, [find_value(row.record, column.key) for column in columns])) for row in rows]
    fitting = _fit(lines, room - _size([*top, *bottom]), "\n{} more cells are left out: too much for this place")
    return [*top, *fitting, *bottom]


def _render_row(row: FinishedCell, values: Sequence[float | None]) -> list[str]:
    standing, worst = stand(row), find_worst(row)
    changed, word = BLANK, str(standing)
    if worst is not None and worst.outcome == standing:
        changed = change(worst.change, worst.change_low, worst.change_high)
        if standing in ("regression", "improvement"):
            word = f"{standing} {find_metric(worst.metric).title}"
    shown = f"**{word}**" if standing in _RED else f"{word}, saved" if row.saved else word
    names = [escape(row.record.host), escape(row.record.suite), f"<code>{escape(name_cell(row))}</code>"]
    return [*names, *map(number, values), changed, shown]


def _render_sections(session: SessionReport) -> Iterator[str]:
    """What hooks add. Two spaces at the end of a line keep it a line of its own."""
    for title, text in session.sections:
        yield from ("", f"**{escape(title)}**", "")
        yield from (f"{escape(line)}  " if line else "" for line in map(_tidy, text.splitlines()))


def _tidy(line: str) -> str:
    """A line without blanks at its ends: an indented line would be markup."""
    return flatten(line).strip()


def _describe_setting(session: SessionReport) -> str:
    """What the verdicts rest on: baseline or host of a duet, commit, engines."""
    names = {verdict.baseline_name: None for row in session.rows for verdict in row.verdicts if verdict.baseline_name}
    parts = [escape(name if name.startswith("duet ") else f"baseline {name}") for name in names or [session.baseline]]
    if session.runs and (commit := session.runs[-1].git_commit):
        parts.append(f"commit {escape(commit[:10])}{' with changes' * bool(session.runs[-1].git_dirty)}")
    servers = {row.record.host: row.record.server for row in session.rows if row.record.server is not None}
    for host, server in servers.items():
        parts.append(f"{escape(host)}: {escape(' '.join(filter(None, (server.kind, server.engine_build))))}")
    return " · ".join(parts)


def _join(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _size(lines: Sequence[str]) -> int:
    """Bytes of the lines with their ends."""
    return sum(len(line.encode()) + 1 for line in lines)


def _fit(lines: Sequence[str], room: int, more: str) -> list[str]:
    """As many of the lines as fit in ``room`` bytes, then ``more`` with the number of the others."""
    if _size(lines) <= room:
        return list(lines)
    ends = accumulate(_size([line]) for line in lines)
    fitting = bisect_right(list(ends), room - _size([more.format(len(lines))]))
    return [*lines[:fitting], more.format(sum(map(bool, lines[fitting:])))]
