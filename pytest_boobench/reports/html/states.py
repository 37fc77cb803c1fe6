"""Room 7: what became of a cell's measurement, in one word, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pytest_boobench.record import Measurement

Tone = Literal["bad", "warn", "plain", "good"]
_SAVE = "pytest --boobench --boobench-save-baseline"


@dataclass(frozen=True, slots=True)
class State:
    """One thing that a cell can be; ``sign`` says it to those who don't see the colour."""

    word: str
    sign: str
    tone: Tone
    advice: str = ""
    """What to do; empty where nothing is."""
    command: str = ""
    """How."""


STATES: Mapping[str, State] = {
    state.word: state
    for state in (
        State(
            "regression",
            "▼",
            "bad",
            "Open the cell and see at which run, build or commit its course drops. If the slower speed is meant, make "
            "it the baseline:",
            "pytest --boobench --boobench-save-baseline --boobench-max-drop 100%",
        ),
        State(
            "not measured",
            "✕",
            "bad",
            "Nothing was judged here: the host is out of reach, refuses, or does something else than the cell asks "
            "for, or a fixture failed. Mend that, then run the cell again.",
        ),
        State(
            "failed requests",
            "✕",
            "bad",
            "Some measured requests failed. How many may is said by max_failed in the suite.",
        ),
        State(
            "not comparable",
            "≠",
            "warn",
            "Something else is measured than in the baseline. If that is meant, store a new baseline:",
            _SAVE,
        ),
        State(
            "inconclusive",
            "◆",
            "warn",
            "Not judged: the host was disturbed or still warming up, or the numbers scatter too much. A quieter host, "
            "more samples, longer outputs or baselines from more sessions help.",
        ),
        State(
            "no baseline",
            "○",
            "plain",
            "Passed unjudged. Store what was measured as the baseline:",
            _SAVE,
        ),
        State("not judged", "–", "plain", "Measured, and no metric of it is gated."),
        State("skipped", "⊘", "plain", "Nothing was measured: a mark, a fixture or a hook skipped it."),
        State(
            "improvement",
            "▲",
            "good",
            "If the faster speed is to be held from now on, make it the baseline:",
            _SAVE,
        ),
        State("pass", "●", "good"),
    )
}
"""Every state by its word, those that ask most of the reader first."""

RANKS: Mapping[str, int] = {word: rank for rank, word in enumerate(STATES)}


def find_state(measurement: Measurement) -> State:
    """The one word for a measurement: of several that fit, the one that asks most of the reader."""
    words: list[str] = [verdict.outcome for verdict in measurement.verdicts] or ["not judged"]
    if measurement.error is not None:
        words.append("not measured")
    if measurement.failed:
        words.append("failed requests")
    return STATES[min(words, key=RANKS.__getitem__)]
