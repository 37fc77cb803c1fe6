"""Room 5: result files of other tools -> runs and records, as if they had been measured here.

- ``result_file``   a file -> its JSON values with their lines
- ``findings``      fields of these values; what is missing or impossible is left out, and said
- ``tool_cells``    what a reader gives back, and the records that it becomes
- ``requests``      times of single requests -> Samples
- ``recognize``     which tool wrote a file; all the readers
- one reader per tool: ``llama_bench``, ``llama_benchy``, ``guidellm``, ``aiperf``, ``vllm_bench``

A reader is pure. It takes what the file says and never fills a gap: a statistic that the file does not give stays away.
"""

from pytest_boobench.other_tools.findings import Findings
from pytest_boobench.other_tools.recognize import TOOLS, find_tool, raise_empty, read
from pytest_boobench.other_tools.result_file import add_companion, read_file
from pytest_boobench.other_tools.tool_cells import HOST, ImportedRun, Naming, make_run

__all__ = [
    "HOST",
    "TOOLS",
    "Findings",
    "ImportedRun",
    "Naming",
    "add_companion",
    "find_tool",
    "make_run",
    "raise_empty",
    "read",
    "read_file",
]
