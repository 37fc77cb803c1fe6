"""Room 1: suites with a rate: their cells, and what does not go with one."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_boobench.suite.cell import Cell
from pytest_boobench.suite.thresholds import Floor
from tests.suite.test_suite import load, refuse

HEAD = """\
suite: r
hosts: [embedded]
models: [m]
"""
GRID = "grid: {prompt_tokens: [64], output_tokens: [8]}\n"


def cells_of(folder: Path, text: str) -> tuple[Cell, ...]:
    return load(folder, HEAD + text).cells


def test_a_rate_replaces_the_lanes_in_the_id_and_whole_numbers_are_written_alike(tmp_path: Path) -> None:
    whole, half = cells_of(tmp_path, f"{GRID}rate: [4, 0.5]\narrival: poisson\n")
    (point,) = cells_of(tmp_path, f"{GRID}rate: 4.0\narrival: poisson\n")
    assert [cell.id for cell in (whole, half, point)] == ["pp64-tg8-rate4", "pp64-tg8-rate0.5", "pp64-tg8-rate4"]
    assert whole.key == point.key != half.key
    assert (whole.identity["rate"], whole.identity["arrival"]) == (4.0, "poisson")


def test_closed_and_open_loop_may_be_one_axis(tmp_path: Path) -> None:
    closed, at_rate = cells_of(tmp_path, "grid: {prompt_tokens: [64], output_tokens: [8], rate: [0, 2]}\n")
    (before,) = cells_of(tmp_path, GRID)
    assert (closed.id, at_rate.id) == ("pp64-tg8-c1", "pp64-tg8-rate2")
    assert closed.key == before.key


@pytest.mark.parametrize(
    ("more", "samples"),
    [
        ("rate: 2", 60),
        ("rate: 0.1", 20),
        ("rate: 2\nduration: 12s", 24),
        ("rate: 2\nsamples: 7", 7),
        ("rate: 2\nsamples: 7\noverrides: [{where: {rate: 2}, duration: 5s}]", 10),
    ],
)
def test_how_many_requests(tmp_path: Path, more: str, samples: int) -> None:
    (cell,) = cells_of(tmp_path, f"{GRID}{more}\n")
    assert cell.plan.samples == samples


def test_slo_and_floor(tmp_path: Path) -> None:
    text = (
        "rate: 2\nslo: {ttft_ms: 500, itl_ms: 40ms, e2e_ms: 2s}\ngate: {slo_share: {at_least: 99%}, goodput_rps: {}}\n"
    )
    (cell,) = cells_of(tmp_path, GRID + text)
    assert cell.slo == {"ttft_ms": 500.0, "itl_ms": 40.0, "e2e_ms": 2000.0}
    assert cell.plan.gate == {"slo_share": Floor(0.99), "goodput_rps": None}
    (closed,) = cells_of(tmp_path, f"{GRID}slo: {{ttft_ms: 0.5s}}\n")
    assert closed.identity["slo"] == {"ttft_ms": 500.0}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("rate: 2\narrival: often", "6: arrival: expected constant, poisson or recorded, got 'often'"),
        ("arrival: poisson", "5: arrival: needs a rate: requests per second, as in rate: [1, 2]"),
        ("duration: 5s", "5: duration: needs a rate: requests per second, as in rate: [1, 2]"),
        (
            "rate: 2\nduration: 5s\nsamples: 3",
            "6: duration: stands beside samples: either one decides how many; write one",
        ),
        (
            "rate: 2\nwarmup: 0",
            "6: warmup: expected at least 1 at a rate: how long the last of them took decides how long the lead-in is",
        ),
        (
            "rate: 2\nturns: 3",
            "6: turns: does not go with rate: a turn starts when the one before has ended; keep one of them",
        ),
        ("rate: -1", "5: rate: expected a number from 0 to 10000, got -1"),
        ("slo: {decode_tok_s: 9}", "5: slo.decode_tok_s: is no time of a request; "),
        (
            "slo: {ttft_ms: '500'}",
            "5: slo.ttft_ms: expected a time in milliseconds such as 500, 500ms or 2s, got '500'",
        ),
        ("slo: {ttft_ms: 0}", "5: slo.ttft_ms: expected a time in milliseconds such as 500, 500ms or 2s, got 0"),
        ("gate: {goodput_rps: {}}", "5: gate.goodput_rps: needs an slo, as in slo: {ttft_ms: 500}"),
        (
            "slo: {ttft_ms: 9}\ngate: {slo_share: {at_least: 0%}}",
            "6: gate.slo_share.at_least: expected a percentage above 0, 100% at most, got 0%",
        ),
        (
            "slo: {ttft_ms: 9}\ngate: {slo_share: {at_least: 9%, max_drop: 9%}}",
            "6: gate.slo_share.max_drop: stands beside at_least, which needs no baseline; write one of them",
        ),
        ("gate: {decode_tok_s: {at_least: 9%}}", "5: gate.decode_tok_s.at_least: compares two turns; "),
    ],
)
def test_what_does_not_go_together_is_said(tmp_path: Path, more: str, said: str) -> None:
    assert refuse(tmp_path, f"{HEAD}{GRID}{more}\n")[0].startswith(said)


def test_lanes_beside_a_rate_are_said(tmp_path: Path) -> None:
    grid = "grid: {prompt_tokens: [64], output_tokens: [8], concurrency: [1, 4], rate: [2]}\n"
    said = "4: grid.concurrency: rate decides how many are in flight; leave concurrency out"
    assert refuse(tmp_path, HEAD + grid) == [said]
    embeds = "kind: embedding\ngrid: {prompt_tokens: [64]}\nrate: 2\nslo: {ttft_ms: 9}\n"
    assert refuse(tmp_path, HEAD + embeds) == ["7: slo.ttft_ms: kind embedding has no TTFT; known are e2e_ms"]
