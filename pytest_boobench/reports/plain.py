"""Room 7: plain data that may leave the house: no secret, and JSON by the standard, without NaN and infinity."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pytest_boobench.untrusted import hide_in


def without_nan(value: Any) -> Any:
    """The same data, secrets hidden, None in the place of what is not finite: a server's own numbers may be."""
    return _replace_nan(hide_in(value))


def _replace_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _replace_nan(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_replace_nan(each) for each in value]
    return value
