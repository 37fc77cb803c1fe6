"""Room 7: what is said of the numbers themselves: lanes that wait for slots, cells that another plugin ran again."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from pytest_boobench.facts import Canary, ReferenceRates
from pytest_boobench.record import Baseline, HostNoise
from pytest_boobench.reports import markdown, session_json
from pytest_boobench.reports.advice import explain_one_look
from pytest_boobench.reports.sentences import advise_reruns, advise_slots
from pytest_boobench.reports.session import FinishedCell
from tests.making import make_baseline, make_cell, make_model, make_record
from tests.reports.test_markdown import make_session


def make_row(lanes: int, slots: int | None, *reruns: str, **cell: object) -> FinishedCell:
    record = make_record(make_cell(concurrency=lanes, id=f"pp64-tg8-c{lanes}", **cell), model=make_model(slots=slots))
    return FinishedCell(record, "passed", reruns=reruns)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            make_row(4, 1),
            "the server has 1 slot for 4 lanes, so 3 lanes at a time wait in its queue: decode is the speed of 1 "
            "lane, and TTFT includes the wait; start it with -np 4, or lower grid.concurrency to 1",
        ),
        (
            make_row(3, 2, kind="embedding", output_tokens=None),
            "the server has 2 slots for 3 lanes, so 1 lane at a time waits in its queue: the end-to-end time "
            "includes the wait; start it with -np 3, or lower grid.concurrency to 2",
        ),
        (
            make_row(8, 4, host="embedded"),
            "the server has 4 slots for 8 lanes, so 4 lanes at a time wait in its queue: decode is the speed of 4 "
            "lanes, and TTFT includes the wait; slots: 8 in the hosts file, or lower grid.concurrency to 4",
        ),
    ],
)
def test_more_lanes_than_slots(row: FinishedCell, said: str) -> None:
    assert list(advise_slots([row])) == [f"more lanes than slots: {row.record.host} qwen: {said}"]
    document = json.loads(session_json.render_json(make_session(row)))
    assert document["cells"][0]["notes"] == [said]
    assert f"- more lanes than slots: {row.record.host} qwen: the server has" in markdown.render(make_session(row))


@pytest.mark.parametrize(("lanes", "slots"), [(4, 4), (1, 4), (4, None), (1, 1)])
def test_enough_slots_or_nobody_knows(lanes: int, slots: int | None) -> None:
    assert list(advise_slots([make_row(lanes, slots)])) == []


def test_a_line_for_each_host_and_model_by_its_most_lanes() -> None:
    rows = [make_row(2, 1), make_row(8, 1), make_row(4, 1), make_row(4, 1, model="other"), make_row(1, 1)]
    assert [line.split(", so")[0] for line in advise_slots(rows)] == [
        "more lanes than slots: rack-1 qwen: the server has 1 slot for 8 lanes",
        "more lanes than slots: rack-1 other: the server has 1 slot for 4 lanes",
    ]


ONE_LOOK = "in another hour an unchanged host can be 15 % slower, and this baseline cannot tell that from a slow build"
REFERENCE = ReferenceRates(name="rack-1::pinned", decode_tok_s=40.0)


@pytest.mark.parametrize(
    ("facts", "baseline", "said"),
    [
        ({}, make_baseline(50.0), ONE_LOOK),
        ({"reference_rates": replace(REFERENCE, trouble="no answer")}, make_baseline(50.0), ONE_LOOK),
        ({"reference_rates": REFERENCE}, make_baseline(50.0), ""),
        ({"canaries": (Canary(copy_mb_s=900.0, hash_mb_s=900.0),)}, make_baseline(50.0), ""),
        ({}, replace(make_baseline(50.0), host_noise=HostNoise(sessions=5, by_metric={})), ""),
        ({}, None, ""),
    ],
)
def test_a_baseline_of_one_look_cannot_know_another_hour(
    facts: dict[str, Any], baseline: Baseline | None, said: str
) -> None:
    row = FinishedCell(make_record(make_cell(), **{"canaries": (), **facts}), "passed", saved=True)
    assert explain_one_look(row, baseline) == said
    assert explain_one_look(replace(row, saved=False), baseline) == ""


def test_two_looks_half_an_hour_apart_know_a_little() -> None:
    first = make_baseline(50.0)
    later = replace(first.runs[0], session="s2", measured_at=first.runs[0].measured_at + 7200.0)
    row = FinishedCell(make_record(make_cell(), canaries=()), "passed", saved=True)
    assert explain_one_look(row, replace(first, runs=(*first.runs, later))) == ""
    soon = replace(later, measured_at=first.runs[0].measured_at + 60.0)
    assert explain_one_look(row, replace(first, runs=(*first.runs, soon))) == ONE_LOOK


def test_a_cell_that_was_run_again() -> None:
    row = make_row(1, 4, "no answer", "decode 41.2 tok/s\nbelow")
    assert list(advise_reruns([row, make_row(1, 4)])) == [
        "run again 2 times: rack-1 qwen[pp64-tg8-c1]: decode 41.2 tok/s below"
    ]
    document = json.loads(session_json.render_json(make_session(row)))
    assert document["cells"][0]["notes"] == ["run again: no answer", "run again: decode 41.2 tok/s below"]
