"""Door 2: ``python -m pytest_boobench.cli``."""

import sys

from pytest_boobench.cli import main

sys.exit(main())
