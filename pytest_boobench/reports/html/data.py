"""Room 7: all that the page's script draws from, as plain data that is small as JSON.

Names, texts and runs stand once, in lists; everything else names them by their place, -1 for a blank. The script's
``data.js`` reads it back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_boobench.metrics import METRICS, Sample
from pytest_boobench.reports.html.courses import ALL_LANES, Course, title_of
from pytest_boobench.reports.html.details import compare_samples, explain, list_facts, split_ttft
from pytest_boobench.reports.html.groups import group_hosts, group_lanes
from pytest_boobench.reports.html.points import Pool, plot_metric, plot_runs
from pytest_boobench.reports.html.states import RANKS, STATES
from pytest_boobench.reports.html.unmeasured import Gap, encode_gap


def encode(cells: Sequence[Course | Gap], samples: Mapping[int, Sequence[Sample]]) -> dict[str, Any]:
    """The page's data, its cells in the order that they are given in."""
    runs, texts = Pool(), Pool()
    courses = {place: cell for place, cell in enumerate(cells) if isinstance(cell, Course)}
    keys = dict.fromkeys(key for course in courses.values() for key in course.charted)
    return {
        "metrics": {key: _describe_metric(key) for key in keys},
        "states": [{"word": state.word, "sign": state.sign, "tone": state.tone} for state in STATES.values()],
        "cells": [
            _encode_course(cell, samples, runs, texts) if isinstance(cell, Course) else encode_gap(cell, texts)
            for cell in cells
        ],
        "hosts": group_hosts(courses),
        "lanes": group_lanes(courses),
        "runs": runs.entries,
        "texts": texts.entries,
    }


def _encode_course(course: Course, samples: Mapping[int, Sequence[Sample]], runs: Pool, texts: Pool) -> dict[str, Any]:
    newest = course.newest
    return {
        "name": texts.place(course.name),
        "suite": texts.place(course.suite),
        "host": texts.place(course.host),
        "model": texts.place(course.model),
        "state": RANKS[course.state.word],
        "lanes": newest.identity["concurrency"],
        "said": explain(course, samples.get(newest.id, ())),
        "facts": [(texts.place(what), texts.place(value)) for what, value in list_facts(course)],
        "points": plot_runs(course, runs, texts),
        "metrics": {key: plot_metric(course, key) for key in course.charted},
        "samples": compare_samples(course, samples),
        "split": split_ttft(course),
    }


def _describe_metric(key: str) -> dict[str, str]:
    title, unit = title_of(key)
    if key == ALL_LANES:
        return {"title": title, "unit": unit, "better": "higher", "is": "tokens of all lanes together over the wall"}
    return {"title": title, "unit": unit, "better": METRICS[key].better, "is": METRICS[key].definition}
