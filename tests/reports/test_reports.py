"""Room 7: sentences, table and properties, word for word."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import pytest

from pytest_boobench.facts import Traffic
from pytest_boobench.metrics import Sample
from pytest_boobench.record import Baseline, RunFacts, Verdict
from pytest_boobench.reports import junit
from pytest_boobench.reports.advice import render_closing
from pytest_boobench.reports.sentences import advise_slots, failure_text, provenance, sentence
from pytest_boobench.reports.session import FinishedCell, explain_unsavable, name_cell
from pytest_boobench.reports.terminal import TerminalLine, render_tables
from pytest_boobench.reports.text import cut_names, measure_width
from tests.making import aggregate_of, make_baseline, make_cell, make_model, make_record, make_sample


def verdict(outcome: str = "regression", **changed: object) -> Verdict:
    fields: dict[str, object] = {
        "metric": "decode_tok_s",
        "now": 41.2,
        "baseline": 49.8,
        "change": 41.2 / 49.8 - 1,
        "allowed": 0.1,
        "baseline_name": "main",
        **changed,
    }
    return Verdict(outcome=outcome, **fields)  # type: ignore[arg-type]


def samples() -> list[Sample]:
    return [
        make_sample(index=number, decode_tok_s=41.2, prefill_tok_s=2200.0, ttft_ms=30.0 + number, clock="kernel")
        for number in range(3)
    ]


def test_sentences() -> None:
    assert sentence(verdict()) == "decode 41.2 tok/s, 17.3 % below baseline main (49.8), 10 % allowed"
    assert sentence(verdict("pass", change=0.02)) == "decode 41.2 tok/s, 2 % above baseline main (49.8)"
    slower = verdict(metric="ttft_ms", now=90.0, baseline=50.0, change=0.8, allowed=0.5)
    assert sentence(slower) == "TTFT 90.0 ms, 80 % above baseline main (50.0), 50 % allowed"
    assert sentence(verdict("no baseline", baseline=None, change=None)) == "decode 41.2 tok/s, no baseline"
    odd = verdict("not comparable", reason="another model file: quantisation Q4_0, was Q8_0")
    assert sentence(odd) == "decode 41.2 tok/s, not comparable: another model file: quantisation Q4_0, was Q8_0"
    assert sentence(verdict("inconclusive", now=None, change=None, reason="no sample gives this metric")) == (
        "decode –, inconclusive: no sample gives this metric"
    )


def test_failure_text_has_the_finding_first() -> None:
    passed = verdict("pass", metric="prefill_tok_s", now=2200.0, baseline=2100.0, change=0.048)
    text = failure_text(make_record(samples=samples()), [passed, verdict()], make_baseline(49.8, 50.0), max_failed=0)
    assert text.splitlines() == [
        "decode 41.2 tok/s, 17.3 % below baseline main (49.8), 10 % allowed",
        "prefill 2200 tok/s, 4.8 % above baseline main (2100)",
        "host rack-1, engine b11549; 3 samples, TTFT median 31.0 ms, p95 31.9 ms",
        "baseline main: measured 2026-11-23 02:13 UTC, commit 0123456789, engine b11000, newest of 2 runs in 1 session",
    ]


def test_failed_requests_are_a_finding() -> None:
    failed = [*samples(), make_sample(index=3, failure="status", failure_text="500: no slot")]
    record = make_record(samples=failed, server=None)
    assert failure_text(record, [], None, max_failed=1) == ""
    assert failure_text(record, [], None, max_failed=0).splitlines() == [
        "1 of 4 requests failed: 1 × status: 500: no slot",
        "host rack-1; 4 samples, TTFT median 31.0 ms, p95 31.9 ms",
    ]
    two = make_record(samples=[*failed, failed[-1]])
    assert failure_text(two, [], None, max_failed=1).startswith("2 of 5 requests failed, 1 allowed: 2 × status")
    nothing = make_record(samples=[failed[-1]])
    assert failure_text(nothing, [], None, max_failed=0).splitlines()[1] == "host rack-1, engine b11549; 1 sample"


def test_provenance_without_commit_and_build() -> None:
    baseline = make_baseline(50.0, git_commit=None, engine_build=None)
    assert provenance(baseline) == "measured 2026-11-23 02:13 UTC"


def table(*rows: FinishedCell, verbosity: int = 0, width: int = 100) -> list[TerminalLine]:
    return list(render_tables(rows, verbosity=verbosity, width=width))


def test_table() -> None:
    red = FinishedCell(make_record(samples=samples()), "failed", (verdict(),))
    saved = FinishedCell(make_record(samples=samples()), "passed", (verdict("no baseline", change=None),), saved=True)
    dead = FinishedCell(make_record(error="no answer", server=None), "error")
    lines = table(red, saved, dead)
    assert [line.text for line in lines] == [
        "rack-1  (llama-server b11549 http://10.0.0.5:8080)",
        "  smoke                TTFT  prefill  decode   change  verdict",
        "                         ms    tok/s   tok/s",
        "    qwen[pp64-tg8-c1]  31.0     2200    41.2  −17.3 %  regression decode",
        "    qwen[pp64-tg8-c1]  31.0     2200    41.2        –  no baseline, saved",
        "    qwen[pp64-tg8-c1]     –        –       –        –  error",
        "",
    ]
    assert [line.colour for line in lines[3:6]] == ["red", "", "red"]


def test_the_change_of_a_duet_has_its_interval() -> None:
    judged = verdict(change_low=-0.18, change_high=-0.16)
    lines = table(FinishedCell(make_record(samples=samples()), "failed", (judged,)))
    assert any("−17.3 % [−18.0, −16.0]  regression decode" in line.text for line in lines)


def test_table_colours_and_words() -> None:
    failed = [*samples(), make_sample(failure="status")]
    rows = {
        "improvement decode": FinishedCell(
            make_record(samples=samples()), "passed", (verdict("improvement", change=0.2),)
        ),
        "not comparable": FinishedCell(make_record(samples=samples()), "passed", (verdict("not comparable"),)),
        "inconclusive": FinishedCell(
            make_record(samples=samples()), "passed", (verdict("inconclusive"), verdict("pass"))
        ),
        "pass": FinishedCell(make_record(samples=samples()), "passed", (verdict("pass"),)),
        "passed": FinishedCell(make_record(samples=samples()), "passed"),
        "failed: 1 of 4 requests": FinishedCell(make_record(samples=failed), "failed", (verdict("pass"),)),
    }
    for word, row in rows.items():
        (_, _, _, line, _) = table(row)
        assert line.text.endswith(f"  {word}")
    colours = [table(row)[3].colour for row in rows.values()]
    assert colours == ["green", "yellow", "yellow", "", "", "red"]


def test_verbose_table_has_more_columns_and_the_sentences() -> None:
    more = [make_sample(decode_tok_s=41.2, ttft_ms=30.0, prompt_ms=20.0, connect_ms=0.2, e2e_ms=100.0, output_tokens=8)]
    texts = [line.text for line in table(FinishedCell(make_record(samples=more), "failed", (verdict(),)), verbosity=1)]
    assert texts[1].split() == "smoke connect queue prompt TTFT decode e2e change verdict".split()
    assert texts[2].split() == "ms ms ms ms tok/s ms".split()
    assert texts[4] == "      decode 41.2 tok/s, 17.3 % below baseline main (49.8), 10 % allowed"


def test_what_others_did_is_in_the_table() -> None:
    traffic = Traffic(in_flight_at_start=1, concurrent_foreign_requests=2, foreign_tokens=530)
    disturbed = FinishedCell(make_record(samples=samples(), traffic=traffic), "passed", (verdict("inconclusive"),))
    alone = FinishedCell(make_record(samples=samples(), traffic=Traffic(concurrent_foreign_requests=0)), "passed")
    _, head, units, first, second, _ = [line.text for line in table(disturbed, alone)]
    assert head.split()[4:8] == ["in", "flight", "foreign", "foreign"]
    assert units.split()[3:] == ["at", "start", "requests", "tokens"]
    assert first.split()[4:7] == ["1", "2", "530"]
    assert second.split()[4:7] == ["–", "0", "–"], "none is a number, nobody knows is a blank"
    assert "foreign" not in table(alone)[1].text


def test_stalls_of_none_are_a_number() -> None:
    calm = make_sample(chunk_ms=(10.0, 20.0, 30.0, 40.0), output_tokens=4)
    stalled = make_sample(chunk_ms=(10.0, 20.0, 30.0, 130.0), output_tokens=4)
    rows = [FinishedCell(make_record(samples=[sample]), "passed") for sample in (calm, stalled)]
    _, head, _, first, second, _ = [line.text for line in table(*rows, verbosity=1)]
    place = head.index("stalls") + len("stalls") - 1
    assert (first[place], second[place]) == ("0", "1")
    assert "stalls" not in table(rows[0], verbosity=1)[1].text


def test_hosts_and_suites_stand_apart() -> None:
    rows = [
        FinishedCell(make_record(make_cell(suite=suite, host=host), samples=samples()), "passed")
        for host in ("rack-1", "rack-2")
        for suite in ("a", "b")
    ]
    heads = [line.text.split()[0] for line in table(*rows) if line.text and not line.text.startswith("    ")]
    assert heads == ["rack-1", "a", "b", "rack-2", "a", "b"]


LONG = "qwen3-30b-a3b-instruct-2507-q4_k_m"


def make_wide(name: str, *, outcome: str = "pass", **facts: object) -> FinishedCell:
    cell = make_cell(model=name, id="pp256-tg72-c4", suite="chat-throughput")
    record = make_record(cell, samples=samples(), total_tok_s=160.0, **facts)
    return FinishedCell(record, "passed", (verdict(outcome),))


def shown(width: int, *rows: FinishedCell) -> list[str]:
    return [line.text for line in table(*rows, width=width)][1:-1]


def test_eighty_columns_keep_what_matters() -> None:
    rows = [make_wide(LONG), make_wide("llama-3.3-70b-instruct-iq3_xxs", outcome="regression")]
    assert shown(80, *rows) == [
        "  chat-throughput              TTFT  prefill  decode   change  verdict",
        "                                 ms    tok/s   tok/s",
        "    …07-q4_k_m[pp256-tg72-c4]  31.0     2200    41.2  −17.3 %  pass",
        "    …t-iq3_xxs[pp256-tg72-c4]  31.0     2200    41.2  −17.3 %  regression decode",
    ]


def test_sixty_columns_have_a_number_still() -> None:
    rows = [make_wide(LONG), make_wide("llama-3.3-70b-instruct-iq3_xxs", outcome="regression")]
    assert shown(60, *rows) == [
        "  chat-throughput         decode   change  verdict",
        "                           tok/s",
        "    …_k_m[pp256-tg72-c4]    41.2  −17.3 %  pass",
        "    …_xxs[pp256-tg72-c4]    41.2  −17.3 %  regression decode",
    ]


def test_names_that_end_alike_are_cut_in_the_middle() -> None:
    names = [f"{maker}/qwen3-30b-a3b-instruct-2507-q4_k_m[pp256-tg72-c4]" for maker in ("unsloth", "bartowski")]
    assert cut_names([*names, "short[c1]"], 26) == [
        "unslot…_k_m[pp256-tg72-c4]",
        "bartow…_k_m[pp256-tg72-c4]",
        "short[c1]",
    ]
    assert cut_names(names, 60) == names
    assert cut_names(names[:1], 20) == ["…_k_m[pp256-tg72-c4]"]


def test_a_wide_terminal_shows_all() -> None:
    head, units, line = shown(200, make_wide(LONG))
    assert head.split() == ["chat-throughput", "TTFT", "prefill", "decode", "all", "lanes", "change", "verdict"]
    assert units.split() == ["ms", "tok/s", "tok/s", "tok/s"]
    assert line.startswith(f"    {LONG}[pp256-tg72-c4]  ")
    narrow = [line.text for line in table(make_wide(LONG), verbosity=1, width=40)]
    assert narrow[3].startswith(f"    {LONG}[pp256-tg72-c4]  "), "-v leaves nothing out"
    assert "all lanes" in narrow[1]


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    """Whatever the names and verdicts: long, Chinese, the same but for their beginning."""
    failed = [*samples(), *[make_sample(failure="status")] * 9]
    models = [LONG, f"other-{LONG[5:]}", "通义千问三号模型-30b", "m", "🦙" * 20]
    rows = [make_wide(model, outcome=outcome) for model in models for outcome in ("pass", "regression", "inconclusive")]
    rows += [
        FinishedCell(make_record(make_cell(suite="s" * 90, model=LONG), samples=failed), "failed", (verdict("pass"),))
    ]
    lines = [line for line in table(*rows, width=width) if not line.wraps]
    assert sum("%  " in line.text for line in lines) == len(rows)
    assert max(measure_width(line.text) for line in lines) <= width
    names = {line.text[4:].split("]")[0] for line in lines if "c4]" in line.text}
    assert len(names) == len(models), "names that are cut still tell apart"


def test_columns_stand_below_each_other_after_wide_characters() -> None:
    lines = shown(80, make_wide("通义千问-8b"), make_wide("qwen3-8b"))
    ends = [measure_width(line[: line.index("%")]) for line in lines[2:]]
    assert ends[0] == ends[1]


def test_five_hundred_cells_have_a_line_each() -> None:
    rows = [make_wide(f"{LONG}-{number}") for number in range(500)]
    assert len(shown(80, *rows)) == 502


def test_the_path_of_a_model_is_shown_by_its_stem() -> None:
    row = make_wide(f"/models/{LONG}.gguf", model=make_model(slots=1))
    row.record = replace(row.record, node_id=f"chat.boobench.yaml::rack-1::{LONG}[pp256-tg72-c4]")
    row.record = replace(row.record, identity={**row.record.identity, "concurrency": 4})
    assert shown(200, row)[2].startswith(f"    {LONG}[pp256-tg72-c4]")
    (told,) = advise_slots([row])
    assert told.startswith(f"more lanes than slots: rack-1 {LONG}: the server has 1 slot for 4 lanes")
    assert "/models/" not in "\n".join([told, *closing(row)])


def closing(
    *rows: FinishedCell, saving: bool = False, verbosity: int = 0, baselines: Mapping[str, Baseline] = {}
) -> list[str]:
    lines = render_closing(
        rows, baseline="main", store="/x/store.db", saving=saving, baselines=baselines, verbosity=verbosity
    )
    return [line.text for line in lines]


def test_closing_lines() -> None:
    new = FinishedCell(make_record(), "passed", (verdict("no baseline"),))
    saved = FinishedCell(make_record(), "passed", (verdict("no baseline"),), saved=True)
    red = FinishedCell(make_record(), "failed", (verdict(),))
    other = FinishedCell(make_record(), "passed", (verdict("not comparable", reason="another model file: x"),) * 2)
    assert closing(new) == [
        "1 cell without a baseline main: not judged; save one with --boobench-save-baseline",
        "store: /x/store.db",
    ]
    assert closing(saved, saved, red, saving=True) == [
        "2 cells saved as baseline main",
        "rack-1: 1 of 3 cells not saved as baseline main: qwen[pp64-tg8-c1]: regressed",
        "store: /x/store.db",
    ]
    assert closing(other, new)[1:] == [
        "rack-1: 1 of 2 cells NOT COMPARABLE with baseline main, so not judged: qwen[pp64-tg8-c1]: another model file: "
        "x; if you meant this change, save a new baseline with --boobench-save-baseline",
        "store: /x/store.db",
    ]


def make_rows(hosts: int = 3, cells: int = 14, **facts: object) -> list[FinishedCell]:
    """Many cells of several hosts, each with its own key."""
    return [
        FinishedCell(
            make_record(make_cell(host=f"rack-{host}", id=f"pp{64 * cell}-tg8-c1", prompt_tokens=64 * cell), **facts),
            "passed",
            (verdict("pass"),),
        )
        for host in range(1, hosts + 1)
        for cell in range(1, cells + 1)
    ]


def test_a_line_for_each_host_and_not_for_each_cell() -> None:
    rows = make_rows()
    for place, row in enumerate(rows[:18]):
        reason = f"{place} samples are too few to judge; more samples or blocks"
        row.verdicts = (verdict("inconclusive", reason=reason, change=None),)
    assert closing(*rows) == [
        "rack-1: 14 of 14 cells not judged: qwen[pp64-tg8-c1]: 0 samples are too few to judge; more samples or blocks; "
        "also qwen[pp128-tg8-c1], qwen[pp192-tg8-c1] and 11 more",
        "rack-2: 4 of 14 cells not judged: qwen[pp64-tg8-c1]: 14 samples are too few to judge; more samples or blocks; "
        "also qwen[pp128-tg8-c1], qwen[pp192-tg8-c1], qwen[pp256-tg8-c1]",
        "store: /x/store.db",
    ]
    loud = closing(*rows, verbosity=1)
    assert loud[0] == "rack-1: 14 of 14 cells not judged"
    assert loud[14] == "  qwen[pp896-tg8-c1]: 13 samples are too few to judge; more samples or blocks"
    assert len(loud) == 2 + 18 + 1


def test_a_reason_that_is_about_one_metric_names_it() -> None:
    doubtful = verdict("inconclusive", reason="29.8 % below baseline main, but 5 samples are too few to judge")
    assert closing(FinishedCell(make_record(), "skipped", (doubtful,)))[0] == (
        "rack-1: 1 of 1 cell not judged: qwen[pp64-tg8-c1]: decode 29.8 % below baseline main, but 5 samples are too "
        "few to judge"
    )
    nothing = [verdict("inconclusive", metric=key, reason="disturbed: x", change=None) for key in ("ttft_ms", "e2e_ms")]
    assert closing(FinishedCell(make_record(), "skipped", tuple(nothing)))[0] == (
        "rack-1: 1 of 1 cell not judged: qwen[pp64-tg8-c1]: disturbed: x"
    )


def test_cells_with_one_reason_share_it() -> None:
    rows = make_rows(hosts=1, cells=6)
    for row in rows[:5]:
        row.record = replace(row.record, traffic=Traffic(foreign_tokens=5))
    rows[5].verdicts = (verdict(),)
    assert closing(*rows, saving=True) == [
        "rack-1: 6 of 6 cells not saved as baseline main: qwen[pp64-tg8-c1], qwen[pp128-tg8-c1] and 3 more: disturbed "
        "by others; qwen[pp384-tg8-c1]: regressed",
        "store: /x/store.db",
    ]


def test_why_a_cell_was_not_saved() -> None:
    passed = (verdict("pass"),)
    record = make_record(samples=samples())
    warming = make_record(
        samples=[make_sample(index=number, e2e_ms=1000.0 - 60 * number, decode_tok_s=9.0) for number in range(12)]
    )
    disturbed = replace(record, traffic=Traffic(foreign_tokens=5))
    rows = {
        "not measured": FinishedCell(replace(record, error="no answer"), "error"),
        "left in doubt": FinishedCell(record, "in doubt", passed),
        "regressed": FinishedCell(record, "failed", (verdict("regression"),)),
        "disturbed by others": FinishedCell(disturbed, "skipped", passed),
        "still warming up": FinishedCell(warming, "skipped", passed),
        "failed": FinishedCell(record, "failed", passed),
        "expected to fail": FinishedCell(record, "xfailed", passed),
        "compared with another host, not with a baseline": FinishedCell(
            replace(record, reference_host="b"), "passed", passed
        ),
        "no number to judge": FinishedCell(record, "skipped", (verdict("inconclusive", now=None),)),
    }
    assert {reason: explain_unsavable(row) for reason, row in rows.items()} == {reason: reason for reason in rows}
    savable = FinishedCell(record, "passed", passed)
    assert explain_unsavable(savable) == ""
    assert (
        "1 of 1 cell not saved as baseline main: qwen[pp64-tg8-c1]: the store did not take it yet"
        in (closing(savable, saving=True)[0])
    )


def test_weak_baselines_are_a_line_for_each_host() -> None:
    rows = make_rows(hosts=2, cells=4)
    scattered = {"decode_tok_s": aggregate_of(*range(30, 70, 2))}
    (run,) = make_baseline(49.8).runs
    weak = replace(make_baseline(49.8), runs=(replace(run, aggregates=scattered),))
    baselines = {row.record.cell_key: replace(weak, cell_key=row.record.cell_key) for row in rows[:6]}
    first, second, _ = closing(*rows, baselines=baselines)
    assert first.startswith("rack-1: 4 of 4 cells with a weak baseline main: ")
    assert second.startswith("rack-2: 2 of 2 cells with a weak baseline main: ")
    assert first.endswith("; boobench power lists all")
    assert re.search(r"decode shows only drops over [\d.]+ %, 10 % is allowed; ", first)
    loud = closing(*rows, baselines=baselines, verbosity=1)
    assert loud[0] == "rack-1: 4 of 4 cells with a weak baseline main; boobench power lists all"
    assert [line.split(":")[0] for line in loud[1:5]] == [f"  {name_cell(row)}" for row in rows[:4]]


def test_too_short_requests() -> None:
    row = FinishedCell(make_record(samples=[make_sample(decode_tok_s=80.0)] * 3), "passed", (verdict("pass"),))
    assert closing(row)[0] == (
        "rack-1: 1 of 1 cell too short to judge steadily: qwen[pp64-tg8-c1]: decode takes only 100 ms "
        "(output_tokens: 16 would be enough)"
    )


def test_properties() -> None:
    found = dict(junit.properties_of_record(make_record(make_cell(sampling={"seed": 1}), samples=samples())))
    assert found["boobench.host"] == "rack-1"
    assert found["boobench.prompt_tokens"] == "64"
    assert found["boobench.sampling.seed"] == "1"
    assert found["boobench.decode_tok_s"] == "41.2"
    assert found["boobench.ttft_ms.p95"] == "31.9"
    assert found["boobench.clock"] == "kernel"
    assert found["boobench.model.quantisation"] == "Q8_0"
    assert "boobench.error" not in found
    bare = dict(junit.properties_of_record(make_record(server=None, model=None, error="dead")))
    assert bare["boobench.error"] == "dead"
    assert "boobench.server" not in bare
    judged = dict(junit.properties_of_verdicts([verdict()]))
    assert judged == {
        "boobench.verdict.decode_tok_s": "regression",
        "boobench.baseline.decode_tok_s": "49.8",
        "boobench.change.decode_tok_s": "-0.172691",
        "boobench.allowed.decode_tok_s": "0.1",
        "boobench.baseline.name": "main",
    }
    duet = dict(junit.properties_of_verdicts([verdict(change_low=-0.18, change_high=-0.16)]))
    assert duet["boobench.change_low.decode_tok_s"] == "-0.18"
    assert duet["boobench.change_high.decode_tok_s"] == "-0.16"
    facts = RunFacts(uid="u", session="s", suite="smoke", host="rack-1", started_at=0.0, ci={"system": "github"})
    run = dict(junit.properties_of_run(facts, "b1"))
    assert run["boobench.smoke.rack-1.run"] == "u"
    assert run["boobench.ci.system"] == "github"
    assert "boobench.git_commit" not in run
