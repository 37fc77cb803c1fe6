"""Room 7: verdicts, failures and notes on one cell in words. A text's first line is its finding: a short summary shows
nothing else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from pytest_boobench.aggregate import describe_failures, median_of
from pytest_boobench.facts import Hardware
from pytest_boobench.gate import group_sessions
from pytest_boobench.gate.comparison import describe_distance
from pytest_boobench.metrics import OF_TURNS, find_metric, is_metric, name_of_turn
from pytest_boobench.record import Baseline, CellFacts, CellRecord, Verdict
from pytest_boobench.reports.session import FinishedCell, name_cell
from pytest_boobench.reports.text import flatten
from pytest_boobench.units import change, count, moment, number, percent, quantity


def sentence(verdict: Verdict) -> str:
    """One verdict, as in ``decode 41.9 tok/s, 16.3 % below baseline main (50.1), 10 % allowed; noise 3.9 %; …``."""
    metric = find_metric(verdict.metric)
    note = f"; {verdict.note}" if verdict.note else ""
    if verdict.outcome == "inconclusive" and verdict.change is not None:
        return f"inconclusive: {metric.title} {verdict.reason}{_interval(verdict)}{note}"
    if metric.binomial and verdict.baseline_name is None and verdict.outcome in {"regression", "pass"}:
        return f"{metric.title}: {verdict.reason}{note}"
    now = f"{metric.title} {quantity(verdict.now, metric.unit)}"
    if metric.of_baseline and verdict.now is not None:
        return f"{now} from baseline {verdict.baseline_name}, {number(verdict.allowed)} allowed{note}"
    if verdict.outcome in {"regression", "pass"} and verdict.change is None and verdict.reason:
        return f"{now}, {verdict.reason}{note}"
    if verdict.outcome in {"regression", "improvement", "pass"}:
        name = verdict.baseline_name or ""
        reference = f"{name if name.startswith('duet ') else f'baseline {name}'} ({number(verdict.baseline)})"
        allowed = f", {percent(verdict.allowed)} allowed" if verdict.outcome == "regression" else ""
        cause = f"; {verdict.cause}" if verdict.cause else ""
        return f"{now}, {describe_distance(verdict.change)} {reference}{allowed}{cause}{_evidence(verdict)}{note}"
    reason = f": {verdict.reason}" if verdict.reason else ""
    return f"{now}, {verdict.outcome}{reason}{note}"


def _evidence(verdict: Verdict) -> str:
    """What the verdict rests on; of a pass, whether the worsening that would fail can be ruled out."""
    if verdict.samples is None:
        return ""
    if verdict.outcome == "pass":
        word = "drop" if find_metric(verdict.metric).better == "higher" else "rise"
        ruled = "ruled out" if verdict.proven else "not ruled out"
        return f"{_interval(verdict)}; a {word} of {percent(verdict.allowed)} is {ruled}"
    if verdict.noise is None:
        return _interval(verdict)
    fast = "" if verdict.fast_change is None else f"; fastest tenth {describe_distance(verdict.fast_change)}"
    return f"{fast}; noise {percent(verdict.noise)}; {count(verdict.samples, 'sample')}"


def _interval(verdict: Verdict) -> str:
    """The change of a duet with the interval that holds the true one; empty where there is none."""
    if verdict.change_low is None or verdict.change_high is None:
        return ""
    return f"; change {change(verdict.change, verdict.change_low, verdict.change_high)}"


def explain_blanks(row: FinishedCell) -> list[str]:
    """Why metrics are blank that such a cell usually has, a line for each reason; judged metrics are left out, since
    their verdicts say it."""
    judged = {verdict.metric for verdict in row.verdicts}
    reasons: dict[str, list[str]] = defaultdict(list)
    for key, reason in row.record.blanks.items():
        if key not in judged:
            reasons[reason].append(find_metric(key).title)
    return [f"{', '.join(titles)} blank: {reason}" for reason, titles in reasons.items()]


def describe_hardware(hardware: Hardware | None) -> str:
    """Clocks, temperature, power and limits, as in ``GPU 2625 MHz, 61 °C, 215 W of 300 W (nvml)``; empty if unknown."""
    if hardware is None:
        return ""
    power = "" if hardware.power_w is None else quantity(hardware.power_w, "W")
    limit = "" if hardware.power_limit_w is None else f"{power and ' of '}{quantity(hardware.power_limit_w, 'W')}"
    known = (
        (hardware.gpu_clock_mhz, "GPU {:.0f} MHz"),
        (hardware.memory_clock_mhz, "its memory {:.0f} MHz"),
        (hardware.gpu_temperature_c, "{:.0f} °C"),
        (f"{power}{limit}" or None, "{}"),
        (hardware.throttled, "held down by {}"),
        (None if hardware.kv_usage_share is None else percent(hardware.kv_usage_share), "KV cache {} full"),
    )
    told = ", ".join(words.format(value) for value, words in known if value is not None)
    return f"{told} ({hardware.source})" if told and hardware.source else told


def failure_text(
    record: CellRecord,
    verdicts: Sequence[Verdict],
    baseline: Baseline | None,
    *,
    max_failed: int,
    fail_disturbed: bool = False,
    strict: bool = False,
) -> str:
    """Why the item fails, empty where it does not: regressions first, then failed requests, then what was measured.

    With ``strict`` the item fails also where nothing could be decided.
    """
    failing = {"regression", "inconclusive", "not comparable"} if strict else {"regression"}
    findings = [sentence(verdict) for verdict in verdicts if verdict.outcome in failing]
    if len(record.failed) > max_failed:
        allowed = f", {max_failed} allowed" if max_failed else ""
        findings.append(
            f"{len(record.failed)} of {record.measured} requests failed{allowed}: {describe_failures(record.failed)}"
        )
    if fail_disturbed and record.disturbed:
        findings.append(record.disturbed)
    if not findings:
        return ""
    others = [sentence(verdict) for verdict in verdicts if verdict.outcome not in failing]
    return "\n".join([*findings, *others, *_circumstances(record, baseline)])


def _circumstances(record: CellRecord, baseline: Baseline | None) -> list[str]:
    """What was measured on what, now and for the baseline."""
    ttft = record.aggregates.get("ttft_ms")
    spread = f", TTFT median {quantity(ttft.median, 'ms')}, p95 {quantity(ttft.p95, 'ms')}" if ttft else ""
    build = f", engine {record.server.engine_build}" if record.server and record.server.engine_build else ""
    lines = [f"host {record.host}{build}; {count(record.measured, 'sample')}{spread}"]
    if record.traffic is not None and record.traffic.requests:
        lines.append(f"foreign: {'; '.join(map(str, record.traffic.requests))}")
    if baseline is not None:
        lines.append(f"baseline {baseline.name}: {provenance(baseline)}")
    return lines


def provenance(baseline: Baseline) -> str:
    """When a baseline was measured, at which commit, on which engine build, in how many sessions."""
    newest = baseline.runs[-1]
    parts = [f"measured {moment(newest.measured_at)} UTC", *list_versions(newest.git_commit, newest.engine_build)]
    if len(baseline.runs) > 1:
        parts.append(f"newest of {len(baseline.runs)} runs in {count(len(group_sessions(baseline.runs)), 'session')}")
    return ", ".join(parts)


def list_versions(git_commit: str | None, engine_build: str | None) -> list[str]:
    """Commit and engine build, where they are known."""
    commit = f"commit {git_commit[:10]}" if git_commit else ""
    return list(filter(None, (commit, f"engine {engine_build}" if engine_build else "")))


def lanes_of(row: FinishedCell) -> int:
    """How many requests the cell sends at once."""
    lanes: int = row.record.identity["concurrency"]
    return lanes


def advise_slots(rows: Iterable[FinishedCell]) -> Iterator[str]:
    """A line for each host and model with more lanes than its server has slots, by the cell with most lanes."""
    waiting: dict[tuple[str, str], list[FinishedCell]] = defaultdict(list)
    for row in rows:
        if explain_slots(row):
            waiting[row.record.host, row.record.identity["model"]].append(row)
    for (host, _), found in waiting.items():
        most = max(found, key=lanes_of)
        yield f"more lanes than slots: {host} {name_cell(most).partition('[')[0]}: {explain_slots(most)}"


def explain_slots(row: FinishedCell) -> str:
    """What a cell's numbers mean where its lanes wait for each other, and what helps; empty where they do not."""
    record, lanes = row.record, lanes_of(row)
    slots = record.model.slots if record.model is not None else None
    if not slots or lanes <= slots:
        return ""
    raised = f"slots: {lanes} in the hosts file" if record.host == "embedded" else f"start it with -np {lanes}"
    embeds = record.identity["kind"] == "embedding"
    effect = "the end-to-end time" if embeds else f"decode is the speed of {count(slots, 'lane')}, and TTFT"
    waiting = lanes - slots
    return (
        f"the server has {count(slots, 'slot')} for {count(lanes, 'lane')}, so {count(waiting, 'lane')} at a time "
        f"{'waits' if waiting == 1 else 'wait'} in its queue: {effect} includes the wait; {raised}, "
        f"or lower grid.concurrency to {slots}"
    )


def explain_rerun(row: FinishedCell) -> str:
    """How often and why last another plugin ran a cell again; empty where none did."""
    return f"{count(len(row.reruns), 'time')}: {flatten(row.reruns[-1])}" if row.reruns else ""


def advise_reruns(rows: Iterable[FinishedCell]) -> Iterator[str]:
    """A line for each cell that another plugin ran again."""
    for row in rows:
        if row.reruns:
            cell = f"{row.record.host} {name_cell(row)}"
            yield f"run again {count(len(row.reruns), 'time')}: {cell}: {flatten(row.reruns[-1])}"


def explain_rates(row: FinishedCell) -> str:
    """Where the server's timings contradict the stream; empty where they do not."""
    record = row.record
    return f"rates: {record.rates}: {record.contradiction}" if record.contradiction else ""


def explain_cause(row: FinishedCell) -> str:
    """What the red cells of the host have in common; empty if the cell is not red, or nothing is known."""
    return next((verdict.cause for verdict in row.verdicts if verdict.cause), "")


def explain_cache(row: FinishedCell) -> str:
    """Where the prefix cache of the cell's conversations breaks; empty where it holds."""
    return row.record.cache_break or ""


def list_turns(cell: CellFacts) -> dict[str, list[float | None]]:
    """Metric -> its median in each turn of the cell's conversations, for those that any turn has."""
    turns = max((find_metric(key).turn for key in cell.aggregates if is_metric(key)), default=0)
    found = {
        key: [median_of(cell.aggregates, name_of_turn(key, turn)) for turn in range(1, turns + 1)] for key in OF_TURNS
    }
    return {key: medians for key, medians in found.items() if any(median is not None for median in medians)}


def describe_turns(row: FinishedCell) -> str:
    """``by turn: TTFT 543, 160, 175 ms; prefill …``; empty where there are no conversations."""
    parts = [
        f"{find_metric(key).title} {', '.join(map(number, medians))} {find_metric(key).unit}".rstrip()
        for key, medians in list_turns(row.record).items()
    ]
    return f"by turn: {'; '.join(parts)}" if parts else ""


def advise_cache(rows: Iterable[FinishedCell]) -> Iterator[str]:
    """A line for each cell whose prefix cache breaks."""
    for row in rows:
        if text := explain_cache(row):
            yield f"{row.record.host} {name_cell(row)}: {text}"


def notes_of(row: FinishedCell) -> list[str]:
    """What the reader should know of one cell's numbers, for reports that show it beside the cell."""
    rates = explain_rates(row)
    texts = (explain_slots(row), explain_cache(row), f"{rates}; the server's timings are not used" if rates else "")
    return [*filter(None, texts), *(f"run again: {flatten(why)}" for why in row.reruns)]
