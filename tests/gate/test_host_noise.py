"""Room 6: what a host's own history says about its noise, and what the gate makes of it."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest

from pytest_boobench import gate
from pytest_boobench.gate.host_noise import choose_noise, measure_host_noise
from pytest_boobench.record import HostLook, HostNoise
from tests.gate.test_gate import judge_one, record_of, sessions_of, spread_around

HOUR_S = 3600.0
RED = record_of(spread_around(86.0))


def looks_at(*levels: float, series: str = "a", hours: float = 1.0, unsettled: Iterable[int] = ()) -> list[HostLook]:
    """One measurement a session, so many hours apart."""
    return [
        HostLook(
            host="rack-1",
            series=series,
            session=f"session-{number}",
            measured_at=number * hours * HOUR_S,
            medians={"decode_tok_s": level},
            settled=number not in set(unsettled),
        )
        for number, level in enumerate(levels)
    ]


def noise_of(looks: Iterable[HostLook]) -> float | None:
    found = measure_host_noise(looks)
    return None if found is None else found.by_metric.get("decode_tok_s")


def scattered(sd: float, *, count: int, seed: int, level: float = 100.0) -> list[float]:
    chance = random.Random(seed)
    return [level * math.exp(chance.gauss(0, sd)) for _ in range(count)]


@pytest.mark.parametrize("sd", [0.01, 0.03, 0.08])
def test_the_noise_is_pooled_over_cells_and_builds_of_different_speed(sd: float) -> None:
    looks = [
        look
        for number in range(60)
        for look in looks_at(*scattered(sd, count=6, seed=number, level=1.0 + number), series=str(number))
    ]
    assert noise_of(looks) == pytest.approx(sd, rel=0.15)


def test_five_sessions_half_an_hour_apart_are_needed() -> None:
    assert noise_of(looks_at(100, 101, 99, 100)) is None
    assert noise_of(looks_at(100, 101, 99, 100, 101, hours=0.2)) is None
    assert noise_of(looks_at(100, 101, 99, 100, 101)) == pytest.approx(0.00865, rel=0.01)


def test_five_sessions_of_different_cells_say_nothing() -> None:
    looks = [replace(look, series=look.session) for look in looks_at(100, 50, 25, 12, 6)]
    assert measure_host_noise(looks) is None


STEADY = (100.0, 101.0, 99.0, 100.5, 99.5, 100.0)


@pytest.mark.parametrize(
    ("levels", "unsettled"),
    [
        (STEADY, ()),
        # a change that stayed is none
        ((*STEADY, *(level * 0.7 for level in STEADY)), ()),
        # nor is one that nothing has recovered from yet: it may be what the next session has to confirm
        ((*STEADY, 80.0, 79.0), (6, 7)),
    ],
)
def test_a_change_is_not_noise(levels: Sequence[float], unsettled: Sequence[int]) -> None:
    measured = noise_of(looks_at(*levels, unsettled=unsettled))
    assert measured is not None
    assert measured < 0.012


def test_a_red_session_that_a_good_one_followed_was_noise() -> None:
    measured = noise_of(looks_at(100, 95, 88, 105, 100, 108, unsettled=(2,)))
    assert measured is not None
    assert measured > 0.05


def test_one_dead_night_does_not_blind_the_gate() -> None:
    looks = [look for n in range(4) for look in looks_at(*scattered(0.02, count=12, seed=n), series=str(n))]
    before = noise_of(looks)
    looks[3] = replace(looks[3], medians={"decode_tok_s": 30.0})
    after = noise_of(looks)
    assert before is not None
    assert after is not None
    assert after < 1.6 * before


def test_a_young_baseline_is_judged_by_the_noise_of_its_host() -> None:
    young = sessions_of(100.0)
    assert judge_one(RED, young).outcome == "regression"
    noisy = replace(young, host_noise=HostNoise(sessions=7, by_metric={"decode_tok_s": 0.05}))
    verdict = judge_one(RED, noisy)
    assert verdict.outcome == "inconclusive"
    assert verdict.note == "noise of this host, from 7 sessions; of this cell 1 of 3 sessions"
    assert judge_one(record_of(spread_around(75.0)), noisy).outcome == "regression"
    calm = replace(young, host_noise=HostNoise(sessions=7, by_metric={"decode_tok_s": 0.015}))
    assert judge_one(RED, calm).outcome == "regression"
    other = replace(young, host_noise=HostNoise(sessions=7, by_metric={"ttft_ms": 0.3}))
    assert judge_one(RED, other) == judge_one(RED, young)


def test_the_suite_and_its_host_count_alike() -> None:
    noisy = replace(sessions_of(100.0, 101.0, 99.0), host_noise=HostNoise(sessions=7, by_metric={"decode_tok_s": 0.06}))
    alone = judge_one(record_of(spread_around(95.0)), noisy).run_noise
    both = judge_one(record_of(spread_around(95.0)), noisy, spread={"decode_tok_s": 0.01}).run_noise
    calm = judge_one(record_of(spread_around(95.0)), replace(noisy, host_noise=None), spread={"decode_tok_s": 0.01})
    assert alone is not None
    assert both is not None
    assert calm.run_noise is not None
    assert alone > both > calm.run_noise


def test_more_sessions_know_better() -> None:
    few, many = (HostNoise(sessions=count, by_metric={}) for count in (5, 9))
    assert choose_noise(few, many) is choose_noise(many, few) is many
    assert choose_noise(None, few) is few
    assert choose_noise(None, None) is None


def test_each_baseline_gets_the_noise_of_its_own_host() -> None:
    mine, other = replace(sessions_of(100.0), host="rack-1"), replace(sessions_of(100.0), host="rack-2")
    found = gate.learn_noise({"a": mine, "b": other}, looks_at(*STEADY))
    assert found["b"].host_noise is None
    assert found["a"].host_noise is not None
    assert found["a"].host_noise.sessions == len(STEADY)
