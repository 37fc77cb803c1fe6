"""Door 3: the page's API as JSON Schema, from the classes that the server itself reads and answers with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic.json_schema import models_json_schema

from pytest_boobench.page import api_types, bodies, past_types
from pytest_boobench.page.api_types import adapt
from pytest_boobench.page.talk_types import REPEAT_EVENTS, TALK_EVENTS, ExportAnswer

_REF = "#/$defs/{model}"
ROUTES: tuple[tuple[str, str, type[bodies.Body] | None, type[Any] | None], ...] = (
    ("POST", "/api/login", bodies.LoginBody, None),
    ("GET", "/api/state", None, api_types.StateAnswer),
    ("GET", "/api/tree", None, api_types.TreeAnswer),
    ("GET", "/api/runs", None, api_types.RunList),
    ("POST", "/api/runs", bodies.RunBody, api_types.RunAnswer),
    ("GET", "/api/runs/{id}", None, api_types.RunDetails),
    ("POST", "/api/runs/{id}/stop", bodies.StopBody, api_types.RunAnswer),
    ("GET", "/api/runs/{id}/events", None, None),
    ("GET", "/api/history", None, past_types.HistoryAnswer),
    ("GET", "/api/sessions", None, past_types.SessionsAnswer),
    ("GET", "/api/compare", None, past_types.ComparisonAnswer),
    ("POST", "/api/baselines", bodies.BaselineBody, past_types.BaselineAnswer),
    ("POST", "/api/baselines/clear", bodies.ClearBody, past_types.BaselineAnswer),
    ("GET", "/api/report", None, None),
    ("GET", "/api/hosts", None, api_types.HostList),
    ("GET", "/api/sampling", None, api_types.SamplingList),
    ("POST", "/api/try", bodies.TryBody, None),
    ("POST", "/api/try/{id}/stop", None, None),
    ("POST", "/api/ab", bodies.CompareBody, None),
    ("POST", "/api/ab/{id}/stop", None, None),
    ("POST", "/api/ab/{id}/repeat", bodies.RepeatBody, None),
    ("POST", "/api/ab/{id}/vote", bodies.VoteBody, past_types.VoteAnswer),
    ("GET", "/api/ab/{id}/export", None, ExportAnswer),
    ("GET", "/api/votes", None, past_types.TallyList),
)
"""Method, path, body and answer; None: no body, or an answer that is a stream, a page or ``{"ok": true}``."""
EVENTS: Mapping[str, Mapping[str, type[Any]]] = {
    "/api/runs/{id}/events": {
        "run": api_types.RunAnswer,
        "progress": api_types.CellState,
        "output": api_types.OutputEvent,
        "end": api_types.RunAnswer,
    },
    "/api/try": TALK_EVENTS,
    "/api/ab": TALK_EVENTS,
    "/api/ab/{id}/repeat": REPEAT_EVENTS,
}
"""Path -> the kinds of its server-sent events, with their data."""


def schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12): ``$defs`` has each class, ``paths`` says which route takes and answers which."""
    taken = [body for _, _, body, _ in ROUTES if body is not None]
    _, made = models_json_schema([(body, "validation") for body in taken], ref_template=_REF)
    definitions: dict[str, Any] = dict(made.get("$defs", {}))
    answers: list[Any] = [answer for _, _, _, answer in ROUTES if answer is not None]
    events = [kind for several in EVENTS.values() for kind in several.values()]
    for kind in (*answers, *events, api_types.ErrorAnswer):
        told = adapt(kind).json_schema(ref_template=_REF, mode="serialization")
        definitions |= told.pop("$defs", {})
        definitions[kind.__name__] = told
    paths: dict[str, Any] = {}
    for method, path, body, answer in ROUTES:
        about: dict[str, Any] = {}
        paths.setdefault(path, {})[method.lower()] = about
        if body is not None:
            about["body"] = {"$ref": _REF.format(model=body.__name__)}
        if answer is not None:
            about["answer"] = {"$ref": _REF.format(model=answer.__name__)}
        if path in EVENTS:
            about["events"] = {name: {"$ref": _REF.format(model=kind.__name__)} for name, kind in EVENTS[path].items()}
        about["error"] = {"$ref": _REF.format(model=api_types.ErrorAnswer.__name__)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "pytest-boobench page",
        "$defs": dict(sorted(definitions.items())),
        "paths": paths,
    }
