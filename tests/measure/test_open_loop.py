"""Room 3: requests at planned times: the schedule, which requests count, and where their clocks start."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_boobench.aggregate import find_blanks
from pytest_boobench.errors import HostError
from pytest_boobench.gate import Rules
from pytest_boobench.measure import PhaseResult, Ticket, open_loop, run_phase
from pytest_boobench.measure.block import Measurer
from pytest_boobench.measure.goodput import explain_goodput, find_goodput
from pytest_boobench.measure.open_loop import OpenLoop, count_from_plan, plan_window
from pytest_boobench.measure.sides import Duet, DuetSide
from pytest_boobench.suite.objectives import is_good
from pytest_boobench.walk import run_duet
from tests.making import make_cell, make_sample

AT_RATE = make_cell(rate=10.0, slo={"ttft_ms": 100.0})


@dataclass(frozen=True)
class Reply:
    unanswered: bool = False


def loop_of(**changed: Any) -> OpenLoop:
    return OpenLoop(**{"host": "h", "rate": 100.0, "arrival": "constant", "counted": 10, "aside": 4, **changed})


def run(loop: OpenLoop, takes_s: float) -> PhaseResult:
    async def send(ticket: Ticket) -> Any:
        await asyncio.sleep(max(0.0, ((ticket.planned_ns or 0) - time.monotonic_ns()) / 1e9) + takes_s)
        return Reply()

    async def alive() -> bool:
        return True

    return asyncio.run(run_phase(send, alive, "measure", loop, count=loop.total))


@pytest.mark.parametrize("count", [1, 7, 400])
def test_a_schedule_has_its_rate_exactly_and_is_the_same_in_every_run(count: int) -> None:
    constant, poisson = (plan_window(4.0, arrival, count, "window") for arrival in ("constant", "poisson"))
    assert constant == [number / 4 for number in range(count)]
    assert poisson == sorted(poisson) == plan_window(4.0, "poisson", count, "window")
    assert 0 <= poisson[0] <= poisson[-1] < count / 4
    assert poisson != plan_window(4.0, "poisson", count, "lead-in")


def test_poisson_gaps_are_as_scattered_as_exponential_ones() -> None:
    times = plan_window(1.0, "poisson", 4000, "window")
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert sum(gap > 1 for gap in gaps) / len(gaps) == pytest.approx(0.368, abs=0.03)


def test_requests_go_out_whatever_is_in_flight_and_those_of_the_window_count() -> None:
    loop = loop_of()
    result = run(loop, takes_s=0.08)
    tickets = [ticket for ticket, _ in result.answers]
    planned = [((ticket.planned_ns or 0) - ticket.phase_began_ns) / 1e6 for ticket in tickets]
    assert planned == pytest.approx([10.0 * number for number in range(len(tickets))])
    assert len(tickets) > loop.aside + loop.counted, "the run-out goes on while the window's last ones are in flight"
    samples = loop.mark([make_sample(index=t.index, offset_ms=at) for t, at in zip(tickets, planned, strict=True)])
    own = [sample for sample in samples if sample.phase == "measure"]
    assert [sample.index for sample in own] == list(range(10))
    assert own[0].offset_ms == pytest.approx(0.0)


def test_the_run_out_ends_with_the_last_answer_that_counts() -> None:
    assert len(run(loop_of(rate=20.0, counted=3, aside=20), takes_s=0.0).answers) in {23, 24}


def test_a_host_that_lets_too_many_wait_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_loop, "MOST_IN_FLIGHT", 5)
    with pytest.raises(HostError, match=r"h: it cannot keep up with 100 requests per second: 5 are in flight"):
        run(loop_of(), takes_s=60.0)


def test_the_lead_in_is_twice_the_last_warm_up_request() -> None:
    warmed = [make_sample(e2e_ms=9000.0, connect_ms=50.0), make_sample(e2e_ms=450.0, connect_ms=1.0)]
    loop = OpenLoop.after_warm_up(AT_RATE, warmed)
    assert (loop.aside, loop.ready_s) == (9, pytest.approx(0.2))
    assert OpenLoop.after_warm_up(AT_RATE, [make_sample(e2e_ms=1.0)]).aside == 2


def test_times_count_from_the_planned_moment() -> None:
    ticket = Ticket("measure", 0, 3, phase_began_ns=0, planned_ns=1_000_000_000)
    exchange = SimpleNamespace(sent_ns=1_030_000_000, opened_ns=1_010_000_000)
    sample = make_sample(ttft_ms=100.0, e2e_ms=200.0, chunk_ms=(100.0, 200.0), prompt_ms=90.0)
    found = count_from_plan(sample, ticket, SimpleNamespace(exchange=exchange))  # type: ignore[arg-type]
    assert (found.ttft_ms, found.e2e_ms, found.chunk_ms) == (130.0, 230.0, (130.0, 230.0))
    assert (found.offset_ms, found.send_lag_ms, found.queue_ms) == (1000.0, 20.0, 40.0)
    assert found.started_at == sample.started_at - 0.03
    assert count_from_plan(sample, replace(ticket, planned_ns=None), SimpleNamespace()) is sample  # type: ignore[arg-type]


@pytest.mark.parametrize(("lag_ms", "blank"), [(4.0, {"ttft_ms"}), (0.3, set())])
def test_a_client_that_sends_late_makes_times_blank(lag_ms: float, blank: set[str]) -> None:
    samples = [make_sample(index=n, ttft_ms=50.0, e2e_ms=500.0, send_lag_ms=lag_ms) for n in range(6)]
    assert set(find_blanks(samples, "chat", {})) == blank


SLO = {"ttft_ms": 100.0, "itl_ms": 10.0}


@pytest.mark.parametrize(
    ("changed", "good"),
    [
        ({}, True),
        ({"ttft_ms": 100.1}, False),
        ({"chunk_ms": (80.0, 90.0, 101.0)}, False),
        ({"ttft_ms": None}, None),
        ({"ttft_ms": None, "chunk_ms": (80.0, 101.0)}, False),
        ({"failure": "status"}, False),
        ({"output_tokens": 1, "chunk_ms": (80.0,)}, True),
        ({"chunk_ms": (80.0,)}, None),
        ({"blanks": {"itl_ms": "held back"}}, None),
    ],
)
def test_a_request_is_good_within_every_limit(changed: dict[str, Any], good: bool | None) -> None:
    fields = {"ttft_ms": 80.0, "chunk_ms": (80.0, 89.0, 100.0), "output_tokens": 3, **changed}
    assert is_good(make_sample(**fields), SLO) is good


def test_goodput_is_over_the_window_and_counts_failed_requests_as_bad() -> None:
    samples = [make_sample(index=n, offset_ms=100.0 * n, ttft_ms=50.0, e2e_ms=90.0) for n in range(9)]
    samples += [make_sample(index=9, offset_ms=900.0, failure="timeout"), make_sample(phase="warmup", ttft_ms=999.0)]
    assert find_goodput(AT_RATE, samples) == {"slo_share": 0.9, "goodput_rps": pytest.approx(9.0)}
    closed = replace(AT_RATE, rate=0.0)
    assert find_goodput(closed, samples)["goodput_rps"] == pytest.approx(9 / 0.9)
    assert find_goodput(replace(AT_RATE, slo={}), samples) == {}


def test_what_nobody_can_tell_is_blank() -> None:
    samples = [make_sample(ttft_ms=50.0), make_sample(index=1, ttft_ms=None)]
    assert find_goodput(AT_RATE, samples) == {}
    said = "a request has no ttft_ms, so nobody can say whether it was within the SLO"
    assert explain_goodput(AT_RATE, samples) == {"slo_share": said, "goodput_rps": said}


@pytest.mark.parametrize(("ttft_ms", "blank"), [(102.0, True), (140.0, False), (90.0, False)])
def test_a_late_client_matters_only_where_it_makes_a_request_miss_the_slo(ttft_ms: float, blank: bool) -> None:
    samples = [make_sample(index=n, ttft_ms=ttft_ms, e2e_ms=200.0, send_lag_ms=20.0) for n in range(4)]
    found = explain_goodput(AT_RATE, samples)
    assert ("slo_share" in found) is blank
    if blank:
        assert found["slo_share"].startswith("the client was the bottleneck: 4 of 4 requests may have missed the SLO")


@pytest.mark.parametrize(("slower_ms", "blank"), [(2.0, False), (40.0, True)])
def test_times_of_a_host_that_does_not_keep_up_are_blank(slower_ms: float, blank: bool) -> None:
    """Each request waits so much longer than the one before; they come 100 ms apart."""
    samples = [make_sample(index=n, ttft_ms=50.0, e2e_ms=200.0 + slower_ms * n) for n in range(30)]
    found = explain_goodput(AT_RATE, samples)
    assert ("e2e_ms" in found) is blank
    assert "slo_share" not in found
    if blank:
        assert found["e2e_ms"].startswith("rack-1 does not keep up with 10 requests per second: the first ones took")


def test_a_duet_says_that_a_replay_does_not_go_with_it() -> None:
    replay = replace(AT_RATE, rate=0.0, arrival="recorded")
    sides = [DuetSide(SimpleNamespace(takeover=False), replay, reference=known) for known in (False, True)]  # type: ignore[arg-type]
    duet = Duet(*sides, Measurer(run_uid="x"))
    record = asyncio.run(run_duet(duet, node_id="x", rules=Rules()))
    assert record.error == (
        "rack-1: a replay is one window, and an interval needs ten pairs of different ones; write rate instead of "
        "arrival: recorded, or leave the duet out"
    )
