"""Door 2: plain data as JSON."""

from __future__ import annotations

import json
from typing import Any

from pytest_boobench.reports.plain import without_nan


def to_json(value: Any, *, indent: int | None = 2) -> str:
    """JSON's text; what is not finite is null, for a server's own numbers may be NaN or infinite."""
    return json.dumps(without_nan(value), indent=indent, ensure_ascii=False, allow_nan=False)
