"""What a server says of its drafts: counts that agree with each other and with the stream, or a reason for none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import pytest

from pytest_boobench.facts import OwnTraffic, Traffic
from pytest_boobench.hosts.vllm_watcher import Reading, compare, count_drafts, read
from pytest_boobench.servers.speculation import Drafts, add_drafts, add_drafts_of_window, add_undrafted
from tests.making import make_sample

NONE: Sequence[float] = ()


def told(tokens: int, drafted: Any, accepted: Any, chunk_ms: Sequence[float] = NONE) -> Any:
    timings = {"predicted_n": tokens, "draft_n": drafted, "draft_n_accepted": accepted}
    return add_drafts(make_sample(output_tokens=tokens, chunk_ms=tuple(chunk_ms)), timings)


@pytest.mark.parametrize(
    ("tokens", "drafted", "accepted", "length", "share"),
    [
        (64, 47, 47, 63 / 16, 1.0),  # a real llama-server with three drafts at a time, all of them right
        (64, 392, 10, 63 / 53, 10 / 392),
        (64, 12, 0, 1.0, 0.0),
        (2, 1, 0, 1.0, 0.0),
    ],
)
def test_counts(tokens: int, drafted: int, accepted: int, length: float, share: float) -> None:
    found = told(tokens, drafted, accepted)
    assert (found.accepted_len, found.draft_accept_share) == pytest.approx((length, share))
    assert found.blanks == {}


@pytest.mark.parametrize(
    ("drafted", "accepted", "why"),
    [
        (40, 41, "the server says that 41 of 40 draft tokens were accepted"),
        (
            80,
            63,
            "the server says that 63 draft tokens were accepted, and that all its steps together made 63 tokens",
        ),
        ("many", 3, "timings.draft_n is many, expected a whole number from 0"),
        (8, -1, "timings.draft_n_accepted is -1, expected a whole number from 0"),
    ],
)
def test_impossible_counts_are_a_reason_and_no_number(drafted: Any, accepted: Any, why: str) -> None:
    found = told(64, drafted, accepted)
    assert (found.accepted_len, found.draft_accept_share, found.failure) == (None, None, None)
    assert found.blanks == {"accepted_len": why, "draft_accept_share": why}


@pytest.mark.parametrize("counts", [{}, {"draft_n": 0}, {"draft_n": 8}, {"draft_n_accepted": 3}])
def test_without_both_counts_nothing_is_known(counts: Mapping[str, int]) -> None:
    found = add_drafts(make_sample(output_tokens=64), counts)
    assert (found.accepted_len, found.blanks) == (None, {})


def times(steps: int, tokens: int, step_ms: float, gap_ms: float) -> list[float]:
    """Arrivals of so many steps, each of so many tokens that come close together."""
    gaps = [step_ms - (tokens - 1) * gap_ms, *[gap_ms] * (tokens - 1)] * steps
    return list(accumulate([0.0, *gaps]))


def test_the_stream_confirms_or_contradicts_the_steps() -> None:
    bursts = times(16, 4, 40.0, 0.2)
    assert told(65, 48, 48, bursts).accepted_len == 4.0
    found = told(65, 48, 48, times(64, 1, 10.0, 0.0))
    assert found.accepted_len is None
    assert found.blanks["accepted_len"] == (
        "the server says that 16 steps made the tokens, but the 65 events came evenly, 10.0 ms apart"
    )
    assert told(65, 48, 48, times(64, 1, 0.5, 0.0)).accepted_len == 4.0, "too fast to see"
    assert told(65, 48, 48, [0.0, *bursts[4::4]]).accepted_len == 4.0, "an event of several tokens"


def test_an_answer_without_drafts_made_one_token_a_step() -> None:
    timings = {"predicted_n": 64}
    drafted = make_sample(output_tokens=64, accepted_len=3.0, timings=timings)
    plain = make_sample(output_tokens=64, timings=timings)
    assert [sample.accepted_len for sample in add_undrafted([drafted, plain])] == [3.0, 1.0]
    assert [sample.accepted_len for sample in add_undrafted([plain, plain])] == [None, None]


METRICS = """\
vllm:num_requests_running 0
vllm:num_requests_waiting 0
vllm:request_success_total {ended}
vllm:prompt_tokens_total {prompt}
vllm:generation_tokens_total {generated}
vllm:spec_decode_num_drafts_total{{engine="0"}} {drafts}
vllm:spec_decode_num_draft_tokens_total{{engine="0"}} {drafted}
vllm:spec_decode_num_accepted_tokens_total{{engine="0"}} {accepted}
vllm:spec_decode_num_accepted_tokens_per_pos_total{{engine="0",position="0"}} 5
"""
BEFORE = {"ended": 7, "prompt": 700, "generated": 900, "drafts": 300, "drafted": 900, "accepted": 400}
OWN = OwnTraffic(requests=10, prompt_tokens=640, output_tokens=1010)


def watch(drafts: int, drafted: int, accepted: int, *, foreign: int = 0) -> tuple[Drafts | str | None, Traffic]:
    after = {"ended": 17 + foreign, "prompt": 1340 + 64 * foreign, "generated": 1910 + 9 * foreign}
    after |= {"drafts": 300 + drafts, "drafted": 900 + drafted, "accepted": 400 + accepted}
    opening, closing = (read(METRICS.format(**counts)) for counts in (BEFORE, after))
    assert opening is not None
    assert closing is not None
    traffic = compare(opening, closing, OWN)
    return count_drafts(opening, closing, OWN, traffic), traffic


@pytest.mark.parametrize(
    ("drafts", "drafted", "accepted", "length"),
    [
        (400, 1200, 600, 2.5),  # 1000 tokens after the first ones: each step had drafts
        (404, 1212, 612, 1000 / 404),  # the last steps accepted more than the answers needed
        (100, 300, 200, 1000 / 800),  # 700 steps found nothing to draft
    ],
)
def test_vllms_counters(drafts: int, drafted: int, accepted: int, length: float) -> None:
    found, _ = watch(drafts, drafted, accepted)
    assert isinstance(found, Drafts)
    assert found.accepted_len == pytest.approx(length)
    assert found.share == pytest.approx(accepted / drafted)
    samples = add_drafts_of_window([make_sample(), make_sample(), make_sample(failure="status")], 2, found)
    assert [sample.accepted_len for sample in samples] == [None, pytest.approx(length), None]


@pytest.mark.parametrize(
    ("counts", "why"),
    [
        ((400, 1200, 1300), "the server says that 1300 of 1200 draft tokens were accepted"),
        (
            (900, 2700, 600),
            "the server says that 600 draft tokens were accepted, and that all its steps together made 1000 tokens",
        ),
    ],
)
def test_vllms_counters_are_checked_against_our_tokens(counts: tuple[int, int, int], why: str) -> None:
    assert watch(*counts)[0] == why


def test_others_drafts_are_not_taken_for_ours() -> None:
    found, traffic = watch(400, 1200, 600, foreign=1)
    assert traffic.disturbed
    assert found == "others used the host, or may have: its counters of draft tokens are not ours alone"
    (sample,) = add_drafts_of_window([make_sample()], 1, found)
    assert (sample.accepted_len, sample.blanks["accepted_len"]) == (None, found)


def test_a_vllm_without_speculation_has_no_drafts() -> None:
    text = "".join(line for line in METRICS.format(**BEFORE).splitlines(True) if "spec_decode" not in line)
    reading = read(text)
    assert reading is not None
    assert count_drafts(reading, reading, OWN, Traffic()) is None


@pytest.mark.parametrize(("events", "steps"), [(0, 460), (476, 476), (1500, 508)])
def test_tokens_beyond_the_end_of_an_answer_are_no_tokens_of_a_step(events: int, steps: int) -> None:
    """As on vLLM 0.32.0: 12 answers of 128 tokens; the client's events show more steps than the counters do."""
    counts: dict[str, Any] = {"running": 0, "waiting": 0, "process": 1.0, "prompt_tokens": 0}
    opening = Reading(ended=0, generated_tokens=0, drafts=0, **counts)
    closing = Reading(ended=12, generated_tokens=1536, drafts=380, drafted=1476, accepted=1064, **counts)
    own = OwnTraffic(requests=12, output_tokens=1536, events=events)
    found = count_drafts(opening, closing, own, Traffic())
    assert isinstance(found, Drafts)
    assert (found.steps, found.accepted_len) == (steps, pytest.approx(1524 / steps))
