"""Room 5: a baseline as a text file for git, for gates with no database kept anywhere.

- ``fields``   what may stand in it, as pydantic models; its JSON Schema
- ``file``     what it holds, and its text: always in the same order
- ``read``     the file -> what it holds, or all that is wrong with it
"""

from pytest_boobench.baseline_file.fields import schema
from pytest_boobench.baseline_file.file import BaselineFile, SavedRun, render, save_measurement, write
from pytest_boobench.baseline_file.read import read

__all__ = ["BaselineFile", "SavedRun", "read", "render", "save_measurement", "schema", "write"]
