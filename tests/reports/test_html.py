"""Room 7, the HTML report: what it says, what it draws from, and that nothing that hosts or users wrote gets out."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import pytest
from click.testing import CliRunner, Result

from pytest_boobench.cli import boobench, main
from pytest_boobench.errors import MissingExtra
from pytest_boobench.facts import Canary
from pytest_boobench.record import CellRecord, Measurement, RunFacts
from pytest_boobench.reports import html
from pytest_boobench.reports.html import render_page as page
from pytest_boobench.reports.html.chart_data import (
    MOST_DOTS,
    Pool,
    compare_samples,
    explain,
    list_facts,
    plot_metric,
    plot_runs,
    shorten,
    split_ttft,
    tabulate_turns,
    tell_turn,
)
from pytest_boobench.reports.html.page_data import group_hosts, group_lanes
from pytest_boobench.reports.html.render_page import list_columns, list_values
from pytest_boobench.reports.html.series import STATES, Series, fill_gaps, find_state, follow
from pytest_boobench.reports.session import ALL_LANES, Unmeasured
from pytest_boobench.reports.text import LONGEST_TEXT, clean, to_script_json
from pytest_boobench.store import BaselineSave, Store
from pytest_boobench.suite.cell import Cell
from tests.conftest import BenchFolder
from tests.histories import (
    CELL,
    DAY_S,
    DISTURBED,
    FAILED_REQUESTS,
    NOT_MEASURED,
    Fate,
    follow_cell,
    gather,
    judge_as,
    list_cells,
    make_aggregate,
    make_measurement,
    make_run,
    make_samples,
    make_team,
    render,
    render_large,
)
from tests.making import make_cell, make_record, make_sample


def course_of(*measurements: Measurement) -> Series:
    return Series(measurements=measurements)


def data_of(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


# --- what became of a cell


@pytest.mark.parametrize(
    ("found", "word"),
    [
        ({}, "not judged"),
        ({"verdicts": (judge_as("pass"), judge_as("regression", "prefill_tok_s"))}, "regression"),
        ({"verdicts": (judge_as("regression"),), "failed": 1}, "regression"),
        ({"verdicts": (judge_as("pass"),), "failed": 1}, "failed requests"),
        ({"error": "dead", "failed": 1}, "not measured"),
        ({"verdicts": (judge_as("improvement"), judge_as("pass", "prefill_tok_s"))}, "improvement"),
        ({"verdicts": (judge_as("inconclusive"), judge_as("not comparable", "prefill_tok_s"))}, "not comparable"),
    ],
)
def test_of_several_things_the_one_that_asks_most(found: Mapping[str, Any], word: str) -> None:
    assert find_state(make_measurement(CELL, **found)) is STATES[word]


def test_every_outcome_is_a_state_and_every_sign_is_its_own_but_for_the_failures() -> None:
    assert list(STATES) == [
        "regression",
        "not measured",
        "failed requests",
        "not comparable",
        "inconclusive",
        "no baseline",
        "not judged",
        "skipped",
        "improvement",
        "pass",
    ]
    assert [state.sign for state in STATES.values()] == ["▼", "✕", "✕", "≠", "◆", "○", "–", "⊘", "▲", "●"]
    assert [word for word, state in STATES.items() if not state.advice] == ["pass"]


def measured_as(*found: Mapping[str, Any]) -> list[Series]:
    return [
        course_of(make_measurement(make_cell(prompt_tokens=number), **fields))
        for number, fields in enumerate(found, start=1)
    ]


RED, GREEN, FASTER = ({"verdicts": (judge_as(outcome),)} for outcome in ("regression", "pass", "improvement"))
NEW = {"verdicts": (judge_as("no baseline"),)}


@pytest.mark.parametrize(
    ("found", "line"),
    [
        ([], "Nothing measured yet"),
        ([GREEN], "None of 1 cell regressed"),
        ([GREEN, FASTER, NEW], "None of 3 cells regressed, 1 not judged"),
        ([NEW, NEW], "2 cells measured, none judged"),
        ([RED, GREEN], "1 of 2 cells regressed"),
        ([RED, NOT_MEASURED, GREEN], "1 of 3 cells regressed, 1 could not be measured"),
        ([NOT_MEASURED, GREEN], "1 of 2 cells could not be measured"),
        ([RED, {**GREEN, "failed": 2}], "1 of 2 cells regressed, 1 had failed requests"),
        ([{**GREEN, "failed": 2}, GREEN], "1 of 2 cells had failed requests"),
    ],
)
def test_the_headline_is_the_finding(found: Sequence[Mapping[str, Any]], line: str) -> None:
    assert page.headline(measured_as(*found)) == line


def test_findings_come_by_state_and_leave_out_what_passed() -> None:
    courses = follow(one for course in measured_as(GREEN, NEW, RED, NOT_MEASURED) for one in course.measurements)
    found = page.list_findings(courses, [[course.state.word] for course in courses])
    assert [(state.word, [place for place, *_ in cells]) for state, cells in found] == [
        ("regression", [0]),
        ("not measured", [1]),
        ("no baseline", [2]),
    ]
    counted = [(rank, state.word, many) for rank, state, many in page.count_states(courses)]
    assert counted == [(0, "regression", 1), (1, "not measured", 1), (5, "no baseline", 1), (9, "pass", 1)]


def test_the_scope_names_some_and_counts_the_others() -> None:
    cells = [make_cell(host=f"rack-{number}") for number in range(1, 7)]
    courses = [course_of(make_measurement(cell, number)) for number, cell in enumerate(cells)]
    scope = dict(page.describe_scope(courses))
    assert scope["hosts"] == "rack-1, rack-2, rack-3, rack-4 and 2 more"
    assert scope["engines"] == "b11000"
    assert scope["measured"] == "2026-10-03 04:00 to 2026-10-08 04:00 UTC"
    same_day = [course_of(make_measurement(CELL, started_at=1_791_000_000.0 + 3600 * n)) for n in range(3)]
    assert dict(page.describe_scope(same_day))["measured"] == "2026-10-03 04:00 to 06:00 UTC"
    assert dict(page.describe_scope(same_day[:1]))["measured"] == "2026-10-03 04:00 UTC"
    assert dict(page.describe_scope([])) == {}


@pytest.mark.parametrize(
    ("ci", "url"),
    [
        ({}, None),
        ({"url": "https://ci.example/job/7"}, "https://ci.example/job/7"),
        ({"url": "javascript:alert(1)"}, None),
    ],
)
def test_only_an_address_for_a_browser_is_a_link(ci: Mapping[str, str], url: str | None) -> None:
    measured = make_measurement(CELL, run=make_run(CELL, 0, ci=ci))
    assert page.find_job_url([course_of(measured)]) == url
    assert ("<a href" in render([measured]).partition("<nav")[0].partition('class="scope"')[2]) == (url is not None)
    assert page.find_job_url([]) is None


# --- a cell's course


def test_courses_stand_red_first_the_worst_of_them_at_the_top_then_as_people_sort() -> None:
    cells = {
        (host, prompt, lanes): make_cell(host=host, prompt_tokens=prompt, concurrency=lanes)
        for host in ("b", "a")
        for prompt, lanes in ((512, 16), (512, 2), (64, 1))
    }
    drops = {("a", 512, 2): -0.2, ("b", 64, 1): -0.3}
    measured = [
        make_measurement(cell, verdicts=(judge_as("regression", change=drops[name]),) if name in drops else ())
        for name, cell in cells.items()
    ]
    found = [course.newest.identity for course in follow(measured)]
    assert [(cell["host"], cell["prompt_tokens"], cell["concurrency"]) for cell in found] == [
        ("b", 64, 1),
        ("a", 512, 2),
        ("a", 64, 1),
        ("a", 512, 16),
        ("b", 512, 2),
        ("b", 512, 16),
    ]
    slower = [
        make_measurement(make_cell(host=host), verdicts=(judge_as("regression", "ttft_ms", change=change),))
        for host, change in (("a", 0.6), ("b", 0.9))
    ]
    assert [course.newest.run.host for course in follow(slower)] == ["b", "a"]


def test_a_session_sees_its_own_cells_up_to_what_it_measured() -> None:
    other = make_cell(prompt_tokens=512)
    measured = [*(make_measurement(CELL, number) for number in (2, 0, 1)), make_measurement(other, 0)]
    session = make_run(CELL, 1).session
    (course,) = follow(measured, session)
    assert [one.run.session[:8] for one in course.measurements] == ["00000000", "00000001"]
    twice = [*measured, measured[0]]
    assert sorted(len(course.measurements) for course in follow(twice)) == [1, 3]


def test_the_baseline_is_the_newest_one_in_force_under_the_name_that_judged() -> None:
    first, second, third = (make_measurement(CELL, number, baselines=("main",)) for number in range(3))
    now = make_measurement(CELL, 3, verdicts=(judge_as("pass"),))
    old = replace(first, baselines=("old",))
    assert course_of(old, second, third, now).baseline is third
    assert course_of(old, replace(second, baselines=()), now).baseline is None
    assert course_of(first, replace(now, baselines=("main",))).baseline is first
    assert course_of(first, make_measurement(CELL, 3)).baseline is None


def test_charted_are_the_judged_the_decisive_one_first_and_the_usual_ones() -> None:
    judged = (judge_as("pass", "itl_ms"), judge_as("regression", "prefill_tok_s"))
    course = course_of(make_measurement(CELL, verdicts=judged))
    assert course.charted == ("prefill_tok_s", "itl_ms", "decode_tok_s", "ttft_ms", ALL_LANES)
    embedding = make_cell(kind="embedding", output_tokens=None)
    aggregates = {key: make_aggregate(9.0) for key in ("embed_tok_s", "e2e_ms")}
    bare = make_measurement(embedding, aggregates=aggregates, total_tok_s=None)
    assert course_of(bare).charted == ("embed_tok_s", "e2e_ms")


def test_points_are_columns_in_which_what_seldom_changes_stands_once() -> None:
    measured = follow_cell(CELL, Fate(runs=16, drop=0.5, dropped_runs=6, saved=1, noise=0.0))
    plotted = plot_metric(course_of(*measured), "decode_tok_s")
    assert plotted["values"] == [50] * 10 + [25] * 6
    assert plotted["level"] == [(0, None), (2, 50)]
    assert plotted["allowed"] == [(0, 0.1)]
    assert plotted["changes"] == [(10, 10, 50, 25)]
    assert len(plotted["low"]) == len(plotted["high"]) == 16
    assert "low" not in plot_metric(course_of(*measured), "ttft_ms")
    lanes = plot_metric(course_of(replace(measured[0], total_tok_s=None), measured[1]), ALL_LANES)
    assert lanes["values"] == [None, 46]


def test_points_know_their_run_state_reason_and_baseline() -> None:
    dirty = make_run(CELL, 1, git_dirty=True, machine=None)
    measured = [
        make_measurement(CELL, 0, baselines=("main", "old"), verdicts=(judge_as("no baseline"),)),
        make_measurement(CELL, 1, run=dirty, **NOT_MEASURED, engine_build=None),
        make_measurement(CELL, 2, **{**DISTURBED, "spoiled": "x" * 500}),
    ]
    runs, texts = Pool(), Pool()
    plotted = plot_runs(course_of(*measured), runs, texts)
    assert plotted["runs"] == [(0, 0)]
    assert plot_runs(course_of(measured[0], measured[2]), runs, texts)["runs"] == [(0, 0), (1, 1)], "one was left out"
    assert plotted["after"] == [30, 30, 30]
    assert [(place, -1 if text < 0 else texts.entries[text]) for place, text in plotted["builds"]] == [
        (0, "b11000"),
        (1, -1),
        (2, "b11000"),
    ]
    assert [(place, list(STATES)[rank]) for place, rank in plotted["states"]] == [
        (0, "no baseline"),
        (1, "not measured"),
        (2, "inconclusive"),
    ]
    assert {place: texts.entries[text] for place, text in plotted["reasons"].items()} == {
        1: NOT_MEASURED["error"],
        2: f"{'x' * 119}…",
    }
    assert plotted["saved"] == {0: "main, old"}
    assert texts.entries[runs.entries[1]["commit"]].endswith(" and changes")
    assert runs.entries[1]["machine"] == -1
    bare = Pool()
    plot_runs(course_of(make_measurement(CELL, run=make_run(CELL, 0, git_commit=None))), bare, texts)
    assert bare.entries[0]["commit"] == -1


@pytest.mark.parametrize(
    ("value", "short"),
    [(None, None), (float("nan"), None), (float("inf"), None), (41.0, 41), (49.826, 49.83), (0.00123456, 0.001235)],
)
def test_numbers_are_short(value: float | None, short: float | None) -> None:
    assert shorten(value) == short
    assert type(shorten(value)) is type(short)


def test_the_turn_is_told_with_the_commits_and_builds_around_it() -> None:
    measured = follow_cell(CELL, Fate(runs=14, drop=0.2, dropped_runs=4, noise=0.002))
    assert tell_turn(course_of(*measured)) == (
        "decode stepped by −20.0 % between 2026-10-12 04:00 UTC (commit 00000b2835, engine b11000) "
        "and 2026-10-13 04:00 UTC (commit 00000b4724, engine b11000)"
    )
    bare = [replace(one, engine_build=None, run=replace(one.run, git_commit=None)) for one in measured]
    told = tell_turn(course_of(*bare))
    assert told is not None
    assert told.endswith("between 2026-10-12 04:00 UTC and 2026-10-13 04:00 UTC")
    slide = [
        replace(one, aggregates={"decode_tok_s": make_aggregate(50 * 0.985**number)}, verdicts=(judge_as("pass"),))
        for number, one in enumerate(follow_cell(CELL, Fate(runs=20)))
    ]
    slide[-1] = replace(slide[-1], verdicts=(judge_as("regression", change=-0.25),))
    slid = tell_turn(course_of(*slide))
    assert slid is not None
    assert slid.startswith("decode slid by −2")
    assert tell_turn(course_of(*slide[:-1])) is None, "a pass needs no telling"
    rising = replace(slide[-1], verdicts=(judge_as("improvement", change=0.2),))
    assert tell_turn(course_of(*slide[:-1], rising)) is None, "a fall explains no improvement"
    assert tell_turn(course_of(make_measurement(CELL))) is None


# --- a cell from near


def test_everything_is_said_of_the_newest_the_worst_first() -> None:
    judged = (judge_as("pass", "prefill_tok_s", now=2200.0, baseline=2100.0, change=0.048), judge_as("regression"))
    found = make_measurement(CELL, verdicts=judged, failed=2, spoiled="still warming up: more warm-up")
    failed = make_sample(index=9, failure="status", failure_text="500: no slot")
    assert explain(course_of(found), [make_sample(), failed, failed]) == [
        "decode 41.2 tok/s, 17.6 % below baseline main (50.0), 10 % allowed",
        "2 of 10 requests failed: 2 × status: 500: no slot",
        "still warming up: more warm-up",
        "prefill 2200 tok/s, 4.8 % above baseline main (2100)",
    ]
    assert explain(course_of(replace(found, verdicts=(), spoiled=None)), ()) == ["2 of 10 requests failed"]
    assert explain(course_of(make_measurement(CELL, **NOT_MEASURED)), ()) == [NOT_MEASURED["error"]]


def test_one_reason_for_all_metrics_is_said_once() -> None:
    assert explain(course_of(make_measurement(CELL, **DISTURBED)), ()) == [
        "inconclusive: disturbed: 3 foreign requests, 530 foreign tokens"
    ]
    unjudged = (judge_as("no baseline"), judge_as("no baseline", "prefill_tok_s"))
    assert explain(course_of(make_measurement(CELL, verdicts=unjudged)), ()) == ["no baseline"]


def test_samples_lie_beside_the_baselines() -> None:
    was = make_measurement(CELL, 0, baselines=("main",))
    now = make_measurement(CELL, 1, verdicts=(judge_as("pass"),), aggregates={"decode_tok_s": make_aggregate(40.0)})
    found = compare_samples(course_of(was, now), {now.id: make_samples(now), was.id: make_samples(was, 100)})
    assert set(found) == {"decode_tok_s", "prefill_tok_s", "ttft_ms"}
    assert found["decode_tok_s"]["now"]["box"] == [10, 38.4, 39.2, 40, 40.8, 41.6]
    assert len(found["decode_tok_s"]["now"]["dots"]) == 10
    assert len(found["decode_tok_s"]["was"]["dots"]) <= MOST_DOTS
    assert set(found["ttft_ms"]) == {"was"}
    pruned = compare_samples(course_of(was, now), {})
    assert pruned["decode_tok_s"]["was"]["dots"] == []
    assert compare_samples(course_of(was, make_measurement(CELL, 1, **NOT_MEASURED)), {}) == {}


def test_a_conversation_has_a_table_of_its_turns() -> None:
    medians = {"ttft_ms.turn[1]": 180.0, "ttft_ms.turn[2]": 20.0, "cached_share.turn[2]": 0.9, "ttft_ms": 100.0}
    was = make_measurement(CELL, 0, baselines=("main",))
    told = {key: make_aggregate(median) for key, median in medians.items()}
    now = make_measurement(CELL, 1, verdicts=(judge_as("pass"),), aggregates=told, cache_break="it breaks at turn 2")
    assert tabulate_turns(course_of(was, now)) == {"now": {"TTFT ms": [180, 20], "cached": [None, 0.9]}}
    assert "it breaks at turn 2" in explain(course_of(was, now), ())


def test_where_the_ttft_goes() -> None:
    was = make_measurement(CELL, 0, baselines=("main",))
    unknown = {key: make_aggregate(9.0) for key in ("ttft_ms", "decode_tok_s")}
    now = make_measurement(CELL, 1, verdicts=(judge_as("pass"),), aggregates=unknown)
    assert split_ttft(course_of(was, now)) == {"now": [None, None, None, 9], "was": [0.6, 12, 160, 180]}
    assert split_ttft(course_of(make_measurement(CELL, **NOT_MEASURED))) == {}


def test_facts_leave_blanks_out() -> None:
    was = make_measurement(CELL, 0, baselines=("main",))
    run = make_run(CELL, 1, git_dirty=True, ci={"system": "gitlab", "job": "bench", "ref": "main"})
    full = make_measurement(CELL, 1, run=run, reference_host="rack-9", **{**FAILED_REQUESTS, **DISTURBED})
    full = replace(full, verdicts=(judge_as("pass"),), model=replace(full.model, slots=4))  # type: ignore[type-var]
    assert list_facts(course_of(was, full)) == [
        ("measured", "2026-10-04 04:00 UTC"),
        ("samples", "10, 2 failed, in 2 blocks"),
        ("why more blocks", "decode 9.1 % below, too close to the limit to tell"),
        ("measured again", "2 times"),
        ("stalls", "3"),
        ("others on the host", "3 foreign requests, 530 foreign tokens"),
        ("clock", "kernel"),
        ("model loaded in", "4210 ms"),
        ("engine", "b11000"),
        ("model", "Q4_K - Medium, 4.90 GB, 8192 tokens of context, 4 slots"),
        ("duet with", "rack-9"),
        ("commit", f"{run.git_commit} and changes"),
        ("measured from", "bench-client, AMD EPYC 9354"),
        ("canary", "copies 9120 MB/s, hashes 411 MB/s"),
        ("CI job", "gitlab bench main"),
        ("baseline main", "2026-10-03 04:00 UTC, commit 00000a11ce, engine b11000"),
    ]
    empty_run = make_run(CELL, 0, git_commit=None, machine=None, cpu=None)
    bare = make_measurement(CELL, run=empty_run, model=None, engine_build=None, clock=None)
    assert list_facts(course_of(bare)) == [
        ("measured", "2026-10-03 04:00 UTC"),
        ("samples", "10, in 1 block"),
    ]
    nameless = replace(was, run=empty_run, engine_build=None)
    assert dict(list_facts(course_of(nameless, full)))["baseline main"] == "2026-10-03 04:00 UTC"
    modelled = make_measurement(CELL, model=replace(full.model, size_bytes=None, n_ctx=None, slots=None))  # type: ignore[type-var]
    assert dict(list_facts(course_of(modelled)))["model"] == "Q4_K - Medium"


# --- cells against each other


def names_and_cells(groups: Sequence[Mapping[str, Any]], courses: Sequence[Series], key: str) -> list[Any]:
    def show(places: Any) -> Any:
        return [show(place) if isinstance(place, list) else host_and_lanes(courses[place]) for place in places]

    return [(group["name"], show(group[key])) for group in groups]


def by_place(courses: Sequence[Series]) -> Mapping[int, Series]:
    return dict(enumerate(courses))


def host_and_lanes(course: Series) -> str:
    return f"{course.newest.run.host} {course.newest.identity['concurrency']}"


def test_hosts_side_by_side_are_the_same_cell_elsewhere() -> None:
    cells = [*list_cells(["s"], ["a", "b"], ["m"], [64], [1, 16]), make_cell(suite="s", host="c", model="alone")]
    courses = follow(make_measurement(cell) for cell in cells)
    assert names_and_cells(group_hosts(by_place(courses)), courses, "cells") == [
        ("s: m[pp64-tg128-c1]", ["a 1", "b 1"]),
        ("s: m[pp64-tg128-c16]", ["a 16", "b 16"]),
    ]


def test_lanes_make_a_curve_for_each_host_that_has_several() -> None:
    cells = list(list_cells(["s"], ["b", "a"], ["mc-c4"], [64], [16, 1, 4]))
    courses = follow(make_measurement(cell) for cell in [*cells, make_cell(suite="s", host="c", model="mc-c4")])
    assert names_and_cells(group_lanes(by_place(courses)), courses, "lines") == [
        ("s: mc-c4[pp64-tg128]", [["a 1", "a 4", "a 16"], ["b 1", "b 4", "b 16"]])
    ]
    embeddings = [make_cell(id=f"pp64-c{lanes}", concurrency=lanes, kind="embedding") for lanes in (1, 4)]
    assert group_lanes(by_place(follow(map(make_measurement, embeddings))))[0]["name"] == "smoke: qwen[pp64]"


# --- the table


def test_the_table_has_a_column_for_each_number_there_is() -> None:
    judged = (judge_as("regression"), judge_as("no baseline", "ttft_ms", now=180.0))
    courses = [course_of(make_measurement(CELL, verdicts=judged)), course_of(make_measurement(CELL, **NOT_MEASURED))]
    columns = list_columns(courses)
    assert columns == ("decode_tok_s", "prefill_tok_s", "ttft_ms", ALL_LANES)
    first, second = (list(list_values(course, columns)) for course in courses)
    assert first == [
        ("50.0", "−17.6 %", "bad"),
        ("2200", "", ""),
        ("180", "", ""),
        ("50.0", "", ""),
    ]
    assert {text for text, _, _ in second} == {"–"}
    passed = course_of(make_measurement(CELL, verdicts=(judge_as("pass", change=0.01),)))
    assert next(list_values(passed, columns)) == ("50.0", "+1.0 %", "plain")


# --- cells without a measurement


def miss(
    outcome: Literal["failed", "skipped"], name: str = "x[pp64-c1]", file: str = "a.boobench.yaml", reason: str = "why"
) -> Unmeasured:
    return Unmeasured(node_id=f"{file}::rack-7::{name}", outcome=outcome, reason=reason)


LOST, SKIPPED = miss("failed", reason="worker 'gw0' crashed"), miss("skipped", reason="in use")


@pytest.mark.parametrize(
    ("found", "unmeasured", "line"),
    [
        ([], [SKIPPED], "1 cell skipped"),
        ([], [LOST], "1 of 1 cell could not be measured"),
        ([GREEN, GREEN], [SKIPPED], "None of 3 cells regressed, 1 skipped"),
        ([GREEN, NEW], [SKIPPED, SKIPPED], "None of 4 cells regressed, 1 not judged, 2 skipped"),
        ([NEW], [SKIPPED], "1 cell measured, none judged, 1 skipped"),
        ([RED], [LOST, SKIPPED], "1 of 3 cells regressed, 1 could not be measured"),
    ],
)
def test_the_headline_counts_every_cell(
    found: Sequence[Mapping[str, Any]], unmeasured: Sequence[Unmeasured], line: str
) -> None:
    assert page.headline(fill_gaps(measured_as(*found), unmeasured)) == line


def test_gaps_stand_among_the_cells_of_their_state() -> None:
    courses = follow(one for course in measured_as(GREEN, NOT_MEASURED, RED) for one in course.measurements)
    cells = fill_gaps(courses, [SKIPPED, LOST])
    assert [(cell.state.word, isinstance(cell, Series)) for cell in cells] == [
        ("regression", True),
        ("not measured", True),
        ("not measured", False),
        ("skipped", False),
        ("pass", True),
    ]


def test_a_gap_is_of_the_suite_that_other_cells_of_its_file_are_of() -> None:
    measured = make_measurement(make_cell(suite="nightly"), node_id="suites/n.boobench.yaml::rack-1::m[c1]")
    neighbour = miss("skipped", "Qwen/Qwen3:Q4[pp64-c1]", "suites/n.boobench.yaml")
    other, _, mate = fill_gaps([course_of(measured)], [neighbour, miss("failed", file="b/o.boobench.yml")])
    assert (other.suite, other.host, other.model, other.name) == ("o.boobench.yml", "rack-7", "x", "x[pp64-c1]")
    assert (mate.suite, mate.host, mate.model) == ("nightly", "rack-7", "Qwen/Qwen3:Q4")


def test_the_page_has_a_row_for_every_cell() -> None:
    text = render([make_measurement(CELL, **RED)], unmeasured=[LOST, miss("skipped", reason="")])
    (_, lost, skipped) = data_of(text)["cells"]
    texts = data_of(text)["texts"]
    assert [list(STATES)[cell["state"]] for cell in (lost, skipped)] == ["not measured", "skipped"]
    assert (lost["said"], skipped["said"]) == (["worker 'gw0' crashed"], [])
    assert {texts[what]: texts[value] for what, value in lost["facts"]} == {
        "outcome": "failed",
        "test": "a.boobench.yaml::rack-7::x[pp64-c1]",
    }
    assert text.count('<tr id="c') == 3
    assert '<td class="reason" colspan="5">worker &#39;gw0&#39; crashed</td>' in text
    assert '<td class="reason" colspan="5"></td>' in text, "its columns are there all the same"


def test_a_page_of_nothing_but_skips_says_why() -> None:
    text = render([], unmeasured=[SKIPPED])
    assert "<h1>1 cell skipped</h1>" in text
    assert '<td class="reason" colspan="1">in use</td>' in text
    assert "No measurements" not in text


# --- the whole page


def test_the_page_of_a_team() -> None:
    text = render(make_team(), store="postgresql://team@db/bench")
    assert "<title>2 of 18 cells regressed, 1 could not be measured, 1 had failed requests – boobench</title>" in text
    assert "Made 2026-11-24 06:00 UTC by pytest-boobench 0.1.0 from postgresql://team@db/bench. Times are UTC." in text
    assert text.count('<tr id="c') == 18
    data = data_of(text)
    assert len(data["cells"]) == 18
    assert [state["word"] for state in data["states"]] == list(STATES)
    first = data["cells"][0]
    assert data["texts"][first["name"]] == "qwen3-8b[pp64-tg128-c1]"
    assert data["metrics"]["decode_tok_s"] == {
        "title": "decode",
        "unit": "tok/s",
        "better": "higher",
        "is": "(generated tokens - 1) / time from first to last token",
    }
    assert data["metrics"][ALL_LANES]["is"] == "tokens of all lanes together over the wall"


def test_many_cells_of_a_finding_are_folded() -> None:
    cells = [make_cell(prompt_tokens=number) for number in range(1, 12)]
    red = render([make_measurement(cell, **RED) for cell in cells])
    assert "<summary>3 more</summary>" in red
    assert red.count('<a href="#c') == 12, "and the one that skips to the cells"
    assert "<summary>Which</summary>" in render([make_measurement(CELL, **NEW)])
    assert "more</summary>" not in render([make_measurement(cell, **RED) for cell in cells[:8]])


def test_the_page_of_an_empty_store() -> None:
    text = render([])
    assert "<h1>Nothing measured yet</h1>" in text
    assert "Measure first: <code>pytest --boobench suites/</code>" in text
    assert data_of(text)["cells"] == []
    assert "<table" not in text


def test_the_page_of_a_session_has_its_cells_only() -> None:
    measured = [make_measurement(CELL, number) for number in range(3)]
    other = make_measurement(make_cell(host="elsewhere"), 0)
    text = render([*measured, other], session=measured[1].run.session)
    (cell,) = data_of(text)["cells"]
    assert len(cell["points"]["after"]) == 2


def test_500_cells_of_50_runs_are_under_3_mb() -> None:
    text = render_large()
    data = data_of(text)
    assert len(data["cells"]) == 500
    assert {len(cell["points"]["after"]) for cell in data["cells"]} == {50}
    assert {len(cell["samples"]["decode_tok_s"]["now"]["dots"]) for cell in data["cells"]} == {20}
    assert all("low" in cell["metrics"]["ttft_ms"] for cell in data["cells"])
    assert len(text.encode()) < 3_000_000


def test_the_page_loads_nothing_and_runs_its_own_script_only() -> None:
    text = render(make_team())
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy
    parts = {"style": re.search(r"<style>(.*?)</style>", text, re.DOTALL)}
    parts["script"] = re.search(r"<script>(.*?)</script>", text, re.DOTALL)
    hashes = {
        name: base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
        for name, found in parts.items()
        if found
    }
    assert policy[1].replace("&#39;", "'").split("; ") == [
        "default-src 'none'",
        f"script-src 'sha256-{hashes['script']}'",
        f"style-src 'sha256-{hashes['style']}'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    assert not re.search(r"""\b(?:src|srcset|data-src|poster|background)\s*=|url\(|@import|\bimport\b|fetch\(""", text)
    assert text.count("<script") == 2


def test_the_script_is_all_there_and_cannot_end_its_element() -> None:
    folder = files("pytest_boobench.reports.html") / "assets"
    sources = {entry.name: entry.read_text(encoding="utf-8") for entry in folder.iterdir() if entry.is_file()}
    scripts = {name.removesuffix(".js") for name in sources if name.endswith(".js")}
    assert scripts == set(page._SCRIPTS)
    for name, source in sources.items():
        if not name.endswith(".html"):
            assert "</" not in source, name
            assert "<!--" not in source, name
        assert "innerHTML" not in source, name
        assert "\r" not in source, name


# --- strange text


class Reader(HTMLParser):
    """Keeps the elements of a page, their attributes and all its text."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    return reader


HOSTILE = {
    "element": "<script>hacked=1</script>",
    "image": '"><img src=x onerror=hacked=1>',
    "end": "</script><script>hacked=1</script>",
    "comment": "<!--<script>",
    "separators": "a\u2028b\u2029c",
    "nul": "a\x00b\x1b[31m",
    "direction": "abc\u202ecba\u2066",
    "half a pair": "half \ud800 a pair",
    "template": "{{ 7 * 7 }} {% raw %} ${hacked=1}",
    "entity": "&lt;b&gt; &amp;",
    "quotes": """' onmouseover='hacked=1' x="`""",
    "long": "long " * 10_000,
}
"""What a host, a user or a CI system may have written; `hacked` must never be set."""


def make_hostile(text: str) -> list[Measurement]:
    """Measurements that have the text wherever a text may be."""
    cell = make_cell(suite=text, host=text, model=text, id=text)
    run = make_run(
        cell, 0, git_commit=text, machine=text, cpu=text, session=text, ci=dict.fromkeys(["system", "url", "job"], text)
    )
    common: dict[str, Any] = {"run": run, "engine_build": text, "baselines": (text,), "extended": text}
    verdicts = (judge_as("inconclusive", change=None, reason=text, note=text, baseline_name=text),)
    model = replace(make_measurement(cell).model, quantisation=text, name=text)  # type: ignore[type-var]
    return [
        make_measurement(cell, 0, **common),
        make_measurement(cell, 1, **common, model=model, verdicts=verdicts, spoiled=text, reference_host=text),
        make_measurement(replace(cell, host=f"{text}2", concurrency=4), 0, **common, error=text),
        make_measurement(replace(cell, host=f"{text}2"), 0, **common, verdicts=(judge_as("pass"),), failed=1),
        make_measurement(replace(cell, concurrency=4), 0, **{**common, "run": replace(run, host=text)}),
    ]


def hostile_history(text: str) -> html.History:
    unmeasured = [Unmeasured(node_id=f"{text}::{text}::{text}[c]", outcome="skipped", reason=text)]
    history = gather(make_hostile(text), store=text, unmeasured=unmeasured)
    failed = make_sample(failure="status", failure_text=text)
    return replace(history, samples={id_: (*samples, failed) for id_, samples in history.samples.items()})


@pytest.mark.parametrize("name", HOSTILE)
def test_no_text_becomes_markup(name: str) -> None:
    tame = read(html.render(hostile_history("tame"), 0.0))
    hostile = html.render(hostile_history(HOSTILE[name]), 0.0)
    found = read(hostile)
    # Names sort differently, so rows may stand in another order: the same elements in all the same.
    assert sorted(tag for tag, _ in found.elements) == sorted(tag for tag, _ in tame.elements)
    assert {key for _, attributes in found.elements for key in attributes} == {
        key for _, attributes in tame.elements for key in attributes
    }
    assert not [key for _, attributes in found.elements for key in attributes if key.startswith("on")]
    data = data_of(hostile)
    shown = clean(HOSTILE[name])
    assert shown in data["texts"]
    assert shown.strip() in found.text
    hostile.encode()
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", hostile)


def test_a_long_text_is_cut_wherever_it_stands() -> None:
    short, long = (len(html.render(hostile_history(text), 0.0)) for text in ("x" * LONGEST_TEXT, "x" * 1_000_000))
    assert long <= short + 100


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("as it is: ü, 漢字, 🦙, <b>", "as it is: ü, 漢字, 🦙, <b>"),
        ("line\nline\ttab", "line\nline\ttab"),
        ("\x00\x1b[0m\r\x7f\x85", "\ufffd\ufffd[0m\ufffd\ufffd\ufffd"),
        ("a\u202eb\u2066c\u200fd\ufeff", "a\ufffdb\ufffdc\ufffdd\ufffd"),
        ("\ud800", "\ufffd"),
        ("x" * LONGEST_TEXT, "x" * LONGEST_TEXT),
        ("x" * (LONGEST_TEXT + 1), "x" * (LONGEST_TEXT - 1) + "…"),
    ],
)
def test_cleaning(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


def test_json_stays_inside_of_its_element() -> None:
    plain = {"</script>": ["<!--", "&amp;", "\u2028\x00\ud800", 1.5, None]}
    text = to_script_json(plain)
    assert text == ('{"\\u003c/script\\u003e":["\\u003c!--","\\u0026amp;","\\u2028\\u0000\\ud800",1.5,null]}')
    assert json.loads(text) == plain
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_script_json({"x": float("nan")})


# --- asking for it


def test_gathering_asks_for_no_more_than_is_drawn() -> None:
    was = make_measurement(CELL, 0, baselines=("main",))
    others = [make_measurement(CELL, number) for number in (5, 6)]
    now = make_measurement(CELL, 7, verdicts=(judge_as("pass"), judge_as("pass", "prefill_tok_s")))
    asked: list[object] = []

    def ask(*, last: int | None = None, baselines: Sequence[str] = ()) -> Sequence[Measurement]:
        asked.append((last, baselines))
        return [was, replace(was, id=1, cell_key="of another cell")] if baselines else [*others, now]

    def ask_samples(ids: Sequence[int]) -> Mapping[int, Any]:
        asked.append(list(ids))
        return {}

    history = html.gather(ask, ask_samples, last=3, store="here")
    assert asked == [(3, ()), (None, ["main"]), [now.id, was.id]]
    assert [course.baseline for course in follow(history.measurements)] == [was]
    asked.clear()
    html.gather(lambda *, last=None, baselines=(): asked.append(last) or others, ask_samples)
    assert asked == [html.RUNS, [others[1].id]]


def test_without_jinja2_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    message = "the HTML report needs the extra 'report': pip install 'pytest-boobench[report]'"
    with pytest.raises(MissingExtra) as caught:
        html.render(html.History(measurements=()), 0.0)
    assert str(caught.value) == message


# --- boobench report


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a store of two hosts: a baseline and a slower run a day later."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    monkeypatch.chdir(tmp_path)
    with Store.open(str(tmp_path / ".boobench" / "store.db")) as store:
        for host in ("rack-1", "rack-2"):
            keep(store, make_cell(host=host), 0, 50.0)
            keep(store, make_cell(host=host), 1, 40.0)
    return tmp_path


def keep(store: Store, cell: Cell, day: int, decode_tok_s: float) -> None:
    run = RunFacts(
        uid=f"{day}{cell.host}",
        session=str(day),
        suite=cell.suite,
        host=cell.host,
        started_at=1_791_000_000 + day * DAY_S,
    )
    samples = [make_sample(index=index, decode_tok_s=decode_tok_s, ttft_ms=30.0) for index in range(4)]
    record: CellRecord = make_record(cell, samples=samples, started_at=run.started_at)
    cell_id = store.record(store.start_run(run), record)
    outcome = judge_as("regression", change=-0.2) if day else judge_as("no baseline")
    store.record_verdicts(cell_id, [outcome], save_as=None if day else BaselineSave(name="main", add=False))


def run(*args: str) -> Result:
    return CliRunner().invoke(boobench, ["report", *args], standalone_mode=False)


def test_the_command_writes_the_page_of_the_store(project: Path) -> None:
    result = run()
    assert (result.return_value, result.output) == (0, "wrote boobench-report.html\n")
    text = (project / "boobench-report.html").read_text(encoding="utf-8")
    assert "<h1>2 of 2 cells regressed</h1>" in text
    (first, _) = data_of(text)["cells"]
    assert len(first["points"]["after"]) == 2
    assert set(first["samples"]["decode_tok_s"]) == {"now", "was"}
    assert first["samples"]["decode_tok_s"]["was"]["dots"] == [50, 50, 50, 50]


def test_the_command_takes_some_cells_and_some_runs(project: Path) -> None:
    result = run("--host", "rack-2", "--model", "qwen", "--suite", "smoke", "--last", "1", "-o", "one.html")
    assert result.output == "wrote one.html\n"
    (cell,) = data_of((project / "one.html").read_text(encoding="utf-8"))["cells"]
    assert len(cell["points"]["after"]) == 2, "the newest one, and the baseline that is older"
    assert run("--session", "1", "-k", "rack-2", "-o", "session.html").output == "wrote session.html\n"
    (cell,) = data_of((project / "session.html").read_text(encoding="utf-8"))["cells"]
    assert set(cell["samples"]["decode_tok_s"]) == {"now", "was"}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--host", "rack-7"], "nothing of that was measured; expected what {store} has, see boobench history"),
        (["-o", "no/such/folder.html"], "--output: cannot write no/such/folder.html: no such file or directory"),
    ],
)
def test_wrong_use_of_the_command(
    project: Path, args: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", *args]) == 2
    store = project / ".boobench" / "store.db"
    assert capsys.readouterr().err.splitlines()[-1] == f"Error: {message.format(store=store)}"


def test_the_command_makes_a_page_of_an_empty_store_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report"]) == 2
    assert "there is no store, let pytest --boobench make one" in capsys.readouterr().err
    Store.open("empty.db").close()
    assert main(["report", "--store", "empty.db"]) == 0
    assert "Nothing measured yet" in Path("boobench-report.html").read_text(encoding="utf-8")


# --- pytest --boobench-report


def test_a_session_leaves_its_page(bench: BenchFolder) -> None:
    bench.write_suite()
    bench.run("--boobench-save-baseline").assert_outcomes(passed=2)
    result = bench.run("--boobench-report", "out/now.html", "-k", "pp16", "--boobench-max-drop", "99%")
    result.stdout.fnmatch_lines([f"boobench wrote {bench.path / 'out' / 'now.html'}"])
    (cell,) = data_of((bench.path / "out" / "now.html").read_text(encoding="utf-8"))["cells"]
    assert len(cell["points"]["after"]) == 2
    assert set(cell["samples"]["decode_tok_s"]) == {"now", "was"}


def test_a_session_shows_the_cells_that_it_did_not_come_to_measure(bench: BenchFolder) -> None:
    bench.write_suite(
        grid={"prompt_tokens": [16, 32, 64], "output_tokens": [4]},
        overrides=[{"where": {"prompt_tokens": 16}, "marks": [{"skip": "not on this host"}]}],
    )
    bench.pytester.makeconftest(
        """
        import pytest

        @pytest.fixture
        def boobench_host_access(boobench_cell, boobench_host_access):
            if boobench_cell.id.startswith("pp32"):
                pytest.fail("the fan is broken", pytrace=False)
            return boobench_host_access
        """
    )
    bench.run("--boobench-report", "now.html").assert_outcomes(passed=1, skipped=1, errors=1)
    text = (bench.path / "now.html").read_text(encoding="utf-8")
    assert "<h1>1 of 3 cells could not be measured</h1>" in text
    data = data_of(text)
    assert {cell["said"][0]: list(STATES)[cell["state"]] for cell in data["cells"]} == {
        "the fan is broken": "not measured",
        "no baseline": "no baseline",
        "not on this host": "skipped",
    }
    assert {data["texts"][cell["suite"]] for cell in data["cells"]} == {"smoke"}


def test_a_session_without_cells_leaves_an_empty_page(bench: BenchFolder) -> None:
    bench.write_suite()
    bench.run("--boobench-report", "now.html", "-k", "nothing")
    assert "Nothing measured yet" in (bench.path / "now.html").read_text(encoding="utf-8")


def test_without_jinja2_nothing_is_measured(bench: BenchFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.write_suite()
    monkeypatch.setattr(page.importlib.util, "find_spec", lambda name: None)
    result = bench.run("--boobench-report", "now.html")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    message = "the HTML report needs the extra 'report': pip install 'pytest-boobench[[]report]'"
    result.stderr.fnmatch_lines([f"ERROR: --boobench-report: {message}"])
    assert not (bench.path / ".boobench").exists()


def test_a_store_that_cannot_be_read_costs_the_page_only(bench: BenchFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.write_suite(grid={"prompt_tokens": [16], "output_tokens": [4]})
    bench.pytester.makeconftest(
        """
        import sqlite3

        def pytest_boobench_cell_finished(config, record, verdicts):
            connection = sqlite3.connect(config.rootpath / ".boobench" / "store.db")
            connection.execute("drop table bench_verdicts")
            connection.commit()
            connection.close()
        """
    )
    result = bench.run("--boobench-report", "now.html")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"boobench: cannot write {bench.path / 'now.html'}: *no such table*"])
    assert not (bench.path / "now.html").exists()


def test_the_canary_is_a_fact_and_never_a_secret() -> None:
    facts = dict(list_facts(course_of(make_measurement(CELL, canary=Canary(copy_mb_s=9.87, hash_mb_s=0.034)))))
    assert facts["canary"] == "copies 9.87 MB/s, hashes 0.034 MB/s"
