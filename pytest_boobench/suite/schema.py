"""Room 1: JSON Schema of suite files, for editors; made of the same fields that reading uses."""

from __future__ import annotations

from typing import Any

from pytest_boobench.suite.spec import SUITE

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """JSON Schema, draft 2020-12, of a suite file."""
    is_embedding = {"properties": {"kind": {"const": "embedding"}}, "required": ["kind"]}
    without_output = {
        "properties": {"grid": {"not": {"required": ["output_tokens"]}}},
        "not": {"required": ["sampling"]},
    }
    with_output = {"properties": {"grid": {"required": ["output_tokens"]}}}
    return {
        "$schema": _DIALECT,
        "title": "pytest-boobench suite",
        **SUITE.schema(),
        "if": is_embedding,
        "then": without_output,
        "else": with_output,
    }
