"""Room 1: suite files -> cells.

- ``spec``      what a file may say; ``names``, ``body``, ``marks`` and ``thresholds`` are its own kinds of values
- ``load``      file -> Suite, with all problems of the file; ``checks`` are those across fields. Names are one file's
- ``grid``      axes and their combinations; ``overrides`` treats some cells otherwise
- ``cell``      what comes out: Suite, Cell, Plan, Mark
- ``schema``    the same fields as JSON Schema
"""

from pytest_boobench.suite.load import SuiteNames, load
from pytest_boobench.suite.schema import schema

__all__ = ["SuiteNames", "load", "schema"]
