"""Room 1: suite files -> cells.

- ``cell``        what comes out: Suite, Cell with its axes, Plan, Mark
- ``spec``        what a file may say, and its JSON Schema; ``names`` and ``thresholds`` are its own kinds of values
- ``load``        file -> Suite, with all problems of the file; ``checks`` are those across fields. Names are one file's
"""

from pytest_boobench.suite.load import SuiteNames, load
from pytest_boobench.suite.spec import schema

__all__ = ["SuiteNames", "load", "schema"]
