"""Room 1: suite files -> cells.

- ``cell``        the results: Suite, Cell with its axes, Plan, Mark
- ``spec``        what a file may hold, and its JSON Schema; ``names`` and ``thresholds`` are types of values in it
- ``load``        file -> Suite, or all problems of the file; ``checks`` are those across fields. Suite names are unique
"""

from pytest_boobench.suite.load import SuiteNames, accept_hosts, load
from pytest_boobench.suite.spec import schema

__all__ = ["SuiteNames", "accept_hosts", "load", "schema"]
