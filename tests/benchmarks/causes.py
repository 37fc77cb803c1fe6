"""How often the cause of red cells is named rightly, and wrongly: ``python -m tests.benchmarks.causes --seeds 200``.

The planted causes of ``tests/gate/test_causes.py``: sixteen simulated cells of one host, judged by the real gate.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence

from pytest_boobench.gate import find_cause
from tests.gate.test_causes import PLANTS, Plant, judge


def name_once(plant: Plant, seed: int) -> str:
    """``right``, ``wrong`` or ``none``."""
    cause = find_cause(judge(plant, seed))
    if cause is None:
        return "none"
    return "right" if plant.expected and cause.words.startswith(plant.expected) else "wrong"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each planted cause."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200)
    asked = parser.parse_args(arguments)
    print(f"`python -m tests.benchmarks.causes --seeds {asked.seeds}`, {time.strftime('%d %B %Y')}\n")
    print("| planted | named | nothing named | named wrongly |\n|---|---|---|---|")
    for name, plant in PLANTS.items():
        found = Counter(name_once(plant, 1000 + seed) for seed in range(asked.seeds))
        shares = (f"{found[word] / asked.seeds:.1%}" for word in ("right", "none", "wrong"))
        print(f"| {name} | {' | '.join(shares)} |", flush=True)


if __name__ == "__main__":
    main()
