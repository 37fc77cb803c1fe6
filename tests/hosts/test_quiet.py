"""Room 2: the quiet period, with scripted sightings."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterable

import pytest

from pytest_boobench.errors import HostError
from pytest_boobench.facts import ForeignRequest, Sighting
from pytest_boobench.hosts.quiet import Manners, require_quiet

CURL = ForeignRequest(
    id="7", model="qwen", path="/v1/chat/completions", user_agent="curl/8", address="10.0.0.7", age_s=12.4, queued=False
)
QUIET = Sighting(known=True)
BUSY = Sighting(known=True, in_flight=(CURL,))


def require(
    script: Iterable[Sighting], quiet_s: float = 0.0, grace_s: float = 0.0, **manners: object
) -> tuple[Sighting, int]:
    sightings = list(script)
    looks = 0

    async def look() -> Sighting:
        nonlocal looks
        looks += 1
        return sightings[min(looks, len(sightings)) - 1]

    asked = Manners(**manners)  # type: ignore[arg-type]
    return asyncio.run(require_quiet("rack-1", look, asked, quiet_s=quiet_s, grace_s=grace_s)), looks


def test_a_quiet_host_is_granted() -> None:
    assert require([QUIET]) == (QUIET, 1)


def test_quiet_means_for_a_while() -> None:
    began = time.monotonic()
    _, looks = require([QUIET], quiet_s=0.3)
    assert looks >= 2
    assert time.monotonic() - began >= 0.3


def test_a_request_that_comes_in_the_quiet_period_refuses() -> None:
    with pytest.raises(HostError, match="busy: 1 foreign request in flight"):
        require([QUIET, BUSY], quiet_s=5)


def test_a_request_that_came_and_went_between_two_looks_refuses() -> None:
    old, new = "qwen, task 7 (ended 06:04:51 UTC)", "qwen, task 9 (ended 06:04:52 UTC)"
    before, after = Sighting(known=True, recent=(old,)), Sighting(known=True, recent=(new, old))
    with pytest.raises(HostError) as refused:
        require([before, after], quiet_s=5)
    assert str(refused.value).splitlines() == [
        f"rack-1: not quiet: a request came and went while we looked: {new}",
        "wait for it with --boobench-wait 10m, or measure all the same with --boobench-takeover",
    ]
    assert require([before, after, after, before], wait_s=60, quiet_s=0.6)[1] >= 5, "and begins the quiet period anew"


def test_each_request_that_passed_is_new_though_they_read_alike() -> None:
    line = "qwen, 200, 12 ms (ended 06:04:52 UTC)"
    with pytest.raises(HostError, match=re.escape(f"while we looked: {line}; {line}; {line}; and 1 more")):
        require([QUIET, Sighting(known=True, recent=(line,) * 4)], quiet_s=5)


def test_what_ends_soon_may_be_ours() -> None:
    assert require([BUSY, QUIET], grace_s=60) == (QUIET, 2)
    with pytest.raises(HostError, match="rack-1: busy: 1 foreign request"):
        require([BUSY], grace_s=0.3)


def test_a_host_that_cannot_tell_any_more_is_not_quiet() -> None:
    with pytest.raises(HostError, match="cannot tell whether others use it"):
        require([QUIET, Sighting(known=False)], quiet_s=5)


def test_a_busy_host_is_refused_with_who_and_the_ways_on() -> None:
    busy = Sighting(
        known=True,
        in_flight=(CURL, ForeignRequest(id="8", queued=True), ForeignRequest(id="9", model="q"), CURL, CURL),
        recent=("qwen /v1/embeddings 200 1.2 s",),
    )
    with pytest.raises(HostError) as refused:
        require([busy])
    assert str(refused.value).splitlines() == [
        "rack-1: busy: 5 foreign requests in flight: qwen, /v1/chat/completions, curl/8, from 10.0.0.7 "
        "(running for 12 s); a request (queued); q (in flight); and 2 more",
        "ended in the last minute: qwen /v1/embeddings 200 1.2 s",
        "wait for it with --boobench-wait 10m, or measure all the same with --boobench-takeover",
    ]


def test_waiting_waits_as_long_as_asked() -> None:
    assert require([BUSY, BUSY, QUIET], wait_s=60) == (QUIET, 3)
    with pytest.raises(HostError, match=r"rack-1: busy after waiting 0\.5 s: 1 foreign request"):
        require([BUSY], wait_s=0.5)


def test_takeover_asks_nothing() -> None:
    assert require([BUSY], quiet_s=60, takeover=True) == (BUSY, 1)
    assert require([Sighting(known=False)], takeover=True)[1] == 1


def test_a_host_that_cannot_tell_needs_a_word() -> None:
    with pytest.raises(HostError) as refused:
        require([Sighting(known=False)])
    assert str(refused.value) == (
        "rack-1: this kind of server cannot tell whether others use it; if nobody does, say 'shared: false' "
        "in the hosts file, or measure all the same with --boobench-takeover"
    )
