"""Room 7: the page: its finding, counts and table, filled into the template. It may load nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from pytest_boobench import find_version
from pytest_boobench.errors import MissingExtra
from pytest_boobench.reports.html.page_data import History, encode
from pytest_boobench.reports.html.series import STATES, Gap, Series, State, fill_gaps, find_verdict, follow
from pytest_boobench.reports.session import SHOWN, find_value
from pytest_boobench.reports.text import clean, show_time, to_script_json
from pytest_boobench.units import change, count, number

if TYPE_CHECKING:
    from jinja2 import Environment

_SCRIPTS = (
    "elements text data scale tip history explore strip samples split turns hosts lanes cells filter start".split()
)
"""In ``assets/``, in their order on the page."""
_NAMED = 4
"""Most names in a line; the others are counted."""
_BAD = {
    "regression": "regressed",
    "not measured": "could not be measured",
    "failed requests": "had failed requests",
}


def require_template_engine() -> None:
    """Raise MissingExtra where jinja2 is missing, before anything is measured."""
    if importlib.util.find_spec("jinja2") is None:
        raise MissingExtra("the HTML report", "report")


def render(history: History, made_at: float) -> str:
    """The page; ``made_at`` is seconds since 1970. MissingExtra without jinja2."""
    require_template_engine()
    courses = follow(history.measurements, history.session)
    cells = fill_gaps(courses, history.unmeasured)
    data = encode(cells, history.samples)
    columns = list_columns(courses)
    style, script = _read("style.css"), _read_script()
    return (
        _open_templates()
        .get_template("page.html")
        .render(
            headline=headline(cells),
            states=count_states(cells),
            findings=list(list_findings(cells, [cell["said"] for cell in data["cells"]])),
            scope=list(describe_scope(courses)),
            job_url=find_job_url(courses),
            heads=[SHOWN[key] for key in columns],
            rows=[(cell, list_values(cell, columns) if isinstance(cell, Series) else ()) for cell in cells],
            has_hosts=bool(data["hosts"]),
            has_lanes=bool(data["lanes"]),
            store=history.store,
            made_at=show_time(made_at),
            version=find_version(),
            policy=_write_policy(style, script),
            style=_trust(style),
            script=_trust(script),
            data=_trust(to_script_json(data)),
        )
    )


def _open_templates() -> Environment:
    """Everything that is put into the template is cleaned, then escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415  # an extra

    return Environment(
        loader=PackageLoader("pytest_boobench.reports.html", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: clean(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _trust(text: str) -> Any:
    """Text that must not be escaped: our own files, and the JSON of `to_script_json`."""
    from markupsafe import Markup  # noqa: PLC0415  # comes with jinja2

    return Markup(text)  # noqa: S704


def _write_policy(style: str, script: str) -> str:
    """A Content-Security-Policy that allows this style and this script by their hashes, and no network."""
    hashes = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (script, style))
    allowed = "script-src 'sha256-{}'; style-src 'sha256-{}'".format(*hashes)
    return f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"


def _read_script() -> str:
    """All scripts in one function, so that they define no global names."""
    parts = "\n".join(_read(f"{name}.js") for name in _SCRIPTS)
    return f'(() => {{\n"use strict";\n{parts}\n}})();\n'


def _read(name: str) -> str:
    return (files("pytest_boobench.reports.html") / "assets" / name).read_text(encoding="utf-8")


def headline(cells: Sequence[Series | Gap]) -> str:
    """The finding in one line, as in ``2 of 12 cells regressed, 1 could not be measured``."""
    if not cells:
        return "Nothing measured yet"
    counts, total = Counter(cell.state.word for cell in cells), count(len(cells), "cell")
    judged, skipped = counts["pass"] + counts["improvement"], counts["skipped"]
    measured = len(cells) - skipped
    if bad := [(counts[word], text) for word, text in _BAD.items() if counts[word]]:
        (first, text), *others = bad
        said = f"{first} of {total} {text}"
    elif not measured:
        return f"{total} skipped"
    elif not judged:
        said, others = f"{count(measured, 'cell')} measured, none judged", [(skipped, "skipped")]
    else:
        said, others = f"None of {total} regressed", [(measured - judged, "not judged"), (skipped, "skipped")]
    return ", ".join([said, *(f"{many} {text}" for many, text in others if many)])


def count_states(cells: Iterable[Series | Gap]) -> list[tuple[int, State, int]]:
    """(rank, state, number of cells) of each state that occurs."""
    counts = Counter(cell.state.word for cell in cells)
    return [(rank, state, counts[word]) for rank, (word, state) in enumerate(STATES.items()) if counts[word]]


def list_findings(
    cells: Sequence[Series | Gap], said: Sequence[Sequence[str]]
) -> Iterator[tuple[State, Sequence[tuple[int, Series | Gap, Sequence[str]]]]]:
    """Each state that needs advice, with its cells as (place, cell, sentences); ``said`` has each cell's sentences."""
    told = list(zip(range(len(cells)), cells, said, strict=True))
    for state in STATES.values():
        if found := [cell for cell in told if cell[1].state is state and state.advice]:
            yield state, found


def describe_scope(courses: Sequence[Series]) -> Iterator[tuple[str, str]]:
    """(what, values) of the newest measurements: suites, hosts, engines, commits, times."""
    newest = [course.newest for course in courses]
    if not newest:
        return
    yield "suites", _name_some(one.run.suite for one in newest)
    yield "hosts", _name_some(one.run.host for one in newest)
    yield "engines", _name_some(one.engine_build for one in newest)
    yield "commits", _name_some(one.run.git_commit and one.run.git_commit[:10] for one in newest)
    times = [one.started_at for one in newest]
    first, last = show_time(min(times)), show_time(max(times))
    until = last[11:] if first[:10] == last[:10] else last
    yield "measured", last if first == last else f"{first[:16]} to {until}"


def _name_some(names: Iterable[str | None]) -> str:
    known = sorted({name for name in names if name})
    more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
    return f"{', '.join(known[:_NAMED])}{more}"


def find_job_url(courses: Iterable[Series]) -> str | None:
    """The address of the newest CI job; None where a browser should not open it."""
    newest = max((course.newest for course in courses), key=lambda one: one.started_at, default=None)
    url = newest.run.ci.get("url") if newest is not None else None
    return url if url is not None and url.startswith(("https://", "http://")) else None


def list_columns(courses: Sequence[Series]) -> tuple[str, ...]:
    """Keys of the metrics that any cell charts, in the order of the metrics' table."""
    known = {key for course in courses for key in course.charted}
    return tuple(key for key in SHOWN if key in known)


def list_values(course: Series, columns: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """(number, change, tone) of the newest measurement for each column; the last two are empty where nothing was
    judged."""
    for key in columns:
        text, verdict = number(find_value(course.newest, key)), find_verdict(course.newest, key)
        if verdict is None or verdict.change is None:
            yield text, "", ""
        else:
            tone = "plain" if verdict.outcome == "pass" else STATES[verdict.outcome].tone
            yield text, change(verdict.change, verdict.change_low, verdict.change_high), tone
