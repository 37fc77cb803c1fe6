"""How often a duet of windows at a rate is right: ``python -m tests.benchmarks.windows --duets 1000``.

Simulated servers with one worker get ten requests a second at random times, 40 in a window; a good one is answered
within 200 ms. Both halves of a pair have the same arrivals, and each request's own time varies by 30 % to each side.
The truth is the goodput of 20,000 windows.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence

from pytest_boobench import gate
from pytest_boobench.metrics import Sample
from pytest_boobench.record import CellRecord, Verdict
from tests.making import make_cell, make_record, make_sample

AT_RATE = make_cell(rate=10.0, slo={"e2e_ms": 200.0})
REQUESTS, PAIRS = 40, gate.FEWEST["windows"]
_CASES = ((60.0, 1.0), (85.0, 1.0), (60.0, 1.2), (60.0, 1.4))
"""Milliseconds that the old server takes for a request, and how many times as long the new one does."""


def draw_arrivals(chance: random.Random) -> list[float]:
    """The times of a window, ms."""
    return sorted(chance.random() * REQUESTS * 100.0 for _ in range(REQUESTS))


def count_good(arrivals: Sequence[float], chance: random.Random, service_ms: float) -> int:
    """How many of these requests one worker answers in time."""
    free_ms, good = 0.0, 0
    for at_ms in arrivals:
        free_ms = max(at_ms, free_ms) + service_ms * (0.7 + 0.6 * chance.random())
        good += free_ms - at_ms <= AT_RATE.slo["e2e_ms"]
    return good


def draw_duet(chance: random.Random, service_ms: float, slower: float) -> list[tuple[int, int]]:
    """Good requests of both halves of each pair."""
    windows = [draw_arrivals(chance) for _ in range(PAIRS)]
    return [(count_good(each, chance, service_ms * slower), count_good(each, chance, service_ms)) for each in windows]


def make_windows(shares: Sequence[tuple[int, int]], of: int = REQUESTS) -> CellRecord:
    """A record with such pairs; the first of the requests that are not good has failed."""
    samples = [
        sample
        for pair, halves in enumerate(shares, 1)
        for reference, good in enumerate(halves)
        for sample in _make_window(pair, good, of, reference=bool(reference))
    ]
    return make_record(AT_RATE, samples=samples, reference_host="old", pairing="windows")


def _make_window(pair: int, good: int, of: int, *, reference: bool) -> list[Sample]:
    return [
        make_sample(
            block=pair,
            index=number,
            e2e_ms=50.0 if number < good else 500.0,
            failure="timeout" if number == good else None,
            send_lag_ms=0.1,
            reference=reference,
        )
        for number in range(of)
    ]


def judge_goodput(shares: Sequence[tuple[int, int]]) -> Verdict:
    """The verdict on such pairs, 10 % allowed."""
    (verdict,) = gate.judge_duet(make_windows(shares), {"goodput_rps": 0.1})
    return verdict


def _find_truth(service_ms: float, slower: float) -> float:
    chance = random.Random(1)
    ours = theirs = 0
    for _ in range(20_000 // PAIRS):
        for now, other in draw_duet(chance, service_ms, slower):
            ours, theirs = ours + now, theirs + other
    return ours / theirs - 1


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--duets", type=int, default=1000)
    duets = parser.parse_args().duets
    print("| old, ms | new | true change | red | faster | interval holds it |")
    print("|---|---|---|---|---|---|")
    for service_ms, slower in _CASES:
        truth = _find_truth(service_ms, slower) if slower != 1.0 else 0.0
        chance = random.Random(3)
        found = [judge_goodput(draw_duet(chance, service_ms, slower)) for _ in range(duets)]
        red = sum(each.outcome == "regression" for each in found)
        faster = sum(each.outcome == "improvement" for each in found)
        held = sum((each.change_low or 0.0) - 1e-9 <= truth <= (each.change_high or 0.0) + 1e-9 for each in found)
        shares = " | ".join(f"{part / duets:.1%}" for part in (red, faster, held))
        print(f"| {service_ms:g} | × {slower:g} | {truth:+.1%} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
