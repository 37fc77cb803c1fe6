"""Two witnesses for every rate: what a server says of itself, against what the client's clock saw."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_boobench.servers.claims import Claims
from pytest_boobench.servers.witness import Rates, Seen, find_rates

TRUE_MS, TTFT_MS, TOKENS, PROMPT = 10.0, 50.0, 64, 512
"""A server that makes 100 tokens per second and takes 50 ms for a prompt."""
SPAN_MS = (TOKENS - 1) * TRUE_MS


def see(**changed: Any) -> Seen:
    fields: dict[str, Any] = {
        "chunk_ms": [TTFT_MS + number * TRUE_MS for number in range(TOKENS)],
        "sizes": [4] * TOKENS,
        "headers_ms": 1.0,
        "connect_ms": 0.2,
        "e2e_ms": TTFT_MS + SPAN_MS + 1,
        "lanes": 1,
    }
    return Seen(**{**fields, **changed})


def claim(**changed: Any) -> Claims:
    fields: dict[str, Any] = {
        "prompt_tokens": PROMPT,
        "cached_tokens": 0,
        "evaluated_tokens": PROMPT,
        "output_tokens": TOKENS,
        "prompt_ms": TTFT_MS - 1,
        "predicted_ms": SPAN_MS,
    }
    return Claims(**{**fields, **changed})


def usage_only(**changed: Any) -> Claims:
    return claim(prompt_ms=None, predicted_ms=None, **changed)


def test_a_server_that_is_borne_out_is_believed() -> None:
    rates = find_rates(see(), claim(predicted_ms=SPAN_MS + 3, prompt_ms=47.0))
    assert rates == Rates(
        ttft_ms=TTFT_MS,
        decode_tok_s=pytest.approx(63 / (SPAN_MS + 3) * 1000),
        prefill_tok_s=pytest.approx(PROMPT / 47 * 1000),
        rate_source="server",
    )


@pytest.mark.parametrize(
    "said",
    [
        {"predicted_ms": 0.7},
        {"predicted_ms": SPAN_MS / 2},
        {"predicted_ms": SPAN_MS * 0.93},
        {"predicted_ms": SPAN_MS * 2},
        {"predicted_ms": 1e300},
        {"predicted_ms": 0.7, "prompt_ms": TTFT_MS + SPAN_MS},
        {"prompt_ms": TTFT_MS + SPAN_MS},
        {"prompt_ms": 60.0},
        {"prompt_ms": 0.5},
        {"prompt_ms": 30.0},
        {"disagreement": "the server counts 64 generated tokens in timings and 65 in usage"},
    ],
    ids=str,
)
def test_a_server_that_the_stream_rules_out_is_not(said: dict[str, Any]) -> None:
    rates = find_rates(see(), claim(**said))
    assert rates.rate_source == "client"
    assert rates.contradiction
    assert rates.decode_tok_s == pytest.approx(100)
    assert rates.prefill_tok_s == pytest.approx(PROMPT / TTFT_MS * 1000)


def test_both_numbers_are_in_the_sentence() -> None:
    rates = find_rates(see(), claim(predicted_ms=0.7))
    assert rates.contradiction == (
        "the server says decode 90000 tok/s (64 tokens in 0.700 ms), the client's clock saw 100 tok/s"
    )


@pytest.mark.parametrize("lanes", [4, 64])
def test_a_queue_is_no_contradiction_of_several_lanes(lanes: int) -> None:
    """The header comes when the server begins with the prompt, or long before it from a proxy."""
    later = [at + 400 for at in see().chunk_ms]
    rates = find_rates(see(chunk_ms=later, headers_ms=401.0, e2e_ms=1100.0, lanes=lanes), claim())
    assert rates.rate_source == "server"


def test_a_busy_client_scatters_and_is_no_contradiction() -> None:
    scattered = [at + (number * 7919 % 40) for number, at in enumerate(see().chunk_ms)]
    assert find_rates(see(chunk_ms=sorted(scattered)), claim(predicted_ms=SPAN_MS + 20)).rate_source == "server"


def test_several_tokens_in_an_event() -> None:
    """Four tokens every 20 ms are 200 tokens per second, whoever counts the gaps."""
    seen = see(chunk_ms=[50.0 + 20 * number for number in range(8)], sizes=[16] * 8)
    rates = find_rates(seen, usage_only(output_tokens=32))
    assert rates.decode_tok_s == pytest.approx(200)
    assert rates.chunk_tokens == (4,) * 8


def test_the_server_tells_how_many_tokens_an_event_has() -> None:
    seen = see(chunk_ms=[50.0, 70.0, 90.0, 110.0], sizes=[1, 9, 9, 9], counts=[1, 8, 15, 22])
    rates = find_rates(seen, usage_only(output_tokens=22))
    assert rates.decode_tok_s == pytest.approx(21 / 60 * 1000)
    assert rates.chunk_tokens == (1, 7, 7, 7)


def test_an_estimate_that_is_too_rough_is_blank() -> None:
    seen = see(chunk_ms=[50.0, 70.0], sizes=[60, 60])
    rates = find_rates(seen, usage_only(output_tokens=32))
    assert rates.decode_tok_s is None
    assert rates.blanks["decode_tok_s"] == "the stream has too few events to time its tokens"


def test_hidden_reasoning() -> None:
    """48 of 64 tokens come unseen, 16 at 200 tokens per second."""
    seen = see(chunk_ms=[290.0 + 5 * number for number in range(16)], sizes=[1] * 16, e2e_ms=370.0)
    rates = find_rates(seen, usage_only(reasoning_tokens=48))
    assert rates.decode_tok_s == pytest.approx(200)
    assert (rates.ttft_ms, rates.prefill_tok_s, rates.hidden_tokens) == (None, None, 48)
    assert rates.blanks["ttft_ms"].startswith("48 of 64 tokens were reasoning that was not streamed")


def test_reasoning_that_is_streamed_is_not_hidden() -> None:
    rates = find_rates(see(reasoned=True), usage_only(reasoning_tokens=48))
    assert (rates.hidden_tokens, rates.ttft_ms) == (0, TTFT_MS)


def test_tokens_that_no_text_can_hold_are_not_believed() -> None:
    """The same, and the server does not say that it reasoned."""
    seen = see(chunk_ms=[290.0 + 5 * number for number in range(16)], sizes=[1] * 16, e2e_ms=370.0)
    rates = find_rates(seen, usage_only())
    assert (rates.decode_tok_s, rates.ttft_ms) == (None, None)
    assert rates.blanks["decode_tok_s"] == (
        "the server counts 64 tokens, and the 16 bytes of text that came cannot hold as many: some were never streamed"
    )


def held(size: int) -> Seen:
    """What a gateway makes of it that passes on so many events at a time."""
    chunk_ms = [TTFT_MS + (min(number // size * size + size, TOKENS) - 1) * TRUE_MS for number in range(TOKENS)]
    return see(chunk_ms=chunk_ms, headers_ms=chunk_ms[0])


@pytest.mark.parametrize("size", [8, 16, 32, 64])
def test_a_gateway_that_holds_the_stream_back(size: int) -> None:
    rates = find_rates(held(size), usage_only())
    assert (rates.ttft_ms, rates.prefill_tok_s) == (None, None)
    assert rates.decode_tok_s is None or rates.decode_tok_s == pytest.approx(100, rel=0.05)
    assert "holds the stream back" in rates.blanks["ttft_ms"]
    assert "proxy_buffering" in rates.blanks["ttft_ms"]


def test_what_a_gateway_passes_on_evenly_and_too_fast_was_held_back() -> None:
    seen = see(chunk_ms=[TTFT_MS + SPAN_MS + 0.2 * number for number in range(TOKENS)])
    rates = find_rates(seen, usage_only())
    assert (rates.decode_tok_s, rates.ttft_ms) == (None, None)
    assert "all came at once" in rates.blanks["decode_tok_s"]


def test_behind_a_gateway_plausible_timings_are_believed() -> None:
    rates = find_rates(held(64), claim())
    assert rates.rate_source == "server"
    assert rates.decode_tok_s == pytest.approx(100)
    assert (rates.ttft_ms, "ttft_ms" in rates.blanks, "itl_ms" in rates.blanks) == (None, True, True)


@pytest.mark.parametrize("said", [{"predicted_ms": 0.7}, {"predicted_ms": 5000.0}], ids=str)
def test_behind_a_gateway_implausible_timings_are_not(said: dict[str, Any]) -> None:
    rates = find_rates(held(64), claim(**said))
    assert (rates.decode_tok_s, rates.prefill_tok_s) == (None, None)
    assert "the whole request took 681 ms; and something between" in rates.blanks["decode_tok_s"]


def test_speculation_comes_in_bursts_and_is_measured_all_the_same() -> None:
    """The first token alone, then three at a time: steps of 30 ms."""
    chunk_ms = [TTFT_MS, *(TTFT_MS + 30 * (number // 3 + 1) + 0.05 * (number % 3) for number in range(63))]
    rates = find_rates(see(chunk_ms=chunk_ms), usage_only())
    assert rates.ttft_ms == TTFT_MS
    assert rates.decode_tok_s == pytest.approx(100, rel=0.01)
    assert rates.blanks == {}


def test_a_fast_server_that_writes_in_bursts_is_not_held_back() -> None:
    """Where the server says of its times what the stream shows, nobody is in between."""
    chunk_ms = [10.0 + 1.6 * (number // 4) + 0.01 * (number % 4) for number in range(16)]
    seen = see(chunk_ms=chunk_ms, sizes=[4] * 16, e2e_ms=16.0)
    told = {"output_tokens": 16, "prompt_tokens": 64, "evaluated_tokens": 64}
    rates = find_rates(seen, claim(**told, prompt_ms=8.5, predicted_ms=5.5))
    assert (rates.rate_source, rates.ttft_ms, rates.blanks) == ("server", 10.0, {})


def test_a_long_prompt_before_a_fast_answer_is_no_burst() -> None:
    seen = see(chunk_ms=[8000.0 + 12 * number for number in range(16)], sizes=[4] * 16, e2e_ms=8200.0)
    rates = find_rates(seen, usage_only(output_tokens=16, prompt_tokens=4096, evaluated_tokens=4096))
    assert rates.decode_tok_s == pytest.approx(1000 / 12)
    assert rates.ttft_ms == 8000.0


_ANY_MS = st.floats(1e-6, 1e12)


@given(_ANY_MS, _ANY_MS, st.sampled_from([1, 4]))
def test_no_rate_is_kept_that_the_client_rules_out(prompt_ms: float, predicted_ms: float, lanes: int) -> None:
    rates = find_rates(see(lanes=lanes), claim(prompt_ms=prompt_ms, predicted_ms=predicted_ms))
    assert rates.decode_tok_s == pytest.approx(100, rel=0.06)
    if lanes == 1:
        assert rates.prefill_tok_s == pytest.approx(PROMPT / TTFT_MS * 1000, rel=0.2)
