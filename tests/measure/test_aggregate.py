"""Room 4: samples -> Aggregates."""

import math
import random
import re
import statistics
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_boobench.aggregate import (
    add_totals,
    condense,
    describe_failures,
    find_blanks,
    find_contradiction,
    find_rate_sources,
    find_trend,
    find_trend_of_pairs,
    is_settled,
    percentile,
    summarize,
    total_tok_s,
)
from pytest_boobench.metrics import Sample
from tests.making import make_sample

FINITE = st.floats(min_value=-1e9, max_value=1e9)


def test_condense_by_hand() -> None:
    found = condense([3.0, 1.0, 2.0, 4.0])
    assert found is not None
    assert (found.n, found.mean, found.median, found.min, found.max) == (4, 2.5, 2.5, 1.0, 4.0)
    assert found.stdev == pytest.approx(statistics.stdev([1, 2, 3, 4]))
    assert (found.p50, found.p90) == (2.5, pytest.approx(3.7))


def test_one_value_has_no_spread_and_none_has_nothing() -> None:
    one = condense([7.0])
    assert one is not None
    assert one.stdev is None
    assert one.p99 == 7.0
    assert condense([]) is None
    assert condense([math.nan, math.inf]) is None


@given(st.lists(FINITE, min_size=1, max_size=50), st.floats(min_value=0, max_value=1))
def test_percentile_lies_between_the_ends_and_agrees_with_the_median(values: list[float], q: float) -> None:
    ordered = sorted(values)
    assert ordered[0] <= percentile(ordered, q) <= ordered[-1] or math.isclose(percentile(ordered, q), ordered[0])
    assert percentile(ordered, 0.5) == pytest.approx(statistics.median(ordered), abs=1e-6)


def test_only_good_measured_samples_count() -> None:
    samples = [
        make_sample(decode_tok_s=10.0, ttft_ms=5.0),
        make_sample(decode_tok_s=20.0, ttft_ms=math.nan),
        make_sample(decode_tok_s=999.0, phase="warmup"),
        make_sample(decode_tok_s=999.0, failure="truncated"),
    ]
    found = summarize(samples, "chat")
    assert found["decode_tok_s"].median == 15.0
    assert found["ttft_ms"].n == 1
    assert "embed_tok_s" not in found
    assert "prefill_tok_s" not in found


def test_total_is_over_the_wall_of_all_lanes() -> None:
    lanes = [
        make_sample(lane=0, offset_ms=0.0, e2e_ms=1000.0, output_tokens=50, prompt_tokens=7),
        make_sample(lane=1, offset_ms=500.0, e2e_ms=1500.0, output_tokens=50, prompt_tokens=7),
    ]
    assert total_tok_s(lanes, "chat") == pytest.approx(50.0)
    assert total_tok_s(lanes, "embedding") == pytest.approx(7.0)


@pytest.mark.parametrize(
    "samples",
    [
        [],
        [make_sample(e2e_ms=10.0)],
        [make_sample(output_tokens=5)],
        [make_sample(e2e_ms=0.0, output_tokens=5)],
        [make_sample(e2e_ms=10.0, output_tokens=5, failure="stalled")],
    ],
)
def test_total_never_divides_by_nothing(samples: list) -> None:
    assert total_tok_s(samples, "chat") is None


def test_inter_token_latencies_are_pooled_over_all_gaps() -> None:
    samples = [
        make_sample(chunk_ms=(10.0, 20.0, 30.0, 130.0), output_tokens=4),
        make_sample(chunk_ms=(10.0, 30.0), chunk_tokens=(1, 4), output_tokens=5),
        make_sample(chunk_ms=(10.0,), output_tokens=5),
        make_sample(chunk_ms=(10.0, 20.0), output_tokens=None),
    ]
    assert [sample.itl_ms for sample in samples] == [(10.0, 10.0, 100.0), (5.0,) * 4, (), ()]
    assert [sample.stalls for sample in samples] == [1, 0, 0, 0]
    found = summarize(samples, "chat")["itl_ms"]
    assert (found.n, found.median, found.max) == (7, 5.0, 100.0)


def test_a_client_that_reads_late_is_the_bottleneck() -> None:
    """Of the metrics that it may have moved by more than half of what is allowed, and of no other."""
    facts = {"chunk_ms": (100.0, 300.0), "output_tokens": 2, "ttft_ms": 100.0, "rate_source": "client"}
    clean = [make_sample(**facts, decode_tok_s=5.0, client_lag_ms=0.1)] * 19
    late = make_sample(**facts, decode_tok_s=5.0, first_late_ms=7.0, client_lag_ms=35.0)
    assert find_blanks([], "chat", {}) == {}
    assert find_blanks([*clean, late], "chat", {}) == {}
    assert find_blanks([late] * 3 + clean[:2], "chat", {}) == {
        "ttft_ms": "the client was the bottleneck: it read up to 35.0 ms late, which may change this by 7 %, more than "
        "the tolerated 5 %; use fewer lanes or a less busy client"
    }
    assert find_blanks([late] * 3, "chat", {"ttft_ms": 0.5}) == {}
    assert set(find_blanks([late] * 3, "chat", {"decode_tok_s": 0.02})) == {"ttft_ms", "decode_tok_s"}
    assert set(find_blanks([late] * 3, "chat", {"decode_tok_s": 0.0})) == {"ttft_ms", "decode_tok_s"}, "0 % is not 10 %"
    by_the_server = replace(late, rate_source="server", prefill_tok_s=9.0)
    assert set(find_blanks([by_the_server] * 3, "chat", {"decode_tok_s": 0.02})) == {"ttft_ms"}


def test_a_client_that_sends_late_says_so() -> None:
    late = make_sample(ttft_ms=10.0, e2e_ms=100.0, send_lag_ms=1.5, client_lag_ms=0.25)
    assert find_blanks([late] * 3, "chat", {})["ttft_ms"] == (
        "the client was the bottleneck: it sent up to 1.50 ms and read up to 0.250 ms late, which may change this by "
        "15 %, more than the tolerated 5 %; use fewer lanes or a less busy client"
    )


def test_a_late_client_leaves_nothing_of_a_queue_of_zero() -> None:
    """Zero is not blank: the time to the first token does not take its place."""
    late = make_sample(ttft_ms=100.0, ttfo_ms=100.0, prompt_ms=100.0, first_late_ms=1.0)
    assert (late.queue_ms, late.find_client_bound("queue_ms")) == (0.0, math.inf)
    assert late.find_client_bound("ttft_ms") == 0.01
    assert replace(late, ttft_ms=None).find_client_bound("ttfo_ms") == 0.01


def test_a_reason_of_the_samples_is_one_of_the_cell_where_no_sample_has_the_metric() -> None:
    blank = make_sample(blanks={"decode_tok_s": "held back"})
    assert find_blanks([blank, blank], "chat", {}) == {"decode_tok_s": "held back"}
    assert find_blanks([blank, make_sample(decode_tok_s=5.0)], "chat", {}) == {}


def test_half_of_the_samples_make_a_contradiction_of_the_cell() -> None:
    lying, honest = make_sample(contradiction="says 9, was 1", rate_source="client"), make_sample(rate_source="server")
    assert find_contradiction([lying, honest]) == "says 9, was 1"
    assert find_contradiction([lying, honest, honest]) is None
    assert find_rate_sources([lying, honest]) == "mixed"
    assert find_rate_sources([lying]) == "client"
    assert find_rate_sources([make_sample()]) is None


def test_all_lanes_together_while_a_request_ran() -> None:
    """Two lanes: each request makes 10 tokens in the second half of its 200 ms, the second one starts 100 ms later."""
    facts = {"e2e_ms": 200.0, "ttft_ms": 100.0, "output_tokens": 10}
    samples = [
        make_sample(index=0, lane=0, offset_ms=0.0, **facts),
        make_sample(index=1, lane=1, offset_ms=100.0, **facts),
        make_sample(index=2, lane=0, offset_ms=100.0, e2e_ms=1.0, output_tokens=10**9, failure="output-length"),
    ]
    totals = [sample.lanes_tok_s for sample in add_totals(samples, "chat")]
    assert totals == [pytest.approx(10 / 0.2), pytest.approx(20 / 0.2), None]


def test_failures_by_kind() -> None:
    failed = [
        make_sample(failure="status", failure_text="500: no slot"),
        make_sample(failure="truncated", failure_text="no [DONE]"),
        make_sample(failure="status", failure_text="500: other"),
    ]
    assert describe_failures(failed) == "2 × status: 500: no slot; 1 × truncated: no [DONE]"


def _round(*times_ms: float | None) -> list[Sample]:
    return [make_sample(index=index, e2e_ms=time_ms) for index, time_ms in enumerate(times_ms)]


@pytest.mark.parametrize(
    ("rounds", "settled"),
    [
        ([], True),
        ([[100.0]], True),
        ([[100.0], [96.0]], True),
        ([[100.0], [94.0]], False),
        ([[300.0], [100.0], [99.0]], True),
        ([[100.0, 120.0, 110.0], [90.0, 130.0, 100.0]], False),
        ([[100.0], [None]], True),
    ],
)
def test_warm_up_goes_on_while_the_newest_round_is_faster(rounds: list[list[float | None]], settled: bool) -> None:
    assert is_settled([_round(*times) for times in rounds]) is settled


@pytest.mark.parametrize(
    ("times_ms", "trend"),
    [
        ([100.0, 99.0, 98.0, 97.0, 96.0], False),  # too few
        ([150.0, 140.0, 130.0, 120.0, 112.0, 106.0, 103.0, 101.0, 100.0, 100.0], True),
        ([104.0, 103.0, 102.5, 102.0, 101.5, 101.0, 100.5, 100.2, 100.1, 100.0], False),  # steady, but too little
        ([150.0, 100.0, 101.0, 99.0, 100.0, 101.0, 99.0, 100.0, 101.0, 99.0], False),  # one slow request is no trend
        ([100.0, 101.0, 103.0, 106.0, 112.0, 120.0, 130.0, 140.0, 150.0, 160.0], False),  # slower is no warming
    ],
)
def test_a_block_that_became_faster_and_faster_was_too_early(times_ms: list[float], trend: bool) -> None:
    found = find_trend(_round(*times_ms))
    assert (found is not None) is trend
    if found:
        assert re.fullmatch(
            r"still warming up: the last requests of the block were 2\d(\.\d)? % faster than its first; "
            r"more warm-up, with warmup or warmup_time",
            found,
        )


def test_with_lanes_rounds_are_compared_and_the_lonely_last_one_is_not() -> None:
    def block(*rounds_ms: float) -> list[Sample]:
        return [
            make_sample(index=4 * number + lane, lane=lane, e2e_ms=round_ms + lane)
            for number, round_ms in enumerate(rounds_ms)
            for lane in range(4)
        ]

    assert find_trend(block(100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 50.0)) is None
    assert find_trend(block(150.0, 140.0, 130.0, 120.0, 110.0, 105.0)) is None  # five rounds are too few
    assert find_trend(block(150.0, 140.0, 130.0, 120.0, 110.0, 105.0, 100.0)) is not None


_RISING = [100.0, 100.0, 101.0, 103.0, 106.0, 112.0, 120.0, 130.0, 140.0, 150.0]
_LEVEL = [100.0, 101.0, 99.0, 100.0, 101.0, 99.0, 100.0, 101.0, 99.0, 100.0]


@pytest.mark.parametrize(
    ("ours", "theirs", "beside"),
    [
        (_RISING[::-1], _LEVEL, "than its first, beside those of the reference"),
        (_LEVEL, _RISING[::-1], "than its first on the reference, beside ours"),
        (_RISING[::-1], _RISING[::-1], None),  # the machine became faster, and both with it
        (_RISING, _LEVEL, None),  # slower is no warming
        (_LEVEL, _LEVEL, None),
    ],
)
def test_in_a_duet_only_what_one_host_does_beside_the_other_is_a_trend(
    ours: list[float], theirs: list[float], beside: str | None
) -> None:
    pairs = [*_round(*ours), *(replace(sample, reference=True) for sample in _round(*theirs))]
    stale = [replace(sample, attempt=0) for sample in _round(*_RISING)]
    found = find_trend_of_pairs([*stale, *pairs])
    assert (found or "").partition(" faster ")[2] == (
        f"{beside}; more warm-up, with warmup or warmup_time" if beside else ""
    )


def test_noise_alone_is_seldom_a_trend() -> None:
    """8 % of noise: two keys let less than one block in a hundred through."""
    chance = random.Random(7)
    blocks = [[100 * math.exp(chance.gauss(0, 0.08)) for _ in range(10)] for _ in range(3000)]
    assert sum(find_trend(_round(*block)) is not None for block in blocks) < 30


def test_each_block_counts_with_its_last_measuring() -> None:
    samples = [
        make_sample(block=1, attempt=1, decode_tok_s=1.0),
        make_sample(block=1, attempt=2, decode_tok_s=2.0),
        make_sample(block=2, attempt=1, decode_tok_s=4.0),
        make_sample(block=2, attempt=1, decode_tok_s=9.0, reference=True),
    ]
    assert summarize(samples, "chat")["decode_tok_s"].mean == 3.0
