"""The session as one JSON document, for scripts. ``schema`` goes up when a field changes its meaning or goes away."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from pytest_boobench.metrics import METRICS
from pytest_boobench.record import Verdict
from pytest_boobench.reports.advice import notes_of
from pytest_boobench.reports.sentences import sentence
from pytest_boobench.reports.session import FinishedCell, SessionReport, count_standings, stand
from pytest_boobench.reports.text import without_nan

SCHEMA = 1
_DERIVED = ("measured", "blocks", "attempts", "stalls", "clock", "spoiled", "rates", "contradiction")
"""Facts of a record that follow from its samples, and are in the document without them."""


def render_json(session: SessionReport, *, samples: bool = False) -> str:
    """The document's text, ASCII; ``samples`` adds the raw samples, which are nearly all of its size then."""
    document = {
        "schema": SCHEMA,
        "plugin_version": session.plugin_version,
        "session": session.uid,
        "finished_at": session.finished_at,
        "exit_status": session.exit_status,
        "baseline": session.baseline,
        "counts": count_standings(session.rows),
        "metrics": {key: _describe_metric(key) for key in METRICS},
        "runs": [asdict(run) for run in session.runs],
        "cells": [_describe_cell(row, session, samples=samples) for row in session.rows],
        "unmeasured": [asdict(cell) for cell in session.unmeasured],
        "sections": [{"title": title, "text": text} for title, text in session.sections],
    }
    return json.dumps(without_nan(document), allow_nan=False, indent=1) + "\n"


def _describe_metric(key: str) -> dict[str, Any]:
    metric = METRICS[key]
    return {name: getattr(metric, name) for name in ("title", "unit", "better", "definition")}


def _describe_cell(row: FinishedCell, session: SessionReport, *, samples: bool) -> dict[str, Any]:
    record = row.record
    plain = asdict(record)
    taken = plain.pop("samples")
    return {
        "node_id": record.node_id,
        "standing": stand(row),
        "outcome": row.outcome,
        "saved": row.saved,
        "failure": session.failures.get(record.node_id),
        "notes": notes_of(row),
        "verdicts": [_describe_verdict(verdict) for verdict in row.verdicts],
        **plain,
        **{name: getattr(record, name) for name in _DERIVED},
        "failed": len(record.failed),
        **({"samples": [{**sample, "rates": sample["rate_source"]} for sample in taken]} if samples else {}),
    }


def _describe_verdict(verdict: Verdict) -> dict[str, Any]:
    return {**asdict(verdict), "sentence": sentence(verdict)}
