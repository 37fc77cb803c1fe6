"""Which samples are one conversation, and where the prefix cache breaks, by tables of counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_boobench.aggregate import find_trend, summarize
from pytest_boobench.conversations import find_broken_turn, find_cache_break, list_conversations
from pytest_boobench.metrics import METRICS, Sample, find_metric, gated_metrics, is_metric, name_of_turn, sort_metrics


def talk(
    cached: list[int | None], *, prompts: list[int] | None = None, ttft_ms: list[float] | None = None, **said: Any
) -> list[Sample]:
    """One conversation of turns that are each 100 tokens longer, with what came from the cache in each."""
    prompts = prompts or [500 + 100 * number for number in range(len(cached))]
    times = ttft_ms or [100.0 if not known or known < 400 else 20.0 for known in cached]
    return [
        Sample(
            phase="measure",
            lane=0,
            index=place,
            started_at=0.0,
            offset_ms=0.0,
            turn=place + 1,
            e2e_ms=200.0,
            prompt_tokens=prompt,
            cached_tokens=known,
            output_tokens=50,
            ttft_ms=time_ms,
            **said,
        )
        for place, (prompt, known, time_ms) in enumerate(zip(prompts, cached, times, strict=True))
    ]


def several(*talks: list[Sample], lanes: int = 1) -> list[Sample]:
    found: list[Sample] = []
    for number, one in enumerate(talks):
        found += [replace(sample, index=len(found) + at, lane=number % lanes) for at, sample in enumerate(one)]
    return found


HOLDS = [0, 540, 640, 740]


def test_a_lane_has_one_conversation_after_the_other() -> None:
    first, second, third = (talk(HOLDS) for _ in range(3))
    mixed = [
        replace(sample, index=2 * at + lane, lane=lane)
        for lane, one in enumerate((first, second))
        for at, sample in enumerate(one)
    ]
    later = [replace(sample, block=2) for sample in third]
    found = list_conversations([*later, *reversed(mixed), replace(first[0], turn=0)])
    assert [[sample.turn for sample in one] for one in found] == [[1, 2, 3, 4]] * 3
    assert [one[0].block for one in found] == [1, 1, 2]


@pytest.mark.parametrize(
    ("samples", "turn", "words"),
    [
        (talk(HOLDS), None, None),
        (talk([0, None, None, None]), None, None),
        (
            talk([0, 540, 20, 740]),
            3,
            "the prefix cache breaks at turn 3: 20 of 700 tokens were cached, turn 2 had 540 of 600; "
            "TTFT rose from 20.0 ms to 100 ms",
        ),
        (
            talk([0, 540, 20, 740], ttft_ms=[100.0, 20.0, 20.0, 20.0]),
            3,
            "the prefix cache breaks at turn 3: 20 of 700 tokens were cached, turn 2 had 540 of 600; "
            "TTFT does not show it (from 20.0 ms to 20.0 ms)",
        ),
        (
            talk([0, 0, 0, 0]),
            2,
            "the prefix cache breaks at turn 2: 0 of 600 tokens were cached, turn 1 had left 500 there; "
            "the chat template may rewrite earlier turns, or the server keeps no cache",
        ),
        # the cache holds blocks of 16 tokens, and a reasoning model's answer is not sent back
        (talk([0, 496, 592, 688]), None, None),
        # a short prompt: less than a cache's blocks
        (talk([0, 16], prompts=[40, 90]), None, None),
        # one of three conversations lost it: most did not
        (several(talk(HOLDS), talk([0, 540, 20, 740]), talk(HOLDS)), None, None),
        (
            several(talk([0, 540, 20, 740]), talk([0, 540, 20, 740]), talk(HOLDS)),
            3,
            "the prefix cache breaks at turn 3",
        ),
        # its TTFT denies what the server says
        (
            talk(HOLDS, ttft_ms=[100.0, 120.0, 25.0, 25.0]),
            None,
            "the server says that 540 of 600 tokens of turn 2 came from its cache, but TTFT was 120 ms, after 100 ms "
            "for turn 1 without a cache",
        ),
        # so short that TTFT is no evidence
        (talk(HOLDS, ttft_ms=[5.0, 6.0, 6.0, 6.0]), None, None),
    ],
)
def test_a_broken_cache_is_named_at_its_turn(samples: list[Sample], turn: int | None, words: str | None) -> None:
    found = find_cache_break(samples)
    assert (found or "").startswith(words or "")
    assert (found is None) == (words is None)
    assert find_broken_turn(samples) == turn


def test_what_fills_no_block_of_the_cache_is_not_lost() -> None:
    """As on vLLM for CPUs, whose blocks have 128 tokens."""
    samples = talk([0, 256, 256, 384], prompts=[256, 358, 460, 562])
    assert find_broken_turn(samples) == 3
    assert (find_broken_turn(samples, 128), find_cache_break(samples, 128)) == (None, None)
    assert find_broken_turn(talk([0, 256, 128, 384], prompts=[256, 358, 460, 562]), 128) == 3


def test_the_cached_share_is_of_later_turns_only() -> None:
    assert [sample.cached_share for sample in talk([0, 540, None])] == [None, 0.9, None]
    assert replace(talk([300])[0], turn=0).cached_share is None


def test_each_turn_has_its_own_numbers() -> None:
    found = summarize(several(talk(HOLDS), talk([0, 540, 20, 740])), "chat")
    assert {key for key in found if "turn" in key} == {
        *(name_of_turn(key, turn) for key in ("ttft_ms", "e2e_ms") for turn in (1, 2, 3, 4)),
        *(name_of_turn("cached_share", turn) for turn in (2, 3, 4)),
    }
    assert (found["ttft_ms.turn[3]"].n, found["ttft_ms.turn[3]"].max) == (2, 100.0)
    assert found["ttft_ms"].n == 8
    assert found["cached_share"].n == 6


@pytest.mark.parametrize(("slower", "warming"), [(1.0, False), (3.0, True)])
def test_conversations_warm_up_as_wholes(slower: float, warming: bool) -> None:
    """That a later turn is faster than the first of its conversation is no trend."""
    talks = [talk(HOLDS) for _ in range(9)]
    talks[:4] = [[replace(one, e2e_ms=(one.e2e_ms or 0.0) * slower * (9 - at)) for one in talks[at]] for at in range(4)]
    steady = [[replace(one, e2e_ms=900.0 if one.turn == 1 else 100.0) for one in whole] for whole in talks]
    assert find_trend(several(*steady)) is None
    assert (find_trend(several(*(talks if warming else steady))) is not None) is warming


@pytest.mark.parametrize(
    ("key", "title", "turn"),
    [("ttft_ms", "TTFT", 0), ("ttft_ms.turn[3]", "TTFT turn 3", 3), ("e2e_ms.turn[12]", "e2e turn 12", 12)],
)
def test_a_key_of_a_turn_finds_its_metric(key: str, title: str, turn: int) -> None:
    found = find_metric(key)
    assert (found.key, found.title, found.turn) == (key, title, turn)
    assert found.values(replace(talk([0])[0], turn=turn)) != ()
    assert (found.values(replace(talk([0])[0], turn=turn + 1)) != ()) is (turn == 0)
    assert is_metric(key)


@pytest.mark.parametrize(
    "key", ["nothing", "ttft_ms.turn[0]", "ttft_ms.turn[last]", "itl_ms.turn[2]", "ttft_ms.turn[2", ""]
)
def test_what_is_no_metric(key: str) -> None:
    assert not is_metric(key)
    with pytest.raises(KeyError):
        find_metric(key)


def test_turns_come_after_all_requests_in_tables() -> None:
    keys = ["ttft_ms.turn[10]", "cached_share.turn[2]", "ttft_ms", "ttft_ms.turn[2]", "total", "decode_tok_s"]
    assert sort_metrics(keys) == [
        "decode_tok_s",
        "ttft_ms",
        "ttft_ms.turn[2]",
        "cached_share.turn[2]",
        "ttft_ms.turn[10]",
    ]
    assert sort_metrics(METRICS) == list(METRICS)


@pytest.mark.parametrize(
    ("lanes", "length", "turns", "keys"),
    [
        (1, "exact", 1, ("decode_tok_s", "prefill_tok_s")),
        (1, "exact", 8, ("decode_tok_s", "ttft_ms.turn[8]")),
        (2, "exact", 8, ("decode_tok_s", "e2e_ms.turn[8]")),
        (1, "natural", 8, ("decode_tok_s", "ttft_ms.turn[8]")),
        (2, "natural", 8, ("decode_tok_s", "lanes_tok_s")),
    ],
)
def test_the_last_turn_is_judged_by_default(lanes: int, length: Any, turns: int, keys: tuple[str, ...]) -> None:
    assert gated_metrics("chat", lanes, length, turns) == keys
