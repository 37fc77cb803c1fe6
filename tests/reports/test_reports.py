"""Room 7: sentences, table and properties, word for word."""

from __future__ import annotations

from pytest_boobench.facts import Traffic
from pytest_boobench.metrics import Sample
from pytest_boobench.record import RunFacts, Verdict
from pytest_boobench.reports import junit
from pytest_boobench.reports.sentences import failure_text, provenance, sentence
from pytest_boobench.reports.session import FinishedCell
from pytest_boobench.reports.terminal import TerminalLine, render_closing, render_tables
from tests.making import make_baseline, make_cell, make_record, make_sample


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


def table(*rows: FinishedCell, verbosity: int = 0) -> list[TerminalLine]:
    return list(render_tables(rows, verbosity=verbosity))


def test_table() -> None:
    red = FinishedCell(make_record(samples=samples()), "failed", (verdict(),))
    saved = FinishedCell(make_record(samples=samples()), "passed", (verdict("no baseline", change=None),), saved=True)
    dead = FinishedCell(make_record(error="no answer", server=None), "error")
    lines = table(red, saved, dead)
    assert [line.text for line in lines] == [
        "rack-1  (llama-server b11549 http://10.0.0.5:8080)",
        "  smoke                TTFT ms  prefill tok/s  decode tok/s   change  verdict",
        "    qwen[pp64-tg8-c1]     31.0           2200          41.2  −17.3 %  regression decode",
        "    qwen[pp64-tg8-c1]     31.0           2200          41.2        –  no baseline, saved",
        "    qwen[pp64-tg8-c1]        –              –             –        –  error",
        "",
    ]
    assert [line.colour for line in lines[2:5]] == ["red", "", "red"]


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
        (_, _, line, _) = table(row)
        assert line.text.endswith(f"  {word}")
    colours = [table(row)[2].colour for row in rows.values()]
    assert colours == ["green", "yellow", "yellow", "", "", "red"]


def test_verbose_table_has_more_columns_and_the_sentences() -> None:
    more = [make_sample(decode_tok_s=41.2, ttft_ms=30.0, prompt_ms=20.0, connect_ms=0.2, e2e_ms=100.0, output_tokens=8)]
    texts = [line.text for line in table(FinishedCell(make_record(samples=more), "failed", (verdict(),)), verbosity=1)]
    assert texts[1].split() == (
        "smoke connect ms queue ms prompt ms TTFT ms decode tok/s e2e ms change verdict".split()
    )
    assert texts[3] == "      decode 41.2 tok/s, 17.3 % below baseline main (49.8), 10 % allowed"


def test_what_others_did_is_in_the_table() -> None:
    traffic = Traffic(in_flight_at_start=1, concurrent_foreign_requests=2, foreign_tokens=530)
    disturbed = FinishedCell(make_record(samples=samples(), traffic=traffic), "passed", (verdict("inconclusive"),))
    alone = FinishedCell(make_record(samples=samples(), traffic=Traffic(concurrent_foreign_requests=0)), "passed")
    _, head, first, second, _ = [line.text for line in table(disturbed, alone)]
    assert "in flight at start  foreign requests  foreign tokens" in head
    assert first.split()[4:7] == ["1", "2", "530"]
    assert second.split()[4:7] == ["–", "–", "–"]
    assert "foreign" not in table(alone)[1].text


def test_hosts_and_suites_stand_apart() -> None:
    rows = [
        FinishedCell(make_record(make_cell(suite=suite, host=host), samples=samples()), "passed")
        for host in ("rack-1", "rack-2")
        for suite in ("a", "b")
    ]
    heads = [line.text.split()[0] for line in table(*rows) if line.text and not line.text.startswith("    ")]
    assert heads == ["rack-1", "a", "b", "rack-2", "a", "b"]


def closing(*rows: FinishedCell, saving: bool = False) -> list[str]:
    return [
        line.text for line in render_closing(rows, baseline="main", store="/x/store.db", saving=saving, baselines={})
    ]


def test_closing_lines() -> None:
    new = FinishedCell(make_record(), "passed", (verdict("no baseline"),))
    saved = FinishedCell(make_record(), "passed", (verdict("no baseline"),), saved=True)
    red = FinishedCell(make_record(), "failed", (verdict(),))
    other = FinishedCell(make_record(), "passed", (verdict("not comparable", reason="another model file: x"),) * 2)
    assert closing(new) == [
        "1 cell without a baseline main: passed unjudged; store one with --boobench-save-baseline",
        "store: /x/store.db",
    ]
    assert closing(saved, saved, red, saving=True) == [
        "2 cells saved as baseline main",
        "1 cell not saved: only a cell that was measured alone and steadily, and did not regress, becomes a baseline",
        "store: /x/store.db",
    ]
    assert closing(other, other)[0] == (
        "NOT COMPARABLE with baseline main, so not judged: another model file: x; "
        "if that is meant, store a new one with --boobench-save-baseline"
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
    facts = RunFacts(uid="u", session="s", suite="smoke", host="rack-1", started_at=0.0, ci={"system": "github"})
    run = dict(junit.properties_of_run(facts, "b1"))
    assert run["boobench.smoke.rack-1.run"] == "u"
    assert run["boobench.ci.system"] == "github"
    assert "boobench.git_commit" not in run
