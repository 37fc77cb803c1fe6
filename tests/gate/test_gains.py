"""Room 6: what a pair of a duet is: a conversation, a window at a rate, and how often its verdicts are right."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from pytest_boobench import gate
from pytest_boobench.metrics import Sample
from pytest_boobench.record import CellRecord, Verdict
from tests.benchmarks.windows import draw_duet, judge_goodput, make_windows
from tests.making import make_cell, make_record, make_sample

TURNS = make_cell(turns=3)
LANES = make_cell(turns=3, concurrency=2)


def talk(pair: int, times_ms: Sequence[float], *, lane: int = 0, lanes: int = 1, **changed: object) -> list[Sample]:
    """A conversation whose turns take so long; the lanes' turns begin in turns."""
    first = pair * lanes * len(times_ms) + lane
    return [
        make_sample(index=first + place * lanes, lane=lane, turn=place + 1, ttft_ms=time_ms, **changed)
        for place, time_ms in enumerate(times_ms)
    ]


def judge(record: CellRecord, *keys: str, allowed: float = 0.1) -> dict[str, Verdict]:
    return {verdict.metric: verdict for verdict in gate.judge_duet(record, dict.fromkeys(keys, allowed))}


def test_a_pair_of_conversations_is_judged_turn_by_turn() -> None:
    """The median of all turns hides what turn 3 alone has lost."""
    samples = [
        sample
        for pair in range(10)
        for sample in (*talk(pair, (90.0, 20.0, 40.0)), *talk(pair, (90.0, 30.0, 20.0), reference=True))
    ]
    record = make_record(TURNS, samples=samples, reference_host="old", pairing="conversations")
    found = judge(record, "ttft_ms", "ttft_ms.turn[1]", "ttft_ms.turn[2]", "ttft_ms.turn[3]")
    assert found["ttft_ms"].change == pytest.approx(40 / 30 - 1)
    assert found["ttft_ms.turn[1]"].change == 0.0
    assert found["ttft_ms.turn[2]"].change == pytest.approx(20 / 30 - 1)
    third = found["ttft_ms.turn[3]"]
    assert (third.outcome, third.samples, third.now, third.baseline) == ("regression", 10, 40.0, 20.0)
    assert (third.change, third.change_low, third.change_high) == pytest.approx((1.0, 1.0, 1.0))
    assert third.note == "10 of 10 pairs of conversations slower"


def test_the_lanes_of_a_round_are_one_pair() -> None:
    samples = [
        sample
        for pair in range(10)
        for lane in (0, 1)
        for sample in (
            *talk(pair, (90.0, 30.0, 30.0), lane=lane, lanes=2),
            *talk(pair, (90.0, 30.0, 30.0), lane=lane, lanes=2, reference=True),
        )
    ]
    record = make_record(LANES, samples=samples, reference_host="old", pairing="conversations")
    assert {verdict.samples for verdict in judge(record, "ttft_ms", "ttft_ms.turn[2]").values()} == {10}


def test_a_conversation_that_ended_early_tells_of_its_turns_only() -> None:
    """The medians of two turns and of three are not alike, though both sides are."""
    samples = []
    for pair in range(10):
        ours = talk(pair, (90.0, 30.0, 20.0))
        samples += [*(ours[:2] if pair == 4 else ours), *talk(pair, (90.0, 30.0, 20.0), reference=True)]
    record = make_record(TURNS, samples=samples, reference_host="old", pairing="conversations")
    found = judge(record, "ttft_ms", "ttft_ms.turn[2]", "ttft_ms.turn[3]")
    assert {key: verdict.samples for key, verdict in found.items()} == {
        "ttft_ms": 9,
        "ttft_ms.turn[2]": 10,
        "ttft_ms.turn[3]": 9,
    }
    assert {verdict.change for verdict in found.values()} == {0.0}


@pytest.mark.parametrize(
    ("ours", "theirs", "outcome", "change"),
    [(0, 80, "regression", 0.5 / 80 - 1), (80, 0, "improvement", 80 / 0.5 - 1), (0, 0, "inconclusive", None)],
)
def test_nothing_from_the_cache_counts_as_half_a_token(
    ours: int, theirs: int, outcome: str, change: float | None
) -> None:
    samples = [
        make_sample(index=3 * pair + 1, turn=2, cached_tokens=cached, prompt_tokens=100, reference=reference)
        for pair in range(10)
        for cached, reference in ((ours, False), (theirs, True))
    ]
    record = make_record(TURNS, samples=samples, reference_host="old", pairing="conversations")
    found = judge(record, "cached_share.turn[2]")["cached_share.turn[2]"]
    assert found.outcome == outcome
    assert found.change == (None if change is None else pytest.approx(change))


@pytest.mark.parametrize(
    ("shares", "outcome", "change", "pairs"),
    [
        ([(20, 20)] * 10, "pass", 0.0, 10),
        ([(12, 16)] * 10, "regression", -0.25, 10),
        ([(12, 16)] * 9, "inconclusive", -0.25, 9),
        ([(16, 12)] * 10, "improvement", 1 / 3, 10),
        ([(0, 20)] * 10, "regression", -0.975, 10),
        ([(20, 0)] * 10, "improvement", 39.0, 10),
        ([(0, 0)] * 4 + [(20, 20)] * 10, "pass", 0.0, 10),
        ([(10, 20), (20, 10)] * 5, "pass", 0.0, 10),
        ([(0, 0)] * 10, "inconclusive", None, None),
    ],
)
def test_a_pair_of_windows_has_the_share_of_good_requests(
    shares: Sequence[tuple[int, int]], outcome: str, change: float | None, pairs: int | None
) -> None:
    """A failed request is no good one; none good counts as half of one, and none on both sides tells nothing."""
    found = judge(make_windows(shares, 20), "goodput_rps", "slo_share")
    for verdict in found.values():
        assert (verdict.outcome, verdict.samples) == (outcome, pairs)
        assert verdict.change == (None if change is None else pytest.approx(change))
    if change is not None:
        assert found["goodput_rps"].now == pytest.approx((found["slo_share"].now or 0.0) * 10)


def test_a_share_is_of_windows_at_a_rate_only() -> None:
    record = make_record(
        make_cell(slo={"e2e_ms": 100.0}), samples=make_windows([(9, 9)], 20).samples, reference_host="old"
    )
    assert judge(record, "goodput_rps", "slo_share", "joule_per_token") == {}


@pytest.mark.parametrize(("service_ms", "slower", "least", "most"), [(85.0, 1.0, 0, 1), (60.0, 1.4, 95, 100)])
def test_queues_at_random_arrivals_are_told_apart(service_ms: float, slower: float, least: int, most: int) -> None:
    """Of 100 duets: on equal servers near their knee, and where the goodput falls by 39 %."""
    chance = random.Random(7)
    found = [judge_goodput(draw_duet(chance, service_ms, slower)) for _ in range(100)]
    assert least <= sum(verdict.outcome == "regression" for verdict in found) <= most
