"""Room 7: the lines below the table: what was saved, what was not judged and why, what the numbers are worth."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from pytest_boobench.gate import SuiteNoise, group_sessions, provable_drop, remedy
from pytest_boobench.metrics import find_metric
from pytest_boobench.record import Baseline, Outcome
from pytest_boobench.reports.sentences import (
    explain_cache,
    explain_cause,
    explain_rates,
    explain_rerun,
    explain_slots,
    lanes_of,
)
from pytest_boobench.reports.session import FinishedCell, explain_unsavable, name_cell
from pytest_boobench.reports.terminal import TerminalLine
from pytest_boobench.reports.text import cut_names
from pytest_boobench.units import count, percent

SHORT_PROMPT_MS = 100
SHORT_DECODE_MS = 200
"""Shorter ones scatter by 6 to 46 % on a calm machine, where those of 90 ms and more scatter by 0.2 to 2.8 %."""
_NAMED = 2
"""Most cells named in a line; the others are counted."""
_NAME_WIDTH = 28
_REASONS_LENGTH = 60
"""Most characters of reasons in one line; the first reason is always there."""

_MORE_LOOKS = (
    "more sessions help (--boobench-save-baseline=add, half an hour apart), five of any suite on this host, "
    "a reference on it, or --boobench-duet"
)

Note = tuple[FinishedCell, str]


def render_closing(
    rows: Sequence[FinishedCell],
    *,
    baseline: str,
    store: str,
    saving: bool,
    baselines: Mapping[str, Baseline],
    verbosity: int = 0,
) -> Iterator[TerminalLine]:
    """What the user should know or do next: a line for each finding and host; with ``-v`` one for each cell too."""
    if saved := sum(row.saved for row in rows):
        yield TerminalLine(f"{count(saved, 'cell')} saved as baseline {baseline}")
    without = sum(any(verdict.outcome == "no baseline" for verdict in row.verdicts) for row in rows)
    if without and not saving:
        cells = count(without, "cell")
        yield TerminalLine(f"{cells} without a baseline {baseline}: not judged; save one with --boobench-save-baseline")
    if in_doubt := sum(row.outcome == "in doubt" for row in rows):
        yield TerminalLine(f"{count(in_doubt, 'cell')} left in doubt: the session ended before another block", "yellow")

    def tell(
        finding: str, notes: Iterable[Note], remedy: str = "", of: Sequence[FinishedCell] = rows
    ) -> Iterator[TerminalLine]:
        for text in gather(notes, of, finding, remedy=remedy, verbosity=verbosity):
            yield TerminalLine(text, "yellow")

    if saving:
        unsaved = [row for row in rows if not row.saved]
        notes = annotate(unsaved, lambda row: explain_unsavable(row) or "the store did not take it yet")
        yield from tell(f"not saved as baseline {baseline}", notes)
        young = annotate(rows, lambda row: explain_one_look(row, baselines.get(row.record.cell_key)))
        yield from tell(f"with only one look in baseline {baseline}", young, _MORE_LOOKS)
    yield from tell("red", annotate(rows, explain_cause))
    yield from tell("not judged", find_reasons(rows, "inconclusive"))
    yield from tell("measured without the server's timings", annotate(rows, explain_rates))
    yield from tell(
        f"NOT COMPARABLE with baseline {baseline}, so not judged",
        find_reasons(rows, "not comparable"),
        "if you meant this change, save a new baseline with --boobench-save-baseline",
    )
    yield from tell("without a whole prefix cache", annotate(rows, explain_cache))
    yield from tell("run again by another plugin", annotate(rows, explain_rerun))
    most_lanes_first = sorted(rows, key=lanes_of, reverse=True)
    yield from tell("with more lanes than slots", annotate(most_lanes_first, explain_slots))
    yield from tell("too short to judge steadily", annotate(rows, explain_short))
    judged = [row for row in rows if row.record.cell_key in baselines and row.verdicts]
    weak = find_weak(judged, baselines)
    yield from tell(f"with a weak baseline {baseline}", weak, "boobench power lists all", judged)
    yield TerminalLine(f"store: {store}")


def annotate(rows: Iterable[FinishedCell], explain: Callable[[FinishedCell], str]) -> Iterator[Note]:
    """The cells that ``explain`` has a text for, with this text."""
    return ((row, text) for row in rows if (text := explain(row)))


def gather(
    notes: Iterable[Note], rows: Iterable[FinishedCell], finding: str, *, remedy: str = "", verbosity: int = 0
) -> Iterator[str]:
    """A line for each host that has notes: how many of its cells among ``rows``, the first of them with its reason;
    with ``-v`` every note has a line of its own below."""
    by_host: dict[str, list[Note]] = defaultdict(list)
    for row, text in notes:
        by_host[row.record.host].append((row, text))
    totals = Counter(row.record.host for row in rows)
    for host, found in by_host.items():
        names = {row.record.node_id: name_cell(row) for row, _ in found}
        start = f"{host}: {len(names)} of {count(totals[host], 'cell')} {finding}"
        if verbosity > 0:
            yield f"{start}; {remedy}" if remedy else start
            yield from (f"  {name_cell(row)}: {text}" for row, text in found)
        else:
            short = dict(zip(names, cut_names(list(names.values()), _NAME_WIDTH), strict=True))
            yield "; ".join(filter(None, (f"{start}: {_shorten(found, short)}", remedy)))


def _shorten(notes: Iterable[Note], names: Mapping[str, str]) -> str:
    """``a, b: disturbed; c: regressed``; of long reasons only the first, and the other cells by name. ``names`` is
    node id -> name."""
    by_text: dict[str, dict[str, str]] = defaultdict(dict)
    for row, text in notes:
        by_text[text][row.record.node_id] = names[row.record.node_id]
    others = dict(names)
    parts: list[str] = []
    length = 0
    for text, named in by_text.items():
        length += len(text)
        if parts and length > _REASONS_LENGTH:
            break
        parts.append(f"{_name_some(list(named.values()))}: {text}")
        others = {node_id: name for node_id, name in others.items() if node_id not in named}
    if others:
        parts.append(f"also {_name_some(list(others.values()))}")
    return "; ".join(parts)


def _name_some(names: Sequence[str]) -> str:
    """``a, b and 3 more``; a single other name is shown instead of counted."""
    if len(names) <= _NAMED + 1:
        return ", ".join(names)
    return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"


def find_reasons(rows: Iterable[FinishedCell], outcome: Outcome) -> Iterator[Note]:
    """The reasons of the verdicts with this outcome, and what else changed where nothing was compared; a reason that is
    about one metric begins with its name."""
    for row in rows:
        reasons = []
        for verdict in row.verdicts:
            if verdict.outcome == outcome:
                of_metric = outcome == "inconclusive" and verdict.change is not None
                title = f"{find_metric(verdict.metric).title} " if of_metric else ""
                changes = f"; {verdict.note}" if outcome == "not comparable" and verdict.note else ""
                reasons.append(f"{title}{verdict.reason}{changes}")
        yield from ((row, reason) for reason in dict.fromkeys(reasons))


def explain_short(row: FinishedCell) -> str:
    """Which judged parts of the requests are too short, and what would be enough: ``decode takes only 98 ms (…``."""
    record, judged = row.record, {verdict.metric for verdict in row.verdicts}
    if record.identity.get("prompts"):
        return ""  # each of the own prompts has its lengths
    found = []
    for metric, axis, least_ms in (
        ("decode_tok_s", "output_tokens", SHORT_DECODE_MS),
        ("prefill_tok_s", "prompt_tokens", SHORT_PROMPT_MS),
        ("embed_tok_s", "prompt_tokens", SHORT_PROMPT_MS),
    ):
        rate, tokens = record.aggregates.get(metric), record.identity.get(axis)
        if metric not in judged or rate is None or rate.median <= 0 or not tokens:
            continue
        takes_ms = tokens / rate.median * 1000
        if takes_ms < least_ms:
            enough = math.ceil(least_ms / 1000 * rate.median)
            found.append(f"{find_metric(metric).title} takes only {takes_ms:.0f} ms ({axis}: {enough} would be enough)")
    return ", ".join(found)


def explain_one_look(row: FinishedCell, baseline: Baseline | None) -> str:
    """What a new baseline of one session says about another hour, if nothing tells how its host is then: no canary, no
    reference, no past. If the host's noise is known, the weak baselines are named by `find_weak`."""
    if not row.saved or baseline is None or baseline.host_noise is not None or row.record.canaries:
        return ""
    if (rates := row.record.reference_rates) is not None and not rates.trouble:
        return ""
    if len(group_sessions((*baseline.runs, *baseline.later))) > 1:
        return ""
    return "in another hour an unchanged host can be 15 % slower, and this baseline cannot tell that from a slow build"


def find_weak(rows: Iterable[FinishedCell], baselines: Mapping[str, Baseline]) -> list[Note]:
    """The judged metrics whose baselines cannot prove the allowed worsening, the weakest first; each row has a
    baseline."""
    noise = SuiteNoise(baselines.values())
    found: list[tuple[float, Note]] = []
    for row in rows:
        if row.record.identity.get("prompts"):
            continue  # prompts of different lengths are no noise, and a baseline does not tell them apart
        baseline = baselines[row.record.cell_key]
        of_suite = noise.find(baseline.suite, baseline.runs[-1].reference_rates)
        for verdict in row.verdicts:
            if verdict.allowed is None:
                continue
            least = provable_drop(baseline, verdict.metric, verdict.allowed, of_suite)
            if least is not None and least > verdict.allowed:
                advice = remedy(baseline, verdict.metric, verdict.allowed, of_suite)
                found.append((least, (row, _explain_weak(verdict.metric, least, verdict.allowed, advice))))
    return [note for _, note in sorted(found, key=lambda pair: -pair[0])]


def _explain_weak(metric: str, least: float, allowed: float, advice: str) -> str:
    change = "drop" if find_metric(metric).better == "higher" else "rise"
    title = find_metric(metric).title
    shows = f"shows only {change}s over {percent(least)}" if math.isfinite(least) else f"shows no {change}"
    return f"{title} {shows}, {percent(allowed)} is allowed{f'; {advice}' if advice else ''}"
