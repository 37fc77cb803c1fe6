"""Room 7: names, errors and reasons come from hosts and users: text that is fit for a page, and JSON that is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pytest_boobench.units import moment
from pytest_boobench.untrusted import hide_in

LONGEST = 1000
"""Characters of one text at most; an error text may hold a server's whole log."""

# What no page may hold (control characters, halves of a surrogate pair), and what turns the direction of reading, so
# that a name looks like another one.
_UNFIT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)
_IN_SCRIPT = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def clean(text: str, longest: int = LONGEST) -> str:
    """The text without secrets, with a mark for each character that is unfit for a page, and cut where it is too long.
    Not escaped."""
    kept = _UNFIT.sub("\ufffd", hide_in(text)[: longest + 1])
    return kept if len(kept) <= longest else f"{kept[: longest - 1]}…"


def to_script_json(plain: Mapping[str, Any]) -> str:
    """Plain data as JSON that may stand in an HTML ``script`` element: ASCII, no secret, nothing that could end it."""
    text = json.dumps(hide_in(plain), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return re.sub("[<>&]", lambda found: _IN_SCRIPT[found[0]], text)


def show_time(at: float) -> str:
    """Seconds since 1970 as ``2026-11-24 09:12 UTC``."""
    return f"{moment(at)} UTC"
