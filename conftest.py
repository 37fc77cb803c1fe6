"""For pytest's own run over this checkout: the tests drive pytest itself, and never touch a user's real store."""

pytest_plugins = ["pytester"]
