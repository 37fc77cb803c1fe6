"""Room 7: the session as one JSON document, for scripts. ``schema`` goes up when a field changes or goes away."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from pytest_boobench.metrics import METRICS, find_metric, sort_metrics
from pytest_boobench.plain import take
from pytest_boobench.reports.sentences import notes_of, sentence
from pytest_boobench.reports.session import FinishedCell, SessionReport, count_standings, stand
from pytest_boobench.reports.text import without_nan

SCHEMA = 1
_DERIVED = ("measured", "blocks", "attempts", "stalls", "clock", "spoiled", "rates", "contradiction", "cache_break")
"""Facts of a record that follow from its samples; the document has them also without the samples."""


def render_json(session: SessionReport, *, samples: bool = False) -> str:
    """The document's text, ASCII; ``samples`` adds the raw samples, which then are nearly all of its size."""
    keys = sort_metrics({*METRICS, *(key for row in session.rows for key in row.record.aggregates)})
    document = {
        "schema": SCHEMA,
        "plugin_version": session.plugin_version,
        "session": session.uid,
        "finished_at": session.finished_at,
        "exit_status": session.exit_status,
        "baseline": session.baseline,
        "counts": count_standings(session.rows),
        "metrics": {key: take(("title", "unit", "better", "definition"), find_metric(key)) for key in keys},
        "runs": [asdict(run) for run in session.runs],
        "cells": [_describe_cell(row, session, samples=samples) for row in session.rows],
        "unmeasured": [asdict(cell) for cell in session.unmeasured],
        "sections": [{"title": title, "text": text} for title, text in session.sections],
    }
    return json.dumps(without_nan(document), allow_nan=False, indent=1) + "\n"


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
        "verdicts": [{**asdict(verdict), "sentence": sentence(verdict)} for verdict in row.verdicts],
        **plain,
        **take(_DERIVED, record),
        "failed": len(record.failed),
        **({"samples": [{**sample, "rates": sample["rate_source"]} for sample in taken]} if samples else {}),
    }
