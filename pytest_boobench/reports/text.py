"""Room 7: text from outside, made safe for a line, a page, Markdown or a script; and tables in plain text."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pytest_boobench.units import moment
from pytest_boobench.untrusted import hide_in


def without_nan(value: Any) -> Any:
    """The same data with secrets hidden and None for numbers that are not finite, as a server's own may be."""
    return _replace_nan(hide_in(value))


def _replace_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _replace_nan(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_replace_nan(each) for each in value]
    return value


def render_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: Collection[int] = (0,)) -> Iterator[str]:
    """The head and a line for each row; columns whose number is in ``left`` are aligned left, the others right."""
    lines = [head, *rows]
    widths = [max(measure_width(line[place]) for line in lines) for place in range(len(head))]
    for line in lines:
        cells = []
        for place, (text, width) in enumerate(zip(line, widths, strict=True)):
            blank = " " * (width - measure_width(text))
            cells.append(f"{text}{blank}" if place in left else f"{blank}{text}")
        yield "  ".join(cells).rstrip()


def measure_width(text: str) -> int:
    """How many columns of a terminal a text takes: Chinese and Japanese characters and emoji take two each."""
    return len(text) if text.isascii() else sum(map(_measure_character, text))


def _measure_character(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def cut_left(text: str, width: int) -> str:
    """The end of a text in at most ``width`` columns, with an ellipsis for what is cut: ``…chat[pp256-tg72-c4]``."""
    return text if measure_width(text) <= width else f"…{_take(reversed(text), width - 1)[::-1]}"


def cut_right(text: str, width: int) -> str:
    """The beginning of a text in at most ``width`` columns, with an ellipsis for what is cut."""
    return text if measure_width(text) <= width else f"{_take(text, width - 1)}…"


def _take(chars: Iterable[str], width: int) -> str:
    """As many of the characters as fit in ``width`` columns."""
    taken = []
    for char in chars:
        width -= _measure_character(char)
        if width < 0:
            break
        taken.append(char)
    return "".join(taken)


def cut_names(names: Sequence[str], width: int) -> list[str]:
    """Names in at most ``width`` columns each: the beginning is cut, or the middle where two would look the same."""
    cut = {name: cut_left(name, width) for name in names}
    seen = Counter(cut.values())
    for name, short in cut.items():
        if seen[short] > 1 and short != name:
            begin = _take(name, width // 4)
            cut[name] = begin + cut_left(name, width - measure_width(begin))
    return [cut[name] for name in names]


def wrap(text: str, width: int) -> Iterator[str]:
    """The text in lines of at most ``width`` columns, broken only at spaces and not before a per cent sign; all but the
    first are indented by two more."""
    if measure_width(text) <= width:
        yield text
        return
    indent = " " * (len(text) - len(text.lstrip()))
    line, room = indent, width - len(indent)
    for word in re.split(r" +(?!%)", text.strip()):
        needed = measure_width(word)
        if line.strip() and needed + 1 > room:
            yield line
            line = f"{indent}  "
            room = width - len(line)
        gap = " " if line.strip() else ""
        line, room = f"{line}{gap}{word}", room - needed - len(gap)
    yield line


LONGEST = 400
"""Most characters of one text on a line; more is cut."""
LONGEST_TEXT = 1000
"""Most characters of one text on a page; an error text may hold a server's whole log."""

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
# Characters that no page may hold (control characters, halves of a surrogate pair), and those that change the direction
# of reading, so that one name looks like another.
_UNFIT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)


def escape(text: str) -> str:
    """The text for any place in a line of Markdown: it shows as it is, on one line, and has no effect.

    Special characters become entities, which are never markup. What the forges look for after Markdown is done
    (``@name``, ``#12``) is broken by a zero-width space, the only thing that helps there.
    """
    return _SPECIAL.sub(lambda match: f"&#{ord(match[0])};{'&#8203;' if match.lastgroup else ''}", flatten(text))


def flatten(text: str) -> str:
    """The text on one line, without secrets and unprintable characters, cut at `LONGEST`."""
    return _cut_end("".join(char if char.isprintable() else " " for char in hide_in(text)), LONGEST)


def clean(text: str, longest: int = LONGEST_TEXT) -> str:
    """The text for a page, without secrets, with a mark for each unfit character, cut at ``longest``. Not escaped."""
    return _cut_end(_UNFIT.sub("\ufffd", hide_in(text)[: longest + 1]), longest)


def _cut_end(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def to_script_json(plain: Mapping[str, Any]) -> str:
    """Plain data as JSON for an HTML ``script`` element: ASCII, no secret, nothing that could end the element."""
    text = json.dumps(hide_in(plain), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return re.sub("[<>&]", lambda found: f"\\u{ord(found[0]):04x}", text)


def show_time(at: float) -> str:
    """Seconds since 1970 as ``2026-11-24 09:12 UTC``."""
    return f"{moment(at)} UTC"
