"""``python -m tests.schemas``."""

from tests.schemas import main

main()
