"""Text from outside, made harmless: on one line, and for Markdown as GitHub and GitLab read it."""

from __future__ import annotations

import re

from pytest_boobench.untrusted import hide_in

LONGEST = 400
"""Characters of one text; more is cut."""

_SPECIAL = re.compile(
    r"(?P<refers>"
    r"[@#!%~$&](?=\w)"  # people, issues, merge requests, milestones, labels, snippets, epics
    r"|:(?=//)|(?<=www)\."  # addresses
    r"|(?<!:):(?=[\w+-]+:)"  # emoji; node ids have two colons
    r")"
    r"|[&<>`*~|\\$]"  # HTML, markup, table cells, mathematics
    r"|_(?![A-Za-z0-9])|(?<![A-Za-z0-9])_"  # emphasis; an underscore within a word is none
    r"|(?<=\])[(\[]"  # links
    r"|^[#+=/-]|^\d(?=\d*[.)])"  # headings, lists, commands to the forge, where the text begins a line
)
_ZERO_WIDTH_SPACE = "&#8203;"


def escape(text: str) -> str:
    """The text for any place in a line of Markdown: it shows as it is, on one line, and does nothing.

    Special characters become entities, which are never markup. What the forges look for after Markdown is done
    (``@name``, ``#12``) is broken by a space of no width, the only thing that helps there.
    """
    return _SPECIAL.sub(_replace, flatten(text))


def flatten(text: str) -> str:
    """The text on one line, without secrets and characters that can't be seen, and not too long."""
    plain = "".join(char if char.isprintable() else " " for char in hide_in(text))
    return plain if len(plain) <= LONGEST else f"{plain[: LONGEST - 1]}…"


def _replace(match: re.Match[str]) -> str:
    return f"&#{ord(match[0])};{_ZERO_WIDTH_SPACE if match.lastgroup else ''}"
