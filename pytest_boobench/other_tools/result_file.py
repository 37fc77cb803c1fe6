"""Room 5: a file of another tool -> its JSON values: one, or one on each line."""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytest_boobench.errors import DocumentError, Problem, explain_os_error
from pytest_boobench.other_tools.findings import Fields, Findings, list_objects
from pytest_boobench.units import size
from pytest_boobench.untrusted import Fault, parse_json, show

MOST_BYTES = 256_000_000
"""Of one file; a detailed result of a hundred thousand requests has a tenth of it."""
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
"""PowerShell's ``>`` writes UTF-16."""
WANTED = "expected a result file of llama-bench, llama-benchy, guidellm, aiperf or vllm bench serve"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultFile:
    """What a file holds."""

    display: str
    """How messages call it."""
    content: bytes
    value: Any = None
    """The JSON value of the whole file; blank for a file of lines."""
    lines: tuple[tuple[int, Any], ...] = ()
    """Number and JSON value of each line, for a file of lines."""
    broken: tuple[tuple[int, str], ...] = ()
    """Number of each line that is no JSON, and why."""
    companion: ResultFile | None = None
    """Another file of the same run, which stands beside it."""

    def objects(self, findings: Findings) -> list[Fields]:
        """The objects at the top: of the lines, of a list, or the only one."""
        if self.lines:
            return [Fields(value, "", findings, f"{self.display}:{line}") for line, value in self.lines]
        if isinstance(self.value, Mapping):
            return [Fields(self.value, "", findings, self.display)]
        return list_objects(self.value, "", findings, self.display) if isinstance(self.value, list) else []

    def first(self) -> Mapping[str, Any]:
        """The first object at the top; empty where there is none."""
        found = self.lines[0][1] if self.lines else self.value
        if isinstance(found, list):
            found = next((item for item in found if isinstance(item, Mapping)), {})
        return found if isinstance(found, Mapping) else {}


def read_file(path: Path, display: str) -> ResultFile:
    """The file's values; DocumentError where it cannot be read, is empty, huge, or no JSON at all."""
    text, content = _read_text(path, display)
    return _parse(content, text, display)


def add_companion(file: ResultFile, path: Path, display: str) -> ResultFile:
    """The file with another one of the same run, whose content counts with its own."""
    other = read_file(path, display)
    content = b"\0".join(sorted((file.content, other.content)))
    return replace(file, companion=other, content=content)


def _read_text(path: Path, display: str) -> tuple[str, bytes]:
    try:
        if path.stat().st_size > MOST_BYTES:
            _stop(display, 1, f"has {size(path.stat().st_size)}, expected {size(MOST_BYTES)} at most")
        content = path.read_bytes()
    except OSError as error:
        _stop(display, 1, f"cannot be read: {explain_os_error(error)}")
    text = _decode(content)
    if not text.strip():
        _stop(display, 1, f"is empty, {WANTED}")
    return text, content


def _decode(content: bytes) -> str:
    encoding = next((name for bom, name in _BOMS if content.startswith(bom)), "utf-8")
    return content.decode(encoding, "replace")


def _parse(content: bytes, text: str, display: str) -> ResultFile:
    try:
        return ResultFile(display=display, content=content, value=parse_json(text))
    except Fault as fault:
        lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
        values = [(number, _parse_line(line)) for number, line in lines]
        if not isinstance(values[0][1], Mapping) or len(lines) == 1:
            _stop(display, *_explain(text, fault))
    wrong = "is no JSON object, expected one on each line; was the file cut off?"
    return ResultFile(
        display=display,
        content=content,
        lines=tuple((number, value) for number, value in values if isinstance(value, Mapping)),
        broken=tuple((number, wrong) for number, value in values if not isinstance(value, Mapping)),
    )


def _parse_line(line: str) -> Any:
    try:
        return parse_json(line)
    except Fault:
        return None


def _explain(text: str, fault: Fault) -> tuple[int, str]:
    """The line where a text stops being JSON, and what is wrong."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        rest = text[error.pos :].strip()
        if not rest:
            return error.lineno, f"the file ends in the middle of its JSON: it was cut off; {WANTED}"
        return error.lineno, f"is not JSON from {show(rest)} on, {WANTED}"
    except (ValueError, RecursionError):
        pass
    return 1, f"{fault}, {WANTED}"


def _stop(display: str, line: int, text: str) -> Any:
    raise DocumentError((Problem(display, line, "", text),))
