"""For pytest's own run over this checkout: the tests drive pytest itself, and never touch a user's real store."""

import os

pytest_plugins = ["pytester"]

# Without compiled files each process that a test starts compiles the whole package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
