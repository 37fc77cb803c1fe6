"""Room 7: cells that differ in their host only, and cells that differ in host and lanes; courses by their place."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_boobench.reports.html.courses import Course
from pytest_boobench.reports.html.text import clean

_LANES = re.compile(r"-?\bc\d+\b")


def group_hosts(courses: Mapping[int, Course]) -> list[dict[str, Any]]:
    """Groups of places of cells that are the same but for their host; two of them at least."""
    groups = _group(courses, "host")
    return [{"name": _name(courses[group[0]], ""), "cells": group} for group in groups if len(group) > 1]


def group_lanes(courses: Mapping[int, Course]) -> list[dict[str, Any]]:
    """Groups of places of cells that are the same but for host and lanes: one line a host, its cells by lanes.

    A host with one number of lanes has no curve and is left out.
    """
    found = []
    for group in _group(courses, "host", "concurrency"):
        lines = [_sort_by_lanes(courses, group, host) for host in sorted({courses[place].host for place in group})]
        curves = [line for line in lines if len(line) > 1]
        if curves:
            found.append({"name": _name(courses[group[0]], _LANES), "lines": curves})
    return found


def _group(courses: Mapping[int, Course], *without: str) -> list[list[int]]:
    """Places of the courses whose identities are equal but for some fields, by suite and name."""
    groups: dict[str, list[int]] = {}
    order = sorted(courses, key=lambda place: (courses[place].suite, *courses[place].size))
    for place in order:
        identity = {key: value for key, value in courses[place].newest.identity.items() if key not in without}
        groups.setdefault(json.dumps(identity, sort_keys=True), []).append(place)
    return list(groups.values())


def _sort_by_lanes(courses: Mapping[int, Course], group: Sequence[int], host: str) -> list[int]:
    of_host = [place for place in group if courses[place].host == host]
    return sorted(of_host, key=lambda place: courses[place].newest.identity["concurrency"])


def _name(course: Course, leave_out: str | re.Pattern[str]) -> str:
    """``suite: model[pp64-tg32-c1]``, a part of the bracket left out."""
    model, bracket, point = course.name.partition("[")
    return clean(f"{course.suite}: {model}{bracket}{re.sub(leave_out, '', point, count=1)}")
