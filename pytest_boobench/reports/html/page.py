"""Room 7: the template, filled in: one page that carries its style, script and data, and may load nothing else."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from pytest_boobench import find_version
from pytest_boobench.errors import MissingExtra
from pytest_boobench.reports.html import summary
from pytest_boobench.reports.html.page_data import History, encode, fill_gaps
from pytest_boobench.reports.html.series import follow
from pytest_boobench.reports.text import clean, show_time, to_script_json

if TYPE_CHECKING:
    from jinja2 import Environment

_SCRIPTS = "elements text data scale tip history explore strip samples split hosts lanes cells filter start".split()
"""In ``assets/``, in the order in which they stand in the page."""


def require_template_engine() -> None:
    """MissingExtra where the page could not be made, to be known before anything is measured."""
    if importlib.util.find_spec("jinja2") is None:
        raise MissingExtra("the HTML report", "report")


def render(history: History, made_at: float) -> str:
    """The page; ``made_at`` is seconds since 1970. MissingExtra without jinja2."""
    require_template_engine()
    courses = follow(history.measurements, history.session)
    cells = fill_gaps(courses, history.unmeasured)
    data = encode(cells, history.samples)
    columns = summary.list_columns(courses)
    style, script = _read("style.css"), _read_script()
    return (
        _open_templates()
        .get_template("page.html")
        .render(
            headline=summary.headline(cells),
            states=summary.count_states(cells),
            findings=summary.list_findings(cells, [cell["said"] for cell in data["cells"]]),
            unfolded=summary.UNFOLDED,
            scope=list(summary.describe_scope(courses)),
            job_url=summary.find_job_url(courses),
            heads=summary.list_heads(columns),
            rows=summary.list_rows(cells, columns),
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
    """Everything that is put into the template is escaped, and cleaned before."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415  # an extra

    return Environment(
        loader=PackageLoader("pytest_boobench.reports.html", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_clean_text,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _clean_text(value: Any) -> Any:
    return clean(value) if type(value) is str else value


def _trust(text: str) -> Any:
    """Our own files and the JSON of `to_script_json`: they must stand in the page as they are."""
    from markupsafe import Markup  # noqa: PLC0415  # comes with jinja2

    return Markup(text)  # noqa: S704


def _write_policy(style: str, script: str) -> str:
    """A Content-Security-Policy: this style and this script by their hashes, no other, and no network."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_digest(script)}'",
            f"style-src '{_digest(style)}'",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _read_script() -> str:
    """The scripts as one, so that their names stay among themselves."""
    parts = "\n".join(_read(f"{name}.js") for name in _SCRIPTS)
    return f'(() => {{\n"use strict";\n{parts}\n}})();\n'


def _read(name: str) -> str:
    return (files("pytest_boobench.reports.html") / "assets" / name).read_text(encoding="utf-8")
