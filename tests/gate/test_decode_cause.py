"""Room 6: a slower decode with speculation names its cause, and none within noise."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest

from pytest_boobench import gate
from pytest_boobench.aggregate import Aggregate, summarize
from pytest_boobench.gate.decode_cause import explain_decode
from pytest_boobench.metrics import Sample
from pytest_boobench.record import Baseline
from tests.making import aggregate_of, make_baseline, make_record, make_sample

LENGTH, STEPS = 3.4, 41.0
SEEDS = 100


def factors(length: float, steps: float) -> Mapping[str, Aggregate]:
    values = {"decode_tok_s": length * steps, "accepted_len": length, "steps_per_s": steps}
    return {
        key: aggregate_of(*(value * near for near in (0.99, 0.995, 1.0, 1.005, 1.01))) for key, value in values.items()
    }


def baseline_of(length: float = LENGTH, steps: float = STEPS) -> Baseline:
    baseline = make_baseline(1.0)
    return replace(baseline, runs=tuple(replace(run, aggregates=factors(length, steps)) for run in baseline.runs))


@pytest.mark.parametrize(
    ("length", "steps", "said"),
    [
        (
            2.1,
            41.2,
            "acceptance fell: 2.10 tokens a step, was 3.40; steps are as fast as before: 41.2 a second, was 41.0",
        ),
        (2.1, 50.0, "acceptance fell: 2.10 tokens a step, was 3.40; steps are faster: 50.0 a second, was 41.0"),
        (
            3.4,
            25.0,
            "steps became slower: 25.0 a second, was 41.0; acceptance is the same: 3.40 tokens a step, was 3.40",
        ),
        (
            4.0,
            25.0,
            "steps became slower: 25.0 a second, was 41.0; acceptance is higher: 4.00 tokens a step, was 3.40",
        ),
        (
            2.1,
            25.0,
            "acceptance fell: 2.10 tokens a step, was 3.40; and steps became slower: 25.0 a second, was 41.0",
        ),
        (
            3.35,
            40.0,
            "neither acceptance (3.35 tokens a step, was 3.40) nor the speed of steps (40.0 a second, was 41.0) "
            "differs by more than noise",
        ),
    ],
)
def test_what_is_said(length: float, steps: float, said: str) -> None:
    assert explain_decode(factors(length, steps), baseline_of(), {}) == said


@pytest.mark.parametrize("missing", ["accepted_len", "steps_per_s"])
def test_nothing_is_said_where_a_side_does_not_know(missing: str) -> None:
    known = factors(2.1, STEPS)
    unknown = {key: value for key, value in known.items() if key != missing}
    assert explain_decode(unknown, baseline_of(), {}) == ""
    baseline = baseline_of()
    runs = tuple(replace(run, aggregates=unknown) for run in baseline.runs)
    assert explain_decode(known, replace(baseline, runs=runs), {}) == ""


def draw(chance: random.Random, length: float, steps: float, count: int) -> list[Sample]:
    """Requests of one session: each has its own acceptance, and the whole session its own speed."""
    session = chance.gauss(0.0, 0.01)
    found = []
    for index in range(count):
        tokens_a_step = max(1.0, length * math.exp(chance.gauss(0.0, 0.08)))
        speed = steps * math.exp(session + chance.gauss(0.0, 0.015))
        found.append(
            make_sample(
                index=index,
                block=1 + index // 10,
                decode_tok_s=tokens_a_step * speed,
                accepted_len=tokens_a_step,
                output_tokens=128,
                e2e_ms=1000.0,
            )
        )
    return found


def judge(seed: int, lost_length: float, lost_steps: float) -> str:
    """``outcome: causes`` of a simulated cell of two blocks against a baseline of three sessions."""
    chance = random.Random(seed)
    baseline = make_baseline(1.0, 1.0, 1.0)
    runs = tuple(
        replace(
            run,
            session=f"s{number}",
            measured_at=number * 7200.0,
            aggregates=summarize(draw(chance, LENGTH, STEPS, 10), "chat"),
        )
        for number, run in enumerate(baseline.runs)
    )
    samples = draw(chance, LENGTH * (1 - lost_length), STEPS * (1 - lost_steps), 20)
    (found,) = gate.judge(make_record(samples=samples), replace(baseline, runs=runs), {"decode_tok_s": 0.1})
    causes = [name for name, words in CAUSES.items() if words in found.note]
    return f"{found.outcome}: {' and '.join(causes)}"


CAUSES = {"acceptance": "acceptance fell: ", "steps": "steps became slower: "}


@pytest.mark.parametrize(
    ("lost_length", "lost_steps", "cause"),
    [(0.25, 0.0, "acceptance"), (0.35, 0.0, "acceptance"), (0.0, 0.25, "steps"), (0.0, 0.35, "steps")],
)
def test_the_planted_cause_is_told_in_95_of_100(lost_length: float, lost_steps: float, cause: str) -> None:
    """Of the cells that are red: acceptance scatters by 8 % from request to request, steps by 1.5 %."""
    found = Counter(judge(seed, lost_length, lost_steps) for seed in range(SEEDS))
    red = sum(count for said, count in found.items() if said.startswith("regression"))
    assert red > SEEDS / 2
    assert found[f"regression: {cause}"] >= 0.95 * red, found


def test_both_causes_are_told() -> None:
    found = Counter(judge(seed, 0.25, 0.25) for seed in range(SEEDS))
    assert found["regression: acceptance and steps"] >= 0.95 * SEEDS, found


def test_an_unchanged_cell_names_no_cause() -> None:
    found = Counter(judge(seed, 0.0, 0.0) for seed in range(SEEDS))
    assert not [said for said in found if not said.endswith(": ")], found
