"""pytest-boobench: LLM throughput as pytest tests.

The rooms of the house, in the order the data walks. Every import looks back along it:

- ``untrusted``   JSON and text from outside: plain values or a named fault, never a key or a control character
- ``plain``       the fields of a dataclass are facts: columns, rows, files and JSON follow from them
- ``errors``, ``units``, ``metrics``, ``facts``   the words: trouble, numbers as text, what is measured and on what
- ``environment``   who runs a session and where: git, CI system, user, machine
- ``arrivals``    how the events of a stream arrive: tokens in each, bursts
- ``documents``   YAML text -> plain data that remembers its lines
- ``suite``       a suite file -> Suite -> Grid -> Cells
- ``wire``        the socket: requests out, bytes back with the kernel's clock on them
- ``servers``     one file per kind of server: what to send it, how to read its answers
- ``hosts``       which servers there are, leave to use one, who else uses it, the embedded llama.cpp
- ``aggregate``   samples -> Aggregates
- ``record``      the finished facts of one cell, as they travel and are stored
- ``baseline_file``   a baseline as text, for git
- ``other_tools``   result files of other tools, as if they had been measured here
- ``store``       the database
- ``measure``     a block of a cell: requests, warm-up, samples, pairs of a duet
- ``gate``        now against the baseline -> Verdicts; where the history of a cell changed
- ``walk``        the corridor: one cell through all of it; read this first
- ``reports``     what people and CI systems see
- ``plugin``      door 1: all that knows pytest
- ``cli``         door 2: the command ``boobench``

This module imports nothing of them: naming the package must cost nothing.
"""

PACKAGE = "pytest-boobench"
HOSTS_FILE = "boobench.hosts.yaml"
SUITE_FILES = ("*.boobench.yaml", "*.boobench.yml")
"""Patterns of the names of suite files."""
BASELINE = "main"
MAX_CELLS = 10_000
"""Of one suite."""


def find_version() -> str:
    """The installed version of this package."""
    from importlib.metadata import version  # noqa: PLC0415  # naming the package must cost nothing

    return version(PACKAGE)
