"""Room 7: the summary in Markdown, word for word; and read back, with the names that an attacker would choose."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from pytest_boobench.record import RunFacts, Verdict
from pytest_boobench.reports import markdown
from pytest_boobench.reports.markdown import describe, render
from pytest_boobench.reports.session import FinishedCell, ItemOutcome, SessionReport, Unmeasured
from pytest_boobench.reports.text import LONGEST, escape, flatten
from tests.conftest import BenchFolder
from tests.making import make_cell, make_record, make_sample
from tests.plugin.test_session import scale_baselines

MARKDOWN = MarkdownIt("commonmark").enable("table")


def make_verdict(outcome: str, **changed: object) -> Verdict:
    fields: dict[str, object] = {"metric": "decode_tok_s", "now": 41.2, "baseline_name": "main", "allowed": 0.1}
    if outcome in {"regression", "improvement", "pass"}:
        now = {"regression": 41.2, "improvement": 60.0, "pass": 50.0}[outcome]
        fields |= {"now": now, "baseline": 49.8, "change": now / 49.8 - 1}
    return Verdict(**{**fields, "outcome": outcome, **changed})  # type: ignore[arg-type]


def make_row(
    outcome: str = "pass", item: ItemOutcome = "passed", id: str = "pp64-tg8-c1", **changed: object
) -> FinishedCell:
    samples = [make_sample(index=number, decode_tok_s=41.2, ttft_ms=31.0) for number in range(3)]
    names = {key: changed.pop(key) for key in ("host", "model", "suite") if key in changed}
    record = make_record(make_cell(id=id, **names), **{"samples": samples, **changed})
    return FinishedCell(record, item, (make_verdict(outcome),) if outcome else ())


def make_session(*rows: FinishedCell, **changed: object) -> SessionReport:
    fields: dict[str, object] = {"uid": "u", "baseline": "main", "finished_at": 0.0, "exit_status": 0, "rows": rows}
    return SessionReport(**{**fields, **changed})  # type: ignore[arg-type]


REGRESSED = make_row("regression", "failed", id="pp512")
FAILED = make_row("pass", "failed", id="pp1")
ERROR = make_row("", "error", id="pp2", error="rack-1: no answer; is the server running?", samples=(), server=None)
LOST = Unmeasured(node_id="x.boobench.yaml::h::m[c]", outcome="failed", reason="worker 'gw0' crashed")
SKIPPED = Unmeasured(node_id="x.boobench.yaml::h::m[d]", outcome="skipped", reason="in use")


GREEN, NEW = make_row(), make_row("no baseline")


@pytest.mark.parametrize(
    ("session", "line"),
    [
        (make_session(), "no cell ran"),
        (make_session(GREEN), "1 cell passed"),
        (make_session(NEW, NEW), "2 cells without a baseline"),
        (make_session(GREEN, make_row("inconclusive", "skipped")), "2 cells, none regressed: 1 inconclusive, 1 passed"),
        (make_session(NEW, make_row("not comparable")), "2 cells: 1 not comparable, 1 without a baseline"),
        (make_session(REGRESSED, GREEN, REGRESSED), "2 of 3 cells regressed, 1 passed"),
        (make_session(ERROR, REGRESSED), "1 of 2 cells regressed, 1 could not be measured"),
        (make_session(ERROR, GREEN), "1 of 2 cells could not be measured, 1 passed"),
        (make_session(GREEN, FAILED), "1 of 2 cells failed, 1 passed"),
        (make_session(make_row("", "in doubt")), "1 of 1 cell left in doubt"),
        (
            make_session(make_row("regression", "xfailed"), GREEN),
            "2 cells, none regressed: 1 expected to fail, 1 passed",
        ),
        (make_session(make_row("improvement"), NEW), "2 cells, none regressed: 1 without a baseline, 1 improved"),
        (make_session(GREEN, unmeasured=[LOST, SKIPPED]), "1 of 3 cells lost, 1 passed, 1 skipped"),
        (make_session(unmeasured=[SKIPPED]), "1 cell skipped"),
    ],
)
def test_the_verdict_line(session: SessionReport, line: str) -> None:
    assert describe(session) == line
    assert render(session).splitlines()[0] == f"## boobench: {line}"


def test_a_whole_summary() -> None:
    facts = RunFacts(
        uid="u",
        session="s",
        suite="smoke",
        host="rack-1",
        started_at=0.0,
        git_commit="0123456789abcdef",
        git_dirty=True,
    )
    two = make_row("pass", "failed", id="pp512")
    two.verdicts = (
        make_verdict("pass", metric="ttft_ms", now=31.0, baseline=30.0, change=1 / 30),
        make_verdict("regression"),
    )
    new = make_row("no baseline")
    new.saved = True
    failures = {FAILED.record.node_id: "1 of 3 requests failed: 1 × status: 500\n\nhost rack-1; 3 samples"}
    session = make_session(new, FAILED, ERROR, two, runs=[facts], unmeasured=[LOST], failures=failures)
    assert render(session).splitlines() == [
        "## boobench: 1 of 5 cells regressed, 1 failed, 1 could not be measured, 1 lost, 1 without a baseline",
        "",
        "**Regressed**",
        "",
        "- <code>rack-1 qwen[pp512]</code> (smoke)",
        "  - decode 41.2 tok/s, 17.3 % below baseline main (49.8), 10 % allowed",
        "  - TTFT 31.0 ms, 3.3 % above baseline main (30.0)",
        "",
        "**Failed**",
        "",
        "- <code>rack-1 qwen[pp1]</code> (smoke)",
        "  - 1 of 3 requests failed: 1 × status: 500",
        "  - host rack-1; 3 samples",
        "",
        "**Could not be measured**",
        "",
        "- <code>rack-1 qwen[pp2]</code> (smoke)",
        "  - rack-1: no answer; is the server running?",
        "",
        "**Lost**",
        "",
        "- <code>x.boobench.yaml::h::m[c]</code>: worker 'gw0' crashed",
        "",
        "| host | suite | cell | TTFT ms | decode tok/s | change | verdict |",
        "| --- | --- | --- | ---: | ---: | ---: | --- |",
        "| rack-1 | smoke | <code>qwen[pp512]</code> | 31.0 | 41.2 | −17.3 % | **regression decode** |",
        "| rack-1 | smoke | <code>qwen[pp1]</code> | 31.0 | 41.2 | – | **failed** |",
        "| rack-1 | smoke | <code>qwen[pp2]</code> | – | – | – | **error** |",
        "| rack-1 | smoke | <code>qwen[pp64-tg8-c1]</code> | 31.0 | 41.2 | – | no baseline, saved |",
        "",
        "baseline main · commit 0123456789 with changes · rack-1: llama-server b11549",
    ]


def test_a_column_of_zeros_is_not_blank() -> None:
    lines = markdown.render(make_session(make_row(total_tok_s=0.0))).splitlines()
    assert "| all lanes tok/s |" in next(line for line in lines if line.startswith("| host"))
    assert "| 0.00 |" in next(line for line in lines if line.startswith("| rack-1"))


def test_what_is_not_judged_says_why() -> None:
    row = make_row("inconclusive", "skipped")
    row.verdicts = (make_verdict("inconclusive", reason="no sample gives this metric"), make_verdict("pass"))
    lines = render(make_session(row)).splitlines()
    assert lines[2:6] == [
        "**Inconclusive**",
        "",
        "- <code>rack-1 qwen[pp64-tg8-c1]</code> (smoke)",
        "  - decode 41.2 tok/s, inconclusive: no sample gives this metric",
    ]


def test_a_long_table_is_folded() -> None:
    short = render(make_session(*[make_row()] * markdown.LONG))
    assert "<details>" not in short
    long = render(make_session(*[make_row()] * (markdown.LONG + 1)))
    assert "\n<details>\n<summary>All 11 cells</summary>\n\n| host " in long
    assert "\n\n</details>\n" in long


@pytest.mark.parametrize("max_bytes", [markdown.LEAST_BYTES, 20_000, markdown.COMMENT_BYTES])
def test_what_asks_least_is_left_out_of_a_summary_that_would_be_too_long(max_bytes: int) -> None:
    rows = [make_row(id=f"pp{number}-äöü") for number in range(500)]
    rows += [make_row("regression", "failed", id=f"slow{number}-äöü") for number in range(500)]
    text = render(make_session(*rows), max_bytes=max_bytes)
    assert max_bytes * 0.9 < len(text.encode()) <= max_bytes
    assert text.startswith("## boobench: 500 of 1000 cells regressed, 500 passed\n")
    assert text.count("<details>") == text.count("</details>") == 1
    more_lines, more_cells = (int(number) for number in re.findall(r"(\d+) more", text))
    shown = text.count("| rack-1 |")
    assert shown + more_cells == 1000
    assert len(re.findall(r"^(?:  )?- (?!…)", text, re.MULTILINE)) + more_lines == 1000
    assert ("pp0-" in text) == (shown > 500), "regressions come first"


def test_a_thousand_cells_fit_a_step_summary() -> None:
    text = render(make_session(*[REGRESSED] * 1000), max_bytes=markdown.STEP_SUMMARY_BYTES)
    assert " more " not in text
    assert len(text.encode()) <= markdown.STEP_SUMMARY_BYTES == 1024 * 1024


HOSTILE = [
    "a|b",
    r"a\|b",
    "``x`` `",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</code></details><!-- ",
    "&lt;b&gt; &amp;",
    "@everyone",
    "mail@example.org",
    "#1 owner/repo#2 !3 ~bug %4 $5 &6 :boom:",
    "**bold** _it_ __it__ ~~gone~~ snake_case",
    "[text](javascript:alert(1)) ![x](http://evil.example/x.png) [a][b]",
    "http://evil.example www.evil.example",
    "two\nlines\r\n# heading\n- item\u2028x\u2029y\x00\x1b[31m",
    "\u202eevil",
    "\ud800",
    "$$x^2$$",
    "/close",
    "ä" * 1000,
]


def inline(tokens: Sequence[Token]) -> list[Token]:
    return [child for token in tokens for child in token.children or []]


def shown(tokens: Sequence[Token]) -> str:
    return "".join(token.content for token in tokens if token.type == "text").replace("\u200b", "")


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_shows_and_does_nothing(text: str) -> None:
    (token,) = [token for token in MARKDOWN.parse(f"x {escape(text)} y") if token.type == "inline"]
    assert {child.type for child in token.children or []} == {"text"}
    assert shown(token.children or []) == f"x {flatten(text)} y"
    raw = "".join(child.content for child in token.children or [])
    assert not re.search(r"[@#!%~$](?=\w)|://|www\.(?=\w)|:\w+:", raw)


@given(st.text(max_size=60))
def test_any_text_shows_as_it_is(text: str) -> None:
    (token,) = [token for token in MARKDOWN.parse(f"x{escape(text)}y") if token.type == "inline"]
    assert {child.type for child in token.children or []} == {"text"}
    assert shown(token.children or []) == f"x{flatten(text)}y".replace("\u200b", "")


@pytest.mark.parametrize(
    "line",
    ["# x", "- x", "+ x", "1. x", "12) x", "===", "---", "/close", "    code", "\tcode", "> x", "[ ] x", "``` x"],
)
def test_no_text_begins_a_block(line: str) -> None:
    session = make_session(make_row("", "error", error=f"{line}\n{line}"), sections=[("More", f"{line}\n\n{line}")])
    tokens = MARKDOWN.parse(render(session))
    assert {token.type.removesuffix("_open") for token in tokens if token.nesting == 1} == {
        *("heading", "paragraph", "bullet_list", "list_item"),
        *("table", "thead", "tbody", "tr", "th", "td"),
    }
    assert [token.type for token in tokens].count("heading_open") == 1
    assert [token.type for token in tokens].count("list_item_open") == 3
    assert "\n/close" not in render(session)
    assert [shown(token.children or []) for token in tokens].count(line.strip()) == 4


def test_sections_of_others() -> None:
    text = render(make_session(make_row(), sections=[("Power_", "rack-1: 310 W\n\nrack-2: *off*"), ("Heat", "fine")]))
    assert text.splitlines()[-12:] == [
        "",
        "**Power&#95;**",
        "",
        "rack-1: 310 W  ",
        "",
        "rack-2: &#42;off&#42;  ",
        "",
        "**Heat**",
        "",
        "fine  ",
        "",
        "baseline main · rack-1: llama-server b11549",
    ]


def test_the_change_of_a_duet_has_its_interval() -> None:
    row = make_row()
    row.verdicts = (make_verdict("regression", change_low=-0.18, change_high=-0.16),)
    assert "| −17.3 % [−18.0, −16.0] |" in render(make_session(row))


def test_a_duet_names_its_host() -> None:
    row = make_row("regression", "failed")
    row.verdicts = (make_verdict("regression", baseline_name="duet with rack-2"),)
    assert render(make_session(row)).splitlines()[-1].startswith("duet with rack-2 · rack-1: ")


def test_long_text_is_cut() -> None:
    assert escape("a" * 1000) == "a" * (LONGEST - 1) + "…"


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_stay_in_their_cells(text: str) -> None:
    names = {"host": text, "model": text, "suite": text}
    rows = [make_row("regression", "failed", **names), make_row("", "error", error=f"{text} {text}", **names)]
    rows[0].verdicts = (make_verdict("regression", baseline_name=text),)
    tokens = MARKDOWN.parse(render(make_session(*rows, baseline=text, unmeasured=[LOST])))
    assert [token.type for token in tokens].count("td_open") == 2 * 7
    assert {token.type for token in tokens} & {"html_block", "fence", "code_block", "blockquote_open", "hr"} == set()
    assert [token.type for token in tokens].count("heading_open") == 1
    assert [token.content for token in inline(tokens) if token.type == "html_inline"] == ["<code>", "</code>"] * 5
    assert {token.type for token in inline(tokens)} <= {"text", "html_inline", "strong_open", "strong_close"}


def test_the_file_and_github(bench: BenchFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    step = bench.path / "step.md"
    step.write_text("# of another tool\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(step))
    bench.write_suite(gate={"decode_tok_s": "10%"})
    bench.run("--boobench-save-baseline", "--boobench-summary=made/sum.md").assert_outcomes(passed=2)
    text = (bench.path / "made" / "sum.md").read_text()
    assert text.startswith("## boobench: 2 cells without a baseline\n")
    assert text.count("no baseline, saved |") == 2
    assert step.read_text() == f"# of another tool\n\n{text}"

    bench.run("--collect-only").assert_outcomes()
    bench.run("-k", "nothing").assert_outcomes(deselected=2)
    bench.run("-o", "boobench_step_summary=false", "--boobench-baseline=other").assert_outcomes(passed=2)
    assert step.read_text().count("## boobench") == 1

    scale_baselines(bench, 20.0)
    bench.run("-o", "boobench_block_gap=0s", "-o", "boobench_policy=literal").assert_outcomes(failed=2)
    last = step.read_text().rpartition("## boobench: ")[2]
    assert last.startswith("2 of 2 cells regressed\n")
    assert re.search(r"^  - decode \d+ tok/s, [\d.]+ % below baseline main", last, re.MULTILINE)
    assert re.search(r"^  - host llama", last, re.MULTILINE)


def test_github_has_no_room_or_no_place(bench: BenchFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asked for it: trouble is told, and costs nothing."""
    bench.write_suite()
    full = bench.path / "full.md"
    full.write_text("x" * (markdown.STEP_SUMMARY_BYTES - 100))
    for path, trouble in (
        (full, f"no room left in {full}"),
        (bench.path, f"cannot append to {bench.path}: Is a directory"),
    ):
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
        result = bench.run()
        result.assert_outcomes(passed=2)
        assert result.ret == pytest.ExitCode.OK
        result.stdout.fnmatch_lines([f"boobench: GITHUB_STEP_SUMMARY: {trouble}"])
    assert full.stat().st_size == markdown.STEP_SUMMARY_BYTES - 100


def test_a_file_that_cannot_be_written_ends_the_session_first(bench: BenchFolder) -> None:
    bench.write_suite()
    (bench.path / "taken").write_text("")
    (bench.path / "folder").mkdir()
    for name, trouble in {
        "taken/sum.md": "cannot write {}/taken/sum.md: File exists",
        "folder": "cannot write {}/folder: Is a directory",
    }.items():
        result = bench.run(f"--boobench-summary={name}")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"ERROR: --boobench-summary: {trouble.format(bench.path)}"])
    assert not (bench.path / ".boobench").exists()


def test_a_file_that_goes_away_later_is_told_and_not_green(bench: BenchFolder) -> None:
    bench.write_suite(usefixtures=["gone"])
    bench.pytester.makeconftest(
        "import pathlib, pytest\n@pytest.fixture\ndef gone():\n    pathlib.Path('out/sum.md').mkdir(exist_ok=True)\n"
    )
    result = bench.run("--boobench-summary=out/sum.md")
    result.assert_outcomes(passed=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"boobench: cannot write {bench.path}/out/sum.md: Is a directory"])


def test_cells_without_a_record_are_in_the_summary(bench: BenchFolder) -> None:
    """One is skipped by its mark, one dies with its worker, one has a fixture that fails."""
    overrides = [
        {"where": {"prompt_tokens": [16]}, "marks": [{"skip": {"reason": "not today"}}]},
    ]
    bench.write_suite(grid={"prompt_tokens": [16, 24, 32, 40], "output_tokens": [4]}, overrides=overrides)
    bench.pytester.makeconftest(
        """
        import os
        import pytest

        @pytest.fixture(autouse=True)
        def _die(request):
            if "pp24" in request.node.name:
                os._exit(9)
            if "pp32" in request.node.name:
                raise RuntimeError("fixture trouble")
        """
    )
    bench.pytester.makepyfile("def test_of_somebody_else(): assert 0")
    bench.run_workers("-n", "1", "--boobench-summary=sum.md").assert_outcomes(passed=1, skipped=1, failed=2, errors=1)
    text = (bench.path / "sum.md").read_text()
    assert text.startswith("## boobench: 2 of 4 cells lost, 1 without a baseline, 1 skipped\n")
    lost = re.findall(r"^- <code>(.*?)</code>: (.*)$", text.partition("**Lost**")[2], re.MULTILINE)
    assert [(name.rpartition("::")[2], reason.split(" while")[0]) for name, reason in sorted(lost)] == [
        ("tiny-chat[pp24-tg4-c1]", "worker 'gw0' crashed"),
        ("tiny-chat[pp32-tg4-c1]", "RuntimeError: fixture trouble"),
    ]
