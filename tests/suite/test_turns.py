"""Room 1: conversations in a suite: their samples, gates on turns, and what does not go with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_boobench.errors import DocumentError
from pytest_boobench.suite.cell import Suite
from pytest_boobench.suite.load import load
from pytest_boobench.suite.thresholds import TurnRatio

GRID = {"prompt_tokens": 64, "output_tokens": 8}


def read(tmp_path: Path, text: str = "", **fields: Any) -> Suite:
    path = tmp_path / "t.boobench.yaml"
    whole = {"suite": "t", "hosts": ["embedded"], "models": ["m"], "grid": GRID, **fields}
    path.write_text(yaml.safe_dump(whole, sort_keys=False) + text)
    return load(path, display="t.yaml", known_hosts=None)


def fail(tmp_path: Path, text: str = "", **fields: Any) -> list[str]:
    with pytest.raises(DocumentError) as error:
        read(tmp_path, text, **fields)
    return [f"{problem.field}: {problem.text}" for problem in error.value.problems]


@pytest.mark.parametrize(
    ("fields", "samples"),
    [
        ({}, 10),
        ({"turns": 8}, 40),
        ({"turns": 8, "grid": {**GRID, "concurrency": 4}}, 64),
        ({"turns": 8, "samples": 30}, 24),
        ({"turns": 8, "samples": 8}, 8),
        ({"turns": 1, "samples": 7}, 7),
    ],
)
def test_samples_are_whole_conversations(tmp_path: Path, fields: dict[str, Any], samples: int) -> None:
    (cell,) = read(tmp_path, **fields).cells
    assert cell.plan.samples == samples
    assert cell.id == f"pp64-tg8-c{cell.concurrency}{'-turns8' if cell.turns == 8 else ''}"


def test_each_cell_has_its_own_last_turn(tmp_path: Path) -> None:
    gate = "gate:\n  ttft_ms.turn[last]: 1.3 x turn[2]\n  decode_tok_s.turn[first]: {max_drop: 5%}\n"
    short, long = read(tmp_path, gate, grid={**GRID, "turns": [4, 8]}).cells
    assert short.plan.gate == {"ttft_ms.turn[4]": TurnRatio(1.3, 2), "decode_tok_s.turn[1]": 0.05}
    assert long.plan.gate == {"ttft_ms.turn[8]": TurnRatio(1.3, 2), "decode_tok_s.turn[1]": 0.05}
    assert short.key != long.key


def test_an_override_adds_to_the_gate_of_the_conversation(tmp_path: Path) -> None:
    overrides = [{"where": {"turns": 8}, "gate": {"e2e_ms.turn[last]": "20%"}, "samples": 16}]
    one, many = read(tmp_path, grid={**GRID, "turns": [1, 8]}, overrides=overrides).cells
    assert (one.plan.gate, one.plan.samples) == (None, 10)
    assert many.plan.gate == {"decode_tok_s": None, "ttft_ms.turn[8]": None, "e2e_ms.turn[8]": 0.2}
    assert many.plan.samples == 16


@pytest.mark.parametrize(
    ("written", "limit"),
    [
        ("ttft_ms.turn[last]: 1.3 x turn[2]", TurnRatio(1.3, 2)),
        ("ttft_ms.turn[last]: 1.3 × turn[first]", TurnRatio(1.3, 1)),
        ("ttft_ms.turn[last]: 1.3*turn[2]", TurnRatio(1.3, 2)),
        ("ttft_ms.turn[last]: <= 1.3 × turn[2]", TurnRatio(1.3, 2)),
        ("ttft_ms.turn[last]: ≤ 2 x turn[2]", TurnRatio(2.0, 2)),
        ('ttft_ms.turn[last]: {at_most: "1.3 x turn[2]"}', TurnRatio(1.3, 2)),
        ("ttft_ms.turn[2]: 3 x turn[last]", TurnRatio(3.0, 4)),
        ("decode_tok_s.turn[last]: '>= 0.8 x turn[2]'", TurnRatio(0.8, 2)),
        ('cached_share.turn[last]: {at_least: "0.9 x turn[2]"}', TurnRatio(0.9, 2)),
        ("ttft_ms.turn[last]: 20%", 0.2),
        ("ttft_ms.turn[last]: {max_rise: 20%}", 0.2),
        ("ttft_ms.turn[last]: {}", None),
    ],
)
def test_what_a_limit_of_a_turn_may_be(tmp_path: Path, written: str, limit: object) -> None:
    (cell,) = read(tmp_path, f"gate:\n  {written}\n", turns=4).cells
    assert list((cell.plan.gate or {}).values()) == [limit]


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("ttft.turn[2]: 5%", "ttft.turn[2]: unknown metric"),
        ("itl_ms.turn[2]: 5%", "itl_ms.turn[2]: ITL has no number of a turn; known are ttft_ms, prefill_tok_s, "),
        (
            "ttft_ms.turn[zero]: 5%",
            "expected a turn such as ttft_ms.turn[2], ttft_ms.turn[first] or ttft_ms.turn[last]",
        ),
        ("ttft_ms.turn[5]: 5%", "ttft_ms.turn[5]: the shortest conversation has 4 turns; expected a turn up to 4"),
        ("ttft_ms.turn[last]: 1.3 x turn[9]", "the shortest conversation has 4 turns"),
        ("ttft_ms.turn[last]: 1.3 x turn[4]", "compares a turn with itself; name two turns"),
        (
            "ttft_ms.turn[last]: 1.3 turn[2]",
            "expected a multiple of another turn such as 1.3 x turn[2], got '1.3 turn[2]'",
        ),
        ("ttft_ms.turn[last]: '>= 1.3 x turn[2]'", "TTFT is better when lower; write <=, or at_most"),
        ('ttft_ms.turn[last]: {at_least: "1.3 x turn[2]"}', "TTFT is better when lower; write max_rise or at_most"),
        ('ttft_ms: {at_most: "1.3 x turn[2]"}', "compares two turns; write it below ttft_ms.turn[last]"),
        ('ttft_ms.turn[2]: {at_most: "3 x turn[1]", max_rise: 5%}', "stands beside max_rise; a metric has one limit"),
    ],
)
def test_a_wrong_limit_of_a_turn_is_said(tmp_path: Path, written: str, problem: str) -> None:
    (found,) = fail(tmp_path, f"gate:\n  {written}\n", turns=4)
    assert found.startswith("gate.")
    assert problem in found


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"turns": 4, "kind": "completion"}, "turns: does not go with kind completion: only a chat has turns"),
        ({"turns": 4, "cache": "warm"}, "turns: does not go with cache: warm: turn 1 is always cold"),
        ({"turns": 4, "rate": 2}, "turns: does not go with rate: a turn starts when the one before has ended"),
        ({"grid": {**GRID, "turns": [1, 4], "depth_tokens": 100}}, "grid.turns: does not go with depth_tokens: "),
        ({"turn_tokens": 30}, "turn_tokens: there are no later turns; add turns, or leave it out"),
        ({"think_time": "2s"}, "think_time: there are no later turns; add turns, or leave it out"),
        ({"turns": 4, "samples": 3}, "samples: expected at least the 4 requests of one conversation, got 3"),
        ({"gate": {"ttft_ms.turn[2]": "5%"}}, "there is no conversation; set turns, or pick the cells with turns"),
    ],
)
def test_what_does_not_go_with_turns(tmp_path: Path, fields: dict[str, Any], problem: str) -> None:
    (found,) = fail(tmp_path, **fields)
    assert problem in found
