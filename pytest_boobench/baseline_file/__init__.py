"""Room 5: a baseline as a text file for git, for gates with no database kept anywhere.

- ``saved``    what such a file holds, as the house knows it
- ``fields``   what may stand in it
- ``read``     the file -> what it holds, or all that is wrong with it
- ``write``    the same the other way, always in the same order
"""

from pytest_boobench.baseline_file.fields import schema
from pytest_boobench.baseline_file.read import read
from pytest_boobench.baseline_file.saved import BaselineFile, SavedRun, save_measurement
from pytest_boobench.baseline_file.write import render, write

__all__ = ["BaselineFile", "SavedRun", "read", "render", "save_measurement", "schema", "write"]
