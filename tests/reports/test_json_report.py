"""Room 7: the session as one JSON document."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest

from pytest_boobench.metrics import METRICS, Sample
from pytest_boobench.record import RunFacts
from pytest_boobench.reports.session import FinishedCell, SessionReport
from pytest_boobench.reports.session_json import SCHEMA, render_json
from tests.conftest import BenchFolder
from tests.making import make_record, make_sample
from tests.reports.test_markdown import ERROR, HOSTILE, LOST, SKIPPED, make_row, make_session

DOCUMENT = (
    "schema plugin_version session finished_at exit_status baseline counts metrics runs cells unmeasured sections"
).split()  # fmt: skip
CELL = (
    "node_id standing outcome saved failure verdicts cell_key suite host identity started_at aggregates total_tok_s "
    "server model load_ms traffic takeover client canaries extended text_digest reference_host reference worker "
    "error measured blocks attempts stalls clock spoiled failed"
).split()
VERDICT = (
    "metric outcome now baseline change allowed baseline_name reason fast_change noise run_noise sessions samples "
    "blocks proven note sentence"
).split()
AGGREGATE = "n mean median stdev min max p10 p25 p50 p75 p90 p95 p99".split()


def no_constant(word: str) -> None:
    raise AssertionError(f"{word} is not JSON")


def read(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text, parse_constant=no_constant)
    return found


def test_the_fields_of_schema_1() -> None:
    """A field that goes away or has another name needs a new schema: here is where that is noticed."""
    facts = RunFacts(uid="u", session="s", suite="smoke", host="rack-1", started_at=0.0)
    document = read(render_json(make_session(make_row("regression", "failed"), runs=[facts], unmeasured=[LOST])))
    assert SCHEMA == document["schema"] == 1
    (cell,) = document["cells"]
    assert set(DOCUMENT) <= set(document)
    assert set(CELL) <= set(cell)
    assert set(VERDICT) <= set(cell["verdicts"][0])
    assert set(AGGREGATE) <= set(cell["aggregates"]["ttft_ms"])
    assert list(document["metrics"]) == list(METRICS)
    assert document["metrics"]["ttft_ms"] == {
        "title": "TTFT",
        "unit": "ms",
        "better": "lower",
        "definition": "request sent to first token, reasoning included",
    }
    assert list(document["runs"][0]) == [field.name for field in fields(RunFacts)]
    assert document["unmeasured"] == [
        {"node_id": "x.boobench.yaml::h::m[c]", "outcome": "failed", "reason": "worker 'gw0' crashed"}
    ]


def test_what_became_of_cells() -> None:
    row = make_row("regression", "failed")
    failures = {row.record.node_id: "decode 41.2 tok/s, 17.3 % below …"}
    session = make_session(row, ERROR, make_row("no baseline"), failures=failures, unmeasured=[SKIPPED], exit_status=1)
    document = read(render_json(replace(session, sections=[("Power", "310 W")])))
    assert document["sections"] == [{"title": "Power", "text": "310 W"}]
    assert [cell["standing"] for cell in document["cells"]] == ["regression", "error", "no baseline"]
    assert {standing: number for standing, number in document["counts"].items() if number} == {
        "regression": 1,
        "error": 1,
        "no baseline": 1,
    }
    regressed, broken, _ = document["cells"]
    assert regressed["failure"] == "decode 41.2 tok/s, 17.3 % below …"
    assert regressed["verdicts"][0]["sentence"].startswith("decode 41.2 tok/s, 17.3 % below baseline main (49.8)")
    assert regressed["measured"] == 3
    assert broken["error"] == "rack-1: no answer; is the server running?"
    assert broken["server"] is None
    assert document["exit_status"] == 1


def test_samples_are_there_when_asked_for() -> None:
    samples = [make_sample(chunk_ms=(1.0, 2.5), timings={"predicted_n": 2}), make_sample(failure="status")]
    session = make_session(FinishedCell(make_record(samples=samples), "passed"))
    assert "samples" not in read(render_json(session))["cells"][0]
    (cell,) = read(render_json(session, samples=True))["cells"]
    assert cell["failed"] == 1
    assert [list(sample) for sample in cell["samples"]] == [[*(field.name for field in fields(Sample)), "rates"]] * 2
    assert cell["samples"][0]["chunk_ms"] == [1.0, 2.5]


def test_it_is_json_whatever_servers_say() -> None:
    timings = {"rate": float("nan"), "rates": [float("inf"), 1.0], "deep": {"x": -float("inf")}}
    session = make_session(FinishedCell(make_record(samples=[make_sample(timings=timings)]), "passed"))
    (cell,) = read(render_json(session, samples=True))["cells"]
    assert cell["samples"][0]["timings"] == {"rate": None, "rates": [None, 1.0], "deep": {"x": None}}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names(name: str) -> None:
    text = render_json(make_session(make_row(host=name, model=name, error=name), baseline=name))
    assert text.isascii()
    document = read(text)
    assert document["baseline"] == document["cells"][0]["host"] == document["cells"][0]["error"] == name


def test_an_empty_session() -> None:
    document = read(render_json(SessionReport(uid="u", baseline="main", finished_at=1.0, exit_status=5, rows=())))
    assert (document["cells"], document["runs"], document["unmeasured"]) == ([], [], [])


def test_in_a_session(bench: BenchFolder) -> None:
    bench.write_suite(samples=3)
    bench.run("--boobench-json=a.json", "--boobench-json-samples", "--boobench-save-baseline").assert_outcomes(passed=2)
    document = read((bench.path / "a.json").read_text())
    assert document["exit_status"] == 0
    assert [run["session"] for run in document["runs"]] == [document["session"]]
    assert [cell["saved"] for cell in document["cells"]] == [True, True]
    assert [sample["phase"] for sample in document["cells"][0]["samples"]].count("measure") == 3
    args = ("--boobench-baseline=other", "--boobench-json=a.json")
    bench.run_workers("-n", "1", *args).assert_outcomes(passed=2)
    parallel = read((bench.path / "a.json").read_text())
    assert {cell["node_id"] for cell in parallel["cells"]} == {cell["node_id"] for cell in document["cells"]}
    assert {cell["worker"] for cell in parallel["cells"]} == {"gw0"}
    assert "samples" not in parallel["cells"][0]


def test_a_session_in_which_nothing_ran_says_so(bench: BenchFolder) -> None:
    bench.write_suite()
    assert bench.run("--boobench-json=a.json", "-k", "nothing").ret == pytest.ExitCode.NO_TESTS_COLLECTED
    document = read((bench.path / "a.json").read_text())
    assert (document["exit_status"], document["cells"]) == (5, [])
    assert bench.run("--boobench-json=b.json", "--collect-only").ret == pytest.ExitCode.OK
    assert not (bench.path / "b.json").exists()
