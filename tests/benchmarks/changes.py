"""How often `find_changes` cries on courses where nothing changed, and how often it finds what did.

    python -m tests.benchmarks.changes

Courses of 30 runs' medians around one level; prints of how many in a hundred something was told. Seeded.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator

from pytest_boobench.gate.change_points import Change, find_changes

COURSES = 1000
RUNS = 30
NOISES = (0.01, 0.02, 0.04)
Shape = Callable[[int], float]

UNCHANGED: dict[str, dict[str, float]] = {
    "unchanged": {},
    "unchanged, every 20th run 10 to 40 % off": {"odd": 0.05},
    "unchanged, neighbours alike (0.3)": {"memory": 0.3},
    "unchanged, neighbours alike (0.5)": {"memory": 0.5},
    "unchanged, neighbours alike (0.8)": {"memory": 0.8},
}
CHANGED: dict[str, Shape] = {
    "−3 % a week, from week 10 to 18": lambda at: 0.97 ** max(0, min(at, 18) - 10),
    "−3 % a week, three runs each, to the end": lambda at: 0.97 ** (max(0, at - 6) / 3),
    "−5 % at run 15": lambda at: 0.95 if at >= 15 else 1.0,
    "−10 % at run 15": lambda at: 0.9 if at >= 15 else 1.0,
    "−10 % three runs ago": lambda at: 0.9 if at >= RUNS - 3 else 1.0,
    "−15 % from run 10 to 20": lambda at: 0.85 if 10 <= at < 20 else 1.0,
}


def make_course(
    chance: random.Random, noise: float, shape: Shape = lambda _: 1.0, *, odd: float = 0.0, memory: float = 0.0
) -> list[float]:
    course = []
    off = chance.gauss(0, noise)
    for at in range(RUNS):
        off = memory * off + math.sqrt(1 - memory * memory) * chance.gauss(0, noise)
        slowed = chance.uniform(0.6, 0.9) if chance.random() < odd else 1.0
        course.append(100.0 * math.exp(off) * shape(at) * slowed)
    return course


def share(noise: float, told: Callable[[tuple[Change, ...]], bool], shape: Shape, **how: float) -> float:
    """Per cent of the courses of which something fitting is told."""
    chance = random.Random(f"{noise}{how}")
    found = (find_changes(make_course(chance, noise, shape, **how)) for _ in range(COURSES))
    return 100 * sum(map(told, found)) / COURSES


def tabulate() -> Iterator[str]:
    yield "| course of 30 runs | " + " | ".join(f"noise {noise:.0%}" for noise in NOISES) + " |"
    yield "|---|" + "---|" * len(NOISES)
    for name, how in UNCHANGED.items():
        shares = [share(noise, bool, lambda _: 1.0, **how) for noise in NOISES]
        yield f"| {name}: something told | " + " | ".join(f"{found:.1f} %" for found in shares) + " |"
    for name, shape in CHANGED.items():
        shares = [share(noise, lambda told: any(change.ratio < 0 for change in told), shape) for noise in NOISES]
        yield f"| {name}: found | " + " | ".join(f"{found:.1f} %" for found in shares) + " |"


if __name__ == "__main__":
    print("\n".join(tabulate()))
