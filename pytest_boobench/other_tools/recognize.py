"""Room 5: which tool wrote a file; all the readers by the tools' names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from pytest_boobench.errors import DocumentError, Problem
from pytest_boobench.other_tools import aiperf, guidellm, llama_bench, llama_benchy, vllm_bench
from pytest_boobench.other_tools.findings import Findings
from pytest_boobench.other_tools.result_file import WANTED, ResultFile
from pytest_boobench.other_tools.tool_cells import ToolResults


@dataclass(frozen=True, slots=True)
class Tool:
    """How the files of one tool are known and read."""

    is_ours: Callable[[Mapping[str, Any]], bool]
    """Whether this is the first object of such a file."""
    read: Callable[[ResultFile, Findings], ToolResults]
    find_companion: Callable[[str], str | None] = lambda _: None
    """The name of another file of the same run, by the name of this one."""


TOOLS: Mapping[str, Tool] = {
    "llama-bench": Tool(llama_bench.is_ours, llama_bench.read),
    "llama-benchy": Tool(llama_benchy.is_ours, llama_benchy.read),
    "guidellm": Tool(guidellm.is_ours, guidellm.read),
    "aiperf": Tool(aiperf.is_ours, aiperf.read, aiperf.find_companion),
    "vllm-bench": Tool(vllm_bench.is_ours, vllm_bench.read),
}


def find_tool(file: ResultFile, tool: str | None = None) -> str:
    """The tool's name, by the file's content; DocumentError where it is of none of the tools, or of another than the
    named one."""
    name = tool or next((name for name, each in TOOLS.items() if each.is_ours(file.first())), None)
    if name is None:
        raise DocumentError((Problem(file.display, _line(file), "", f"is JSON of none of the tools, {WANTED}"),))
    if not TOOLS[name].is_ours(file.first()):
        wanted = f"is no file of {name}, expected one; without --format its content says whose it is"
        raise DocumentError((Problem(file.display, _line(file), "", wanted),))
    return name


def read(file: ResultFile, findings: Findings, tool: str) -> ToolResults:
    """What a file of this tool says; DocumentError, with all that was found wrong, where that is nothing."""
    for each in filter(None, (file, file.companion)):
        for line, text in each.broken:
            findings.leave_out(text, f"{each.display}:{line}")
    results = TOOLS[tool].read(file, findings)
    if not results.cells:
        raise_empty(file.display, findings)
    return results


def raise_empty(display: str, findings: Findings) -> NoReturn:
    """DocumentError for a file of which nothing is left."""
    text = "\n".join(("holds nothing that can be imported", *findings.render()))
    raise DocumentError((Problem(display, 1, "", text),))


def _line(file: ResultFile) -> int:
    return file.lines[0][0] if file.lines else 1
