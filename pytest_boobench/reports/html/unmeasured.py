"""Room 7: cells of the session that have no measurement: skipped, refused in set-up, or lost with their worker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from pytest_boobench.record import Measurement
from pytest_boobench.reports.html.courses import Course
from pytest_boobench.reports.html.points import Pool
from pytest_boobench.reports.html.states import RANKS, STATES, State
from pytest_boobench.reports.html.text import clean
from pytest_boobench.reports.session import Unmeasured


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A cell that stands on the page where its course would."""

    cell: Unmeasured
    suite: str

    @property
    def state(self) -> State:
        """What became of it."""
        return STATES["skipped" if self.cell.outcome == "skipped" else "not measured"]

    @property
    def name(self) -> str:
        """``model[pp64-tg32-c1]``."""
        return self.cell.node_id.rpartition("::")[2]

    @property
    def model(self) -> str:
        """Its name on the host."""
        return self.name.partition("[")[0]

    @property
    def host(self) -> str:
        """The host that it was for."""
        return self.cell.node_id.partition("::")[2].partition("::")[0]


def fill_gaps(courses: Sequence[Course], unmeasured: Iterable[Unmeasured]) -> list[Course | Gap]:
    """The courses and, after those of the same state, the cells without a measurement."""
    suites = _name_suites(course.newest for course in courses)
    gaps = [Gap(cell=cell, suite=_find_suite(suites, cell)) for cell in unmeasured]
    return sorted([*courses, *gaps], key=lambda cell: RANKS[cell.state.word])


def encode_gap(gap: Gap, texts: Pool) -> dict[str, Any]:
    """A cell of the page's data that has no numbers."""
    facts = {"outcome": gap.cell.outcome, "test": gap.cell.node_id}
    return {
        **{field: texts.place(getattr(gap, field)) for field in ("name", "suite", "host", "model")},
        "state": RANKS[gap.state.word],
        "said": [clean(gap.cell.reason)] if gap.cell.reason else [],
        "facts": [(texts.place(what), texts.place(value)) for what, value in facts.items()],
        "metrics": {},
        "samples": {},
        "split": {},
    }


def _name_suites(measurements: Iterable[Measurement]) -> Mapping[str, str]:
    return {_file_of(one.node_id): one.run.suite for one in measurements}


def _find_suite(suites: Mapping[str, str], cell: Unmeasured) -> str:
    """What other cells of the file say of its suite; the file's own name where there are none."""
    file = _file_of(cell.node_id)
    return suites.get(file) or PurePosixPath(file).name


def _file_of(node_id: str) -> str:
    return node_id.partition("::")[0]
