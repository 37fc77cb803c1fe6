"""pytest-boobench: LLM throughput as pytest tests.

The rooms of the package, in the order of the data flow. Each imports only rooms above it:

- ``untrusted``   JSON and text from outside: plain values or a named fault, never a key or a control character
- ``plain``       the fields of a dataclass are facts: columns, rows, files and JSON follow from them
- ``errors``, ``units``, ``metrics``, ``facts``   the vocabulary: errors, numbers as text, measured quantities, facts
- ``environment``   who runs a session and where: git, CI system, user, machine
- ``arrivals``    how the events of a stream arrive: tokens in each, bursts
- ``conversations``   the samples of conversations: which belong together, where the prefix cache breaks
- ``recording``   what was asked of a server, as numbers: which requests are one conversation
- ``documents``   YAML text -> plain data with line numbers
- ``suite``       a suite file -> Suite -> Grid -> Cells
- ``wire``        the socket: sends requests, returns bytes with the kernel's time stamps
- ``servers``     one file per kind of server: what to send it, how to read its answers
- ``hosts``       which servers exist, permission to use one, who else uses it, the embedded llama.cpp
- ``aggregate``   samples -> Aggregates
- ``record``      the finished facts of one cell, as they are sent and stored
- ``baseline_file``   a baseline as text, for git
- ``other_tools``   result files of other tools, as if they had been measured here
- ``store``       the database
- ``measure``     a block of a cell: requests, warm-up, samples, pairs of a duet
- ``gate``        a measurement against the baseline -> Verdicts; where the history of a cell changed
- ``walk``        one cell through all rooms; read this first
- ``reports``     output for people and CI systems
- ``plugin``      entry point 1: all that knows pytest
- ``cli``         entry point 2: the command ``boobench``
- ``page``        entry point 3: the local page, which starts pytest and reads the store, as a user does

This module imports none of them: importing the package must cost nothing.
"""

PACKAGE = "pytest-boobench"
HOSTS_FILE = "boobench.hosts.yaml"
SUITE_FILES = ("*.boobench.yaml", "*.boobench.yml")
"""Patterns of suite files' names."""
BASELINE = "main"
MAX_CELLS = 10_000
"""Per suite."""


def find_version() -> str:
    """Return the installed version of this package."""
    from importlib.metadata import version  # noqa: PLC0415  # importing the package must cost nothing

    return version(PACKAGE)
