"""Room 6: the search for the highest rate, played on simulated servers whose knee is known."""

from __future__ import annotations

import random

import pytest

from pytest_boobench.gate.capacity import Probe, Search, start_search

SERVICE_S, LIMIT_S, PROBE_S = 0.1, 0.5, 30.0


def play(rate: float, chance: random.Random, scatter: float) -> Probe:
    """A probe of one worker that takes 0.1 s, by so much more or less; requests come in equal gaps."""
    count = max(20, round(rate * PROBE_S))
    free_s = good = 0.0
    for number in range(count):
        came_s = number / rate
        free_s = max(came_s, free_s) + SERVICE_S * chance.uniform(1 - scatter, 1 + scatter)
        good += free_s - came_s <= LIMIT_S
    return Probe(rate, round(good), count, min(rate, count / free_s))


def search(seed: int, scatter: float, probes: int = 10) -> Search:
    chance = random.Random(seed)
    found = start_search(SERVICE_S * 1000, 0.95)
    while len(found.probes) < probes and not found.over:
        found = Search(found.lowest, found.highest, 0.95, (*found.probes, play(found.choose(), chance, scatter)))
    return found


@pytest.mark.parametrize("scatter", [0.0, 0.2])
def test_the_knee_is_found_within_five_per_cent_in_ten_probes(scatter: float) -> None:
    found = [search(seed, scatter) for seed in range(10)]
    assert max(len(each.probes) for each in found) <= 10
    assert max(abs(each.knee.rate * SERVICE_S - 1) for each in found) < 0.05


@pytest.mark.parametrize(("good", "least", "most"), [(200, 0.95, 0.95), (190, 0.5, 0.95), (150, 0.05, 0.05)])
def test_a_probe_tells_how_likely_the_slo_holds(good: int, least: float, most: float) -> None:
    assert least - 1e-9 <= Probe(1.0, good, 200).find_chance(0.95) <= most + 1e-9


def test_few_requests_tell_little_and_a_host_that_cannot_keep_up_tells_a_lot() -> None:
    assert 0.5 < Probe(1.0, 20, 20).find_chance(0.95) < Probe(1.0, 100, 100).find_chance(0.95)
    before = Search(1.0, 100.0, 0.95)
    after = Search(1.0, 100.0, 0.95, (Probe(10.0, 0, 400),))
    assert after.knee.rate < before.knee.rate


def test_a_knee_outside_of_the_rates_ends_the_search() -> None:
    high = Search(1.0, 8.0, 0.95)
    while not high.over and len(high.probes) < 30:
        high = Search(1.0, 8.0, 0.95, (*high.probes, Probe(high.choose(), 400, 400)))
    assert len(high.probes) <= 10
    assert high.knee.low >= 8.0
