"""Room 5: a baseline as a text file for git, for a gate without a database.

- ``fields``   what it may hold, as pydantic models; its JSON Schema
- ``file``     its content, and its text in a fixed order
- ``read``     the file -> its content, or all that is wrong with it
"""

from pytest_boobench.baseline_file.fields import schema
from pytest_boobench.baseline_file.file import BaselineFile, SavedRun, render, save_measurement, write
from pytest_boobench.baseline_file.read import read

__all__ = ["BaselineFile", "SavedRun", "read", "render", "save_measurement", "schema", "write"]
