"""Alerts of made histories: what opens, confirms and closes one, and what is one change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from pytest_boobench.gate.alerts import GONE_SESSIONS, Alert, follow_alerts
from pytest_boobench.record import Measurement, Outcome, Verdict
from pytest_boobench.suite.cell import Cell
from tests.histories import DAY_S, make_measurement, make_run
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


def judge(letter: str, baseline: str = "main") -> tuple[Verdict, ...]:
    outcome = OUTCOMES[letter]
    if outcome is None:
        return ()
    changes = {"r": -0.15, "+": 0.2}
    change = changes.get(letter, 0.0)
    return (
        Verdict(
            metric="decode_tok_s",
            outcome=outcome,
            now=50 * (1 + change),
            baseline=50.0,
            change=change,
            allowed=0.1,
            baseline_name=baseline,
            proven=letter == "P",
        ),
    )


def make(cell: Cell, night: int, letter: str, **changed: Any) -> Measurement:
    error = "no answer" if letter == "e" else None
    baseline = changed.pop("baseline", "main")
    return make_measurement(cell, night, verdicts=judge(letter, baseline), error=error, **changed)


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
    """Each alert as ``AB slower: 1 opened, 2 confirmed``."""
    names = {cell.key: name for name, cell in CELLS.items()}
    return [
        f"{''.join(sorted({names[cell.measurement.cell_key] for cell in alert.cells}))} {alert.direction}: "
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
        ({"A": "Preeeeeeeeeeeer"}, ["A slower: 1 opened, 14 confirmed"]),
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
    course = play(A="PrrPrPPrr", B="PPrrrrPPr", C="PPPPrrrpp")
    whole = {alert.uid: alert.steps for alert in follow_alerts(course, "main")}
    for end in range(3, len(course) + 1, 3):
        for alert in follow_alerts(course[:end], "main"):
            assert list(alert.steps.items()) == list(whole[alert.uid].items())[: len(alert.steps)]


def test_times_are_those_of_the_session() -> None:
    (alert,) = follow_alerts(play(A="Prr"), "main")
    first = make(CELLS["A"], 1, "r")
    assert alert.opened_at == first.started_at
    assert first.started_at - make(CELLS["A"], 0, "P").started_at == DAY_S
