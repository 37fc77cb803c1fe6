"""Alerts of made histories: what opens, confirms and closes one, and what is one change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from pytest_boobench.facts import REFERENCE_SUITE
from pytest_boobench.gate.alerts import GONE_SESSIONS, Alert, follow_alerts
from pytest_boobench.record import Measurement, Outcome
from pytest_boobench.suite.cell import Cell
from tests.histories import BEGAN_AT, DAY_S, DISTURBED, judge_decode, make_measurement, make_run
from tests.making import make_cell

CELLS = {name: make_cell(id=name, prompt_tokens=64 + place) for place, name in enumerate("ABCDEF")}
OUTCOMES: Mapping[str, Outcome | None] = {
    "r": "regression",
    "p": "pass",
    "P": "pass",  # and proven
    "i": "inconclusive",
    "+": "improvement",
    "n": "no baseline",
    "e": None,  # error
}


CHANGES = {"r": -0.15, "+": 0.2}


def make(cell: Cell, night: int, letter: str, baseline: str = "main", **changed: Any) -> Measurement:
    error = "no answer" if letter == "e" else None
    outcome, change = OUTCOMES[letter], CHANGES.get(letter, 0.0)
    verdicts = judge_decode(outcome, change, baseline_name=baseline, proven=letter == "P") if outcome else ()
    return make_measurement(cell, night, **{"verdicts": verdicts, "error": error, **changed})


def play(**nights: str) -> list[Measurement]:
    """Cell -> a letter for each night; a blank: not measured."""
    long = max(map(len, nights.values()))
    return [
        make(CELLS[name], night, letters[night])
        for night in range(long)
        for name, letters in nights.items()
        if letters[night : night + 1].strip()
    ]


def tell(alerts: Sequence[Alert]) -> list[str]:
    """Each alert as ``AB slower: 1 opened, 2 confirmed``; one of a whole host has no cells."""
    names = {cell.key: name for name, cell in CELLS.items()}
    return [
        f"{''.join(sorted({names[cell.measurement.cell_key] for cell in alert.cells}))} {alert.direction}: ".lstrip()
        + ", ".join(f"{int(uid[:8], 16)} {step}" for uid, step in alert.steps.items())
        + (f" ({alert.ending})" if alert.ending else "")
        for alert in alerts
    ]


@pytest.mark.parametrize(
    ("nights", "told"),
    [
        ({"A": "PPP"}, []),
        ({"A": "Pr"}, ["A slower: 1 opened"]),
        ({"A": "Prr"}, ["A slower: 1 opened, 2 confirmed"]),
        ({"A": "Prrrrr"}, ["A slower: 1 opened, 2 confirmed"]),
        ({"A": "PrrP"}, ["A slower: 1 opened, 2 confirmed, 3 closed (fine again)"]),
        ({"A": "PrP"}, ["A slower: 1 opened, 2 closed (not confirmed)"]),
        ({"A": "Prrprp"}, ["A slower: 1 opened, 2 confirmed"]),
        ({"A": "Prrpp"}, ["A slower: 1 opened, 2 confirmed, 4 closed (fine again)"]),
        ({"A": "Priiir"}, ["A slower: 1 opened, 5 confirmed"]),
        ({"A": "Pii"}, []),
        ({"A": "Preeeeeeeeeeeer", "B": "P" * 15}, ["A slower: 1 opened, 14 confirmed"]),
        ({"A": "Prr+"}, ["A slower: 1 opened, 2 confirmed, 3 closed (fine again)", "A faster: 3 opened"]),
        (
            {"A": "PrrPPrr"},
            ["A slower: 1 opened, 2 confirmed, 3 closed (fine again)", "A slower: 5 opened, 6 confirmed"],
        ),
        # one change of several cells
        ({"A": "Prr", "B": "Prr", "C": "PPP"}, ["AB slower: 1 opened, 2 confirmed"]),
        ({"A": "Prr", "B": "Pir", "C": "PPP"}, ["AB slower: 1 opened, 2 confirmed"]),
        ({"A": "PrrPP", "B": "PrrrP"}, ["AB slower: 1 opened, 2 confirmed, 4 closed (fine again)"]),
        # a cell that comes and goes stays with its alert
        ({"A": "Prrrr", "B": "PrPrP"}, ["AB slower: 1 opened, 2 confirmed"]),
        # a second change is an alert of its own
        ({"A": "Prrrr", "B": "PPPrr"}, ["A slower: 1 opened, 2 confirmed", "B slower: 3 opened, 4 confirmed"]),
        # two false alarms do not confirm each other
        ({"A": "PrP", "B": "PPr"}, ["A slower: 1 opened, 2 closed (not confirmed)", "B slower: 2 opened"]),
        # nobody waits for what is no longer measured
        (
            {"A": "Prr", "B": "P" * (GONE_SESSIONS + 3)},
            [f"A slower: 1 opened, 2 confirmed, {GONE_SESSIONS + 2} closed (no longer measured)"],
        ),
        (
            {"A": "Prr" + "n" * GONE_SESSIONS},
            [f"A slower: 1 opened, 2 confirmed, {GONE_SESSIONS + 2} closed (no longer measured)"],
        ),
        ({"A": "Prr", "B": "P" * (GONE_SESSIONS + 2)}, ["A slower: 1 opened, 2 confirmed"]),
        # a host of which nothing is measured
        ({"A": "Pe", "B": "Pe"}, ["unmeasured: 1 opened"]),
        (
            {"A": "Peeee", "B": "PeePe"},
            ["unmeasured: 1 opened, 2 confirmed, 3 closed (measured again)", "unmeasured: 4 opened"],
        ),
        ({"A": "PeP"}, ["unmeasured: 1 opened, 2 closed (measured again)"]),
        ({"A": "Pen"}, ["unmeasured: 1 opened, 2 closed (measured again)"]),
        ({"A": "Pei"}, ["unmeasured: 1 opened, 2 closed (measured again)"]),
        (
            {"A": "Prreer"},
            ["A slower: 1 opened, 2 confirmed", "unmeasured: 3 opened, 4 confirmed, 5 closed (measured again)"],
        ),
        ({"A": "Peee", "B": "PPPP"}, []),
    ],
)
def test_courses(nights: dict[str, str], told: list[str]) -> None:
    assert tell(follow_alerts(play(**nights), "main")) == told


def test_a_second_change_joins_the_first_until_that_is_confirmed() -> None:
    (alert,) = follow_alerts(play(A="Prr", B="PPr", C="PPP"), "main")
    assert [cell.since for cell in alert.cells] == [make_run(CELLS["A"], 1).session, make_run(CELLS["A"], 2).session]
    assert alert.measured == 3


def test_each_host_has_its_own() -> None:
    there = make_cell(host="rack-2")
    found = follow_alerts([*play(A="Prr"), make(there, 0, "P"), make(there, 1, "r"), make(there, 2, "P")], "main")
    assert [(alert.host, alert.state) for alert in found] == [("rack-1", "confirmed"), ("rack-2", "closed")]
    assert len({alert.uid for alert in found}) == 2


def test_a_suite_that_is_no_longer_run_is_given_up_after_two_weeks() -> None:
    other = make_cell(suite="other")
    later = [make(other, night, "P") for night in range(2, 20)]
    (alert,) = follow_alerts([*play(A="Pr"), *later], "main")
    assert alert.ending == "no longer measured"
    assert list(alert.steps) == [make_run(other, 1).session, make_run(other, 15).session]


def test_a_host_that_is_always_busy_cannot_be_measured() -> None:
    """Each time, though every request was answered; where the suite judges nevertheless, it is measured."""
    cell = CELLS["A"]
    (alert,) = follow_alerts([make(cell, 0, "P"), *(make(cell, night, "i", **DISTURBED) for night in (1, 2))], "main")
    assert (alert.direction, list(alert.steps.values())) == ("unmeasured", ["opened", "confirmed"])
    assert list(alert.troubles) == [DISTURBED["spoiled"]]
    judged = {**DISTURBED, "verdicts": judge_decode("pass")}
    assert follow_alerts([make(cell, night, "P", **judged) for night in (0, 1)], "main") == ()


def test_why_a_host_cannot_be_measured_is_told_by_the_newest_session() -> None:
    nights = [
        make(CELLS[name], night, "e", started_at=BEGAN_AT + night * DAY_S + place, error=error)
        for night, errors in enumerate([("refused", "refused"), ("busy\nby 3 requests", "busy", "dead")])
        for place, (name, error) in enumerate(zip("ABC", errors, strict=False))
    ]
    (alert,) = follow_alerts(nights, "main")
    assert (list(alert.troubles.items()), alert.measured) == ([("busy", 2), ("dead", 1)], 3)


def test_a_suite_with_a_mistake_opens_one_alert_though_another_suite_works() -> None:
    """Each suite in a session of its own, as nightly jobs have it."""
    wrong, right = make_cell(suite="wrong"), make_cell(suite="right")
    nights = [
        make(cell, night, letter)
        for night in range(0, 12, 2)
        for cell, night, letter in ((wrong, night, "e"), (right, night + 1, "P"))
    ]
    assert tell(follow_alerts(nights, "main")) == ["unmeasured: 0 opened, 2 confirmed"]
    later = [make(right, night, "P") for night in range(12, 12 + GONE_SESSIONS)]
    (alert,) = follow_alerts([*nights, *later], "main")
    assert alert.ending == "no longer measured"
    (alert,) = follow_alerts([*nights, make(wrong, 12, "P")], "main")
    assert alert.ending == "measured again"


def test_the_reference_of_a_machine_is_no_cell() -> None:
    pinned = make_cell(suite=REFERENCE_SUITE)
    assert follow_alerts([make(pinned, night, "e") for night in range(3)], "main") == ()
    (alert,) = follow_alerts([*(make(pinned, night, "P") for night in range(2)), *play(A="ee")], "main")
    assert alert.measured == 1


def test_other_baselines_duets_and_imports_are_left_out() -> None:
    one = CELLS["A"]
    imported = make_run(one, 3, imported_from="llama-bench")
    strange = [
        make(one, 1, "r", baseline="release"),
        make(one, 2, "r", reference_host="rack-2"),
        make(one, 3, "r", run=imported),
    ]
    assert follow_alerts([make(one, 0, "P"), *strange], "main") == ()
    assert len(follow_alerts(strange, "release")) == 1


def test_later_sessions_do_not_change_what_an_earlier_one_told() -> None:
    """Told again for each prefix of a long course, every step stays where it was."""
    course = play(A="PrrPrPPreerr", B="PPrrrrPPeerr", C="PPPPrrrpeepp")
    whole = {alert.uid: alert.steps for alert in follow_alerts(course, "main")}
    for end in range(3, len(course) + 1, 3):
        for alert in follow_alerts(course[:end], "main"):
            assert list(alert.steps.items()) == list(whole[alert.uid].items())[: len(alert.steps)]


def test_times_are_those_of_the_session() -> None:
    (alert,) = follow_alerts(play(A="Prr"), "main")
    first = make(CELLS["A"], 1, "r")
    assert alert.opened_at == first.started_at
    assert first.started_at - make(CELLS["A"], 0, "P").started_at == DAY_S
